"""Describes a Python interpreter: what to run, and what of the file system it needs."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from coldframe import _probe
from coldframe._options import shown
from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OLDEST = (3, 9)
_PROBE_TIMEOUT_S = 20
_LONGEST_PTH = 65_536

_ALWAYS_MOUNTED = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")

# Directories of a prefix that hold an interpreter, when the prefix holds other things as well.
_PARTS = ("bin", "lib", "lib64", "libexec", "share")
_SIGNS_OF_A_PROJECT = (".git", ".hg", "pyproject.toml", "setup.py", "setup.cfg")


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
        raise ConfigurationError(f'runtime={path!r}: use "python" or the path of a CPython, such as /usr/bin/python3')
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
            f"runtime={path!r} does not answer as CPython {_dotted(_OLDEST)} or later would ({error}); "
            "give the path of another interpreter"
        ) from None
    else:
        return answer  # type: ignore[no-any-return]


def _describe(path: str, answer: dict[str, Any], packages: str) -> Interpreter:
    """Return the description made of an interpreter's answer, without what does not exist."""
    version = tuple(answer["version"])
    if answer["implementation"] != "cpython" or version < _OLDEST:
        raise ConfigurationError(
            f"runtime={path!r} is {answer['implementation']} {_dotted(version)}; "
            f"coldframe needs CPython {_dotted(_OLDEST)} or later"
        )
    stdlib = tuple(_directories(answer["stdlib"]))
    site = tuple(_with_pth(_directories(answer["site"])))
    executable = _executable(path, answer["executables"])
    roots = answer["base_prefixes"] + (answer["prefixes"] if packages == "inherit" else [])
    prefixes = [part for root in _directories(roots) for part in _narrowed(root)]
    # An executable or a library in a place of its own; most are in a prefix, and drop out again.
    prefixes += [os.path.dirname(executable), *stdlib]
    return Interpreter(executable, _dotted(version[:2]), tuple(_outermost(prefixes)), stdlib, site)


def _executable(path: str, candidates: Iterable[str]) -> str:
    """Return the first of `candidates` that is a Python, with no symbolic link in its path."""
    for candidate in candidates:
        real = os.path.realpath(candidate) if candidate else ""
        if os.path.basename(real).startswith("python") and os.path.isfile(real) and os.access(real, os.X_OK):
            return real
    raise ConfigurationError(
        f"runtime={path!r}: no python executable was found for it; give the path of a CPython as runtime="
    )


def _narrowed(prefix: str) -> list[str]:
    """Return `prefix`, or only an interpreter's parts of it where the directory is a home or a project."""
    home = os.path.realpath(os.path.expanduser("~"))
    real = os.path.realpath(prefix)
    shared = (
        home == real
        or home.startswith(os.path.join(real, ""))
        or real == os.path.join(home, ".local")
        or any(os.path.lexists(os.path.join(prefix, sign)) for sign in _SIGNS_OF_A_PROJECT)
    )
    return _directories(os.path.join(prefix, part) for part in _PARTS) if shared else [prefix]


def _with_pth(sites: Iterable[str]) -> list[str]:
    """Return `sites`, each followed by the directories that `.pth` files in it add: editable installs.

    Lines that would run code are left out: what they do to the import system cannot be described by directories.
    """
    found: list[str] = []
    for site in sites:
        found.append(site)
        with os.scandir(site) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".pth"))
        for name in names:
            found += _directories(os.path.join(site, line) for line in _pth_lines(os.path.join(site, name)))
    return list(dict.fromkeys(found))


def _pth_lines(path: str) -> Iterator[str]:
    """Yield the lines of a `.pth` file that name a place."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST_PTH).decode("utf-8", "replace")
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise  # what is only used up now says nothing of the file
        return
    for line in text.splitlines():
        if line.strip() and not line.startswith(("#", "import ", "import\t")) and "\0" not in line:
            yield line.rstrip()


def _directories(paths: Iterable[str]) -> list[str]:
    """Return those of `paths` that are directories, absolute, each directory once."""
    found: dict[str, str] = {}
    for path in paths:
        if os.path.isdir(path):
            found.setdefault(os.path.realpath(path), os.path.abspath(path))
    return list(found.values())


def _outermost(paths: Iterable[str]) -> list[str]:
    """Return `paths` and the real paths behind them, without any that another covers, and without the root."""
    wanted = [spelling for path in paths for spelling in (path, os.path.realpath(path))]
    covering = list(_ALWAYS_MOUNTED)
    for path in sorted(set(wanted), key=len):
        inside = any(path == outer or path.startswith(outer + os.sep) for outer in covering)
        if not inside and path != os.sep:
            covering.append(path)
    return covering[len(_ALWAYS_MOUNTED) :]


def _dotted(version: Iterable[int]) -> str:
    """Return `version` as text."""
    return ".".join(map(str, version))
