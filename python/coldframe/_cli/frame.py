"""What `coldframe top` shows: the programs, and a table of their environments, as lines of text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from coldframe._cli.owners import STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from coldframe._cli.owners import Environment, Host
    from coldframe._cli.terminal import Style

SORTS = ("state", "cpu", "memory", "invocations", "age", "idle")
"""What environments can be sorted by."""
_COLOURS = {"busy": "green", "init": "yellow", "frozen": "blue", "dead": "red"}
_WIDEST_NAME = 40
_LEAST_NAME, _LEAST_PROGRAM = 8, 24
_HOSTS_SHARE = 3
"""A third of the lines at most is for the programs."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class Frame(NamedTuple):
    """The lines, the first row that is shown, how many are, and how many could be scrolled to."""

    lines: list[str]
    top: int
    rows: int
    total: int


class _Column(NamedTuple):
    """A column of the table: its head, its width, and what stands in it; names stand on the left."""

    head: str
    width: int
    cell: Callable[[Host, Environment], str]
    left: bool = False


_COLUMNS = (
    _Column("PID", 7, lambda host, _: _whole(host.pid)),
    _Column("FUNCTION", _LEAST_NAME, lambda _, each: each.function, left=True),
    _Column("ENVIRONMENT", 11, lambda _, each: each.id, left=True),
    _Column("STATE", 6, lambda _, each: each.state, left=True),
    _Column("MEMORY MB", 11, lambda _, each: _memory(each)),
    _Column("CPU%", 5, lambda _, each: "-" if each.cpu_percent is None else f"{each.cpu_percent:.0f}"),
    _Column("INVOKED", 8, lambda _, each: _whole(each.invocations)),
    _Column("AGE", 6, lambda host, each: span(_since(host, each.created))),
    _Column("IDLE", 6, lambda host, each: span(_idle(host, each))),
)
_DISPENSABLE = ("ENVIRONMENT", "AGE", "INVOKED", "PID", "IDLE", "MEMORY MB", "CPU%")
"""The columns that a narrow terminal goes without, in order."""


