"""The metrics of functions: Lambda's, by the names and the rules of CloudWatch, and their names elsewhere."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Literal, NamedTuple

from coldframe._invocation import Invocation
from coldframe.errors import ThrottledError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coldframe._function import Function


class Metric(NamedTuple):
    """One metric; its dimension is the function's name."""

    name: str
    """Lambda's, and OpenTelemetry's."""
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    """As UCUM has it, and as Lambda counts: milliseconds, MiB, or so many of something."""
    prometheus: str
    """By Prometheus' rules, without the `_total` that its library adds to counters."""
    base: float
    """What one of the unit is in Prometheus' base unit."""
    bounds: tuple[float, ...]
    """Of a histogram's buckets, in the metric's own unit."""
    description: str


# From a warm start to Lambda's longest timeout, and from its least memory to its most.
_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000)
_MIB = (8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 10_240)

INVOCATIONS = Metric(
    "Invocations",
    "counter",
    "{invocation}",
    "coldframe_invocations",
    1,
    (),
    "Invocations that ended, failed ones included; neither throttled nor cancelled ones, nor refused events.",
)
ERRORS = Metric(
    "Errors",
    "counter",
    "{error}",
    "coldframe_errors",
    1,
    (),
    "Invocations that failed: the handler raised, timed out, ran out of memory, exited or could not be initialised.",
)
THROTTLES = Metric(
    "Throttles",
    "counter",
    "{throttle}",
    "coldframe_throttles",
    1,
    (),
    "Invocations that were refused for want of room; they are not among Invocations.",
)
DURATION = Metric(
    "Duration",
    "histogram",
    "ms",
    "coldframe_duration_seconds",
    1e-3,
    _MS,
    "From the event to the handler's answer, or to its end; initialisation is not part of it.",
)
INIT_DURATION = Metric(
    "InitDuration",
    "histogram",
    "ms",
    "coldframe_init_duration_seconds",
    1e-3,
    _MS,
    "Initialisation of a new environment, once for each cold start.",
)
RESTORE_DURATION = Metric(
    "RestoreDuration",
    "histogram",
    "ms",
    "coldframe_restore_duration_seconds",
    1e-3,
    _MS,
    "Restore of an environment of a function with snapstart, once for each restored start.",
)
MAX_MEMORY_USED = Metric(
    "MaxMemoryUsed",
    "histogram",
    "MiBy",
    "coldframe_max_memory_used_bytes",
    2**20,
    _MIB,
    "Peak of an environment's memory, up to and with the invocation.",
)
CONCURRENT_EXECUTIONS = Metric(
    "ConcurrentExecutions",
    "gauge",
    "{invocation}",
    "coldframe_concurrent_executions",
    1,
    (),
    "Invocations in flight now.",
)
METRICS = (
    INVOCATIONS,
    ERRORS,
    THROTTLES,
    DURATION,
    INIT_DURATION,
    RESTORE_DURATION,
    MAX_MEMORY_USED,
    CONCURRENT_EXECUTIONS,
)


def measure(outcome: Invocation | BaseException) -> Iterator[tuple[Metric, float]]:
    """Yield what counts of an invocation that ended so, in the metrics' own units.

    Zeros are counted too, so that a series of errors exists before the first error.
    """
    if isinstance(outcome, ThrottledError):
        yield THROTTLES, 1
        return
    # What the caller got wrong, or took back, has not come to the function's code, or not to an end.
    if not isinstance(outcome, Invocation):
        return
    report = outcome.report
    yield INVOCATIONS, 1
    yield ERRORS, 0 if outcome.ok else 1
    yield THROTTLES, 0
    yield DURATION, report.duration_ms
    yield MAX_MEMORY_USED, report.max_memory_mb
    if report.init_duration_ms is not None:
        yield INIT_DURATION, report.init_duration_ms
    if report.restore_duration_ms is not None:
        yield RESTORE_DURATION, report.restore_duration_ms


class Running:
    """How many invocations are in flight, by function: what the core says when it is asked."""

    def __init__(self) -> None:
        """Know no function."""
        self._functions: weakref.WeakValueDictionary[int, Function] = weakref.WeakValueDictionary()

    def note(self, function: Function) -> None:
        """Know `function` as long as it exists."""
        self._functions[id(function)] = function

    def forget(self) -> None:
        """Know no function any more."""
        self._functions.clear()

    def by_name(self) -> dict[str, int]:
        """Return how many are in flight, for each name of functions that have been invoked."""
        counts: dict[str, int] = {}
        for reference in self._functions.valuerefs():
            function = reference()
            if function is not None:
                counts[function.name] = counts.get(function.name, 0) + function._in_flight()  # noqa: SLF001
        return counts
