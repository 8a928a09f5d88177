"""Spans and metrics of OpenTelemetry, with its own SDK on both sides."""

import asyncio
import logging
import os
import threading

import pytest
from conftest import until

import coldframe

sdk = pytest.importorskip("opentelemetry.sdk.trace", exc_type=ImportError)

from opentelemetry import trace  # noqa: E402 - what follows is there with the SDK
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

import coldframe.otel  # noqa: E402

ECHO = "def handler(event, context):\n    return event"
SLOW = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event"


class Seen:
    """Where the spans and metrics of this process go."""

    def __init__(self, **options):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = sdk.TracerProvider(**options, shutdown_on_exit=False)
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracers.get_tracer("the program's own")

    def shutdown(self):
        """Have the providers leave nothing to be done at the end of the process."""
        self.tracers.shutdown()
        self.meters.shutdown()

    def spans(self):
        """Return coldframe's spans, in the order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if span.kind == SpanKind.CLIENT]

    def metrics(self):
        """Return the values by the metrics' names and the functions': counts, or the number and sum of a histogram."""
        found, data = {}, self.reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        for metric in metrics:
            for point in metric.data.data_points:
                value = (point.count, point.sum) if hasattr(point, "count") else point.value
                found[metric.name.removeprefix("coldframe."), point.attributes["faas.invoked_name"]] = value
        return found


@pytest.fixture
def seen():
    seen = Seen()
    with coldframe.otel.instrument(seen.tracers, seen.meters):
        yield seen
    seen.shutdown()


def test_a_span_says_what_the_report_says(make, seen):
    fn = make(ECHO, memory_mb=256, name="orders")
    with seen.tracer.start_as_current_span("request") as parent:
        cold, warm = fn.invoke(1), fn.invoke(2)
    for span, invocation in zip(seen.spans(), (cold, warm), strict=True):
        assert (span.name, span.kind, span.status.status_code) == ("orders", SpanKind.CLIENT, StatusCode.UNSET)
        assert span.parent.span_id == parent.get_span_context().span_id
        report, attributes = invocation.report, dict(span.attributes)
        assert attributes["faas.invoked_name"] == "orders"
        assert attributes["faas.invoked_provider"] == "coldframe"
        assert attributes["faas.invocation_id"] == invocation.request_id
        assert attributes["faas.instance"] == report.environment_id
        assert attributes["faas.max_memory"] == 256 << 20
        assert attributes["faas.coldstart"] is (report.start == "cold")
        assert attributes["coldframe.duration_ms"] == report.duration_ms
        assert attributes.get("coldframe.init_duration_ms") == report.init_duration_ms
        assert attributes["coldframe.phase.invoke_ms"] == report.phases["invoke"]
        assert (span.end_time - span.start_time) / 1e6 >= report.duration_ms
    assert [span.instrumentation_scope.name for span in seen.spans()] == ["coldframe"] * 2


def test_a_failure_has_the_handlers_own_error(make, seen):
    fn = make("def handler(event, context):\n    raise KeyError('x' * 5000)")
    assert not fn.invoke().ok
    (span,) = seen.spans()
    assert span.status.status_code == StatusCode.ERROR
    assert span.attributes["error.type"] == "KeyError"
    (event,) = span.events
    assert (event.name, event.attributes["exception.type"]) == ("exception", "KeyError")
    assert event.attributes["exception.message"].startswith("'xxx")
    assert span.status.description.startswith("KeyError: 'xxx")
    assert "app.py" in event.attributes["exception.stacktrace"]
    assert 500 < len(event.attributes["exception.message"]) <= 1000, (
        "no more of what a handler may make as long as it likes"
    )


def test_each_failure_counts_as_in_cloudwatch(make, seen):
    fn = make(
        "import os, time\ndef handler(event, context):\n"
        "    if event == 'raise':\n        raise ValueError('no')\n"
        "    if event == 'exit':\n        os._exit(3)\n"
        "    if event == 'late':\n        time.sleep(9)\n"
        "    return event",
        name="f",
        timeout_s=0.3,
    )
    fn.invoke("well")
    assert seen.metrics()["errors", "f"] == 0, "the series is there before the first error"
    invocations = [fn.invoke(event) for event in ("raise", "exit", "late", "well")]
    with pytest.raises(coldframe.PayloadError):
        fn({1})
    metrics = seen.metrics()
    assert (metrics["invocations", "f"], metrics["errors", "f"], metrics["throttles", "f"]) == (5, 3, 0)
    count, total = metrics["duration", "f"]
    assert count == 5
    assert total >= sum(one.report.duration_ms for one in invocations) / 1000 >= 0.3
    colds = [one for one in invocations if one.report.start == "cold"]
    count, total = metrics["init_duration", "f"]
    assert count == 1 + len(colds)
    assert total > sum(one.report.init_duration_ms for one in colds) / 1000 > 0
    assert metrics["max_memory_used", "f"][0] == 5
    assert metrics["concurrent_executions", "f"] == 0
    types = [span.attributes.get("error.type") for span in seen.spans()]
    failed = ["ValueError", "Runtime.ExitError", "Sandbox.Timedout"]
    assert types == [None, *failed, None, "InvalidRequestContentException"]


def test_throttles_are_no_invocations(make, seen):
    fn = make(ECHO, name="full", reserved_concurrency=0)
    for call in (fn, fn.invoke, lambda: fn.submit().result()):
        with pytest.raises(coldframe.ThrottledError):
            call()
    metrics = seen.metrics()
    assert metrics["throttles", "full"] == 3
    assert ("invocations", "full") not in metrics
    assert [span.attributes["error.type"] for span in seen.spans()] == ["coldframe.errors.ThrottledError"] * 3


def test_concurrent_executions_are_those_in_flight(make, seen):
    fn, other = make(SLOW, name="busy", timeout_s=30), make(ECHO, name="other")
    other()
    futures = [fn.submit(30) for _ in range(3)]
    assert until(lambda: seen.metrics().get(("concurrent_executions", "busy")) == 3)
    assert seen.metrics()["concurrent_executions", "other"] == 0
    for future in futures:
        future.cancel()
    assert until(lambda: seen.metrics()["concurrent_executions", "busy"] == 0)
    assert [one.payload for one in fn.map([0] * 20)] == [0] * 20
    metrics = seen.metrics()
    assert (metrics["invocations", "busy"], metrics["errors", "busy"]) == (20, 0), "cancelled ones are neither"
    cancelled = [span for span in seen.spans() if span.status.status_code == StatusCode.ERROR]
    assert len(cancelled) == 3
    assert all(span.attributes["error.type"].endswith("CancelledError") for span in cancelled)


def test_the_parent_is_the_callers_span_in_every_form(make, seen):
    fn = make("def handler(event, context):\n    yield 'a'\n    yield 'b'")
    echo = make(ECHO)

    async def one(n):
        with seen.tracer.start_as_current_span(f"task {n}"):
            await asyncio.sleep(0)
            return await echo.ainvoke(n)

    async def many():
        return await asyncio.gather(*(one(n) for n in range(3)))

    with seen.tracer.start_as_current_span("plain"):
        echo(1)
    with seen.tracer.start_as_current_span("submit"):
        future = echo.submit(1)
    future.result()
    with seen.tracer.start_as_current_span("map"):
        assert len(list(echo.map(range(3)))) == 3
    with seen.tracer.start_as_current_span("stream"):
        stream = fn.stream()
    threading.Thread(target=lambda: list(stream)).run()
    assert len(asyncio.run(many())) == 3
    everything = seen.exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in everything}
    parents = sorted(names[span.parent.span_id] for span in seen.spans())
    assert parents == ["map"] * 3 + ["plain", "stream", "submit", "task 0", "task 1", "task 2"]


INSIDE = """\
import os
from opentelemetry import trace
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer(__name__)


