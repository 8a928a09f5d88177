"""Outcomes of the core as results for people."""

import dataclasses
import pickle

import pytest
from test_python_fake import failure, outcome

from coldframe._invocation import from_outcome
from coldframe.errors import HandlerError, PayloadError


def test_a_result():
    invocation = from_outcome(
        outcome(b'{"a": [1, NaN]}', log="START\n", request_id="id", init_duration_ms=3.5, start="cold")
    )
    assert invocation.ok
    assert invocation.payload["a"][0] == 1
    assert invocation.unwrap() is invocation.payload
    assert (invocation.error, invocation.log, invocation.request_id) == (None, "START\n", "id")
    assert (invocation.report.start, invocation.report.init_duration_ms) == ("cold", 3.5)


def test_a_failure():
    invocation = from_outcome(failure("handler", "ValueError", "boom", ["  File x\n"]))
    assert not invocation.ok
    assert invocation.payload is None
    assert invocation.error.invocation is invocation
    with pytest.raises(HandlerError, match="ValueError: boom") as caught:
        invocation.unwrap()
    assert caught.value is invocation.error
    assert caught.value.stack_trace == ("  File x\n",)


@pytest.mark.parametrize(
    "payload", [b"", None, b"{", b"\xff", b"\xed\xa0\x80", b"[" * 100_000 + b"]" * 100_000, b"9" * 10_000, b"nope"]
)
def test_a_response_that_is_no_json_is_a_failure_and_no_exception(payload):
    invocation = from_outcome(outcome(payload))
    assert not invocation.ok
    assert type(invocation.error) is PayloadError
    assert invocation.error.error_type == "Runtime.MarshalError"
    assert invocation.payload is None
    assert invocation.report.memory_mb == 128


def test_results_cannot_be_changed():
    invocation = from_outcome(outcome())
    with pytest.raises(dataclasses.FrozenInstanceError):
        invocation.payload = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        invocation.report.memory_mb = 1


def test_a_result_prints_on_a_line():
    assert repr(from_outcome(outcome(b'"' + b"x" * 100_000 + b'"'))).startswith("Invocation(ok=True, payload='xxx")
    assert len(repr(from_outcome(outcome(b'"' + b"x" * 100_000 + b'"')))) < 300
    assert "error=HandlerError('ValueError: boom')" in repr(from_outcome(failure("handler", "ValueError", "boom")))


def test_results_can_be_pickled():
    again = pickle.loads(pickle.dumps(from_outcome(failure("handler", "ValueError", "boom"))))
    assert again.error.invocation is again
    assert again.report == from_outcome(outcome()).report
    assert again.report.phases == {"queue": 0.1, "invoke": 1.5}


def test_a_report_made_by_hand_has_no_phases():
    report = dataclasses.replace(from_outcome(outcome()).report, memory_mb=1)
    assert (report.memory_mb, report.phases) == (1, {})
