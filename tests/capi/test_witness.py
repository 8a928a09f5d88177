"""What Python's `coldframe` says of a handler, and what the C interface says: the same."""

import json
import re
import sys
import textwrap

import pytest
from native import (
    NativeError,
    check,
    ffi,
    invoke,
    lib,
    new_function,
    new_host,
    opened_call,
    opened_host,
    owned_text,
)

import coldframe
from coldframe import _core

VERDICTS = {
    coldframe.HandlerError: "HANDLER_ERROR",
    coldframe.InitError: "INIT_ERROR",
    coldframe.InvocationTimeout: "TIMEOUT",
    coldframe.OutOfMemoryError: "OUT_OF_MEMORY",
    coldframe.EnvironmentExit: "EXIT",
    coldframe.PayloadError: "PAYLOAD_ERROR",
}
ECHO = "def handler(event, context):\n    return event\n"
LIMIT = 6_291_556

NAMES = ["AWS_LAMBDA_FUNCTION_NAME", "MINE", "AWS_EXECUTION_ENV"]

# The source, the events in their order, and the options.
BANK = {
    "echo": (ECHO, [None, 1.5, "ü\U0001f9ca\0", {"a": [True, {}]}, []], {}),
    "prints": ("print('early')\ndef handler(e, c):\n    print('übermut', e)\n", [1, 2], {}),
    "raises": ("class Mine(Exception): pass\ndef handler(e, c):\n    raise Mine(e)\n", ["ü", "a\0b", ""], {}),
    "a chain": (
        "def handler(e, c):\n    try:\n        1 / 0\n    except Exception as x:\n        raise KeyError(e) from x\n",
        [1],
        {},
    ),
    "no module": ("import nowhere_to_be_found\n", [1], {}),
    "no handler": ("def other(e, c): pass\n", [1], {}),
    "a syntax error": ("def handler(e, c:\n", [1], {}),
    "a failing module": ("raise ValueError('at once')\n", [1], {}),
    "a timeout": (
        "import time\ndef handler(e, c):\n    print('begun', flush=True)\n    time.sleep(e)\n    return e\n",
        [0, 30, 0],
        {"timeout_s": 0.5},
    ),
    "out of memory": ("def handler(e, c):\n    return len(bytearray(e << 20))\n", [1, 200, 1], {"memory_mb": 64}),
    "an exit": ("import os\ndef handler(e, c):\n    os._exit(e)\n", [0, 3], {}),
    "a signal": ("import os, signal\ndef handler(e, c):\n    os.kill(os.getpid(), e)\n", [9, 11], {}),
    "no JSON": ("def handler(e, c):\n    return {1, 2}\n", [1], {}),
    "too much": ("def handler(e, c):\n    return 'x' * e\n", [LIMIT - 2, LIMIT], {"memory_mb": 512}),
    "a big event": ("def handler(e, c):\n    return len(e)\n", ["x" * (LIMIT - 2)], {"memory_mb": 512}),
    "much output": ("def handler(e, c):\n    print('x' * e)\n", [1, 5000], {"log_kb": 2}),
    "never again": (ECHO, [1, 2], {"reuse": False}),
    "variables": (
        "import os\ndef handler(e, c):\n    return [os.environ[n] for n in e], c.memory_limit_in_mb, c.function_name\n",
        [NAMES],
        {"env": {"MINE": "ü"}, "memory_mb": 192, "name": "named"},
    ),
    "nothing installed": ("import pytest\n", [1], {"packages": "none"}),
    "a restored one": (ECHO, [1, 2], {"snapstart": True, "timeout_s": 20}),
}


@pytest.fixture(scope="module")
def native_host():
    with opened_host() as host:
        yield host


@pytest.fixture
def native(request, tmp_path):
    """Return a factory of functions of the C interface, which are freed when the test ends."""
    made = []

    def native(source, *, host=None, **options):
        code = tmp_path / f"native{len(made)}"
        code.mkdir(exist_ok=True)
        (code / "app.py").write_text(textwrap.dedent(source))
        host = request.getfixturevalue("native_host") if host is None else host
        options = {"name": "app", "runtime": sys.executable, **options}
        made.append(new_function(host, "app.handler", code, options))
        return made[-1]

    yield native
    for function in made:
        lib.coldframe_function_free(function)


def same(log):
    """Return a log without what differs from one invocation to the next."""
    log = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", log)
    log = re.sub(r"\d{4}-\d{2}-\d{2}T[\d:.]+Z", "TIME", log)
    return re.sub(r"\d+(\.\d+)? (ms|MB)", r"N \2", log)


