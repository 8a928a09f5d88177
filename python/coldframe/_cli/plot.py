"""Draws what `coldframe bench` measured; the one part of the package that needs an extra."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from coldframe.errors import ConfigurationError

_FORMATS = (".png", ".svg")


def check(file: str) -> None:
    """Refuse, before anything is measured, what could not be drawn afterwards."""
    path = Path(file)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(f"--plot {file}: the name must end with {' or '.join(_FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"--plot {file}: there is no directory {path.absolute().parent}; make it first")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigurationError("--plot needs matplotlib; run: pip install 'coldframe[plot]'")


def draw(file: str, title: str, samples: dict[str, list[float]]) -> None:
    """Draw every one of the `samples`, milliseconds by kind of start, into `file`, with their medians marked."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(7, 2 + 0.5 * len(samples)), layout="constrained")
    axes = figure.subplots()
    for row, (name, values) in enumerate(reversed(samples.items())):  # rows count upwards
        ordered = sorted(values)
        axes.scatter(ordered, [row] * len(ordered), alpha=0.4, s=20)
        axes.plot([ordered[(len(ordered) - 1) // 2]], [row], "|", color="black", markersize=24)
        axes.annotate(f"{name}, {len(ordered)} runs", (0.01, row + 0.25), xycoords=("axes fraction", "data"))
    axes.set_xscale("log")
    axes.set_yticks([])
    axes.set_ylim(-0.5, len(samples) - 0.2)
    axes.set_xlabel("milliseconds of wall clock around the call; a bar marks the median")
    axes.set_title(title)
    figure.savefig(file)
