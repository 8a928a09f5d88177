"""The options of a function: their types, and the checks that need no look at the host."""

from __future__ import annotations

import operator
import os
import re
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coldframe._hardening import Hardening
    from coldframe._host import Host

PROVIDED = "provided"
"""The runtime that the code or a layer brings: an executable `bootstrap`."""
MAX_TIMEOUT_S = 900
"""Lambda's limit for one invocation."""


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


# Lambda sets these itself, or has them set by nobody. It reserves the region and the credentials, too, which it takes
# from the function's role; there are no roles here, so that whoever calls AWS or a stand-in for it has to give them.
_RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
_LONGEST = 1e9
_LONGEST_SHOWN = 200
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MOUNT = re.compile(r"/mnt/[a-zA-Z0-9._-]+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def shown(value: object) -> str:
    """Return `value` as a message has it: not for pages, and whatever its own `__repr__` does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the caller's own type, or a number of too many digits
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def check_handler(handler: str, runtime: object) -> str:
    """Return `handler` when it is in Lambda's notation for Python, `module.function`; other runtimes have their own."""
    if not isinstance(handler, str):
        raise ConfigurationError(f"handler must be a text like 'app.handler', not {shown(handler)}")
    if runtime == PROVIDED:
        if "\0" in handler or not _is_utf8(handler):
            raise ConfigurationError(f"handler {shown(handler)} holds a NUL or half of a surrogate pair; remove it")
        return handler
    module, dot, function = handler.rpartition(".")
    odd = ":" in function or any(map(str.isspace, handler)) or "\0" in handler
    if not dot or not module.strip("./") or not function or odd:
        meant = (
            handler.replace(".py:", ":").replace(":", ".") if re.fullmatch(r"[\w./-]+:\w+", handler) else "app.handler"
        )
        raise ConfigurationError(
            f"handler {shown(handler)} is not in Lambda's notation, module.function: "
            f"write the module, a dot and the function's name, like {shown(meant)}"
        )
    return handler


def check_path(what: str, path: str | os.PathLike[str]) -> str:
    """Return `path` as an absolute path; whether something is there is for the core to see."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(f"{what} must be a path, not {shown(path)}")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{what} must be a path as text, not {shown(text)}")
    return os.path.abspath(text)


def check_name(name: str | None, code: str) -> str:
    """Return `name`, or one made of the name of the code's file or directory."""
    if name is None:
        stem = os.path.basename(code).split(".")[0]
        return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:64] or "function"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"name={shown(name)}: use 1 to 64 letters, digits, hyphens and underscores")
    return name


def check_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `env` when a Lambda function could have these variables."""
    try:
        variables = dict(env)
    except (TypeError, ValueError):
        raise ConfigurationError(f"env must map names to texts, not {shown(env)}") from None
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError(
                f"env[{shown(name)}]={shown(value)}: names and values must be texts; write str(...)"
            )
        if name in _RESERVED:
            raise ConfigurationError(f"env[{shown(name)}]: this name is reserved by Lambda; choose another")
        if not _VARIABLE.fullmatch(name):
            raise ConfigurationError(
                f"env[{shown(name)}]: a name is a letter followed by letters, digits and underscores"
            )
        if "\0" in value or not _is_utf8(value):
            raise ConfigurationError(
                f"env[{shown(name)}]: the value holds a NUL or half of a surrogate pair; remove it"
            )
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
        if not isinstance(target, str) or not _MOUNT.fullmatch(target) or target in ("/mnt/.", "/mnt/.."):
            raise ConfigurationError(
                f"mounts[{shown(target)}]: the place inside must be /mnt/ and a name of letters, digits, hyphens, "
                "underscores and dots, such as '/mnt/data'"
            )
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


def check_numbers(**values: int) -> None:
    """Refuse what is no whole number; which ones may be, the core knows."""
    for name, value in values.items():
        try:
            operator.index(value)
        except TypeError:
            raise ConfigurationError(f"{name}={shown(value)}: it must be a whole number") from None


def check_span(name: str, value: float, unit: str) -> None:
    """Refuse a `value` that is no length of time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST:
        raise ConfigurationError(f"{name}={shown(value)}: it must be a number of {unit} from 0 up")


def check_timeout(timeout_s: float) -> float:
    """Return `timeout_s` when an invocation may take so many seconds."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise ConfigurationError(f"timeout_s={shown(timeout_s)}: use seconds above 0 and up to {MAX_TIMEOUT_S}")
    return float(timeout_s)


def check_snapstart(snapstart: object, runtime: object) -> bool:
    """Return `snapstart` when a function of this runtime may have it."""
    if not isinstance(snapstart, bool):
        raise ConfigurationError(f"snapstart={shown(snapstart)}: use True or False")
    if snapstart and runtime == PROVIDED:
        raise ConfigurationError(
            'snapstart=True with runtime="provided": a copy of a process has one thread, and most runtimes keep more; '
            "leave it out, or use a Python runtime"
        )
    return snapstart


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
