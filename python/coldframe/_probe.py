"""Asks an interpreter what it is, and says what of the file system it needs.

Imported by the one that embeds coldframe, and run as a script by any other: also for callers in Rust and C, so that an
interpreter is described in one place. It needs the standard library alone, works on CPython 3.9 and later, and says
enough on older ones and on other implementations to be refused.
"""

import errno
import json
import os
import site
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OLDEST = (3, 9)
_LONGEST_PTH = 65_536

_ALWAYS_MOUNTED = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")

# Directories of a prefix that hold an interpreter, when the prefix holds other things as well.
_PARTS = ("bin", "lib", "lib64", "libexec", "share")
_SIGNS_OF_A_PROJECT = (".git", ".hg", "pyproject.toml", "setup.py", "setup.cfg")


def probe() -> "dict[str, Any]":
    """Return what this interpreter says of itself; nothing is checked or left out here."""
    version = "{}.{}".format(*sys.version_info[:2])
    executable = getattr(sys, "_base_executable", None) or sys.executable
    binaries = sysconfig.get_config_var("BINDIR") or os.path.join(sys.base_prefix, "bin")
    standard = sysconfig.get_path("stdlib") or os.path.dirname(os.__file__)
    dynamic = sysconfig.get_config_var("DESTSHARED") or os.path.join(standard, "lib-dynload")
    sites = [*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if site.ENABLE_USER_SITE:
        sites.append(site.getusersitepackages())
    return {
        "implementation": sys.implementation.name,
        "version": list(sys.version_info[:3]),
        # An embedding program may call itself the executable; then the interpreter's own is where it was installed.
        "executables": [executable, os.path.join(binaries, "python" + version), os.path.join(binaries, "python3")],
        "base_prefixes": [sys.base_prefix, sys.base_exec_prefix],
        "prefixes": [sys.prefix, sys.exec_prefix],
        "stdlib": [standard, os.path.join(standard, "lib-dynload"), dynamic],
        "site": sites,
    }


def describe(answer: "dict[str, Any]", packages: str = "inherit") -> "dict[str, Any]":
    """Return the description made of an interpreter's `answer`, without what does not exist.

    It is what `coldframe._interpreter.Interpreter` says of its fields, and the core takes.

    Raises:
        ValueError: It cannot be used; the message says why.
    """
    version = tuple(answer["version"])
    if answer["implementation"] != "cpython" or version < OLDEST:
        raise ValueError(
            f"is {answer['implementation']} {dotted(version)}; coldframe needs CPython {dotted(OLDEST)} or later"
        )
    stdlib = _directories(answer["stdlib"])
    executable = _executable(answer["executables"])
    roots = answer["base_prefixes"] + (answer["prefixes"] if packages == "inherit" else [])
    prefixes = [part for root in _directories(roots) for part in _narrowed(root)]
    # An executable or a library in a place of its own; most are in a prefix, and drop out again.
    prefixes += [os.path.dirname(executable), *stdlib]
    return {
        "executable": executable,
        "version": dotted(version[:2]),
        "prefixes": _outermost(prefixes),
        "stdlib": stdlib,
        "site": _with_pth(_directories(answer["site"])),
    }


def _executable(candidates: "Iterable[str]") -> str:
    """Return the first of `candidates` that is a Python, with no symbolic link in its path."""
    for candidate in candidates:
        real = os.path.realpath(candidate) if candidate else ""
        if os.path.basename(real).startswith("python") and os.path.isfile(real) and os.access(real, os.X_OK):
            return real
    raise ValueError("no python executable was found for it; give the path of a CPython as runtime=")


def _narrowed(prefix: str) -> "list[str]":
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


def _with_pth(sites: "Iterable[str]") -> "list[str]":
    """Return `sites`, each followed by the directories that `.pth` files in it add: editable installs.

    Lines that would run code are left out: what they do to the import system cannot be described by directories.
    """
    found: list[str] = []
    for folder in sites:
        found.append(folder)
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".pth"))
        for name in names:
            found += _directories(os.path.join(folder, line) for line in _pth_lines(os.path.join(folder, name)))
    return list(dict.fromkeys(found))


def _pth_lines(path: str) -> "Iterator[str]":
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


def _directories(paths: "Iterable[str]") -> "list[str]":
    """Return those of `paths` that are directories, absolute, each directory once."""
    found: dict[str, str] = {}
    for path in paths:
        if os.path.isdir(path):
            found.setdefault(os.path.realpath(path), os.path.abspath(path))
    return list(found.values())


def _outermost(paths: "Iterable[str]") -> "list[str]":
    """Return `paths` and the real paths behind them, without any that another covers, and without the root."""
    wanted = [spelling for path in paths for spelling in (path, os.path.realpath(path))]
    covering = list(_ALWAYS_MOUNTED)
    for path in sorted(set(wanted), key=len):
        inside = any(path == outer or path.startswith(outer + os.sep) for outer in covering)
        if not inside and path != os.sep:
            covering.append(path)
    return covering[len(_ALWAYS_MOUNTED) :]


def dotted(version: "Iterable[int]") -> str:
    """Return `version` as text."""
    return ".".join(map(str, version))


def _main(packages: str) -> "dict[str, Any]":
    """Return the description of this interpreter, or why there is none."""
    try:
        return describe(probe(), packages)
    except (OSError, ValueError) as error:
        return {"error": str(error)}


if __name__ == "__main__":
    json.dump(_main(sys.argv[1]) if sys.argv[1:] else probe(), sys.stdout)
