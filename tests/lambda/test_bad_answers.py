"""What a handler gets that uses the control channel itself: nothing it writes there counts as more than one answer."""

import pytest

import coldframe
from coldframe import EnvironmentExit, PayloadError

FRAME = (
    "def frame(kind, body, token, size=None):\n"
    "    return struct.pack('<BxHIQ', kind, 0, len(body) if size is None else size, token) + body\n"
)
TOKEN = (
    "caller = sys._getframe()\n"
    "while 'token' not in caller.f_locals:\n"
    "    caller = caller.f_back\n"
    "token = caller.f_locals['token']\n"
)
# Each harm is a body that runs for any event but "well"; afterwards the same function has to work.
HARM = (
    "import ctypes, io, os, signal, struct, sys, threading, time\n"
    "def handler(event, context):\n"
    "    if event == 'well':\n"
    "        return 'well'\n"
)


@pytest.fixture
def harm(make):
    """Return a factory of functions that misbehave, but for the event "well"."""

    def harm(body, **options):
        return make(HARM + "".join(f"    {line}\n" for line in body.splitlines()), **options)

    return harm


def works(fn):
    """Check that the function works, twice: in a fresh environment perhaps, and in the same."""
    return fn("well") == fn("well") == "well"


@pytest.mark.parametrize(
    "body",
    [
        "os.write(3, b'rubbish')",
        "os.write(3, b'x')",
        "os.write(3, os.urandom(65_536))",
        FRAME + "os.write(3, frame(13, b'\"forged\"', 12345))",
        FRAME + "os.write(3, frame(11, b'', 0))",
        FRAME + "os.write(3, frame(12, b'{}', 0))",
        FRAME + "os.write(3, frame(255, b'', 0))",
        FRAME + "os.write(3, frame(1, b'{}', 0))",
        "import socket\nsocket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_WR)",
    ],
)
def test_a_handler_that_writes_rubbish_to_the_control_channel(harm, body):
    fn = harm(body + "\nreturn 'honest'")
    invocation = fn.invoke("harm")
    assert invocation.payload == "honest" or type(invocation.error) is EnvironmentExit
    assert "forged" not in repr(invocation.payload)
    assert invocation.report.duration_ms < 2_900
    assert works(fn)


@pytest.mark.parametrize(
    "size",
    [0, 7, 6_291_557, 0xFFFF_FFFF],
)
def test_a_handler_that_knows_the_token_and_lies_about_the_length(harm, size):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame(13, b'\"0123456789\"', token, {size}))\nreturn 'honest'")
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, EnvironmentExit | PayloadError | coldframe.InvocationTimeout)
    assert works(fn)


def test_a_handler_that_answers_twice(harm):
    fn = harm(TOKEN + FRAME + "os.write(3, frame(13, b'\"first\"', token))\nreturn 'second'")
    for _ in range(10):
        assert fn("harm") == "first", "the answer that came first counts"
        assert works(fn)


def test_answers_kept_for_the_next_invocation_do_not_reach_it(harm):
    fn = harm(
        TOKEN + FRAME + "for _ in range(8):\n    os.write(3, frame(13, b'\"stale\"', token))\nreturn 'last'",
    )
    for _ in range(3):
        assert fn("harm") == "stale"
        assert works(fn)


@pytest.mark.parametrize("body", ["not json", '{"a": ', "", "\\xff\\xfe", "[" * 20_000, '"\\\\ud800'])
def test_a_forged_response_that_is_not_json(harm, body):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame(13, b'{body}', token))\nreturn 'honest'")
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert works(fn)


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        "{}",
        '{"errorType": 7, "errorMessage": [], "stackTrace": "x"}',
        '{"errorType": null, "errorMessage": {"a": 1}, "stackTrace": [1, null]}',
        "[" * 20_000,
    ],
)
def test_a_forged_error_that_makes_no_sense(harm, body):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame(14, b'{body}', token))\nreturn 'honest'")
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, coldframe.InvocationError)
    assert str(invocation.error)
    assert works(fn)


@pytest.mark.parametrize("kind", [11, 12, 15, 16])
def test_an_answer_of_initialisation_or_a_chunk_is_none_to_an_event(harm, kind):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame({kind}, b'{{}}', token))\nreturn 'honest'")
    assert type(fn.invoke("harm").error) is EnvironmentExit
    assert works(fn)


@pytest.mark.parametrize(
    ("chunk", "chunks"),
    [
        ("frame(16, b'forged', token)", [b"forged"]),
        ("frame(16, b'', token)", [b""]),
        ("frame(16, b'x', token, 2) + b'yz'", []),
        ("frame(16, b'x', token, 1048577)", []),
        ("frame(16, b'x', token, 4294967295)", []),
        ("frame(16, b'x', token + 1)", []),
        ("frame(11, b'', token)", []),
        ("b'rubbish'", []),
    ],
)
def test_a_handler_that_forges_chunks_of_its_own(harm, chunk, chunks):
    fn = harm(TOKEN + FRAME + f"os.write(3, {chunk})\nreturn iter(['honest'])")
    stream, seen = fn.stream("harm"), []
    try:
        seen += stream
    except EnvironmentExit:
        assert seen == []
    else:
        assert seen == [*chunks, b"honest"]
    assert works(fn)


def test_chunks_kept_for_the_next_invocation_do_not_reach_it(harm):
    fn = harm(
        TOKEN + FRAME + "os.write(3, frame(13, b'', token))\n"
        "for _ in range(8):\n    os.write(3, frame(16, b'stale', token))\nreturn 'last'",
    )
    for _ in range(3):
        assert list(fn.stream("harm")) == []
        assert works(fn)
        assert list(fn.stream("well")) == [b'"well"']


def test_a_handler_that_forks_and_returns_twice(harm):
    fn = harm("pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nreturn 'parent' if pid else 'child'")
    for _ in range(3):
        assert fn("harm") == "parent"
        assert works(fn)


def test_children_that_outlive_the_answer_disturb_nobody(harm):
    fn = harm("return 'parent' if os.fork() else [time.sleep(0.05), 'child']")
    for _ in range(3):
        assert fn("harm") == "parent"
        assert works(fn)


def test_a_child_that_keeps_the_control_channel_open_after_its_parent_ended(harm):
    fn = harm("if os.fork():\n    os._exit(2)\ntime.sleep(30)")
    invocation = fn.invoke("harm")
    assert type(invocation.error) is EnvironmentExit
    assert invocation.report.duration_ms < 2_500
    assert works(fn)


def test_a_deadline_holds_while_a_large_event_is_not_read(harm):
    fn = harm(TOKEN + FRAME + "os.write(3, frame(13, b'\"away\"', token))\ntime.sleep(30)", memory_mb=512)
    assert fn("harm") == "away"
    invocation = fn.invoke("x" * 6_000_000, timeout_s=0.5)
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    assert 500 <= invocation.report.duration_ms < 750
    assert works(fn)