def handler(event, context):
    exporter.clear()
    header = {"X-Amzn-Trace-Id": os.environ.get("_X_AMZN_TRACE_ID", "")}
    with tracer.start_as_current_span("handler", AwsXRayPropagator().extract(header)):
        pass
    return [
        {"trace": f"{span.context.trace_id:032x}", "parent": span.parent and f"{span.parent.span_id:016x}"}
        for span in exporter.get_finished_spans()
    ]
"""


def test_a_handler_continues_the_trace(make, seen):
    fn = make(INSIDE, memory_mb=512, timeout_s=30)
    with seen.tracer.start_as_current_span("request") as request:
        inside = [fn(), fn()]
    for (within,), span in zip(inside, seen.spans(), strict=True):
        assert within["trace"] == f"{request.get_span_context().trace_id:032x}"
        assert within["parent"] == f"{span.context.span_id:016x}"


def test_what_is_not_sampled_outside_is_not_sampled_inside(make):
    seen = Seen(sampler=ALWAYS_OFF)
    shows = make("import os\ndef handler(event, context):\n    return os.environ.get('_X_AMZN_TRACE_ID')")
    with coldframe.otel.instrument(seen.tracers, seen.meters):
        assert shows().endswith(";Sampled=0")
    with coldframe.otel.instrument(trace.NoOpTracerProvider(), seen.meters):
        assert shows() is None, "no tracing, no header"
    assert shows() is None
    assert seen.metrics()["invocations", "app"] == 2
    seen.shutdown()


def test_a_second_instrument_changes_nothing_and_says_so(make, seen, caplog):
    fn = make(ECHO)
    with caplog.at_level(logging.WARNING, "coldframe"):
        again = coldframe.otel.instrument()
    assert "in force already" in caplog.text
    fn()
    assert len(seen.spans()) == 1
    again.uninstrument()
    fn()
    assert len(seen.spans()) == 1
    with coldframe.otel.instrument(seen.tracers, seen.meters):
        fn()
    assert len(seen.spans()) == 2


def test_a_forked_child_has_spans_of_its_own(make, seen):
    fn = make(ECHO)
    with seen.tracer.start_as_current_span("before the fork"):
        fn(1)
        child = os.fork()
        if not child:
            status = 1
            try:
                seen.exporter.clear()
                fn.host.close()
                own = coldframe.Function(fn.handler, fn.code)
                own(2)
                gauges = seen.metrics()
                status = 0 if len(seen.spans()) == 1 and gauges["concurrent_executions", "app"] == 0 else 2
                own.host.close()
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(seen.spans()) == 1
