"""What a failed invocation adds to the report of the test that it failed in: verdict, REPORT line, end of the log."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

import pytest

from coldframe.errors import InvocationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coldframe import Invocation

_MOST = 3
"""Of how many invocations a report tells: the last ones."""
_PLATFORM = ("START ", "END ", "REPORT ", "INIT_START ", "INIT_REPORT ", "RESTORE_START ", "RESTORE_REPORT ")
"""How the lines of a log begin that no function has written."""
_ABOUT_UPDATES = re.compile(r"\[WARNING\]\t[^\t]{0,40}\t\tLAMBDA_WARNING: Unhandled exception\. ")
"""How a line of 800 letters begins that Lambda has before the error of an initialisation, about updates of Lambda."""
_MOST_LINES = 30
_MOST_TEXT = 8_192
_LONGEST_REPORT = 4_096
_MOST_CAUSES = 20

_RESET = re.compile(r"\x1b\[(?:[0-9;]{0,18};)?0{0,2}m")
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]{0,20}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\ud800-\udfff]")

Failures = deque[tuple[str, "Invocation"]]
"""The names of functions, and how an invocation of each failed, the latest last."""
_FAILURES = pytest.StashKey[Failures]()


def remembered(config: pytest.Config) -> Failures:
    """Return the failed invocations of the test that runs now, of functions that the fixtures made."""
    return config.stash.setdefault(_FAILURES, deque(maxlen=_MOST))


def tell(config: pytest.Config, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Add what is known of failed invocations to the report of a failure, and forget it when the test is over."""
    known = remembered(config)
    if report.failed:
        told = {invocation.request_id: (name, invocation) for name, invocation in known}
        for invocation in _raised(call.excinfo.value if call.excinfo else None):
            told.setdefault(invocation.request_id, ("", invocation))
        for name, invocation in list(told.values())[-_MOST:]:
            report.sections.append((f"coldframe: invocation of {name or 'a function'}", describe(invocation)))
    if report.failed or report.when == "teardown":
        known.clear()


def describe(invocation: Invocation, verdict: str | None = None, lines: Sequence[str] | None = None) -> str:
    """Return an invocation's verdict, its REPORT line and the end of its log, as text of a bounded size.

    `verdict` and the `lines` of its output are those of the invocation, unless they are given.
    """
    lines = output(invocation.log) if lines is None else lines
    parts = [verdict or ("ok" if invocation.error is None else harmless(str(invocation.error)[:_MOST_TEXT]))]
    last = harmless(invocation.log[-_LONGEST_REPORT:].rstrip()).splitlines()
    parts += [line.rstrip() for line in last[-1:] if line.startswith("REPORT ")]
    if shown := "\n".join(lines[-_MOST_LINES:])[-_MOST_TEXT:].rstrip():
        cut = len(lines) - _MOST_LINES
        parts.append(f"The end of its log, after {cut:,} lines:" if cut > 0 else "Its log:")
        parts.append(shown)
    return uncoloured("\n".join(parts))


def output(log: str) -> list[str]:
    """Return what a function wrote, line by line, without the lines of the platform and its runtime."""
    text = log.replace("\r\n", "\n").replace("\r", "\n")  # which stands for a new line in Lambda's logs
    lines = harmless(text).split("\n")
    return [line for line in lines if not (line.startswith(_PLATFORM) or _ABOUT_UPDATES.match(line))]


def harmless(text: str) -> str:
    """Return `text` as it can be shown on a terminal: in colours if it has any, and with no other control characters.

    What comes from an environment could otherwise move the cursor, and write over what pytest says.
    """
    return uncoloured(_CONTROL.sub(lambda found: repr(found[0])[1:-1], text))


def uncoloured(text: str) -> str:
    """Return `text` with an end to its last colour: one that hides what it is on would hide the tests after it."""
    last = text.rfind("\x1b[")
    return text if last < 0 or _RESET.match(text, last) else f"{text}\x1b[0m"


def _raised(error: BaseException | None) -> Iterator[Invocation]:
    """Yield the invocations of an exception, of those that led to it, and of those that it groups."""
    queue, seen = [error], set[int]()
    while queue and len(seen) < _MOST_CAUSES:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, InvocationError) and current.invocation is not None:
            yield current.invocation
        queue += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]
