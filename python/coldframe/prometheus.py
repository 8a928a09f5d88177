"""Prometheus: Lambda's metrics for every function, in a registry of `prometheus_client`.

    import coldframe.prometheus

    coldframe.prometheus.instrument()

Needs the extra `prometheus`. docs/how-to/observe.md has the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coldframe._metrics import METRICS, Running, measure
from coldframe._observers import Instrumentation

try:
    from prometheus_client import REGISTRY, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as _missing:
    raise ImportError(
        "coldframe.prometheus needs prometheus_client, which is not installed; pip install 'coldframe[prometheus]'",
        name=_missing.name,
        path=_missing.path,
    ) from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Family

    from coldframe._function import Function
    from coldframe._invocation import Invocation
    from coldframe._metrics import Metric

__all__ = ["Instrumentation", "instrument"]

_LABELS = ("function_name",)


def instrument(registry: CollectorRegistry = REGISTRY) -> Instrumentation:
    """Count every invocation of this process from now on, whatever the function, in `registry`.

    Returns:
        What undoes it, by `uninstrument()` or at the end of a `with` statement; the metrics leave the registry.

    Raises:
        ValueError: `registry` has these metrics already.
    """
    observer = _Observer(registry)
    return Instrumentation(observer, observer.stop)


class _Observer:
    """Counts invocations."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics; all of them, or none."""
        self._registry = registry
        self._running = Running()
        self._count: dict[str, Callable[[str, float], None]] = {}
        self._registered: list[Collector] = []
        try:
            for metric in METRICS:
                self._register(metric)
        except ValueError:
            self.stop()
            raise

    def begin(self, function: Function) -> _Observation:
        """Note whose it is."""
        self._running.note(function)
        return _Observation(function.name, self._count)

    def stop(self) -> None:
        """Take the metrics out of the registry."""
        while self._registered:
            self._registry.unregister(self._registered.pop())
        self._running.forget()

    def _register(self, metric: Metric) -> None:
        """Register one metric, and how it is counted."""
        name, text, registry = metric.prometheus, metric.description, self._registry
        if metric.kind == "counter":
            counter = Counter(name, text, _LABELS, registry=registry)
            self._registered.append(counter)
            self._count[metric.name] = lambda function, value: counter.labels(function).inc(value)
        elif metric.kind == "histogram":
            histogram = Histogram(name, text, _LABELS, registry=registry, buckets=metric.bounds)
            self._registered.append(histogram)
            self._count[metric.name] = lambda function, value: histogram.labels(function).observe(value)
        else:
            gauge = _InFlight(metric, self._running)
            registry.register(gauge)
            self._registered.append(gauge)


class _Observation:
    """An invocation in flight."""

    __slots__ = ("_count", "_function")

    trace_id = ""

    def __init__(self, function: str, count: dict[str, Callable[[str, float], None]]) -> None:
        """Note whose it is."""
        self._function, self._count = function, count

    def end(self, outcome: Invocation | BaseException) -> None:
        """Count what came of it."""
        for metric, value in measure(outcome):
            self._count[metric.name](self._function, value)


class _InFlight(Collector):
    """The gauge: read from the core whenever somebody scrapes."""

    def __init__(self, metric: Metric, running: Running) -> None:
        """Note what it is called."""
        self._metric, self._running = metric, running

    def describe(self) -> Iterable[Family]:
        """Return the metric without a value."""
        return [GaugeMetricFamily(self._metric.prometheus, self._metric.description, labels=_LABELS)]

    def collect(self) -> Iterable[Family]:
        """Return the metric with a value for each function."""
        family = GaugeMetricFamily(self._metric.prometheus, self._metric.description, labels=_LABELS)
        for name, count in self._running.by_name().items():
            family.add_metric([name], count)
        return [family]
