"""The table and the plot of what was measured."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- peers: written by `make peers` -->", "<!-- /peers -->"


@dataclass(frozen=True)
class Spread:
    """A median and a 99th percentile, in milliseconds."""

    p50: float
    p99: float

    def __str__(self) -> str:
        """Show both with three digits."""
        return f"{digits(self.p50)} ({digits(self.p99)})"


@dataclass(frozen=True)
class Row:
    """What was measured of one peer."""

    name: str
    version: str
    apart: str
    cold: Spread
    warm: Spread


def digits(value: float) -> str:
    """Return a number with three digits that mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> str:
    """Return what it was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    kernel = re.match(r"\d+\.\d+", platform.release())
    return (
        f"{os.cpu_count()} CPUs, {model[1] if model else platform.machine()}, {memory:.0f} GiB, "
        f"Linux {kernel[0] if kernel else platform.release()}, Python {platform.python_version()}, "
        f"{'root' if os.getuid() == 0 else 'an ordinary user'}"
    )


def table(rows: list[Row], skipped: dict[str, str], runs: int) -> str:
    """Return everything as Markdown."""
    ours = rows[0]
    lines = [
        f"Milliseconds: medians of {runs} starts, 99th percentiles in brackets, all taken in turn.",
        f"The machine: {machine()}.",
        "",
        "| | version | kept apart by | cold | to ours | warm | to ours |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        times = digits(row.cold.p50 / ours.cold.p50), digits(row.warm.p50 / ours.warm.p50)
        lines.append(
            f"| {row.name} | {row.version} | {row.apart} | {row.cold} | {times[0]} | {row.warm} | {times[1]} |"
        )
    lines += ["", *(f"Not measured: {name}: {reason}." for name, reason in skipped.items())]
    return "\n".join(lines).rstrip()


def replace(document: Path, text: str) -> None:
    """Put `text` between the marks of a document."""
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} has no marks {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def plot(rows: list[Row], path: Path) -> None:
    """Draw medians as points and lines from there to the 99th percentiles, on a logarithmic scale."""
    import matplotlib as mpl  # noqa: PLC0415 (only a plot needs it)

    mpl.use("Agg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "coldframe", "font.family": "sans-serif"}
    from matplotlib import pyplot as plt  # noqa: PLC0415 (the same)

    figure, both = plt.subplots(1, 2, figsize=(10, 0.4 * len(rows) + 1.2), sharey=True, layout="constrained")
    for axes, kind in zip(both, ("cold", "warm"), strict=True):
        for place, row in enumerate(reversed(rows)):
            spread, color = getattr(row, kind), "#1f6feb" if row is rows[0] else "#57606a"
            axes.plot([spread.p50, spread.p99], [place, place], color=color, linewidth=2)
            axes.plot(spread.p50, place, "o", color=color)
            axes.annotate(digits(spread.p50), (spread.p50, place), (0, 6), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.1, y=0.08)
        axes.grid(axis="x", color="#d0d7de", linewidth=0.5)
        axes.set_title(f"{kind} start in milliseconds: median, and line to p99", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