@pytest.mark.parametrize("name", BANK)
def test_both_say_the_same(name, make, native):
    source, events, options = BANK[name]
    options = {"timeout_s": 10, **options}
    function, other = make(source, **options), native(source, **options)
    for event in events:
        ours, theirs = function.invoke(event), invoke(other, event)
        assert theirs.verdict == ("OK" if ours.ok else VERDICTS[type(ours.error)])
        assert (theirs.payload is None) != (theirs.error is None)
        if ours.ok:
            assert json.loads(theirs.payload) == ours.payload
            assert (theirs.error_type, theirs.error_message, theirs.stack_trace) == (None, None, [])
        else:
            assert theirs.error_type == ours.error.error_type
            assert same(theirs.error_message) == same(ours.error.error_message).replace("\0", "\ufffd")
            assert theirs.stack_trace == [frame.replace("\0", "\ufffd") for frame in ours.error.stack_trace]
            body = json.loads(theirs.error)
            assert (body["errorType"], body.get("stackTrace", [])) == (
                ours.error.error_type,
                list(ours.error.stack_trace),
            )
        assert same(theirs.log) == same(ours.log)
        assert theirs.request_id in theirs.log
        assert theirs.start == ours.report.start
        alike(theirs.report, ours.report)


def alike(theirs, ours):
    """Compare two reports: what is measured is of the same order, everything else is equal."""
    for name in ("memory_mb", "log_dropped_bytes"):
        assert theirs[name] == getattr(ours, name), name
    for name in ("init_duration_ms", "restore_duration_ms"):
        assert (theirs[name] == -1) == (getattr(ours, name) is None), name
        assert theirs[name] == -1 or 0 < theirs[name] < 60_000
    assert theirs["duration_ms"] <= theirs["billed_duration_ms"] < theirs["duration_ms"] + 1
    assert 0 <= theirs["duration_ms"] < 60_000
    assert 0 < theirs["max_memory_mb"] <= theirs["memory_mb"]
    assert 0 <= theirs["cpu_ms"] < 60_000
    assert 0 <= theirs["throttled_ms"] < 60_000
    assert theirs["environment_id"]


def test_an_event_that_is_no_json_is_a_payload_error(native):
    function = native(ECHO)
    for event in (b"{", b"\xff", b'"a'):
        result = invoke(function, event)
        assert (result.verdict, result.error_type) == ("PAYLOAD_ERROR", "Runtime.UnmarshalError")
    assert (invoke(function, b" 7 ").payload, invoke(function, b"").payload) == (b"7", b"null")


def test_an_event_that_is_too_large_is_an_error(native, make):
    event = b'"' + b"x" * (LIMIT - 1) + b'"'
    with pytest.raises(NativeError, match="6291557 bytes") as raised:
        invoke(native(ECHO), event)
    assert raised.value.code == "PAYLOAD"
    with pytest.raises(coldframe.PayloadError):
        make(ECHO)(json.loads(event))


def test_a_call_has_a_timeout_and_a_client_context_of_its_own(native, make):
    source = """
        import time
        def handler(event, context):
            time.sleep(event)
            return [context.client_context and context.client_context.custom, context.get_remaining_time_in_millis()]
    """
    function, other = make(source, timeout_s=10), native(source, timeout_s=10)
    given = {"custom": {"ü": 1}}
    with opened_call(timeout_s=2.5, client_context=json.dumps(given).encode()) as call:
        for _ in range(2):
            context, left = json.loads(invoke(other, 0, call).payload)
            assert context == given["custom"] == function(0, client_context=given)[0]
            assert 1500 < left < 2500
    with opened_call(timeout_s=0.25) as call:
        result = invoke(other, 30, call)
        assert result.verdict == "TIMEOUT"
        assert result.error_message.endswith("Task timed out after 0.25 seconds")
    assert json.loads(invoke(other, 0).payload)[0] is None


def test_a_call_names_its_trace(native):
    source = "import os\ndef handler(e, c):\n    return os.environ.get('_X_AMZN_TRACE_ID')\n"
    function, trace = native(source), "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    with opened_call(trace_id=trace) as call:
        assert json.loads(invoke(function, 1, call).payload) == trace
    with opened_call(trace_id="two words") as call, pytest.raises(NativeError, match="trace id") as raised:
        invoke(function, 1, call)
    assert raised.value.code in {"CONFIGURATION", "PAYLOAD"}


