"""The documents, and the blocks of code in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
WITH_CODE = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

OUTPUT = "<!-- output -->\n"
"""Stands before a block of `text` that says what the block of code before it prints."""
_BLOCK = re.compile(rf"^({re.escape(OUTPUT)})?```([\w{{}}-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the lines before it, its text, and whether it is what the one before it prints."""

    language: str
    line: int
    text: str
    is_output: bool


def blocks(document):
    """Return the fenced blocks of a document."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(found[2], text.count("\n", 0, found.start(3)), found[3], is_output=bool(found[1]))
        for found in _BLOCK.finditer(text)
    ]


def shell_lines(block):
    """Return the commands of a block of shell, with lines that end in a backslash joined to the next."""
    return [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]


def relative(document):
    """Return the name of a document's test."""
    return str(document.relative_to(ROOT))
