"""What a wrong argument, event or response gets: a clear error, and the next invocation works."""

import json
import math
import socket

import pytest

import coldframe
from coldframe import ConfigurationError, Function, HandlerError, Host, PayloadError

LIMIT = 6_291_556
ECHO = "def handler(event, context):\n    return event\n"


@pytest.mark.parametrize("name", ["missing", "missing.py", "missing.zip", "missing/app.py", ""])
def test_a_code_path_that_does_not_exist(tmp_path, host, name):
    with pytest.raises(ConfigurationError) as caught:
        Function("app.handler", tmp_path / name if name else "", host=host)
    assert name in str(caught.value)


def test_code_that_is_nothing_of_the_kind(tmp_path, host):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.py"))
        for name in ("notes.txt", "loop", "socket.py"):
            with pytest.raises(ConfigurationError, match=name):
                Function("app.handler", tmp_path / name, host=host)
    with pytest.raises(ConfigurationError, match="null"):
        Function("app.handler", "/dev/null", host=host)


@pytest.mark.parametrize("code", [None, 7, b"bytes", "nul\0"])
def test_code_that_is_no_path(host, code):
    with pytest.raises(ConfigurationError, match="code"):
        Function("app.handler", code, host=host)


@pytest.mark.parametrize("handler", ["", "handler", ".", "app.", ".handler", "a b.c", "app.handler\0", None, 7, b"a.b"])
def test_a_handler_that_is_not_in_lambdas_notation(make, handler):
    with pytest.raises(ConfigurationError, match="handler"):
        make(ECHO, handler=handler)


@pytest.mark.parametrize(
    "handler", ["nowhere.handler", "app.nothing", "app.app.handler", "../app.handler", "a/b.handler"]
)
def test_a_handler_that_does_not_exist(make, handler):
    for _ in range(2):
        error = make(ECHO, handler=handler).invoke().error
        assert type(error) is coldframe.InitError
        assert error.error_type in {"Runtime.ImportModuleError", "Runtime.HandlerNotFound", "TypeError"}


@pytest.mark.parametrize("value", ["'text'", "None", "7", "type('C', (), {})"])
def test_a_handler_that_cannot_be_called_with_an_event(make, value):
    error = make(f"handler = {value}\n").invoke().error
    assert isinstance(error, HandlerError | coldframe.InitError)
    assert error.error_type == "TypeError"


@pytest.mark.parametrize(
    "options",
    [
        {"memory_mb": 31},
        {"memory_mb": 10_241},
        {"memory_mb": 0},
        {"memory_mb": -1},
        {"memory_mb": 1 << 70},
        {"memory_mb": 128.5},
        {"memory_mb": "128"},
        {"memory_mb": None},
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"timeout_s": 900.1},
        {"timeout_s": math.nan},
        {"timeout_s": math.inf},
        {"timeout_s": "3"},
        {"timeout_s": None},
        {"tmp_mb": 0},
        {"tmp_mb": 10_241},
        {"tmp_mb": 1.5},
        {"max_processes": 0},
        {"max_processes": -5},
        {"log_kb": -1},
        {"log_kb": 1 << 40},
        {"layers": ["missing"]},
        {"layers": "missing"},
        {"layers": 7},
        {"layers": [7]},
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 65},
        {"architecture": "mips"},
        {"packages": "some"},
        {"isolation": "none"},
        {"hardening": "hard"},
        {"preload": ["no-such-package-anywhere"]},
        {"preload": "json"},
        {"runtime": "ruby"},
        {"runtime": "/nowhere/python3"},
        {"reserved_concurrency": -1},
        {"env": {"A": 1}},
    ],
    ids=repr,
)
def test_what_is_out_of_range_is_refused_and_named(make, options):
    with pytest.raises(ConfigurationError) as caught:
        make(ECHO, **options)()
    name = next(iter(options))
    assert name.removesuffix("s") in str(caught.value)
    assert make(ECHO)(1) == 1


