"""The modules that need an extra say which, and the metrics have one table."""

import subprocess
import sys

import pytest

from coldframe import _metrics


@pytest.mark.parametrize(("name", "library"), [("otel", "opentelemetry"), ("prometheus", "prometheus_client")])
def test_without_its_library_a_module_names_the_extra(name, library):
    program = f"import sys\nsys.modules[{library!r}] = None\nimport coldframe\nimport coldframe.{name}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("ImportError: coldframe.")
    assert f"pip install 'coldframe[{name}]'" in last


def test_the_package_loads_neither_observers_libraries_nor_logging_by_itself():
    program = (
        "import coldframe, sys\n"
        "coldframe.Function\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'prometheus_client')])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_metrics_are_named_by_the_rules_of_each_world():
    suffixes = {"s": "_seconds", "By": "_bytes"}
    for metric in _metrics.METRICS:
        words = "".join(word.capitalize() for word in metric.otel.removeprefix("coldframe.").split("_"))
        assert words == metric.name
        # What an exporter makes of OpenTelemetry's name is the same.
        assert metric.otel.replace(".", "_") + suffixes.get(metric.unit, "") == metric.prometheus
        assert sorted(metric.bounds) == list(metric.bounds)
        assert bool(metric.bounds) == (metric.kind == "histogram")
