"""What watches invocations, as user code has it. Never run: the type checkers read it."""

from typing import assert_type

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from prometheus_client import CollectorRegistry

from coldframe import otel, prometheus


def traced(tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
    assert_type(otel.instrument(), otel.Instrumentation)
    with otel.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider) as instrumentation:
        assert_type(instrumentation, otel.Instrumentation)
    assert_type(instrumentation.uninstrument(), None)


def counted() -> None:
    assert_type(prometheus.instrument(), prometheus.Instrumentation)
    with prometheus.instrument(registry=CollectorRegistry()) as instrumentation:
        assert_type(instrumentation, prometheus.Instrumentation)
