"""Draws what `coldframe bench` measured; the one part of the package that needs an extra.

On the left the distributions, on a log scale, a row for each kind of start; on the right, in the same rows, the parts
that the phases have of each. Colours are taken from viridis in the order of a start's life, so that they differ in
lightness, too: in print, and for eyes that see other colours.
"""

from __future__ import annotations

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldframe._cli.record import PHASES, phase_order
from coldframe._cli.statistics import quantile
from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coldframe._cli.record import Record, Start
    from coldframe._cli.statistics import Difference

_FORMATS = (".png", ".svg")
_DPI = 150
_INK, _FAINT = "#1b1b1b", "#6b6b6b"
_SAMPLES = "#2f6f8f"
_EARLIER = "#a8a8a8"
_LIGHT = 0.55
"""From this relative luminance on, text on a colour is dark."""
_LABEL_PER_LETTER = 0.0152
"""What part of a bar one letter of its text needs."""


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in one row: where, under which name, and what became of it."""

    place: float
    name: str
    start: Start
    change: str = ""
    earlier: bool = False


def check(file: str) -> None:
    """Refuse, before anything is measured, what could not be drawn afterwards."""
    path = Path(file)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(f"--plot {file}: the name must end with {' or '.join(_FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"--plot {file}: there is no directory {path.absolute().parent}; make it first")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigurationError("--plot needs matplotlib; run: pip install 'coldframe[plot]'")


def draw(
    file: str, record: Record, earlier: Record | None = None, differences: Mapping[str, Difference] | None = None
) -> None:
    """Draw `record` into `file`, beside an `earlier` one when there is one, with the `differences` in words."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    rows = _rows(record, earlier, differences or {})
    height = rows[-1].place + 1
    with mpl.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "coldframe", "axes.linewidth": 0.6}):
        figure = Figure(figsize=(10, 1.6 + 0.55 * height), layout="constrained")
        times, parts = figure.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
        _distributions(times, rows)
        _phases(parts, rows)
        for axes in (times, parts):
            axes.set_ylim(height - 0.5, -0.5)  # the first row on top
            axes.tick_params(axis="y", length=0)
            axes.spines[["top", "right", "left"]].set_visible(False)
        handles, names = parts.get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside lower right", ncols=len(names), frameon=False, fontsize=8, handlelength=1
        )
        figure.suptitle(f"Starts of {record.function()}", x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
        figure.supxlabel(_caption(record, earlier), x=0.01, ha="left", fontsize=8, color=_FAINT, linespacing=1.5)
        metadata = {"Date": None} if file.lower().endswith(".svg") else {"Software": None}
        figure.savefig(file, dpi=_DPI, metadata=metadata)


def _rows(record: Record, earlier: Record | None, differences: Mapping[str, Difference]) -> list[Row]:
    """Return the rows from the top down; two runs of one kind stand close to one another."""
    before = earlier.measured() if earlier else {}
    rows: list[Row] = []
    place = 0.0
    for kind, start in record.measured().items():
        if kind not in before:
            rows.append(Row(place, f"{kind}\n{len(start.samples)} runs", start))
        else:
            change = (
                f", ratio {differences[kind].ratio.value:.2f}: {differences[kind].verdict}"
                if kind in differences
                else ""
            )
            rows.append(Row(place, f"{kind}, before\n{len(before[kind].samples)} runs", before[kind], earlier=True))
            place += 0.85
            rows.append(Row(place, f"{kind}, now\n{len(start.samples)} runs", start, change))
        place += 1.15 if before else 1.0
    return rows


def _distributions(axes: Any, rows: list[Row]) -> None:  # noqa: ANN401 - matplotlib has no types
    """Draw each run as a dot, a line from p10 to p90 below them, and the median across, also in figures."""
    jitter = random.Random(0)  # noqa: S311 - only so that dots lie beside one another
    lowest = min(min(row.start.samples) for row in rows)
    highest = max(max(row.start.samples) for row in rows)
    for row in rows:
        samples = row.start.samples
        heights = [row.place + jitter.uniform(-0.24, 0.18) for _ in samples]
        axes.scatter(samples, heights, s=8, alpha=0.4, color=_EARLIER if row.earlier else _SAMPLES, linewidths=0)
        low, middle, high = (quantile(samples, part) for part in (0.1, 0.5, 0.9))
        axes.plot([low, high], [row.place + 0.27] * 2, color=_INK, linewidth=1.6, solid_capstyle="butt")
        axes.plot([middle] * 2, [row.place - 0.3, row.place + 0.32], color=_INK, linewidth=1.6, solid_capstyle="butt")
        on_the_left = min(samples) * max(samples) < lowest * highest  # of the middle of a log scale
        axes.annotate(
            f"{_figures(middle)} ms, p99 {_figures(quantile(samples, 0.99))}{row.change}",
            (max(samples) if on_the_left else min(samples), row.place),
            (8 if on_the_left else -8, 0),
            textcoords="offset points",
            ha="left" if on_the_left else "right",
            va="center",
            color=_INK,
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    axes.set_xscale("log")
    axes.set_yticks([row.place for row in rows], [row.name for row in rows])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("milliseconds around the call, log scale")
    axes.set_title("How long it takes: every run, the median, and p10 to p90", loc="left", fontsize=9)
    axes.grid(axis="x", which="major", linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)


def _phases(axes: Any, rows: list[Row]) -> None:  # noqa: ANN401 - matplotlib has no types
    """Draw for each row a bar of its phases, with the name and the milliseconds where there is room."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    names = sorted({name for row in rows for name in row.start.phases}, key=phase_order)
    scale = mpl.colormaps["viridis"]
    colours = {name: scale(min(phase_order(name)[0] / (len(PHASES) - 2), 1.0)) for name in names}
    colours["rest"] = (0.88, 0.88, 0.88, 1.0)
    for name in names:
        axes.barh(0, 0, color=colours[name], label=name)
    for row in rows:
        medians = {name: max(value, 0.0) for name, value in row.start.medians().items()}
        whole, left = sum(medians.values()) or 1.0, 0.0
        for name, value in medians.items():
            part = value / whole
            axes.barh(row.place, part, left=left, height=0.62, color=colours[name], edgecolor="white", linewidth=0.8)
            if part >= _LABEL_PER_LETTER * max(len(name), len(_figures(value))):
                axes.text(
                    left + part / 2,
                    row.place,
                    f"{name}\n{_figures(value)}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=_ink_on(colours[name]),
                )
            left += part
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda part, _: f"{part:.0%}")
    axes.set_xlabel("part of the start")
    axes.set_title("Where it goes: the median of each phase, in milliseconds", loc="left", fontsize=9)
    axes.tick_params(axis="y", labelleft=False)


def _ink_on(colour: tuple[float, float, float, float]) -> str:
    """Return the colour of a text that can be read on `colour`."""
    red, green, blue, _ = colour
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < _LIGHT else _INK


def _change(found: Difference) -> str:
    """Say what became of a median, on a line of its own."""
    return f"\nratio {found.ratio.value:.2f}, adjusted {found.adjusted.value:.2f}: {found.verdict}"


def _figures(value: float) -> str:
    """Return a time with three significant figures, but no finer than a microsecond."""
    return f"{value:.3f}" if value < 1 else f"{value:#.3g}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004


def _caption(record: Record, earlier: Record | None) -> str:
    """Say where and when, on a line for each run."""
    lines = [f"{record.place()}, {record.date[:10]}"]
    if earlier:
        lines[0] = f"now: {lines[0]}"
        lines.append(f"before: {earlier.place()}, {earlier.date[:10]}")
    return "\n".join([*lines, ""])  # the legend stands in the last line
