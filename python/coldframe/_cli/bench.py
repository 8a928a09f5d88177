"""`coldframe bench`: first, cold and warm starts of one function, side by side.

first is a host with nothing resident, so that even the interpreter has to start; cold is a new environment while a
zygote is resident; warm is one that is used again. All are timed from the caller's side, by the wall clock around the
call, and taken in turns, so that whatever else the machine does meets them alike.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from coldframe._cli import plot
from coldframe._cli.arguments import add_function, function_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from coldframe import Function, Invocation

_MOST_FIRST_RUNS = 5
_BAR_WIDTH = 30
_QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass
class Start:
    """One kind of start: wall times in milliseconds, and what of them the reports account for."""

    wall_ms: list[float] = field(default_factory=list)
    init_ms: list[float] = field(default_factory=list)
    handler_ms: list[float] = field(default_factory=list)

    def add(self, wall_ms: float, invocation: Invocation) -> None:
        """Add one measurement."""
        self.wall_ms.append(wall_ms)
        self.init_ms.append(invocation.report.init_duration_ms or 0.0)
        self.handler_ms.append(invocation.report.duration_ms)

    def summary(self) -> dict[str, float]:
        """Return the quantiles of the wall time, by nearest rank, and the medians of its phases."""
        rest = [wall - init - handler for wall, init, handler in zip(*self.columns(), strict=True)]
        return {
            **{name: quantile(self.wall_ms, part) for name, part in _QUANTILES.items()},
            "init_p50": median(self.init_ms),
            "handler_p50": median(self.handler_ms),
            "rest_p50": median(rest),
        }

    def columns(self) -> tuple[list[float], list[float], list[float]]:
        """Return the wall times, and of each the initialisation and the handler."""
        return self.wall_ms, self.init_ms, self.handler_ms


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure first, cold and warm starts",
        description="Measure first, cold and warm starts of a function side by side.",
        allow_abbrev=False,
    )
    add_function(parser)
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="measurements of each (default: %(default)s)")
    parser.add_argument("--plot", metavar="FILE", help="draw the measurements into a .png or .svg file")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, and return 0; or 1 as soon as an invocation fails."""
    if arguments.runs < 1:
        arguments.parser.error("argument --runs: at least 1")
    if arguments.plot:
        plot.check(arguments.plot)
    starts, failed = measure(arguments)
    if failed is not None:
        sys.stderr.write(failed.log)
        print(f"coldframe: an invocation failed: {failed.error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(as_dict(arguments, starts), indent=2))
    else:
        print("\n".join(table(starts)))
    if arguments.plot:
        plot.draw(arguments.plot, arguments.handler, {name: start.wall_ms for name, start in starts.items()})
    return 0


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Start], Invocation | None]:
    """Return the measurements, or the first invocation that failed."""
    from coldframe import Function, Host  # noqa: PLC0415 - not for --help

    def make(host: Host, *, reuse: bool) -> Function:
        options = function_options(arguments)
        options["host"] = host
        options["reuse"] = reuse
        return Function(arguments.handler, arguments.code, **options)

    starts = {"first": Start(), "cold": Start(), "warm": Start()}
    first_runs = min(arguments.runs, _MOST_FIRST_RUNS)
    progress = Progress(first_runs + 2 * arguments.runs)
    try:
        for _ in range(first_runs):
            with Host() as host, make(host, reuse=False) as function:
                failed = _measure_one(function, arguments.event, starts["first"].add)
            progress.step()
            if failed:
                return starts, failed
        with Host() as host, make(host, reuse=False) as cold, make(host, reuse=True) as warm:
            for function in (cold, warm):  # the zygote, and the environment that will be warm
                if not (primed := function.invoke(arguments.event)).ok:
                    return starts, primed
            for _ in range(arguments.runs):
                for name, function in (("cold", cold), ("warm", warm)):
                    failed = _measure_one(function, arguments.event, starts[name].add)
                    progress.step()
                    if failed:
                        return starts, failed
    finally:
        progress.clear()
    return starts, None


def quantile(samples: Iterable[float], part: float) -> float:
    """Return the smallest sample that at least `part` of them do not exceed: one that was measured, not a guess."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(part * len(ordered)), 1) - 1]


def table(starts: dict[str, Start]) -> list[str]:
    """Return the measurements as lines of text."""
    summaries = {name: start.summary() for name, start in starts.items()}
    names = next(iter(summaries.values())).keys()
    phases = {"init_p50": "init", "handler_p50": "handler", "rest_p50": "rest"}
    header = "".join(f"{phases.get(name, name):>10}" for name in names)
    lines = [f"{'start':<8}{'runs':>6}{header}"]
    lines += [
        f"{start:<8}{len(starts[start].wall_ms):>6}" + "".join(f"{value:>10.3f}" for value in summary.values())
        for start, summary in summaries.items()
    ]
    lines += ["", "milliseconds of wall clock around the call; init, handler and rest are the medians of its phases"]
    return lines


def as_dict(arguments: argparse.Namespace, starts: dict[str, Start]) -> dict[str, Any]:
    """Return the measurements for other programs, every single one included."""
    return {
        "handler": arguments.handler,
        "memory_mb": arguments.memory,
        "unit": "ms",
        "starts": {
            name: {"runs": len(start.wall_ms), **start.summary(), "samples": start.wall_ms}
            for name, start in starts.items()
        },
    }


class Progress:
    """A bar on standard error, when that is a terminal."""

    def __init__(self, total: int) -> None:
        """Begin with none of `total` steps done."""
        self._total = total
        self._done = 0
        self._shown = sys.stderr.isatty()

    def step(self) -> None:
        """Count one more, and draw."""
        self._done += 1
        if self._shown:
            filled = _BAR_WIDTH * self._done // self._total
            bar = "#" * filled + "." * (_BAR_WIDTH - filled)
            print(f"\r[{bar}] {self._done}/{self._total}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _measure_one(
    function: Function,
    event: Any,  # noqa: ANN401 - any JSON
    add: Callable[[float, Invocation], None],
) -> Invocation | None:
    """Measure one invocation; return it when it failed."""
    began = time.perf_counter()
    invocation = function.invoke(event)
    wall_ms = (time.perf_counter() - began) * 1000
    if not invocation.ok:
        return invocation
    add(wall_ms, invocation)
    return None
