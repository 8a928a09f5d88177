"""Finds the handler that the function names, and fails with Lambda's words when there is none."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Callable

from . import errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Handler = Callable[[Any, Any], Any]


def load(name: str) -> Handler:
    """Import the module of `name`, as `pkg.mod.function` or `pkg/mod.function`, and return the function."""
    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as error:
        message = f"Bad handler '{name}': {error}"
        raise errors.Fault(errors.MALFORMED_HANDLER_NAME, message) from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise errors.Fault(errors.BUILT_IN_MODULE_CONFLICT, message)
    try:
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
    return handler


def forget_shadowed(folders: Iterable[str], settled: Collection[str]) -> None:
    """Forget modules that the zygote loaded under a name which the code or a layer in `folders` provides itself.

    A preloaded package brings in much of the standard library; without this, a handler in `calendar.py` would get that
    module. Names in `settled` stay, since the interpreter and the runtime live on them, as they do in Lambda.
    """
    own: set[str] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            own.update(entry.partition(".")[0] for entry in os.listdir(folder))  # noqa: PTH208 - no pathlib in here
    shadowed = (own & sys.modules.keys()).difference(settled)
    if shadowed:
        for name in [name for name in sys.modules if name.partition(".")[0] in shadowed]:
            del sys.modules[name]
