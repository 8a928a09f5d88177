"""Whatever an event, a result or an answer is, it arrives as JSON has it or is an error that says why not."""

import json
import pickle
import types
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import coldframe
from coldframe._event import MAX_EVENT_BYTES, encode_client_context, encode_event
from coldframe._invocation import from_outcome
from coldframe._runtime import marshalling
from coldframe._runtime.errors import Fault
from coldframe.errors import ColdframeError, InvocationError, PayloadError


class Point(NamedTuple):
    x: object
    y: object


class Liar(dict):
    """A mapping that answers its own way, as a handler's own types may."""

    def items(self):
        raise KeyError("items")


class Loud:
    def __repr__(self):
        raise RuntimeError("repr")

    def _asdict(self):
        raise OSError("_asdict")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
keys = st.text() | st.integers() | st.none() | st.booleans() | st.floats() | st.binary(max_size=3)
python_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(5000).map(lambda digits: 10**digits),
        st.floats(),
        st.text(st.characters(codec=None)),
        st.binary(),
        st.decimals(),
        st.complex_numbers(),
        st.builds(Loud),
        st.builds(Liar, a=st.integers()),
        st.sampled_from([int, len, Ellipsis, range(3), json]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(st.integers(), max_size=2),
        inner.map(lambda value: [value, deep(value)]),
    ),
    max_leaves=8,
)


def deep(value):
    for _ in range(3000):
        value = [value]
    return value


def read_by_others(body):
    """Return what another reader of JSON makes of `body`."""
    return json.loads(body)


@given(json_values)
def test_what_json_has_arrives_unchanged(event):
    body = encode_event(event)
    assert read_by_others(body) == marshalling.unmarshal(body) == event
    assert read_by_others(marshalling.marshal(event)) == event


@given(python_values)
def test_an_event_is_json_or_refused(event):
    try:
        body = encode_event(event)
    except PayloadError as error:
        assert error.error_type in {"InvalidRequestContentException", "RequestTooLargeException"}  # noqa: PT017
    else:
        assert len(body) <= MAX_EVENT_BYTES
        marshalling.unmarshal(body)


@given(python_values)
def test_a_client_context_is_an_object_or_refused(context):
    try:
        body = encode_client_context(context)
    except PayloadError:
        return
    assert body is None or isinstance(read_by_others(body), dict)


@given(python_values)
def test_a_result_is_json_or_a_fault_of_the_handler(result):
    try:
        body = marshalling.marshal(result)
    except Fault as fault:
        assert fault.error_type == "Runtime.MarshalError"  # noqa: PT017
    else:
        assert outcome_of(body).ok


@st.composite
def answers(draw):
    """Bytes from inside: JSON that something happened to, or none at all."""
    body = draw(st.binary() | json_values.map(lambda value: json.dumps(value, ensure_ascii=False).encode()))
    at = draw(st.integers(0, len(body)))
    return (
        body[:at]
        + draw(st.binary(max_size=4) | st.sampled_from([b"[" * 5000, b"1" * 5000, b"\\ud800", b'"']))
        + body[at:]
    )


error_bodies = st.fixed_dictionaries(
    {},
    optional={
        "errorType": json_values | st.sampled_from(["Runtime.MarshalError", "\ud800", "x" * 70_000]),
        "errorMessage": json_values | st.sampled_from(["\ud800", "\0", "x" * 70_000]),
        "stackTrace": json_values | st.lists(st.text(st.characters(codec=None)) | st.integers(), max_size=5),
        "requestId": json_values,
    },
).map(lambda error: json.dumps(error).encode())


def outcome_of(payload, kind="ok", error=None):
    """Return the invocation that an outcome with these bytes becomes."""
    numbers = dict.fromkeys(
        ("duration_ms", "billed_duration_ms", "memory_mb", "max_memory_mb", "cpu_ms", "throttled_ms"), 1
    )
    return from_outcome(
        types.SimpleNamespace(
            **numbers,
            kind=kind,
            payload=payload,
            error=error,
            phases={},
            start="cold",
            init_duration_ms=None,
            restore_duration_ms=None,
            log_dropped_bytes=0,
            environment_id="e",
            request_id="r",
            log="",
        )
    )


@given(answers())
def test_an_answer_is_a_value_or_a_failed_invocation(body):
    invocation = outcome_of(body)
    assert isinstance(repr(invocation), str)
    if invocation.ok:
        assert invocation.error is None
    else:
        assert isinstance(invocation.error, PayloadError)
        with pytest.raises(PayloadError):
            invocation.unwrap()
    try:
        marshalling.unmarshal(body)
    except Fault as fault:
        assert fault.error_type == "Runtime.UnmarshalError"  # noqa: PT017


@given(st.sampled_from(["handler", "init", "timeout", "memory", "exit", "payload"]), answers() | error_bodies)
def test_an_error_from_inside_is_told_whatever_it_says(kind, body):
    error = outcome_of(None, kind, body).error
    assert isinstance(error, InvocationError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.error_type) == (type(error), str(error), error.error_type)
    # What is printed, by a traceback for one.
    for text in (str(error), repr(error), error.error_type, *getattr(error, "__notes__", ())):
        text.encode(errors="backslashreplace")


@pytest.fixture(scope="module")
def echo(host, tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    folder.joinpath("app.py").write_text("def handler(event, context):\n    return event\n")
    with coldframe.Function("app.handler", folder, host=host) as function:
        yield function


@settings(max_examples=settings.default.max_examples * 3)
@given(python_values)
def test_a_real_function_gives_back_what_it_is_given(echo, event):
    try:
        invocation = echo.invoke(event)
    except ColdframeError as error:
        assert isinstance(error, PayloadError)  # noqa: PT017
        return
    assert invocation.ok or isinstance(invocation.error, PayloadError), invocation
    if invocation.ok:
        assert same(invocation.payload, read_by_others(encode_event(event)))


def same(one, other):
    """Return whether two values read from JSON are the same, NaN among them."""
    return json.dumps(one) == json.dumps(other)
