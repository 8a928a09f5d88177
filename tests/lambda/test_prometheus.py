"""Lambda's metrics in a registry of prometheus_client."""

import pytest
from conftest import until

import coldframe

prometheus_client = pytest.importorskip("prometheus_client", exc_type=ImportError)

import coldframe.prometheus  # noqa: E402 - needs what is looked for above

SOURCE = (
    "import time\ndef handler(event, context):\n"
    "    if event == 'raise':\n        raise ValueError('no')\n"
    "    time.sleep(event)\n    return event"
)


@pytest.fixture
def registry():
    registry = prometheus_client.CollectorRegistry()
    with coldframe.prometheus.instrument(registry):
        yield registry


def value(registry, name, function="f", **labels):
    return registry.get_sample_value(name, {"function_name": function, **labels})


def test_invocations_are_counted_by_function(make, registry):
    fn, other = make(SOURCE, name="f"), make(SOURCE, name="other")
    reports = [fn.invoke(event).report for event in (0, "raise", 0, 0.02)]
    other(0)
    assert value(registry, "coldframe_invocations_total") == 4
    assert value(registry, "coldframe_errors_total") == 1
    assert value(registry, "coldframe_throttles_total") == 0
    assert value(registry, "coldframe_duration_seconds_count") == 4
    total = value(registry, "coldframe_duration_seconds_sum")
    assert total == pytest.approx(sum(report.duration_ms for report in reports) / 1000)
    assert value(registry, "coldframe_duration_seconds_bucket", le="0.01") <= 3
    assert value(registry, "coldframe_duration_seconds_bucket", le="900.0") == 4
    assert value(registry, "coldframe_init_duration_seconds_count") == 1
    initialisation = value(registry, "coldframe_init_duration_seconds_sum")
    assert initialisation == pytest.approx(reports[0].init_duration_ms / 1000)
    memory = value(registry, "coldframe_max_memory_used_bytes_sum")
    assert memory == sum(report.max_memory_mb for report in reports) * 2**20
    assert value(registry, "coldframe_restore_duration_seconds_count") is None
    assert [value(registry, f"coldframe_{name}_total", "other") for name in ("invocations", "errors")] == [1, 0]


def test_throttles_and_executions_in_flight(make, registry):
    fn = make(SOURCE, name="f", reserved_concurrency=2, timeout_s=30)
    futures = [fn.submit(30) for _ in range(2)]
    assert until(lambda: value(registry, "coldframe_concurrent_executions") == 2)
    with pytest.raises(coldframe.ThrottledError):
        fn(0)
    assert value(registry, "coldframe_throttles_total") == 1
    assert value(registry, "coldframe_invocations_total") is None
    for future in futures:
        future.cancel()
    assert until(lambda: value(registry, "coldframe_concurrent_executions") == 0)
    assert [one.payload for one in fn.map([0] * 10)] == [0] * 10
    assert value(registry, "coldframe_invocations_total") == 10


def test_a_page_of_metrics_is_well_formed(make, registry):
    make(SOURCE, name="f")(0)
    page = prometheus_client.generate_latest(registry).decode()
    types = dict(line.split()[2:4] for line in page.splitlines() if line.startswith("# TYPE"))
    assert types["coldframe_invocations_total"] == "counter"
    assert types["coldframe_duration_seconds"] == "histogram"
    assert types["coldframe_concurrent_executions"] == "gauge"
    assert 'coldframe_errors_total{function_name="f"} 0.0' in page
    bounds = [line.split('"')[3] for line in page.splitlines() if line.startswith("coldframe_duration_seconds_bucket")]
    assert bounds[:3] == ["0.0005", "0.001", "0.0025"]
    assert all(len(bound) <= 6 for bound in bounds), "no rounding errors"


def test_registries_are_independent_and_undone(make, registry):
    fn = make(SOURCE, name="f")
    with pytest.raises(ValueError, match="Duplicated"):
        coldframe.prometheus.instrument(registry)
    fn(0)
    assert value(registry, "coldframe_invocations_total") == 1, "those that were there are in force"
    second = prometheus_client.CollectorRegistry()
    with coldframe.prometheus.instrument(second):
        fn(0)
        assert value(second, "coldframe_invocations_total") == 1
    fn(0)
    assert list(second.collect()) == []
    assert value(registry, "coldframe_invocations_total") == 3
    with coldframe.prometheus.instrument(second):
        assert value(second, "coldframe_invocations_total") is None
