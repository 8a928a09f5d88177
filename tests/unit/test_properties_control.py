"""Whatever a handler writes to the control channel itself, its call ends with an outcome and the next is served."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldframe import Invocation

HANDLER = """
import base64, os, struct, sys

def handler(event, context):
    if event == "well":
        return event
    caller = sys._getframe()
    while "token" not in caller.f_locals:
        caller = caller.f_back
    for kind, size, known, body in event["messages"]:
        body = base64.b64decode(body)
        token = caller.f_locals["token"] if known else 12345
        header = b"" if kind is None else struct.pack("<BxHIQ", kind, 0, len(body) if size is None else size, token)
        try:
            os.write(3, header + body)
        except OSError:
            pass  # it hung up
    return event["answer"]
"""

kinds = st.sampled_from([1, 2, 3, 11, 12, 13, 14, 15]) | st.integers(0, 255) | st.none()
sizes = st.none() | st.integers(0, 2**32 - 1) | st.sampled_from([6_291_556, 6_291_557, 70_000])
bodies = st.binary(max_size=80) | st.sampled_from(
    [b'"forged"', b"[" * 5000, b'{"errorType":"X"}', b'{"errorType":"Function.ResponseSizeTooLarge"}', bytes(60_000)]
)
messages = st.lists(st.tuples(kinds, sizes, st.booleans(), bodies), max_size=4)


@pytest.fixture
def fn(make):
    return make(HANDLER, timeout_s=0.3)


@settings(max_examples=settings.default.max_examples // 2)
@given(messages)
def test_a_call_ends_whatever_is_written(fn, sent):
    event = {"messages": [(*head, base64.b64encode(body).decode()) for *head, body in sent], "answer": "honest"}
    invocation = fn.invoke(event)
    assert type(invocation) is Invocation
    repr(invocation)
    # What has the token is the environment's own answer, which the handler may spoil for itself.
    assert invocation.payload == "honest" or not invocation.ok or any(known for _, _, known, _ in sent)
    assert fn.invoke("well").payload == "well"
