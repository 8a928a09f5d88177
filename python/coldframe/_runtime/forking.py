"""What Python does around a fork, as far as a zygote's children need it.

`os.fork` renews the interpreter's locks and the threading module's view, since other threads may have held or been
them. A zygote has one thread, which lets go of everything before it forks and is the same in the child, under the same
address: there is nothing to renew but its number. That saves each environment some 150 pages. What packages registered
with `os.register_at_fork` is run.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

_PROCESS_ID = 2  # of every environment in its own namespace


class Hooks:
    """What is registered while this is entered: to be run once before the zygote forks, and in every child."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._before: list[Callable[[], Any]] = []
        self._in_child: list[Callable[[], Any]] = []
        self._register = os.register_at_fork

    def __enter__(self) -> Hooks:  # noqa: PYI034 - typing.Self is of 3.11
        """Listen."""
        os.register_at_fork = self._note  # type: ignore[assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        os.register_at_fork = self._register
        threading.main_thread()._native_id = _PROCESS_ID  # type: ignore[attr-defined]  # noqa: SLF001

    def run_before(self) -> None:
        """Run the hooks that come before a fork, the last one first: those in the child may undo what these do."""
        _run(reversed(self._before))

    def run_in_child(self) -> None:
        """Run the hooks in a child, in the order in which they were registered."""
        _run(self._in_child)

    def _note(self, **hooks: Callable[[], Any]) -> None:
        """Note one registration, and pass it on for forks to come."""
        self._register(**hooks)
        if "before" in hooks:
            self._before.append(hooks["before"])
        if "after_in_child" in hooks:
            self._in_child.append(hooks["after_in_child"])


def _run(hooks: Iterable[Callable[[], Any]]) -> None:
    """Run `hooks`; one that raises is said, as Python does, and stops no other."""
    for hook in hooks:
        try:
            hook()
        except BaseException:  # noqa: BLE001, PERF203 - a package may raise anything
            import traceback  # noqa: PLC0415

            traceback.print_exc()
