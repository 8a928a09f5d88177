"""What a terminal can show, and what may be shown on one."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from dataclasses import dataclass
from typing import TextIO

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What terminals may obey, but for tabs and the ends of lines."""
_COLOURS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "reverse": 7}


@dataclass(frozen=True, slots=True)
class Style:
    """What the place where the lines go can show."""

    width: int = 80
    colours: bool = False
    unicode: bool = True

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """Return the style for `stream`."""
        try:
            "━●▁".encode(getattr(stream, "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            unicode = False
        else:
            unicode = True
        return cls(size(stream).columns, _wants_colours(stream), unicode)

    def paint(self, colour: str, text: str) -> str:
        """Return `text` in a colour, where there are colours."""
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self.colours and text else text


def size(stream: TextIO) -> os.terminal_size:
    """Return the columns and lines of the terminal that `stream` is, as COLUMNS and LINES say or else itself."""
    return shutil.get_terminal_size(own_size(stream))


def own_size(stream: TextIO) -> os.terminal_size:
    """Return the columns and lines that a terminal has now; variables may be of another, or of before."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        found = os.terminal_size((0, 0))
    # Some programs make terminals without a size.
    return os.terminal_size((found.columns or 80, found.lines or 24))


def printable(text: str, most: int) -> str:
    """Return a text of others as it may be shown: in at most so many columns, with nothing that moves the cursor."""
    shown = "".join(each if _is_plain(each) else each.encode("unicode_escape").decode() for each in text[: most + 1])
    return shown if len(shown) <= most else shown[: max(most - 3, 0)] + "..."[:most]


def for_terminals(text: str, stream: TextIO) -> str:
    """Return a text of others: as it is for files and pipes, and with nothing that terminals obey for those."""
    if not stream.isatty():
        return text
    # Lambda's own logs have carriage returns for the line ends within a message.
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", lines)


def _is_plain(character: str) -> bool:
    """Return whether a character takes one column, in its place."""
    return (
        character.isprintable()
        and unicodedata.east_asian_width(character) not in "WF"
        and not unicodedata.category(character).startswith("M")
        and unicodedata.bidirectional(character) not in {"R", "AL"}
    )


def _wants_colours(stream: TextIO) -> bool:
    """Return whether there are colours: on terminals, unless a variable that other tools know, too, says otherwise."""
    asked = os.environ.get
    if asked("NO_COLOR"):
        return False
    if asked("FORCE_COLOR", "0") not in {"", "0", "false"} or asked("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    return stream.isatty() and asked("TERM") != "dumb" and asked("CLICOLOR") != "0"
