"""What is seen on standard error of work that takes a while, when that is a terminal."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from coldframe._cli.terminal import Style

if TYPE_CHECKING:
    from types import TracebackType

_WIDEST = 40
_AROUND = 34
"""Columns for the words around the bar."""
_BETWEEN_DRAWINGS_S = 0.05
_SOON_S = 1.0
"""What takes no longer is not worth a word."""


class Progress:
    """Shows how far the measurements are and how long the rest will take."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._shown = sys.stderr.isatty()
        self._style = Style.of(sys.stderr)
        self._began = time.monotonic()
        self._drawn = 0.0

    def __call__(self, kind: str, done: int, total: int) -> None:
        """Draw, unless that was done a moment ago: drawing is off the clock, but the terminal works for it."""
        now = time.monotonic()
        if self._shown and now - self._drawn >= _BETWEEN_DRAWINGS_S:
            self._drawn = now
            print(f"\r\033[K{self._line(kind, done, total, now)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _line(self, kind: str, done: int, total: int, now: float) -> str:
        """Return the bar and the words around it, no wider than the terminal."""
        width = max(min(_WIDEST, self._style.width - _AROUND), 0)
        filled = width * done // total
        full, empty = ("━", "─") if self._style.unicode else ("#", ".")
        left = (now - self._began) / done * (total - done) if done else None
        words = f"{done}/{total}" + (f", {left:.0f} s left" if left is not None else "")
        bar = self._style.paint("green", full * filled) + self._style.paint("dim", empty * (width - filled))
        line = f"{kind:<7}{bar} {words}"
        return line if self._style.width >= _AROUND else words[: max(self._style.width - 1, 0)]


class Waiting:
    """Says what is being done and for how long, from a second on, until the block ends."""

    def __init__(self, what: str) -> None:
        """Say nothing yet; `what` may be changed meanwhile."""
        self.what = what
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="coldframe-waiting", daemon=True)

    def __enter__(self) -> Self:
        """Begin to wait."""
        if sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Take the words away."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        """Draw until it is over, and then nothing."""
        style, began = Style.of(sys.stderr), time.monotonic()
        drawn = False
        while not self._over.wait(0.1 if drawn else _SOON_S):
            drawn = True
            words = f"{self.what}, {time.monotonic() - began:.1f} s"[: max(style.width - 1, 0)]
            print(f"\r\033[K{style.paint('dim', words)}", end="", file=sys.stderr, flush=True)
        if drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
