"""What `import coldframe` means inside an environment: a decorator that leaves its function alone, and nothing more."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, NoReturn

NAME = "coldframe"


def install() -> None:
    """Make `import coldframe` find the stand-in."""
    module = ModuleType(NAME, "The stand-in for coldframe inside an execution environment.")
    module.function = function  # type: ignore[attr-defined]
    module.__getattr__ = _missing  # type: ignore[method-assign]
    sys.modules[NAME] = module


def function(handler: Any = None, /, **_options: Any) -> Any:  # noqa: ANN401 - any function, returned as it is
    """Return the decorated function as it is; used bare, or with the options that matter outside."""
    return handler if handler is not None else function


def _missing(name: str) -> NoReturn:
    """Explain why nothing else is here."""
    message = (
        f"coldframe.{name} cannot be used inside an execution environment, where only the decorator coldframe.function "
        'exists; move its use into code that runs outside, for example under `if __name__ == "__main__":`'
    )
    raise AttributeError(message)
