"""Finds the handler that the function names, and fails with Lambda's words when there is none."""

from __future__ import annotations

import _imp
import contextlib
import importlib
import importlib._bootstrap_external as _external
import marshal
import sys
from importlib import _bootstrap
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from . import errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Handler = Callable[[Any, Any], Any]

# How Python looks for modules before any package has put something in front of that.
_FINDERS, _PATH_HOOKS = list(sys.meta_path), list(sys.path_hooks)

# The supervisor keeps no more of a function; the answer that brings it has a limit, too.
_MOST_BYTECODE = 1 << 20


def load(name: str, task: str, entries: Collection[str], known: bytes) -> tuple[Handler, bytes]:
    """Import the module of `name`, as `pkg.mod.function` or `pkg/mod.function`; return the function, and its bytecode.

    `task` is the folder of the code and `entries` are the names at its top. `known` is what this returned as the
    module's bytecode in another environment of the function; empty if that is not known, or if the module is more than
    one source file.
    """
    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as error:
        message = f"Bad handler '{name}': {error}"
        raise errors.Fault(errors.MALFORMED_HANDLER_NAME, message) from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise errors.Fault(errors.BUILT_IN_MODULE_CONFLICT, message)
    bytecode = b""
    try:
        if _is_plain(module_name, entries):
            module, bytecode = _import_plain(module_name, f"{task}/{module_name}.py", known)
        else:
            module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise errors.Fault(errors.IMPORT_MODULE, message) from None
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        raise errors.Fault(errors.USER_CODE_SYNTAX, message, trace) from None
    try:
        handler: Handler = getattr(module, function_name)
    except AttributeError:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise errors.Fault(errors.HANDLER_NOT_FOUND, message) from None
    return handler, bytecode


def _is_plain(name: str, entries: Collection[str]) -> bool:
    """Tell whether the code has this module as one source file, and Python would find nothing else under its name."""
    return (
        f"{name}.py" in entries
        and name not in entries
        and name not in sys.modules
        and name != ""
        and "." not in name
        and "__pycache__" not in entries
        and not any(entry.startswith(f"{name}.") and entry.endswith(".so") for entry in entries)
        and not _imp.is_frozen(name)
        and sys.meta_path[: len(_FINDERS)] == _FINDERS
        and sys.path_hooks[: len(_PATH_HOOKS)] == _PATH_HOOKS
    )


def _import_plain(name: str, path: str, known: bytes) -> tuple[ModuleType, bytes]:
    """Import a module that is one source file, as `importlib` would after it had asked every folder and cache."""
    code = None
    with contextlib.suppress(Exception):
        code, known = _code(path, known)
    if code is None:
        return importlib.import_module(name), b""  # which says why, in the words and with the trace that are its own
    loader = _external.SourceFileLoader(name, path)
    module = ModuleType(name)
    module.__spec__ = spec = ModuleSpec(name, loader, origin=path)
    spec._set_fileattr = spec._initializing = True  # type: ignore[attr-defined]  # noqa: SLF001 - as importlib does
    module.__loader__, module.__package__, module.__file__ = loader, "", path
    folder = path[: -len(f"/{name}.py")]
    spec.cached = f"{folder}/__pycache__/{name}.{sys.implementation.cache_tag}.pyc"
    module.__cached__ = spec.cached  # type: ignore[attr-defined]
    # Other threads that the module starts, and that import it, wait until it is complete.
    with _bootstrap._ModuleLockManager(name):  # type: ignore[attr-defined]  # noqa: SLF001
        sys.modules[name] = module
        try:
            exec(code, module.__dict__)  # noqa: S102 - what an import is
            return sys.modules[name], known  # there may be another one now, or none
        except BaseException as error:  # noqa: BLE001 - the user's module raises what it likes
            sys.modules.pop(name, None)
            _raise_as_imported(name, path, error)
        finally:
            spec._initializing = False  # type: ignore[attr-defined]  # noqa: SLF001


def _code(path: str, known: bytes) -> tuple[CodeType, bytes]:
    """Return the code of the module at `path`, and its bytecode, empty if that is too long to be kept."""
    if known:
        return marshal.loads(known), known  # noqa: S302 - made by this function
    with open(path, "rb") as file:  # noqa: PTH123 - no pathlib in here
        code = compile(file.read(), path, "exec", dont_inherit=True)
    bytecode = marshal.dumps(code)
    return code, bytecode if len(bytecode) <= _MOST_BYTECODE else b""


def _raise_as_imported(name: str, file: str, error: BaseException) -> NoReturn:
    """Raise what a module raised once more, from inside an import: people know its trace by the frames of importlib."""
    trace = error.__traceback__
    # Without our own frame, the outermost.
    error.__traceback__ = trace.tb_next if trace else None

    class Raiser(_external.SourceFileLoader):
        def get_code(self, fullname: str) -> Any:  # noqa: ANN401, ARG002
            return compile("raise error", __file__, "exec")

        def exec_module(self, module: Any) -> None:  # noqa: ANN401
            module.error = error
            super().exec_module(module)

    class Finder:
        @staticmethod
        def find_spec(fullname: str, path: object = None, target: object = None) -> Any:  # noqa: ANN401, ARG004
            return _external.spec_from_file_location(fullname, file, loader=Raiser(fullname, file))

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(name)
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
    raise error


def forget_shadowed(entries: Iterable[str], settled: Collection[str]) -> None:
    """Forget modules that the zygote loaded under a name which the code or a layer provides itself, by its `entries`.

    A preloaded package brings in much of the standard library; without this, a handler in `calendar.py` would get that
    module. Names in `settled` stay, since the interpreter and the runtime live on them, as they do in Lambda.
    """
    # By the few names of the code: to go through all modules would touch, and so copy, the pages of each.
    own = {entry.partition(".")[0] for entry in entries}
    shadowed = {name for name in own if name in sys.modules and name not in settled}
    if shadowed:
        for name in [name for name in sys.modules if name.partition(".")[0] in shadowed]:
            del sys.modules[name]
