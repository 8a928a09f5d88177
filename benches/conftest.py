"""What the benches share: a host, and medians of two things measured in turn.

Every number is a ratio of two medians from one run, taken alternately, so that a machine whose speed drifts slows both
down. The spread of each side is kept in pytest-benchmark's record (`--benchmark-json`).
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import coldframe

ECHO = "def handler(event, context):\n    return event\n"


@dataclass(frozen=True)
class Pair:
    """Times of two things, in seconds, measured in turn."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """Our median over theirs."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    def describe(self) -> dict[str, float]:
        """Medians and 99th percentiles, in milliseconds, and the ratio."""
        record = {"ratio": self.ratio}
        for name, times in (("ours", self.ours), ("theirs", self.theirs)):
            record[f"{name}_p50_ms"] = statistics.median(times) * 1e3
            record[f"{name}_p99_ms"] = sorted(times)[int(len(times) * 0.99)] * 1e3
            record[f"{name}_min_ms"] = min(times) * 1e3
        return record


def timed(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


@pytest.fixture
def alternately(benchmark) -> Callable[..., Pair]:
    """Measures two things in turn: `rounds` times each, after a warm-up of both."""

    def run(ours: Callable[[], object], theirs: Callable[[], object], rounds: int, warm_up: int = 5) -> Pair:
        for _ in range(warm_up):
            ours()
            theirs()
        pair = Pair([], [])
        gc.collect()
        gc.disable()
        try:

            def both() -> None:
                pair.ours.append(timed(ours))
                pair.theirs.append(timed(theirs))

            benchmark.pedantic(both, rounds=rounds, iterations=1)
        finally:
            gc.enable()
        benchmark.extra_info.update(pair.describe())
        print({name: round(value, 3) for name, value in pair.describe().items()})
        return pair

    return run


@pytest.fixture
def host() -> Iterator[coldframe.Host]:
    with coldframe.Host() as host:
        yield host


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """Code that hands its event back."""
    path = tmp_path / "app.py"
    path.write_text(ECHO)
    return path
