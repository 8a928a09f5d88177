"""The future of a submitted invocation: cancelling it kills the environment that runs it."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import TYPE_CHECKING

from coldframe import _core
from coldframe._invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable


class InvocationFuture(Future[Invocation]):
    """A `concurrent.futures.Future` that can be cancelled until it is done, also while the handler runs.

    To its base class it stays pending until it is done: that is what makes a running one cancellable.
    """

    def __init__(self, call: Callable[[_core.Ticket], Invocation] | None = None) -> None:
        """Make a future for `call`, which gets the ticket that the invocation can be cancelled by."""
        super().__init__()
        self._call = call
        self._ticket = _core.Ticket()
        self._running = False
        self._killed = False
        self._once = threading.Lock()

    def run(self) -> None:
        """Carry out the call in this thread, and settle."""
        call, self._call = self._call, None  # the event may be large, and the future may be kept for long
        if call is None or self.done():
            return
        self._running = True
        try:
            invocation = call(self._ticket)
        except CancelledError:
            self.cancel()
        except BaseException as error:  # noqa: BLE001 - a future holds whatever its call raises
            self.fail(error)
        else:
            with contextlib.suppress(InvalidStateError):  # cancelled in the last moment
                self.set_result(invocation)

    def fail(self, error: BaseException) -> None:
        """Settle with `error`, unless the future is done already."""
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)

    def running(self) -> bool:
        """Return whether the invocation is under way."""
        return self._running and not self.done()

    def cancel(self) -> bool:
        """Cancel the invocation and kill the environment that runs it; return False when it is done already."""
        if not super().cancel():
            return False
        with self._once:
            first, self._killed = not self._killed, True
        if first:
            self._ticket.cancel()
            self.set_running_or_notify_cancel()  # or `wait` and `as_completed` would wait for ever
        return True
