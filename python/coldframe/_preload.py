"""Decides which installed packages a zygote imports before it forks environments of a function.

Never a name that the code or a layer provides itself: a zygote runs nothing of the function's own.
"""

from __future__ import annotations

import ast
import keyword
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Literal

from coldframe._options import shown
from coldframe._source import Source, names_in_layer
from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from coldframe._interpreter import Interpreter

# Enough for what a handler imports; more would make the first use of a function wait for the parser.
_MOST_FILES = 300
_MOST_BYTES = 4 << 20

# Tools that code of a function may mention, but does not run on.
_TOOLS = frozenset(
    {
        "coldframe",
        "_pytest",
        "hypothesis",
        "maturin",
        "mypy",
        "pip",
        "pkg_resources",
        "pluggy",
        "pytest",
        "ruff",
        "setuptools",
        "wheel",
    }
)

# Names that many directories of code have, and that stray into installed packages too.
_COMMON = frozenset({"bin", "conftest", "docs", "examples", "scripts", "setup", "test", "tests"})


def resolve(
    preload: Literal["auto"] | Sequence[str],
    *,
    packages: Literal["inherit", "none"],
    handler: str,
    code: str,
    origin: str,
    layers: Sequence[str],
    interpreter: Interpreter,
) -> tuple[str, ...]:
    """Return the names of the modules to preload, sorted.

    `origin` is where `code` came from, when that is a copy: an editable install of the same files is no conflict.
    """
    with Source(code) as source:
        own = source.names()
        for layer in layers:
            own |= names_in_layer(layer, _layer_paths(interpreter.version))
        if preload != "auto":
            return _explicit(preload, packages, own, interpreter)
        if packages == "none":
            return ()
        installed = installed_in(interpreter.site)
        if any(_conflicts(name, origin, installed) for name in own & installed.keys()):
            # Some installed package might import its own idea of that name, and the function would find it loaded.
            return ()
        wanted = imported(source, handler) & installed.keys()
    return tuple(sorted(wanted - own - _TOOLS - sys.stdlib_module_names))


def imported(source: Source, handler: str) -> set[str]:
    """Return the top-level names that the handler's module imports, itself or through other modules of the code.

    The handler's own file counts as a whole; what helpers and vendored packages import only inside functions is often
    optional, and is left out.
    """
    first = handler.rpartition(".")[0].replace("/", ".")
    queue = deque([first])
    seen = {first}
    found: set[str] = set()
    files, size = 0, 0
    while queue and files < _MOST_FILES and size < _MOST_BYTES:
        module = queue.popleft()
        text, is_package = source.module(module)
        if text is None:
            continue
        files += 1
        size += len(text)
        package = module if is_package else module.rpartition(".")[0]
        for name in _imports(text, package, everything=module == first):
            found.add(name.partition(".")[0])
            for parent in _parents(name):
                if parent not in seen:
                    seen.add(parent)
                    queue.append(parent)
    return found


def _imports(text: bytes, package: str, *, everything: bool) -> Iterator[str]:
    """Yield the absolute names of what a module in `package` imports; nothing when it cannot be parsed."""
    try:
        nodes: list[ast.AST] = [ast.parse(text)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imports_from(node, package)
        elif isinstance(node, ast.If) and _is_for_type_checkers(node.test):
            nodes += node.orelse
        elif everything or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            children = ast.iter_child_nodes(node)
            nodes += [child for child in children if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)]


def _imports_from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    """Yield the module of a `from` import, and each name as the module that it may be."""
    base = node.module or ""
    if node.level:
        parts = package.split(".") if package else []
        if node.level > len(parts):
            return  # beyond the top: it fails at run time too
        base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _is_for_type_checkers(test: ast.expr) -> bool:
    """Return whether `test` is TYPE_CHECKING, in either spelling."""
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _parents(name: str) -> Iterator[str]:
    """Yield a, a.b and a.b.c for a.b.c: importing the last imports them all."""
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _explicit(preload: Sequence[str], packages: str, own: Iterable[str], interpreter: Interpreter) -> tuple[str, ...]:
    """Return the caller's own list when every name in it can be preloaded."""
    if not isinstance(preload, list | tuple) or not all(isinstance(name, str) for name in preload):
        raise ConfigurationError(f'preload={shown(preload)}: use "auto" or a list of names')
    installed = installed_in(interpreter.site) if packages == "inherit" else {}
    for name in preload:
        top = name.partition(".")[0]
        if not all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split(".")):
            raise ConfigurationError(f"preload: {shown(name)} is not the name of a module")
        if top in own:
            raise ConfigurationError(
                f"preload: {name!r} is provided by the code or a layer, which no zygote may run; leave it out"
            )
        if top not in installed and top not in sys.stdlib_module_names:
            where = f"for {interpreter.executable}" if packages == "inherit" else 'visible with packages="none"'
            raise ConfigurationError(f"preload: {name!r} is not installed {where}; install it or leave it out")
    return tuple(sorted(set(preload)))


def installed_in(sites: Iterable[str]) -> dict[str, str]:
    """Return the importable top-level names in `sites`, each with its path; the first site wins, as in sys.path."""
    found: dict[str, str] = {}
    for site in sites:
        with os.scandir(site) as entries:
            for entry in entries:
                name, dot, rest = entry.name.partition(".")
                if name.isidentifier() and (rest == "py" or rest.endswith("so") if dot else entry.is_dir()):
                    found.setdefault(name, entry.path)
    return found


def _conflicts(name: str, origin: str, installed: dict[str, str]) -> bool:
    """Return whether the code's `name` and the installed one differ, and one could be taken for the other."""
    if name in _COMMON or name in _TOOLS:
        return False
    folder = origin if os.path.isdir(origin) else os.path.dirname(origin)
    try:
        return not os.path.samefile(os.path.join(folder, os.path.basename(installed[name])), installed[name])
    except OSError:
        return True


def _layer_paths(version: str) -> tuple[str, str]:
    """Return the directories of a layer that Lambda's Python runtime puts on `sys.path`."""
    return "python", f"python/lib/python{version}/site-packages"
