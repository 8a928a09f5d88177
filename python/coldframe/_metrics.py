"""The metrics of functions: Lambda's, by the rules of CloudWatch, and by what names they go elsewhere."""

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
    """Lambda's."""
    otel: str
    """OpenTelemetry's: lower case, in a namespace."""
    prometheus: str
    """Prometheus', with the unit, and without the `_total` that its library adds to counters."""
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    """As UCUM has it: seconds, bytes, or so many of something. Both of them want base units."""
    bounds: tuple[float, ...]
    """Of a histogram's buckets."""
    description: str


# From a warm start to Lambda's longest timeout, and from its least memory to its most.
_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_BYTES = tuple(float(mib << 20) for mib in (8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 10_240))

INVOCATIONS = Metric(
    "Invocations",
    "coldframe.invocations",
    "coldframe_invocations",
    "counter",
    "{invocation}",
    (),
    "Invocations that ended, failed ones included; neither throttled nor cancelled ones, nor refused events.",
)
ERRORS = Metric(
    "Errors",
    "coldframe.errors",
    "coldframe_errors",
    "counter",
    "{error}",
    (),
    "Invocations that failed: the handler raised, timed out, ran out of memory, exited or could not be initialised.",
)
THROTTLES = Metric(
    "Throttles",
    "coldframe.throttles",
    "coldframe_throttles",
    "counter",
    "{throttle}",
    (),
    "Invocations that were refused for want of room; they are not among Invocations.",
)
DURATION = Metric(
    "Duration",
    "coldframe.duration",
    "coldframe_duration_seconds",
    "histogram",
    "s",
    _S,
    "From the event to the handler's answer, or to its end; initialisation is not part of it.",
)
INIT_DURATION = Metric(
    "InitDuration",
    "coldframe.init_duration",
    "coldframe_init_duration_seconds",
    "histogram",
    "s",
    _S,
    "Initialisation of a new environment, once for each cold start.",
)
RESTORE_DURATION = Metric(
    "RestoreDuration",
    "coldframe.restore_duration",
    "coldframe_restore_duration_seconds",
    "histogram",
    "s",
    _S,
    "Restore of an environment of a function with snapstart, once for each restored start.",
)
MAX_MEMORY_USED = Metric(
    "MaxMemoryUsed",
    "coldframe.max_memory_used",
    "coldframe_max_memory_used_bytes",
    "histogram",
    "By",
    _BYTES,
    "Peak of an environment's memory, up to and with the invocation.",
)
CONCURRENT_EXECUTIONS = Metric(
    "ConcurrentExecutions",
    "coldframe.concurrent_executions",
    "coldframe_concurrent_executions",
    "gauge",
    "{invocation}",
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
    """Yield what counts of an invocation that ended so, in the metrics' units.

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
    yield DURATION, report.duration_ms / 1000
    yield MAX_MEMORY_USED, report.max_memory_mb << 20
    if report.init_duration_ms is not None:
        yield INIT_DURATION, report.init_duration_ms / 1000
    if report.restore_duration_ms is not None:
        yield RESTORE_DURATION, report.restore_duration_ms / 1000


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
