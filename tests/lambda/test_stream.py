"""The answer of a handler that is a generator, chunk by chunk, as it is written."""

import faulthandler
import itertools
import json
import os
import re
import socket
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from conftest import descendants, until

import coldframe


def alive(fn):
    """Return the environments of a function that live."""
    return [one for one in fn.host.environments() if one.function == fn.name and one.state != "dead"]


def test_chunks_are_what_the_handler_yields(make):
    fn = make(
        "def handler(event, context):\n"
        "    print('begin')\n    yield 'a'\n    yield b'\\xff\\0'\n    yield ''\n    yield bytearray(b'c')\n"
        "    yield '\\u00fc'\n    print('end')\n"
    )
    for start in ("cold", "warm"):
        stream = fn.stream()
        assert stream.invocation is None
        assert list(stream) == [b"a", b"\xff\0", b"c", "ü".encode()]
        invocation = stream.invocation
        assert (invocation.ok, invocation.payload, invocation.report.start) == (True, None, start)
        assert re.search(r"START.*\nbegin\nend\nEND.*\nREPORT", invocation.log)
        assert list(stream) == []


def test_a_chunk_arrives_before_the_next_one_is_written(make):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fn = make(
            "import socket\ndef handler(event, context):\n    yield 'a'\n"
            "    with socket.create_connection(('127.0.0.1', event)) as told:\n        yield told.recv(1)\n",
            network=True,
        )
        stream = fn.stream(server.getsockname()[1])
        assert next(stream) == b"a"
        with server.accept()[0] as waiting:  # for what is sent only now, when "a" is here
            waiting.sendall(b"b")
        assert list(stream) == [b"b"]


def test_what_is_no_generator_is_one_chunk_of_json(make):
    fn = make("def handler(event, context):\n    return event\n")
    (chunk,) = fn.stream({"n": [1, "ü"]})
    assert json.loads(chunk) == {"n": [1, "ü"]}
    assert list(fn.stream()) == [b"null"]


def test_any_iterator_will_do(make):
    fn = make("def handler(event, context):\n    return map(str, event)\n")
    assert b"".join(fn.stream([1, 2, 3])) == b"123"


def test_context_and_event_are_those_of_invoke(make):
    fn = make(
        "def handler(event, context):\n"
        "    yield context.aws_request_id\n    yield context.client_context.custom['n']\n    yield event\n"
        "    yield str(context.get_remaining_time_in_millis())\n"
    )
    stream = fn.stream("event", timeout_s=7, client_context={"custom": {"n": "one"}})
    request_id, client, event, left = list(stream)
    assert (request_id.decode(), client, event) == (stream.invocation.request_id, b"one", b"event")
    assert 3000 < int(left) <= 7000


def test_an_exception_comes_after_the_chunks_before_it(make):
    fn = make("def handler(event, context):\n    yield 'a'\n    raise ValueError('broken')\n")
    stream = fn.stream()
    assert next(stream) == b"a"
    with pytest.raises(coldframe.HandlerError) as caught:
        next(stream)
    assert (caught.value.error_type, caught.value.error_message) == ("ValueError", "broken")
    assert [line.strip().split("\n")[0] for line in caught.value.stack_trace] == [
        'File "/var/task/app.py", line 3, in handler'
    ]
    assert stream.invocation.error is caught.value
    assert "[ERROR] ValueError: broken" in stream.invocation.log
    assert list(stream) == []
    assert next(fn.stream()) == b"a", "the environment lives"


def test_what_is_no_chunk_is_named(make):
    fn = make("def handler(event, context):\n    yield 'a'\n    yield 7\n")
    stream = fn.stream()
    assert next(stream) == b"a"
    with pytest.raises(coldframe.PayloadError, match="made of str and bytes, not of int") as caught:
        next(stream)
    assert caught.value.error_type == "Runtime.MarshalError"


def test_invoke_refuses_a_generator_as_ever(make):
    error = make("def handler(event, context):\n    yield 'a'\n").invoke().error
    assert type(error) is coldframe.PayloadError
    assert error.error_message == "Unable to marshal response: Object of type generator is not JSON serializable"


@pytest.mark.parametrize("how", ["drop", "close", "with"])
def test_leaving_early_kills_the_environment(make, how):
    fn = make("import itertools\ndef handler(event, context):\n    yield from map(str, itertools.count())\n")
    stream = fn.stream(timeout_s=60)
    if how == "with":
        with stream:
            assert next(stream) == b"0"
    else:
        assert next(stream) == b"0"
    assert how == "with" or alive(fn)
    if how == "close":
        stream.close()
        stream.close()
    if how == "drop":
        del stream
    else:
        assert list(stream) == []
        assert stream.invocation is None
    assert until(lambda: not alive(fn))
    for chunk in fn.stream():
        assert chunk == b"0"
        break


def test_nothing_has_begun_before_the_first_chunk_is_asked_for(make):
    fn = make("def handler(event, context):\n    yield 'a'\n", name="unbegun")
    stream = fn.stream()
    assert not alive(fn)
    stream.close()
    assert list(stream) == []
    assert stream.invocation is None
    assert not alive(fn)


