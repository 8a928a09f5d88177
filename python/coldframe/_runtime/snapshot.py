"""What is done before an initialised function is copied, and in each copy: hooks, fresh random state.

The hooks are those of the package `snapshot_restore_py`, which Lambda has installed: before the snapshot in reverse
order, after a restore in the order in which they were registered. Where no copy of it is installed,
`import snapshot_restore_py` finds the same functions in `hooks`.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from . import errors, forking, randomness

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "snapshot_restore_py"


class Snapshot:
    """A function on its way to being copied."""

    def __init__(self, in_copies: Callable[[], object]) -> None:
        """Listen to what the function's code wants done around forks; `in_copies` does what earlier packages want."""
        self._in_copies = in_copies
        self._hooks = forking.Hooks()
        self._hooks.__enter__()

    def prepare(self) -> None:
        """Do what has to be done before this process is copied: it does nothing else any more."""
        _run(_registered("get_before_snapshot"), errors.BEFORE_SNAPSHOT, reverse=True)
        self._hooks.__exit__(None, None, None)
        self._hooks.run_before()
        gc.collect()
        gc.freeze()  # a collection in a copy then touches none of these pages

    def renew(self) -> None:
        """Make this copy different from all others, before any code of the function runs."""
        self._in_copies()
        self._hooks.run_in_child()
        if random := sys.modules.get("random"):
            random._inst.seed()  # noqa: SLF001 - the one behind the module's functions
        randomness.renew(randomness.to_renew())


def after_restore() -> None:
    """Run the hooks for the time after a restore."""
    _run(_registered("get_after_restore"), errors.AFTER_RESTORE, reverse=False)


def _registered(name: str) -> list[Any]:
    """Return the hooks that were registered with the package, if it was ever imported."""
    package = sys.modules.get(NAME)
    return list(getattr(package, name)()) if package else []


def _run(hooks: list[Any], error_type: str, *, reverse: bool) -> None:
    """Run `hooks`; one that raises is the end of this environment."""
    for function, args, kwargs in reversed(hooks) if reverse else hooks:
        try:
            function(*args, **kwargs)
        except Exception as error:  # noqa: PERF203
            told = errors.payload(error)
            message = f"{told['errorType']}: {told['errorMessage']}"
            raise errors.Fault(error_type, message, told["stackTrace"]) from error
