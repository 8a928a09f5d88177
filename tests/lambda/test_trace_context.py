"""The trace's context on its way to the handler: X-Ray's header, as Lambda passes it."""

import asyncio
import json
from pathlib import Path

import pytest
from programs import ECHO, PYTHON, executable, program

import coldframe
from coldframe import _observers

HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
SHOWS = "import os\ndef handler(event, context):\n    return os.environ.get('_X_AMZN_TRACE_ID')"

needs_programs = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"the programs here are scripts for {PYTHON}")


class Tracer:
    """An observer that gives every invocation the next of some headers."""

    def __init__(self, *headers):
        self._headers = list(headers)

    def begin(self, function):
        self.trace_id = self._headers.pop(0)
        return self

    def end(self, outcome):
        pass


@pytest.fixture
def traced():
    """Return a function that has the invocations from now on traced by these headers."""
    installed = []

    def trace(*headers):
        installed.append(_observers.Instrumentation(Tracer(*headers), list))

    yield trace
    for one in installed:
        one.uninstrument()


def test_the_handler_finds_it_and_the_next_one_does_not(make, traced):
    fn = make(SHOWS)
    assert fn() is None
    traced(HEADER, "", HEADER.replace("Sampled=1", "Sampled=0"), "Root=1")
    assert [fn() for _ in range(4)] == [HEADER, None, HEADER[:-1] + "0", "Root=1"]
    assert fn.invoke is not None


def test_every_form_and_every_start_passes_it(make, traced):
    fn = make(SHOWS, memory_mb=256)
    fresh = make(SHOWS, reuse=False)
    headers = [f"Root=1-{n}" for n in range(12)]
    traced(*headers)
    assert fn() == headers[0], "with the order to initialise, or after it"
    assert fn.submit().result().payload == headers[1]
    assert asyncio.run(fn.ainvoke()).payload == headers[2]
    assert [one.payload for one in fn.map([1, 2])] == headers[3:5]
    assert list(fn.stream()) == [json.dumps(headers[5]).encode()]
    assert [fresh() for _ in range(6)] == headers[6:], "also where the event goes along with the order to initialise"


def test_it_goes_beside_a_client_context_and_a_large_event(make, traced):
    fn = make(
        "import os\ndef handler(event, context):\n"
        "    return os.environ.get('_X_AMZN_TRACE_ID'), context.client_context.custom, len(event)"
    )
    context, event = {"custom": {"k": "ü" * 200_000}}, "x" * 3_000_000
    assert fn(event, client_context=context) == [None, context["custom"], len(event)]
    traced(HEADER, "x" * 255)
    assert fn(event, client_context=context) == [HEADER, context["custom"], len(event)]
    assert fn("", client_context={"custom": {}}) == ["x" * 255, {}, 0]


def test_a_header_that_could_be_no_header_is_refused(make, traced):
    fn = make(SHOWS)
    bad = ["x" * 256, "a b", "a\nb", "a\0b", "é"]
    traced(*bad)
    for _ in bad:
        with pytest.raises(coldframe.ConfigurationError, match="visible characters"):
            fn()


def test_records_of_the_platform_carry_it(make, traced):
    fn = make(SHOWS, env={"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_SYSTEM_LOG_LEVEL": "DEBUG"})
    traced(HEADER, "")
    traced_log, log = fn.invoke().log, fn.invoke().log
    records = {record["type"]: record["record"] for record in map(json.loads, traced_log.splitlines())}
    for kind in ("platform.start", "platform.runtimeDone", "platform.report"):
        assert records[kind]["tracing"] == {"type": "X-Amzn-Trace-Id", "value": HEADER}
    assert "tracing" not in log


@needs_programs
def test_a_program_and_its_extension_are_told(provided, traced):
    extension = "me, _ = register('INVOKE')\nwhile True:\n    print('told', json.dumps(next_event(me)), flush=True)"
    fn = provided(ECHO, {"extensions/watcher": extension})
    assert "Lambda-Runtime-Trace-Id" not in fn()["headers"]
    traced(HEADER)
    invocation = fn.invoke()
    assert invocation.payload["headers"]["Lambda-Runtime-Trace-Id"] == HEADER
    told = [json.loads(line[5:]) for line in invocation.log.splitlines() if line.startswith("told ")]
    assert {"type": "X-Amzn-Trace-Id", "value": HEADER} in [event.get("tracing") for event in told]


@needs_programs
def test_a_python_function_with_an_extension_has_it_too(make, tmp_path, traced):
    source = "me, _ = register('INVOKE')\nwhile True:\n    next_event(me)\n"
    executable(tmp_path / "layer/extensions/watcher", program(source))
    fn = make(SHOWS, layers=[tmp_path / "layer"])
    traced(HEADER, "")
    assert [fn(), fn()] == [HEADER, None]
