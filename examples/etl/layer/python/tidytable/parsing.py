"""From CSV text to rows."""

import csv
import io
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was written, and the line of the text on which it ends."""

    line: int
    cells: dict[str, str]


def parse(text: str) -> list[Row]:
    """Read CSV text with a heading, whatever spreadsheet wrote it.

    A byte order mark, semicolons or tabs for commas, and blank lines are fine.
    Headings become names: `` Unit Price `` is ``unit_price``. Cells that a short row lacks are empty.
    """
    text = text.removeprefix("\ufeff")
    heading, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = ["_".join(name.lower().split()) for name in next(reader, [])]
    rows = []
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            stripped += [""] * (len(names) - len(stripped))
            rows.append(Row(reader.line_num, dict(zip(names, stripped, strict=False))))
    return rows
