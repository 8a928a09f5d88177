"""OpenTelemetry: a span and Lambda's metrics for every invocation, and the trace's context for the handler.

    import coldframe.otel

    coldframe.otel.instrument()

Needs the extra `otel`, which is OpenTelemetry's API; the SDK is the program's choice. docs/how-to/observe.md has the
names of spans, attributes and metrics.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from coldframe._build import __version__
from coldframe._invocation import Invocation
from coldframe._metrics import CONCURRENT_EXECUTIONS, METRICS, Running, measure
from coldframe._observers import Instrumentation
from coldframe.errors import InvocationError

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError(
        "coldframe.otel needs OpenTelemetry's API, which is not installed; pip install 'coldframe[otel]'",
        name=error.name,
        path=error.path,
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanContext, TracerProvider

    from coldframe._function import Function
    from coldframe._invocation import Report

__all__ = ["Instrumentation", "instrument"]

_logger = logging.getLogger("coldframe.observers")
_NAME = "faas.invoked_name"
_PROVIDER = "coldframe"
# An error's text comes from inside, and may be as long as an answer.
_LONGEST_TEXT = 1_000
_LONGEST_TRACE = 20_000

_active: Instrumentation | None = None


def instrument(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Instrumentation:
    """Make a span and count metrics for every invocation of this process from now on, whatever the function.

    The handler finds the span's context as `_X_AMZN_TRACE_ID`, in X-Ray's format, and can continue the trace.

    Args:
        tracer_provider: Where spans go; None is the global one.
        meter_provider: Where metrics go; None is the global one.

    Returns:
        What undoes it, by `uninstrument()` or at the end of a `with` statement. A second call while the first is in
        force changes nothing: it logs a warning, and returns what the first returned.
    """
    global _active
    if _active is not None:
        _logger.warning("coldframe.otel is in force already; call uninstrument() first")
        return _active
    observer = _Observer(tracer_provider, meter_provider)
    _active = Instrumentation(observer, observer.stop)
    return _active


class _Observer:
    """Opens a span for each invocation."""

    def __init__(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        """Make the instruments."""
        self._tracer = trace.get_tracer("coldframe", __version__, tracer_provider)
        meter = metrics.get_meter("coldframe", __version__, meter_provider)
        self._running = Running()
        self._record: dict[str, Any] = {}
        for metric in METRICS:
            name, unit, description = metric.otel, metric.unit, metric.description
            if metric.kind == "counter":
                self._record[metric.name] = meter.create_counter(name, unit, description).add
            elif metric.kind == "histogram":
                histogram = meter.create_histogram(
                    name, unit, description, explicit_bucket_boundaries_advisory=metric.bounds
                )
                self._record[metric.name] = histogram.record
        running = CONCURRENT_EXECUTIONS
        meter.create_observable_up_down_counter(running.otel, [self._observe], running.unit, running.description)

    def begin(self, function: Function) -> _Observation:
        """Open the span, a child of the caller's."""
        self._running.note(function)
        attributes = {_NAME: function.name, "faas.invoked_provider": _PROVIDER}
        span = self._tracer.start_span(function.name, kind=SpanKind.CLIENT, attributes=attributes)
        return _Observation(span, {_NAME: function.name}, self._record)

    def stop(self) -> None:
        """Observe nothing more; the meter keeps its callback for ever."""
        global _active
        _active = None
        self._running.forget()

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Yield how many invocations are in flight."""
        for name, count in self._running.by_name().items():
            yield metrics.Observation(count, {_NAME: name})


class _Observation:
    """An open span."""

    __slots__ = ("_attributes", "_record", "_span", "trace_id")

    def __init__(self, span: Span, attributes: dict[str, str], record: dict[str, Any]) -> None:
        """Note the context that the handler is to continue."""
        self._span, self._attributes, self._record = span, attributes, record
        self.trace_id = _xray(span.get_span_context())

    def end(self, outcome: Invocation | BaseException) -> None:
        """Say what came of it, and close the span."""
        try:
            for metric, value in measure(outcome):
                self._record[metric.name](value, self._attributes)
            if self._span.is_recording():
                self._describe(outcome)
        finally:
            self._span.end()

    def _describe(self, outcome: Invocation | BaseException) -> None:
        error: BaseException | None
        if isinstance(outcome, Invocation):
            error = outcome.error
            self._span.set_attributes({"faas.invocation_id": outcome.request_id, **_attributes(outcome.report)})
        else:
            error = outcome
        if error is None:
            return
        kind, message, stack = _explain(error)
        self._span.set_attribute("error.type", kind)
        event = {"exception.type": kind, "exception.message": message, "exception.stacktrace": stack}
        self._span.add_event("exception", event)
        self._span.set_status(Status(StatusCode.ERROR, str(error)[:_LONGEST_TEXT]))


def _xray(context: SpanContext) -> str:
    """Return `context` as X-Ray's header, as OpenTelemetry's propagator for it does; empty if there is none."""
    if not context.is_valid:
        return ""
    trace_id, parent = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    return f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={parent};Sampled={context.trace_flags.sampled:d}"


def _attributes(report: Report) -> dict[str, Any]:
    """Return what a report says, by OpenTelemetry's names where it has some."""
    attributes: dict[str, Any] = {
        "faas.coldstart": report.start != "warm",
        "faas.instance": report.environment_id,
        "faas.max_memory": report.memory_mb << 20,
        "coldframe.start": report.start,
        "coldframe.duration_ms": report.duration_ms,
        "coldframe.billed_duration_ms": report.billed_duration_ms,
        "coldframe.max_memory_mb": report.max_memory_mb,
        "coldframe.cpu_ms": report.cpu_ms,
        "coldframe.throttled_ms": report.throttled_ms,
    }
    if report.init_duration_ms is not None:
        attributes["coldframe.init_duration_ms"] = report.init_duration_ms
    if report.restore_duration_ms is not None:
        attributes["coldframe.restore_duration_ms"] = report.restore_duration_ms
    # When each phase began is not known, only how long it took: attributes, not spans.
    attributes.update((f"coldframe.phase.{name}_ms", ms) for name, ms in report.phases.items())
    return attributes


def _explain(error: BaseException) -> tuple[str, str, str]:
    """Return the type, the message and the stack trace of `error`: the handler's own ones, where it has some."""
    if isinstance(error, InvocationError):
        kind, message, stack = error.error_type, error.error_message, "".join(error.stack_trace)
    else:
        kind, message = type(error).__qualname__, str(error)
        if type(error).__module__ != "builtins":
            kind = f"{type(error).__module__}.{kind}"
        stack = ""
    if not stack:
        stack = "".join(traceback.format_exception(error))
    return kind[:_LONGEST_TEXT], message[:_LONGEST_TEXT], stack[-_LONGEST_TRACE:]
