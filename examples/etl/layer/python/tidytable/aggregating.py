"""From many rows to one per group."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Group = list[Mapping[str, Any]]


def aggregate(rows: Iterable[Mapping[str, Any]], *, by: str, **columns: Callable[[Group], Any]) -> list[dict[str, Any]]:
    """Group rows by a column, in the order of its first values, and compute the other columns from each group."""
    groups: dict[Any, Group] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    return [
        {by: value} | {name: compute(group) for name, compute in columns.items()} for value, group in groups.items()
    ]