def test_the_isolation_and_the_host_are_described_alike(native, make):
    found = json.loads(ffi.string(lib.coldframe_function_isolation(native(ECHO))))
    assert found == dict(make(ECHO).isolation)
    assert owned_text(lib.coldframe_doctor) == _core.doctor()


def test_what_cannot_be_is_refused_alike(native, make):
    for options in (
        {"memory_mb": 31},
        {"timeout_s": 901},
        {"tmp_mb": 0},
        {"name": "a b"},
        {"env": {"_HANDLER": "x"}},
        {"env": {"a-b": "x"}},
        {"architecture": "arm64" if _core.build_info()["target"].startswith("x86") else "x86_64"},
        {"layers": ["/nowhere"]},
        {"runtime": "/nowhere/python3"},
        {"mounts": {"/data": "/tmp"}},
        {"provisioned_concurrency": 1},
    ):
        with pytest.raises(coldframe.ConfigurationError) as ours:
            make(ECHO, **options)
        with pytest.raises(NativeError) as theirs:
            native(ECHO, **options)
        assert theirs.value.code == "CONFIGURATION", options
        assert next(iter(options)) in str(theirs.value) or "/nowhere" in str(theirs.value), (ours.value, theirs.value)


def test_no_interpreter_has_to_be_named(native, monkeypatch):
    with opened_host() as host:
        function = native(
            "import sys\ndef handler(e, c):\n    return sys.version_info[:2]\n", host=host, runtime="python"
        )
        assert json.loads(invoke(function, 1).payload) >= [3, 9]
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(NativeError, match="no python3 on PATH"):
            native(ECHO, host=host, runtime="python")


def test_modules_are_imported_ahead_when_they_are_named(native):
    source = "import sys\nthere = 'wave' in sys.modules\ndef handler(e, c):\n    return there\n"
    assert invoke(native(source), 1).payload == b"false"
    assert invoke(native(source, preload=["wave"]), 1).payload == b"true"
    with pytest.raises(NativeError, match="nowhere_to_be_found"):
        invoke(native(source, preload=["nowhere_to_be_found"]), 1)
    # In Python it is the package that says these two.
    with pytest.raises(NativeError, match="provided by the code or a layer"):
        native(source, preload=["app.inner"])
    with pytest.raises(NativeError, match="not the name of a module"):
        native(source, preload=["wave; import os"])


def test_a_runtime_of_its_own(provided, native_host):
    function = provided("def handle(event, request, headers):\n    return event * 2")
    other = new_function(native_host, "any.thing at all", function.code, {"runtime": "provided", "name": "app"})
    assert json.loads(invoke(other, 21).payload) == function(21) == 42
    lib.coldframe_function_free(other)


def test_environments_are_made_ahead_of_need(native):
    with opened_host(idle_timeout_s=600) as host, opened_host() as stranger:
        function = native(ECHO, host=host)
        check(lib.coldframe_host_prewarm(host, function, 2))
        assert invoke(function, 1).start == "warm"
        with pytest.raises(NativeError, match="another host"):
            check(lib.coldframe_host_prewarm(stranger, function, 1))
        with pytest.raises(NativeError, match="nowhere_to_be_found"):
            check(lib.coldframe_host_prewarm(host, native("import nowhere_to_be_found", host=host), 1))


def test_what_happens_beside_the_invocations_is_told_once(native):
    host = new_host()
    function = native("import wave\ndef handler(e, c):\n    return 1\n", host=host, preload=["coldframe_nowhere"],
                      hardening={"on_unclean": "cold"})  # fmt: skip
    assert invoke(function, 1).verdict == "OK"
    told = owned_text(lambda place: lib.coldframe_host_news(host, place))
    assert [news["level"] for news in told if "coldframe_nowhere is not preloaded" in news["message"]] == ["info"]
    assert owned_text(lambda place: lib.coldframe_host_news(host, place)) == []
    lib.coldframe_host_free(host)


def test_an_idle_time_of_centuries_is_one_that_never_comes(tmp_path):
    tmp_path.joinpath("app.py").write_text(ECHO)
    with opened_host(idle_timeout_s=1e19, freeze_after_ms=1e19) as host:
        function = new_function(host, "app.handler", tmp_path)
        for event in (1, 2):
            assert invoke(function, event).payload == str(event).encode()
        told = owned_text(lambda place: lib.coldframe_host_news(host, place))
        assert [each for each in told if each["level"] in ("warning", "error")] == []
        check(lib.coldframe_function_close(function))
        lib.coldframe_function_free(function)
