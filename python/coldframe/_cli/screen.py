"""The whole terminal, for as long as a block lasts: a screen of its own, and keys as they are pressed."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_ENTER, _LEAVE = "\033[?1049h\033[?25l\033[?7l", "\033[?7h\033[?25h\033[?1049l"
"""Another screen, no cursor, no lines that go on in the next; and back."""
_KEYS = {
    b"\033[A": "up",
    b"\033[B": "down",
    b"\033OA": "up",
    b"\033OB": "down",
    b"k": "up",
    b"j": "down",
    b"\033[5~": "page up",
    b"\033[6~": "page down",
    b" ": "page down",
    b"\033[H": "home",
    b"\033[F": "end",
    b"\033[1~": "home",
    b"\033[4~": "end",
    b"g": "home",
    b"G": "end",
    b"\033": "q",
    b"Q": "q",
}


class Screen:
    """The terminal, given back as it was however the block is left, and while the program is stopped (Ctrl-Z)."""

    def __init__(self) -> None:
        """Touch nothing yet."""
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._woken, self._waker = -1, -1

    def __enter__(self) -> Self:
        """Take the terminal."""
        # A signal such as the one of another size ends a wait for keys.
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: None)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)
        try:
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Give it back."""
        try:
            self._give_back()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.close(self._woken)
            os.close(self._waker)

    def draw(self, lines: list[str]) -> None:
        """Show these lines, which are no wider than the terminal, and no more of them than it has."""
        # Cleared first: a line that is full leaves the cursor on its last letter.
        text = "\n".join(f"\033[2K{line}" for line in lines)
        self._write(f"\033[H{text}\033[J")

    def key(self, until: float) -> str | None:
        """Return the next key, by its name or as it is, or None at `until` of the monotonic clock or when woken."""
        left = max(until - time.monotonic(), 0.0)
        awaited = [self._woken] if self._keys is None else [self._woken, self._keys]
        ready, _, _ = select.select(awaited, [], [], left)
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._keys not in ready or self._keys is None:
            return None
        pressed = os.read(self._keys, 64)
        if not pressed:
            return "q"  # the terminal is gone
        return _KEYS.get(pressed) or pressed[:1].decode("ascii", "replace")

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSANOW)
        self._write(_ENTER)

    def _give_back(self) -> None:
        try:
            self._write(_LEAVE)
        finally:
            if self._keys is not None and self._before is not None:
                termios.tcsetattr(self._keys, termios.TCSANOW, self._before)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Be stopped, with the terminal as it was, and go on from there."""
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)
        self._take()

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
