"""Describes a Python interpreter: what to run, and what of the file system it needs."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any, Literal

from coldframe import _probe
from coldframe._options import shown
from coldframe.errors import ConfigurationError

_PROBE_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter, in absolute paths that exist.

    `executable` can be run as it stands, also where a virtual environment's could not; `prefixes` are directories to
    mount, without any that `/usr` covers; `stdlib` is the `sys.path` of the standard library alone; `site` are the
    directories of installed packages, with those that their `.pth` files add, not all of them under a prefix.
    """

    executable: str
    version: str
    prefixes: tuple[str, ...]
    stdlib: tuple[str, ...]
    site: tuple[str, ...]

    def spec(self) -> dict[str, Any]:
        """Return the description as the core takes it."""
        return {
            "executable": self.executable,
            "version": self.version,
            "prefixes": list(self.prefixes),
            "stdlib": list(self.stdlib),
            "site": list(self.site),
        }


def describe(runtime: str | os.PathLike[str], packages: Literal["inherit", "none"] = "inherit") -> Interpreter:
    """Return the interpreter that `runtime` names: "python" is the one that embeds coldframe, else it is a path.

    Another interpreter is run once, isolated from the caller's environment and user site, and asked. With
    `packages="none"` the prefix of a virtual environment is left out, which has nothing but packages; `site` is told
    nevertheless, since some of it may lie in a prefix and have to be hidden.
    """
    if not isinstance(runtime, str | os.PathLike):
        raise ConfigurationError(f'runtime={shown(runtime)}: use "python" or the path of a CPython')
    path = os.fspath(runtime)
    answer = _embedding() if path == "python" else _other(path)
    return _describe(path, answer, packages)


@functools.cache
def _embedding() -> dict[str, Any]:
    """Return what this interpreter says of itself."""
    return _probe.probe()


def _other(path: str) -> dict[str, Any]:
    """Return what the interpreter at `path` says of itself."""
    if os.sep not in path:
        known = '"python", the path of a CPython such as /usr/bin/python3, or "provided"'
        raise ConfigurationError(f"runtime={path!r}: use {known}")
    path = os.path.abspath(path)
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError as error:
        raise ConfigurationError(f"runtime={path!r}: {error.strerror}; give the path of a CPython") from None
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise ConfigurationError(f"runtime={path!r} is not an executable file; give the path of a CPython")
    return _ask(path, changed)


@functools.cache
def _ask(path: str, _changed: int) -> dict[str, Any]:
    """Run the interpreter at `path`, again when the file has changed, and return its answer."""
    command = [path, "-I", _probe.__file__]
    try:
        done = subprocess.run(  # noqa: S603 - the caller's own interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=True
        )
        answer = json.loads(done.stdout)
        answer["version"], answer["implementation"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"runtime={path!r} does not answer as CPython {_probe.dotted(_probe.OLDEST)} or later would ({error}); "
            "give the path of another interpreter"
        ) from None
    else:
        return answer  # type: ignore[no-any-return]


def _describe(path: str, answer: dict[str, Any], packages: str) -> Interpreter:
    """Return the description made of an interpreter's answer."""
    try:
        found = _probe.describe(answer, packages)
    except ValueError as error:
        raise ConfigurationError(f"runtime={path!r}: {error}") from None
    prefixes, stdlib, site = (tuple(found[name]) for name in ("prefixes", "stdlib", "site"))
    return Interpreter(found["executable"], found["version"], prefixes, stdlib, site)
