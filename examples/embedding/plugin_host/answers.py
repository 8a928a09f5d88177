"""Answers: what a plug-in may say about a comment. Whatever else comes back is a failure of that plug-in."""

import json
from dataclasses import dataclass
from typing import Any

MAX_LABELS = 5
MAX_TEXT = 100
MAX_STATE_BYTES = 16 * 1024


class BadAnswer(ValueError):  # noqa: N818 - named after what it is about
    """The plug-in answered what nobody asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Labels for a comment, and why it should not be published, if so; `state` comes back with the next event."""

    labels: tuple[str, ...] = ()
    reject: str | None = None
    state: Any = None


def read_answer(payload: object) -> Answer:
    """Check the type and the size of everything that a plug-in returned."""
    if not isinstance(payload, dict) or payload.keys() - {"labels", "reject", "state"}:
        raise BadAnswer("it must return a dict of labels, reject and state, or of some of them")
    labels, reject, state = payload.get("labels", []), payload.get("reject"), payload.get("state")
    if not isinstance(labels, list) or len(labels) > MAX_LABELS or not all(map(is_text, labels)):
        raise BadAnswer(f"labels must be a list of at most {MAX_LABELS} short texts")
    if reject is not None and not is_text(reject):
        raise BadAnswer("reject must be None or a short text")
    try:
        size = len(json.dumps(state))
    except RecursionError:
        raise BadAnswer("state is nested too deeply") from None
    if size > MAX_STATE_BYTES:
        raise BadAnswer(f"state must be at most {MAX_STATE_BYTES} bytes of JSON")
    return Answer(tuple(labels), reject, state)


def is_text(value: object) -> bool:
    """Return whether this can be shown to people: a text, short, and without the terminal's control sequences."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def plain(text: str) -> str:
    """Return what a stranger's error message says as a short line that can be shown to people."""
    return "".join(char if char.isprintable() else " " for char in text[: 2 * MAX_TEXT])
