"""The decorator: a function of a module, as a `Function` whose code is that module."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Unpack, overload

from coldframe import _core
from coldframe._function import Function
from coldframe.errors import ConfigurationError, InitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from coldframe._invocation import Invocation
    from coldframe._options import FunctionOptions

    Handler = Callable[[Any, Any], Any]


_ABOUT_SCRIPTS = (
    "A script is imported again in the environment, where its functions are plain ones: what it does, and not only "
    'defines, belongs below `if __name__ == "__main__":`'
)
_NOT_JSON = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class DecoratedFunction(Function):
    """A `Function` made from a Python function, which is its `__wrapped__`; its code is read at the first use."""

    _lazy = True

    def __init__(self, wrapped: Handler, **options: Unpack[FunctionOptions]) -> None:
        """Find the file or the package that `wrapped` belongs to, and read neither."""
        module, file = _locate(wrapped)
        in_package = "." in module or file.stem == "__init__"
        self._folder = file.parents[module.count(".") + (file.stem == "__init__")]
        self._is_script = wrapped.__module__ == "__main__"
        options.setdefault("name", _core.name_of(wrapped.__name__))
        code = self._folder / module.partition(".")[0] if in_package else file
        super().__init__(f"{module}.{wrapped.__name__}", code, **options)
        functools.update_wrapper(self, wrapped)

    @contextlib.contextmanager
    def _source(self) -> Iterator[tuple[str, str]]:
        """Yield the file, or a directory that has the top-level package in it and nothing else."""
        if not os.path.isdir(self.code):
            yield self.code, self.code
            return
        with tempfile.TemporaryDirectory(prefix="coldframe-") as staged:
            package = os.path.join(staged, os.path.basename(self.code))
            shutil.copytree(self.code, package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            yield staged, str(self._folder)

    def __call__(
        self,
        event: Any = None,  # noqa: ANN401 - any JSON
        *,
        timeout_s: float | None = None,
        client_context: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever JSON the handler returned
        """Do as `Function` does."""
        try:
            return super().__call__(event, timeout_s=timeout_s, client_context=client_context)
        except InitError as error:
            self._explain(error)
            raise

    def _call(self, *arguments: Any, **options: Any) -> Invocation:  # noqa: ANN401 - passed on as they come
        """Run one invocation, for every form but a plain call that nobody observes."""
        invocation = super()._call(*arguments, **options)
        if isinstance(invocation.error, InitError):
            self._explain(invocation.error)
        return invocation

    def _explain(self, error: InitError) -> None:
        """Say what to do when a script failed in its environment: mostly it called its own, plain function."""
        ran = self._is_script and any("in <module>" in frame for frame in error.stack_trace)
        if ran and _ABOUT_SCRIPTS not in error.__notes__:
            error.add_note(_ABOUT_SCRIPTS)


@overload
def function(wrapped: Handler, /) -> DecoratedFunction: ...


@overload
def function(**options: Unpack[FunctionOptions]) -> Callable[[Handler], DecoratedFunction]: ...


def function(
    wrapped: Handler | None = None, /, **options: Unpack[FunctionOptions]
) -> DecoratedFunction | Callable[[Handler], DecoratedFunction]:
    """Make a `Function` of a handler in an importable module or a script.

    Used bare, `@coldframe.function`, or with the keyword arguments of `Function`, `@coldframe.function(memory_mb=256)`.
    The module's own file becomes the code, or its top-level package when it is in one, and nothing else of the project.
    It is read at the first use, so that importing the module stays cheap. Inside an environment the decorated name is
    the plain function.

    Raises:
        ConfigurationError: It is a closure, a lambda, a method, a coroutine, or typed at a prompt; nothing there could
            be imported again inside an environment.
    """
    if wrapped is None:
        return functools.partial(DecoratedFunction, **options)
    return DecoratedFunction(wrapped, **options)


def _locate(wrapped: Handler) -> tuple[str, Path]:
    """Return the name that the module of `wrapped` can be imported by inside an environment, and its file."""
    if not isinstance(wrapped, FunctionType):
        raise _refused(wrapped, f"is a {type(wrapped).__name__}, not a function")
    if wrapped.__name__ == "<lambda>":
        raise _refused(wrapped, "is a lambda, which has no name to import it by")
    if "<locals>" in wrapped.__qualname__:
        raise _refused(wrapped, "is defined inside a function, and cannot be imported from its module")
    if wrapped.__qualname__ != wrapped.__name__:
        raise _refused(wrapped, "is defined in a class, and cannot be imported from its module")
    if any(is_kind(wrapped) for is_kind in _NOT_JSON):
        raise _refused(wrapped, "is a coroutine or a generator function, and a handler has to return JSON")
    module = sys.modules.get(wrapped.__module__)
    namespace = wrapped.__globals__ if module is None else vars(module)
    file = namespace.get("__file__")
    if not file or not os.path.isfile(file) or wrapped.__code__.co_filename.startswith("<"):
        raise _refused(wrapped, "was typed at a prompt, or is not in a file")
    path = Path(os.path.abspath(file))
    spec = namespace.get("__spec__")  # a script has none, but `python -m` does
    return _importable(wrapped, wrapped.__module__ if spec is None else spec.name, path), path


def _importable(wrapped: Handler, name: str, path: Path) -> str:
    """Return `name`, or the file's own name, when a module at `path` is imported by it."""
    for candidate in (name,) if "." in name else (name, path.stem):
        parts = candidate.split(".")
        tail = [*parts, "__init__.py"] if path.stem == "__init__" else [*parts[:-1], f"{parts[-1]}.py"]
        if list(path.parts[-len(tail) :]) == tail and candidate != "__main__":
            return candidate
    raise _refused(wrapped, f"is in {path}, which cannot be imported again as {name!r}; rename the file")


def _refused(wrapped: object, reason: str) -> ConfigurationError:
    """Return the error for what cannot be a handler."""
    name = getattr(wrapped, "__qualname__", None) or repr(wrapped)
    advice = "use a plain function at the top level of a module or a script"
    return ConfigurationError(f"@coldframe.function: {name} {reason}; {advice}")
