"""The options of a function: their types. Which values they may have is for the core to say, to whoever embeds it."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coldframe._hardening import Hardening
    from coldframe._host import Host

PROVIDED = "provided"
"""The runtime that the code or a layer brings: an executable `bootstrap`."""

Mount: TypeAlias = "str | os.PathLike[str] | tuple[str | os.PathLike[str], Literal['rw']]"
"""A host directory that a function may read, or read and write."""


class FunctionOptions(TypedDict, total=False):
    """The keyword arguments of `Function` but `code`, for those who pass them on."""

    name: str | None
    runtime: str | os.PathLike[str]
    memory_mb: int
    timeout_s: float
    tmp_mb: int
    max_processes: int
    log_kb: int
    env: Mapping[str, str]
    layers: Sequence[str | os.PathLike[str]]
    architecture: Literal["x86_64", "arm64"] | None
    network: bool
    packages: Literal["inherit", "none"]
    preload: Literal["auto"] | Sequence[str]
    isolation: Literal["strict", "available"]
    reserved_concurrency: int | None
    provisioned_concurrency: int
    snapstart: bool
    reuse: bool
    mounts: Mapping[str, Mount]
    hardening: Hardening
    host: Host | None


_LONGEST = 1e9
_LONGEST_SHOWN = 200


def shown(value: object) -> str:
    """Return `value` as a message has it: not for pages, and whatever its own `__repr__` does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the caller's own type, or a number of too many digits
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def check_text(name: str, text: str, example: str) -> str:
    """Return `text` when it is one that can be written down."""
    if not isinstance(text, str) or not _is_utf8(text):
        raise ConfigurationError(f"{name} must be a text like {example!r}, not {shown(text)}")
    return text


def check_path(what: str, path: str | os.PathLike[str]) -> str:
    """Return `path` as an absolute path; whether something is there is for the core to see."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(f"{what} must be a path, not {shown(path)}")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{what} must be a path as text, not {shown(text)}")
    return os.path.abspath(text)


def check_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `env` when it maps texts to texts."""
    try:
        variables = dict(env)
    except (TypeError, ValueError):
        raise ConfigurationError(f"env must map names to texts, not {shown(env)}") from None
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError(
                f"env[{shown(name)}]={shown(value)}: names and values must be texts; write str(...)"
            )
        if not _is_utf8(name) or not _is_utf8(value):
            raise ConfigurationError(f"env[{shown(name)}]: it holds half of a surrogate pair; remove that")
    return variables


def check_layers(layers: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the paths of the layers, in order."""
    if isinstance(layers, str | bytes | os.PathLike):
        raise ConfigurationError(f"layers must be a list of paths; write layers=[{shown(layers)}]")
    try:
        return [check_path("a layer", layer) for layer in layers]
    except TypeError:
        raise ConfigurationError(f"layers must be a list of paths, not {shown(layers)}") from None


def check_mounts(mounts: Mapping[str, Mount]) -> list[tuple[str, str, bool]]:
    """Return the place inside, the path on the host, and whether it can be written to, of each of `mounts`."""
    try:
        given = dict(mounts)
    except (TypeError, ValueError):
        raise ConfigurationError(f"mounts must map places such as '/mnt/data' to paths, not {shown(mounts)}") from None
    checked = []
    for target, value in given.items():
        check_text("the place of a mount", target, "/mnt/data")
        if isinstance(value, tuple) and (len(value), value[-1:]) != (2, ("rw",)):
            raise ConfigurationError(
                f"mounts[{shown(target)}]={shown(value)}: write a path, which can be read, or (path, 'rw')"
            )
        path, writable = (value[0], True) if isinstance(value, tuple) else (value, False)
        checked.append((target, check_path(f"mounts[{shown(target)}]", path), writable))
    return checked


def check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    """Refuse a `value` that is none of the `choices`."""
    if not isinstance(value, str | None) or value not in choices:
        raise ConfigurationError(f"{name}={shown(value)}: use {' or '.join(map(repr, choices))}")


def check_whole(name: str, value: int, least: int) -> None:
    """Refuse a `value` that is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}={shown(value)}: it must be a whole number from {least} up")


def check_span(name: str, value: float, unit: str) -> None:
    """Refuse a `value` that is no length of time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST:
        raise ConfigurationError(f"{name}={shown(value)}: it must be a number of {unit} from 0 up")


def check_timeout(timeout_s: float) -> float:
    """Return `timeout_s` when it is a number."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise ConfigurationError(f"timeout_s={shown(timeout_s)}: it must be a number of seconds")
    try:
        return float(timeout_s)
    except OverflowError:
        return math.inf


def refuse_unfinished(*, provisioned_concurrency: int) -> None:
    """Refuse what is named by the interface but not in this version, rather than ignore it."""
    if provisioned_concurrency:
        raise ConfigurationError(
            f"provisioned_concurrency={shown(provisioned_concurrency)}: this version of coldframe cannot keep "
            "environments ready on its own; call host.prewarm(fn, n) ahead of need"
        )


def _is_utf8(text: str) -> bool:
    """Return whether `text` can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
