"""The answer of an invocation, piece by piece, as the handler writes it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Self

from coldframe._invocation import from_outcome

if TYPE_CHECKING:
    from coldframe import _core
    from coldframe._invocation import Invocation
    from coldframe._observers import Watch


class Stream:
    """An iterator over the chunks of one invocation's answer, each `bytes` and at most 1 MiB.

    The invocation begins when the first chunk is asked for. Nothing is read ahead: a handler that writes faster than
    the chunks are taken waits, and its timeout goes on meanwhile. A failure ends the iteration with its
    `InvocationError`, after the chunks that came before it. A `Stream` that is closed or dropped before its end cancels
    the invocation and kills its environment, as does Ctrl-C.
    """

    __slots__ = ("__weakref__", "_invocation", "_native", "_raised", "_watch")

    def __init__(self, native: _core.Stream, watch: Watch) -> None:
        """Take over the core's stream, and those who observe it."""
        self._native = native
        self._watch = watch
        weakref.finalize(self, watch.abandon).atexit = False
        self._invocation: Invocation | None = None
        self._raised = False

    @property
    def invocation(self) -> Invocation | None:
        """The invocation once it has ended, with its error, its log and its report; None until then.

        Its payload is None: that has gone out as chunks.
        """
        return self._invocation

    def __iter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __next__(self) -> bytes:
        """Wait for the next chunk."""
        try:
            chunk = self._native.chunk()
        except ValueError:  # another thread is reading
            raise
        except BaseException as error:
            self._watch.end(error)
            raise
        if self._invocation is None and (outcome := self._native.outcome()) is not None:
            self._invocation = from_outcome(outcome, streamed=True)
            self._watch.end(self._invocation)
        if chunk is not None:
            return chunk
        invocation = self._invocation
        if invocation is not None and invocation.error is not None and not self._raised:
            self._raised = True
            raise invocation.error
        raise StopIteration

    def close(self) -> None:
        """Cancel the invocation if it has not ended: its environment is killed. Does nothing the second time."""
        self._native.close()
        self._watch.abandon()

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the stream."""
        self.close()
