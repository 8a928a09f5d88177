"""Events on their way in."""

import json
import math
from decimal import Decimal

import pytest

from coldframe._event import MAX_EVENT_BYTES, encode_client_context, encode_event
from coldframe.errors import PayloadError


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("event", [None, {}, [], "", "ä€😀", 0, 1.5, True, {"a": [1, {"b": None}]}, {1: 2}, (1, 2)])
def test_an_event_arrives_as_python_writes_it(event):
    assert json.loads(encode_event(event)) == json.loads(json.dumps(event))


def test_an_event_is_compact_utf_8():
    assert encode_event({"a": [1, "ä"]}) == '{"a":[1,"ä"]}'.encode()


def test_nan_is_allowed_as_in_lambda():
    assert encode_event([math.nan, math.inf]) == b"[NaN,Infinity]"


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({1, 2}, "set is not JSON serializable"),
        (b"bytes", "bytes is not JSON serializable"),
        (Decimal(1), "Decimal is not JSON serializable"),
        ({(1, 2): 3}, "keys must be"),
        ("a\ud800b", r"'\ud800', half of a surrogate pair"),
        ({"\udfff": 1}, "half of a surrogate pair"),
        (nested(10_000), "nested too deeply"),
    ],
)
def test_an_event_that_is_no_json_is_refused_with_the_reason(event, why):
    with pytest.raises(PayloadError, match="the event is not JSON") as caught:
        encode_event(event)
    assert why in str(caught.value)
    assert caught.value.invocation is None


def test_an_event_that_holds_itself_is_refused():
    event = []
    event.append(event)
    with pytest.raises(PayloadError, match="Circular"):
        encode_event(event)


def test_the_size_limit_is_in_bytes_of_json():
    assert len(encode_event("x" * (MAX_EVENT_BYTES - 2))) == MAX_EVENT_BYTES
    with pytest.raises(PayloadError, match="6,291,557 bytes of JSON and the limit is 6,291,556"):
        encode_event("x" * (MAX_EVENT_BYTES - 1))
    with pytest.raises(PayloadError, match="too large"):
        encode_event("ä" * (MAX_EVENT_BYTES // 2))


def test_a_client_context_is_an_object():
    assert encode_client_context(None) is None
    assert encode_client_context({"custom": {"a": 1}}) == b'{"custom":{"a":1}}'
    for wrong in ("text", [1], {"a": {1}}):
        with pytest.raises(PayloadError, match="the client context"):
            encode_client_context(wrong)


class Unreadable(dict):
    def items(self):
        raise KeyError("items")


def test_what_cannot_be_read_is_told_with_its_reason():
    with pytest.raises(PayloadError, match=r"the event is not JSON: KeyError\('items'\) was raised") as caught:
        encode_event(Unreadable(a=1))
    assert isinstance(caught.value.__cause__, KeyError)