def frame(hosts: list[Host], style: Style, sort: str, height: int | None = None, top: int = 0) -> Frame:
    """Return what is shown of `hosts`: all of it, or as much as `height` lines have room for, from row `top` on."""
    rows = sorted(((host, each) for host in hosts for each in host.environments), key=lambda row: _key(row, sort))
    lines = [style.paint("bold", _cut(_summary(hosts), style.width)), ""]
    most = len(hosts) if height is None else max((height - 4) // _HOSTS_SHARE, 1)
    shown = hosts if len(hosts) <= most else hosts[: most - 1]
    lines += [_host(host, style) for host in shown]
    if len(shown) < len(hosts):
        lines.append(style.paint("dim", _cut(f"and {len(hosts) - len(shown)} more programs", style.width)))
    if not hosts:
        lines.append(_cut("No program of yours has environments now.", style.width))
    room = len(rows) if height is None else max(height - len(lines) - 3, 0)
    top = max(min(top, len(rows) - room), 0)
    if rows:
        columns = _fitting(rows, style.width)
        lines += ["", style.paint("reverse", _line([each.head for each in columns], columns).ljust(style.width))]
        lines += [_row(row, columns, style) for row in rows[top : top + room]]
    if height is not None:
        lines = lines[: height - 1] + [""] * (height - 1 - len(lines))
        span_shown = f", {top + 1} to {min(top + room, len(rows))} of {len(rows)}" if len(rows) > room > 0 else ""
        words = f"q leaves  s sorts, now by {sort}  j k scroll{span_shown}  {time.strftime('%H:%M:%S')}"
        lines.append(style.paint("dim", _cut(words, style.width)))
        lines = lines[-height:]
    if not style.unicode:
        lines = [line.replace("…", "~") for line in lines]
    return Frame(lines, top, room, max(len(rows) - room, 0))


def span(seconds: float | None) -> str:
    """Return a time as few characters."""
    if seconds is None:
        return "-"
    seconds = int(max(seconds, 0))
    if seconds < _MINUTE:
        return f"{seconds}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}m{seconds % _MINUTE:02}s"
    if seconds < _DAY:
        return f"{seconds // _HOUR}h{seconds % _HOUR // _MINUTE:02}m"
    return f"{seconds // _DAY}d{seconds % _DAY // _HOUR:02}h"


def _summary(hosts: list[Host]) -> str:
    """Return the totals of all."""
    environments = [each for host in hosts for each in host.environments]
    states = [f"{count} {state}" for state in STATES if (count := sum(each.state == state for each in environments))]
    memory = sum(host.memory_mb or 0 for host in hosts)
    programs = "1 program" if len(hosts) == 1 else f"{len(hosts)} programs"
    many = _environments(len(environments))
    return f"coldframe: {programs}, {many}{': ' if states else ''}{', '.join(states)}, {memory:.0f} MB"


def _environments(count: int) -> str:
    """Return how many environments there are, in words."""
    return "1 environment" if count == 1 else f"{count} environments"


def _host(host: Host, style: Style) -> str:
    """Return the line of one program."""
    name = f"{_whole(host.pid):>7}  "
    if host.error is not None:
        return style.paint("yellow", _cut(f"{name}{host.program or host.owner}: {host.error}", style.width))
    facts = [
        f"up {span(_since(host, host.started))}",
        f"{_whole(host.in_flight)}/{_whole(host.max_concurrency)} in flight",
        f"{_whole(host.invocations)} invoked",
        _environments(len(host.environments)),
        f"{_whole(host.parked)} parked",
        f"{host.memory_mb or 0:.0f} MB",
    ]
    program = host.program or host.owner
    room = style.width - len(name) - 2
    # What the table says as well goes first where there is little room.
    for dispensable in (facts[3], facts[0], facts[4]):
        if min(len(program), _LEAST_PROGRAM) + len(", ".join(facts)) > room:
            facts.remove(dispensable)
    said = ", ".join(facts)
    line = f"{_cut(program, max(room - len(said), _LEAST_NAME))}  {said}"
    return style.paint("bold", name) + _cut(line, style.width - len(name))


def _fitting(rows: list[tuple[Host, Environment]], width: int) -> list[_Column]:
    """Return the columns that fit, with names as long as there is room for."""
    columns = list(_COLUMNS)
    wanted = min(max(len(each.function) for _, each in rows), _WIDEST_NAME)
    for head in _DISPENSABLE:
        if sum(each.width + 1 for each in columns) - 1 + min(wanted, 12) - _LEAST_NAME <= width:
            break
        columns = [each for each in columns if each.head != head]
    left = width - sum(each.width + 1 for each in columns) + 1
    extra = max(min(left, max(wanted - _LEAST_NAME, 0)), 0)
    return [each._replace(width=each.width + extra) if each.head == "FUNCTION" else each for each in columns]


def _row(row: tuple[Host, Environment], columns: list[_Column], style: Style) -> str:
    """Return the line of one environment."""
    line = _line([each.cell(*row) for each in columns], columns)
    state = row[1].state
    if state not in _COLOURS or not style.colours:
        return line[: style.width]
    at = 0
    for column in columns:
        if column.head == "STATE":
            break
        at += column.width + 1
    end = at + len(state)
    return line[:at] + style.paint(_COLOURS[state], line[at:end]) + line[end : style.width]


def _line(cells: list[str], columns: list[_Column]) -> str:
    """Return cells side by side."""
    return " ".join(
        _cut(cell, column.width).ljust(column.width) if column.left else _cut(cell, column.width).rjust(column.width)
        for cell, column in zip(cells, columns, strict=True)
    )


def _key(row: tuple[Host, Environment], sort: str) -> tuple[float, ...]:
    """Return what sorts the rows: first what is worth a look, then the oldest."""
    host, each = row
    order = STATES.index(each.state) if each.state in STATES else len(STATES)
    first = {
        "state": order,
        "cpu": -(each.cpu_percent or 0),
        "memory": -(each.memory_mb or 0),
        "invocations": -(each.invocations or 0),
        "age": -(_since(host, each.created) or 0),
        "idle": -(_idle(host, each) or 0),
    }[sort]
    return (first, order, each.created or 0)


def _since(host: Host, moment: float | None) -> float | None:
    """Return how long ago something was when its host was asked, by the clock of that."""
    return None if moment is None or host.time is None else host.time - moment


def _idle(host: Host, each: Environment) -> float | None:
    """Return for how long an environment has been idle, if it is."""
    return _since(host, each.last_used) if each.state in {"ready", "frozen"} else None


def _memory(each: Environment) -> str:
    """Return the memory in use, and its limit."""
    return "-" if each.memory_mb is None else f"{each.memory_mb:.0f}/{_whole(each.memory_limit_mb)}"


def _whole(number: float | None) -> str:
    """Return a number without its fraction."""
    return "-" if number is None else f"{number:.0f}"


def _cut(text: str, width: int) -> str:
    """Return a text that is no wider; what was left out shows."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"[: max(width, 0)]