@pytest.mark.parametrize("timeout_s", [0, -1, 901, math.nan, math.inf, "1"])
def test_a_timeout_of_one_call_that_is_out_of_range(make, timeout_s):
    fn = make(ECHO)
    with pytest.raises(ConfigurationError, match="timeout_s"):
        fn.invoke(1, timeout_s=timeout_s)
    with pytest.raises(ConfigurationError, match="timeout_s"):
        fn.submit(1, timeout_s=timeout_s).result(10)
    assert fn(1) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": -1},
        {"max_concurrency": 1.5},
        {"max_memory_mb": -1},
        {"idle_timeout_s": -1},
        {"idle_timeout_s": math.nan},
        {"freeze": "yes"},
        {"freeze_after_ms": -1},
        {"freeze_after_ms": math.nan},
        {"cgroup": "/nowhere"},
    ],
    ids=repr,
)
def test_a_host_that_is_out_of_range(options):
    with pytest.raises((ConfigurationError, coldframe.HostCapabilityError)) as caught, Host(**options):
        pass
    assert next(iter(options)) in str(caught.value) or "cgroup" in options


class Unknown:
    pass


def deep(levels):
    event = []
    for _ in range(levels):
        event = [event]
    return event


def looped():
    event = []
    event.append(event)
    return event


EVENTS = {
    "object": Unknown(),
    "bytes": b"bytes",
    "set": {1, 2},
    "key": {(1, 2): 3},
    "loop": looped(),
    "deep": deep(10_000),
    "surrogate": "half \ud800 a pair",
    "surrogate key": {"\udfff": 1},
    "too large": "x" * (LIMIT - 1),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_that_cannot_be_sent_is_refused_by_every_form(make, name):
    fn = make(ECHO)
    event = EVENTS[name]
    with pytest.raises(PayloadError) as caught:
        fn(event)
    assert caught.value.invocation is None
    assert "event" in str(caught.value)
    with pytest.raises(PayloadError):
        fn.invoke(event)
    future = fn.submit(event)
    with pytest.raises(PayloadError):
        future.result(10)
    with pytest.raises(PayloadError):
        list(fn.map([1, event]))
    assert fn(1) == 1


@pytest.mark.parametrize("event", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_allowed_as_in_lambda(make, event):
    result = make("def handler(event, context):\n    return [event, repr(event)]\n")(event)
    assert result[1] == repr(event)
    assert result[0] == event or math.isnan(result[0])


@pytest.mark.parametrize(
    "event",
    [None, True, 0, -1.5, 10**30, 1e308, "", "ü€😀\0\x7f\u2028", [], {}, {"": [None]}, (1, 2), {"a": {"b": [1, {}]}}],
    ids=repr,
)
def test_what_json_can_express_goes_there_and_back(make, event):
    assert make(ECHO)(event) == json.loads(json.dumps(event))


def test_an_event_and_a_response_at_the_limit_pass(make):
    fn = make(ECHO, memory_mb=512, timeout_s=30)
    text = "x" * (LIMIT - 2)
    assert fn(text) == text
    with pytest.raises(PayloadError, match="too large"):
        fn(text + "x")
    assert fn(1) == 1


def test_the_limit_counts_bytes_and_not_characters(make):
    fn = make("def handler(event, context):\n    return len(event)\n", memory_mb=512, timeout_s=30)
    assert fn("ü" * ((LIMIT - 2) // 2)) == (LIMIT - 2) // 2
    with pytest.raises(PayloadError, match="too large"):
        fn("ü" * (LIMIT // 2))


def test_an_event_of_some_depth_passes_and_one_the_runtime_cannot_read_is_an_error(make):
    fn = make("def handler(event, context):\n    return 'read'\n")
    assert fn(deep(500)) == "read"
    assert fn("well") == "read"


def test_a_response_at_the_limit_passes_and_one_byte_more_does_not(make):
    fn = make("def handler(event, context):\n    return 'x' * (event - 2)\n", memory_mb=512, timeout_s=30)
    assert len(fn(LIMIT)) == LIMIT - 2
    invocation = fn.invoke(LIMIT + 1)
    assert type(invocation.error) is PayloadError
    assert invocation.error.error_type == "Function.ResponseSizeTooLarge"
    assert invocation.error.error_message == (
        "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    )
    assert invocation.error.invocation is invocation
    with pytest.raises(PayloadError):
        fn(LIMIT + 1)
    again = fn.invoke(10)
    assert (again.payload, again.report.start) == ("x" * 8, "warm")
