"""The modules behind extras, as user code has them. Never run: the type checkers read it."""

from typing import assert_type

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from prometheus_client import CollectorRegistry

import coldframe.otel
import coldframe.prometheus


def observe(tracers: TracerProvider, meters: MeterProvider, registry: CollectorRegistry) -> None:
    assert_type(coldframe.otel.instrument(), coldframe.otel.Instrumentation)
    assert_type(coldframe.prometheus.instrument(), coldframe.prometheus.Instrumentation)
    with coldframe.otel.instrument(tracer_provider=tracers, meter_provider=meters) as tracing:
        assert_type(tracing, coldframe.otel.Instrumentation)
    with coldframe.prometheus.instrument(registry=registry) as counting:
        assert_type(counting.uninstrument(), None)
