"""Who is told of invocations: nobody, until `coldframe.otel` or `coldframe.prometheus` is asked to.

An observer is told when an invocation begins, in the thread and the context of its caller, and once how it ended: with
an `Invocation`, failed or not, or with the exception that the caller gets instead. That may be in another thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from coldframe._function import Function
    from coldframe._invocation import Invocation

_logger = logging.getLogger("coldframe.observers")
_installing = threading.Lock()


class Observation(Protocol):
    """What an observer keeps of one invocation."""

    @property
    def trace_id(self) -> str:
        """X-Ray's header for the handler; empty for none. The first observer that has one decides."""

    def end(self, outcome: Invocation | BaseException) -> None:
        """Take note of how it ended."""


class Observer(Protocol):
    """Somebody who is told of every invocation."""

    def begin(self, function: Function) -> Observation:
        """Take note that an invocation of `function` begins."""


installed: tuple[Observer, ...] = ()
"""Empty as long as nobody observes: all that a plain call looks at."""


class Watch:
    """One invocation, for all who observe it; what they raise is logged, and changes nothing."""

    __slots__ = ("_begun", "_owner", "trace_id")

    def __init__(self, function: Function) -> None:
        """Tell that it begins."""
        self.trace_id = ""
        begun: list[Observation] = []
        for observer in installed:
            with _contained(observer):
                observation = observer.begin(function)
                begun.append(observation)
                self.trace_id = self.trace_id or observation.trace_id
        self._begun = [begun]
        self._owner = os.getpid()

    def run(self, call: Callable[[str], Invocation]) -> Invocation:
        """Return what comes of `call`, which is given the trace id, and tell how it ended."""
        try:
            invocation = call(self.trace_id)
        except BaseException as error:
            self.end(error)
            raise
        self.end(invocation)
        return invocation

    def settle(self, future: Future[Invocation]) -> None:
        """Tell how `future` ended if its call has not begun, or goes on after a cancellation."""
        if future.cancelled():
            self.end(CancelledError("the future was cancelled"))
        elif (error := future.exception()) is not None:
            self.end(error)

    def abandon(self) -> None:
        """Tell that nobody waits for it any more, unless it has ended."""
        self.end(CancelledError("the stream was closed before its end"))

    def end(self, outcome: Invocation | BaseException) -> None:
        """Tell how it ended. The first one to know does, in whatever thread, but not in a fork of the process."""
        try:
            begun: Sequence[Observation] = self._begun.pop()
        except IndexError:
            return
        if os.getpid() != self._owner:
            return
        for observation in begun:
            with _contained(observation):
                observation.end(outcome)


class Instrumentation:
    """What undoes an `instrument()`: call `uninstrument()`, or use it in a `with` statement."""

    def __init__(self, observer: Observer, undo: Callable[[], None]) -> None:
        """Have `observer` told from now on; `undo` is called when that ends."""
        global installed
        self._observer = observer
        self._undo: Callable[[], None] | None = undo
        with _installing:
            installed = (*installed, observer)

    def uninstrument(self) -> None:
        """Stop observing: invocations in flight are still told of. Does nothing the second time."""
        global installed
        with _installing:
            installed = tuple(each for each in installed if each is not self._observer)
            undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop observing."""
        self.uninstrument()


@contextlib.contextmanager
def _contained(observer: object) -> Iterator[None]:
    """Log what `observer` raises."""
    try:
        yield
    except Exception:
        with contextlib.suppress(Exception):  # so may be the logging
            _logger.exception("an observer of invocations raised: %r", observer)