def test_another_thread_can_end_it(make, background):
    fn = make("import time\ndef handler(event, context):\n    yield 'a'\n    time.sleep(60)\n", timeout_s=60)
    stream, seen = fn.stream(), []
    assert next(stream) == b"a"

    def read():
        try:
            next(stream)
        except CancelledError as error:
            seen.append(error)

    reader = background(read)
    stream.close()
    reader.join(10)
    assert len(seen) == 1 or list(stream) == []
    assert until(lambda: not alive(fn))


def test_a_slow_reader_makes_the_handler_wait(make):
    chunks = 400
    fn = make(
        "import time\ndef handler(event, context):\n"
        "    for _ in range(event):\n        yield str(time.monotonic()).ljust(60_000)\n",
        timeout_s=30,
    )
    stream = fn.stream(chunks)
    times = [float(next(stream))]
    (init,) = (one.pid for one in alive(fn))
    # It writes as far as there is room.
    assert until(lambda: all("(S)" in state for state in descendants(init).values()))
    now = time.monotonic()
    times += map(float, stream)
    assert len(times) == chunks
    assert times[chunks // 2] > now


def test_what_is_held_of_a_long_answer_does_not_grow(make):
    fn = make(
        "def handler(event, context):\n    for _ in range(event):\n        yield b'x' * 1_000_000\n", timeout_s=30
    )
    peak = lambda: int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # noqa: E731
    assert len(list(itertools.islice(fn.stream(100), 3))) == 3
    before = peak()
    assert sum(map(len, fn.stream(60))) == 60_000_000
    assert peak() - before < 20_000


def test_a_long_piece_comes_as_several_chunks(make):
    fn = make("def handler(event, context):\n    yield 'x' * 2_500_000\n")
    assert [len(chunk) for chunk in fn.stream()] == [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]


def test_an_answer_over_two_hundred_megabytes_is_an_error(make):
    fn = make("def handler(event, context):\n    while True:\n        yield bytes(1 << 20)\n", timeout_s=60)
    stream = fn.stream()
    assert sum(map(len, itertools.islice(stream, 200))) == 200 << 20
    with pytest.raises(coldframe.PayloadError, match=re.escape("(209715200 bytes)")) as caught:
        next(stream)
    assert caught.value.error_type == "Function.ResponseSizeTooLarge"
    assert until(lambda: not alive(fn))


def test_the_deadline_is_that_of_the_whole_answer(make):
    fn = make("import time\ndef handler(event, context):\n    yield 'a'\n    time.sleep(60)\n", timeout_s=0.4)
    stream = fn.stream()
    assert next(stream) == b"a"
    with pytest.raises(coldframe.InvocationTimeout, match=r"timed out after 0\.40 seconds"):
        next(stream)
    assert 400 <= stream.invocation.report.duration_ms < 1_000
    assert "Status: timeout" in stream.invocation.log


def test_the_deadline_passes_while_nobody_reads(make):
    fn = make(
        "import itertools\ndef handler(event, context):\n    yield from map(str, itertools.count())\n", timeout_s=0.4
    )
    stream = fn.stream()
    assert next(stream) == b"0"
    assert until(lambda: not alive(fn))
    with pytest.raises(coldframe.InvocationTimeout):
        list(stream)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("os._exit(3)", coldframe.EnvironmentExit),
        ("bytearray(500 << 20)", coldframe.OutOfMemoryError),
        ("os.write(3, b'rubbish')", coldframe.EnvironmentExit),
    ],
)
def test_the_end_of_the_environment_ends_it(make, body, error):
    fn = make(f"import os\ndef handler(event, context):\n    yield 'a'\n    {body}\n    yield 'b'\n", memory_mb=64)
    stream = fn.stream()
    assert next(stream) == b"a"
    with pytest.raises(error):
        next(stream)
    assert isinstance(stream.invocation.error, error)


def test_what_is_wrong_before_it_begins_is_raised(make):
    with pytest.raises(coldframe.InitError):
        next(make("import nowhere\n").stream())
    fn = make("def handler(event, context):\n    yield 'a'\n", reserved_concurrency=1)
    with pytest.raises(coldframe.PayloadError):
        fn.stream({1})
    with pytest.raises(coldframe.ConfigurationError):
        fn.stream(timeout_s=0)
    first = fn.stream()
    next(first)
    with pytest.raises(coldframe.ThrottledError):
        next(fn.stream())
    assert list(first) == []
    assert list(fn.stream()) == [b"a"]


def test_a_stream_is_read_by_one_thread_at_a_time(make, background):
    fn = make("import time\ndef handler(event, context):\n    time.sleep(60)\n    yield 'a'\n", timeout_s=60)
    stream, began = fn.stream(), threading.Event()

    def read():
        began.set()
        with pytest.raises(CancelledError):
            next(stream)

    reader = background(read)
    assert began.wait(10)
    assert until(lambda: [one for one in alive(fn) if one.state == "busy"])
    with pytest.raises(ValueError, match="read by another thread"):
        next(stream)
    # Nor does a look at whether it has ended wait for that thread, which needs the interpreter lock to get on.
    faulthandler.dump_traceback_later(30, exit=True)
    assert stream._native.outcome() is None
    faulthandler.cancel_dump_traceback_later()
    stream.close()
    reader.join(10)


def test_a_fork_leaves_the_stream_to_its_parent(make):
    fn = make("def handler(event, context):\n    yield 'a'\n    yield 'b'\n")
    stream = fn.stream()
    assert next(stream) == b"a"
    child = os.fork()
    if not child:
        del stream
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert list(stream) == [b"b"]
