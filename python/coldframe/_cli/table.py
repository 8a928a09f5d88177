"""What a bench found, as lines of text for people."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from coldframe._cli.record import phase_order
from coldframe._cli.statistics import CONFIDENCE, median, quantile

if TYPE_CHECKING:
    from coldframe._cli.record import Record, Start
    from coldframe._cli.statistics import Difference
    from coldframe._cli.terminal import Style

_VERDICTS = {"faster": "green", "slower": "red", "no difference": "dim", "too few runs": "dim"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_NAME, _RUNS, _NUMBER, _CELL = 8, 6, 10, 12
_LEAST_STRIP, _MOST_STRIP = 16, 48
_DISPENSABLE = ("min", "p90", "max", "p99")
"""The quantiles that a narrow terminal goes without, in order."""
_THROTTLED_SHARE = 0.05


def report(record: Record, style: Style) -> list[str]:
    """Return all of a record: the quantiles, the phases, and how the numbers came about."""
    starts = record.measured()
    return [
        *_quantiles(starts, style),
        "",
        *_phases(starts, style),
        "",
        *(style.paint("dim", line) for each in _footer(record) for line in textwrap.wrap(each, style.width)),
    ]


def comparison(record: Record, earlier: Record, differences: dict[str, Difference], style: Style) -> list[str]:
    """Return the medians of two runs side by side, what became of them, and in what else the runs differ."""
    certain = f"{CONFIDENCE:.0%} sure"
    head = (
        f"{'p50':<{_NAME}}{'before':>{_NUMBER}}{'now':>{_NUMBER}}{'ratio':>8}{'adjusted':>10}   {certain:<14} verdict"
    )
    lines = [style.paint("dim", head)]
    for kind, found in differences.items():
        interval = f"{found.adjusted.low:.2f} to {found.adjusted.high:.2f}"
        lines.append(
            style.paint("bold", f"{kind:<{_NAME}}")
            + f"{found.before:>{_NUMBER}.3f}{found.after:>{_NUMBER}.3f}{found.ratio.value:>8.2f}"
            + f"{found.adjusted.value:>10.2f}   {interval:<14} "
            + style.paint(_VERDICTS[found.verdict], found.verdict)
        )
    if record.control and earlier.control:
        was, became = median(earlier.control), median(record.control)
        control = f"{'control':<{_NAME}}{was:>{_NUMBER}.3f}{became:>{_NUMBER}.3f}{became / was:>8.2f}"
        lines.append(style.paint("dim", control))
    note = f"before: {earlier.date}{', interrupted' if earlier.interrupted else ''}; control: starting /bin/true"
    lines += ["", style.paint("dim", note)]
    lines += [style.paint("red", f"not alike, {each}") for each in record.unlike(earlier)]
    return lines


def _quantiles(starts: dict[str, Start], style: Style) -> list[str]:
    """Return the first table: a line for each kind of start, with its distribution where there is room for it."""
    rows = {kind: start.quantiles() for kind, start in starts.items()}
    names = list(next(iter(rows.values())))
    for name in _DISPENSABLE:
        if _NAME + _RUNS + _NUMBER * len(names) > style.width:
            names.remove(name)
    room = min(style.width - _NAME - _RUNS - _NUMBER * len(names) - 4, _MOST_STRIP)
    strips = _strips(starts, room, style) if room >= _LEAST_STRIP else {}
    head = f"{'start':<{_NAME}}{'runs':>{_RUNS}}" + "".join(f"{name:>{_NUMBER}}" for name in names)
    if strips:
        head += "    min to p99 on a log scale"[: room + 4]
    lines = [style.paint("dim", head)]
    for kind, row in rows.items():
        cells = [f"{row[name]:>{_NUMBER}.3f}" for name in names]
        cells[names.index("p50")] = style.paint("bold", cells[names.index("p50")])
        line = style.paint("bold", f"{kind:<{_NAME}}") + f"{len(starts[kind].samples):>{_RUNS}}" + "".join(cells)
        lines.append(line + (f"    {strips[kind]}" if strips else ""))
    return lines


def _strips(starts: dict[str, Start], room: int, style: Style) -> dict[str, str]:
    """Return each distribution as a line from its least to its 99th percentile, with a mark at the median."""
    lowest = min(min(start.samples) for start in starts.values())
    highest = max(quantile(start.samples, 0.99) for start in starts.values())
    scale = (room - 1) / math.log(highest / lowest) if highest > lowest else 0.0
    thin, thick, mark = ("─", "━", "●") if style.unicode else ("-", "=", "o")

    def place(start: Start, part: float) -> int:
        return round(math.log(quantile(start.samples, part) / lowest) * scale)

    strips = {}
    for kind, start in starts.items():
        least, low, middle, high, most = (place(start, part) for part in (0.0, 0.1, 0.5, 0.9, 0.99))
        cells = [thick if low <= at <= high else thin for at in range(least, most + 1)]
        cells[middle - least] = style.paint("green", mark)
        strips[kind] = " " * least + "".join(cells)
    return strips


def _phases(starts: dict[str, Start], style: Style) -> list[str]:
    """Return the second table: the median of each phase, with a bar for its part of the start."""
    medians = {kind: start.medians() for kind, start in starts.items()}
    names = sorted({name for each in medians.values() for name in each}, key=phase_order)
    columns = max((style.width - _CELL) // _CELL, 1)
    lines: list[str] = []
    for first in range(0, len(starts), columns):
        kinds = list(starts)[first : first + columns]
        lines += [""] if lines else []
        head = f"{'phase, p50':<{_CELL}}" + "".join(f"{kind:>{_NUMBER}}  " for kind in kinds)
        lines.append(style.paint("dim", head.rstrip()))
        for name in names:
            cells = "".join(_cell(medians[kind], name, style) for kind in kinds)
            lines.append(style.paint("bold", f"{name:<{_CELL}}") + cells.rstrip())
    return lines


def _cell(medians: dict[str, float], name: str, style: Style) -> str:
    """Return one median and its bar."""
    if name not in medians:
        return f"{'-':>{_NUMBER}}  "
    whole = sum(max(value, 0.0) for value in medians.values())
    share = max(medians[name], 0.0) / whole if whole else 0.0
    text = f"{medians[name]:>{_NUMBER}.3f}"
    if medians[name] == max(medians.values()):
        text = style.paint("bold", text)
    if not style.unicode:
        return f"{text}  "
    return f"{text} {style.paint('green', _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)])}"


def _footer(record: Record) -> list[str]:
    """Say what was measured, where, and what to make of it."""
    lines = [
        f"{record.function()}; milliseconds of wall clock around the call",
        record.place(),
        *([f"for comparison, starting /bin/true: {median(record.control):.3f}"] if record.control else []),
        *(f"{kind}: not measured, {reason}" for kind, reason in record.skipped.items()),
    ]
    held = {
        kind: sum(time > 0 for time in start.throttled) / len(start.throttled)
        for kind, start in record.measured().items()
        if start.throttled
    }
    if worst := [kind for kind, share in held.items() if share >= _THROTTLED_SHARE]:
        lines.append(
            f"the processor quota held {', '.join(f'{held[kind]:.0%} of {kind}' for kind in worst)} starts: "
            "it follows --memory, and 1769 MB is one processor"
        )
    if record.interrupted:
        lines.append("interrupted: not all runs were made")
    return lines
