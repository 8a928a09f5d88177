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
    # After all others: a copy of the real one that comes with the code, a layer or the packages is used instead.
    sys.meta_path.append(_Hooks)


class _Hooks:
    """Finds `snapshot_restore_py` where nobody else does."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> Any:  # noqa: ANN401, ARG004
        """Return where the stand-in is."""
        if name != "snapshot_restore_py":
            return None
        import importlib.util  # noqa: PLC0415 - for those who want it

        folder = __file__.rpartition("/")[0]
        return importlib.util.spec_from_file_location(name, f"{folder}/hooks.py")


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
