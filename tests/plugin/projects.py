"""Projects of their own, each with tests that a pytest of its own runs."""

import json
from pathlib import Path

import pytest

CONFIGURATION = """
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider
asyncio_default_fixture_loop_scope = function
timeout = 60
"""

RECORDER = '''
import json
import os

import pytest

def pytest_collection_modifyitems(items):
    for item in items if os.environ.get("MARKED") else ():
        item.add_marker(pytest.mark.coldframe(memory_mb=64, timeout_s=20))

@pytest.fixture
def of_conftest():
    return "conftest"

def pytest_runtest_logreport(report):
    if "RECORD" in os.environ:
        told = {name: getattr(report, name) for name in ("nodeid", "when", "outcome", "sections", "user_properties")}
        told |= {"text": report.longreprtext, "location": report.location, "xfail": getattr(report, "wasxfail", None)}
        with open(os.environ["RECORD"], "a") as file:
            print(json.dumps(told), file=file)
'''


@pytest.fixture
def project(pytester, monkeypatch):
    """Return a directory with a configuration, and a conftest file that writes down what is reported."""
    pytester.makeini(CONFIGURATION)
    pytester.makeconftest(RECORDER)
    for name in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return pytester


@pytest.fixture
def reports(project, monkeypatch):
    """Return a function that runs tests, and returns what was reported of them."""

    def run(*arguments, **variables):
        record = Path(project.path, "record.jsonl")
        record.unlink(missing_ok=True)
        monkeypatch.setenv("RECORD", str(record))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        result = project.runpytest_subprocess(*arguments)
        lines = record.read_text().splitlines() if record.exists() else []
        return result, [json.loads(line) for line in lines]

    return run
