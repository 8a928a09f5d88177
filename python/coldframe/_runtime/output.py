"""Standard output and standard error, which both end in the log of the invocation."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

_STDOUT = 1
_STDERR = 2


class Output:
    """The two streams that were made for the handler, whatever it puts in their place."""

    def __init__(self) -> None:
        """Make fresh streams and install them."""
        sys.stdout = sys.__stdout__ = _stream(_STDOUT, "<stdout>")  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _stream(_STDERR, "<stderr>")  # type: ignore[misc]
        self._stdout, self._stderr = sys.stdout, sys.stderr
        # What is written to the streams goes through to these, which is where it waits for the end of a line.
        self._flush_stdout, self._flush_stderr = sys.stdout.buffer.flush, sys.stderr.buffer.flush

    def flush(self) -> None:
        """Write out what is buffered, in the streams made here and in those that the handler installed."""
        try:
            self._flush_stdout()
            self._flush_stderr()
            stdout, stderr = sys.stdout, sys.stderr
            untouched = (
                stdout is self._stdout and stderr is self._stderr and stdout.write_through and stderr.write_through
            )
        except BaseException:  # noqa: BLE001 - one of them is closed, or has been deleted
            untouched = False
        if not untouched:
            for stream in (self._stdout, self._stderr, getattr(sys, "stdout", None), getattr(sys, "stderr", None)):
                _flush(stream)


def write(text: str) -> None:
    """Write to whatever sys.stdout is, as Lambda does, and past it when it is broken."""
    try:
        sys.stdout.write(text)
    except Exception:  # noqa: BLE001 - the handler may have closed or replaced it
        with contextlib.suppress(OSError):
            os.write(_STDOUT, text.encode(errors="backslashreplace"))


def _stream(fd: int, name: str) -> io.TextIOWrapper:
    """Return a text stream on `fd` that writes each line in one go, and never fails on a character."""
    raw = io.FileIO(fd, "wb", closefd=False)
    raw.name = name
    stream = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True
    )
    stream.mode = "w"  # type: ignore[misc]
    return stream


def _flush(stream: Any) -> None:  # noqa: ANN401 - the handler may have put anything there
    """Flush `stream`; a stream of the handler's may be closed, may not be one, or may raise."""
    try:  # noqa: SIM105 - a context manager takes longer than the flush, and every invocation has two
        stream.flush()
    except BaseException:  # noqa: BLE001, S110 - the output is lost then, but the answer must not be
        pass
