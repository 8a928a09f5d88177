"""Reads the Python source of a function where it lies: in a directory, a file or a zip.

What it reads is not trusted, and only ever a hint about what to preload: anything strange reads as nothing, every size
is bounded, and it is the core that refuses a path or an archive.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LARGEST_FILE = 512 << 10
_LARGEST_READ = 4 << 20

# The others are unpacked in one piece, however large it becomes.
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN_ZIP = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Source:
    """The modules of one function's code; a context manager, since a zip stays open meanwhile."""

    def __init__(self, path: str) -> None:
        """Look at the code at `path`, which may not exist."""
        self._path = path
        self._is_file = path.endswith(".py") and os.path.isfile(path)
        self._archive = None if self._is_file or os.path.isdir(path) else _Archive.open(path)

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close what is open."""
        if self._archive:
            self._archive.close()

    def names(self) -> set[str]:
        """Return the top-level names that the code provides."""
        if self._is_file:
            return {os.path.basename(self._path)[:-3]}
        return self._archive.names("") if self._archive else _top_level(_list(self._path))

    def module(self, name: str) -> tuple[bytes | None, bool]:
        """Return the source of the module `name`, or None, and whether it is a package."""
        if not all(part.isidentifier() or "-" in part for part in name.split(".")):
            return None, False
        stem = name.replace(".", "/")
        if self._is_file:
            wanted = f"{stem}.py" == os.path.basename(self._path)
            return (_read_file(self._path) if wanted else None), False
        package = self._read(f"{stem}/__init__.py")
        return (package, True) if package is not None else (self._read(f"{stem}.py"), False)

    def _read(self, relative: str) -> bytes | None:
        """Return the file at `relative`, or None."""
        return self._archive.read(relative) if self._archive else _read_file(os.path.join(self._path, relative))


def names_in_layer(path: str, folders: Sequence[str]) -> set[str]:
    """Return the top-level names in `folders` of the layer at `path`, a directory or a zip."""
    if os.path.isdir(path):
        return {name for folder in folders for name in _top_level(_list(os.path.join(path, folder)))}
    archive = _Archive.open(path)
    if archive is None:
        return set()
    with contextlib.closing(archive):
        return {name for folder in folders for name in archive.names(f"{folder}/")}


def _top_level(paths: Iterable[str]) -> set[str]:
    """Return the importable names at the top of relative `paths`: of modules, extension modules and directories."""
    names = {path.partition("/")[0].partition(".")[0] for path in paths}
    return {name for name in names if name.isidentifier()}


def _list(folder: str) -> list[str]:
    """Return the entries of `folder`; none when it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read_file(path: str) -> bytes | None:
    """Return the content of a regular file of a sensible size, and never wait for a pipe or a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_FILE:
            return None
        return file.read(_LARGEST_FILE)


class _BoundedFile(io.FileIO):
    """A file that is never read in one large piece: the directory of a zip says itself how long it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, or all that are left, or refuse."""
        if size is None or size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if size > _LARGEST_READ:
            raise ValueError(f"a piece of {size:,} bytes is too large")
        return super().read(size) or b""


class _Archive:
    """A zip that nobody has checked."""

    def __init__(self, file: _BoundedFile) -> None:
        """Read the directory of the archive in `file`."""
        self._file = file
        self._zip = zipfile.ZipFile(file)
        self._members = {member.filename: member for member in self._zip.infolist()}

    @classmethod
    def open(cls, path: str) -> Self | None:
        """Open the archive at `path`; return None when there is none that can be read."""
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return None
            file = _BoundedFile(path)
        except (OSError, ValueError):
            return None
        try:
            return cls(file)
        except _BROKEN_ZIP:
            file.close()
            return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def names(self, folder: str) -> set[str]:
        """Return the top-level names in `folder`, which is "" or ends with a slash."""
        return _top_level(name[len(folder) :] for name in self._members if name.startswith(folder))

    def read(self, name: str) -> bytes | None:
        """Return one file, or None when there is none, it is broken, or larger than any source should be."""
        member = self._members.get(name)
        if member is None or member.compress_type not in _BOUNDED_METHODS:
            return None
        try:
            with self._zip.open(member) as file:
                text = file.read(_LARGEST_FILE + 1)
        except _BROKEN_ZIP:
            return None
        return text if len(text) <= _LARGEST_FILE else None
