"""From rows to values, with a list of what had to be left out and why."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tidytable.parsing import Row

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was left out."""

    line: int
    reason: str


def clean(
    rows: Iterable[Row],
    columns: Mapping[str, Callable[[str], Any]],
    *,
    unique: Sequence[str] = (),
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Read every cell as its column's kind; rows with a bad cell, or with a key seen before, are rejected."""
    clean_rows: list[dict[str, Any]] = []
    rejected: list[Reject] = []
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        try:
            values = {name: read_cell(row, name, kind) for name, kind in columns.items()}
        except ValueError as error:
            rejected.append(Reject(row.line, str(error)))
            continue
        key = tuple(values[name] for name in unique)
        if unique and seen.setdefault(key, row.line) != row.line:
            rejected.append(Reject(row.line, f"repeats line {seen[key]}"))
            continue
        clean_rows.append(values)
    return clean_rows, rejected


def read_cell(row: Row, name: str, kind: Callable[[str], Value]) -> Value:
    """Read one cell; an error names its column."""
    try:
        return kind(row.cells.get(name, ""))
    except ValueError as error:
        message = f"{name} {error}"
        raise ValueError(message) from error
