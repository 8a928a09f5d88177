"""The C interface used by several threads, after an end, in a fork, and wrongly."""

import ctypes
import json
import os
import signal
import threading
import warnings

import pytest
from native import (
    ABI,
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

ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def host():
    with opened_host() as host:
        yield host


@pytest.fixture
def code(tmp_path):
    """Return a function that writes code and returns its path."""

    def code(source):
        path = tmp_path / "app.py"
        path.write_text(source)
        return path

    return code


@pytest.fixture
def echo(host, code):
    function = new_function(host, "app.handler", code(ECHO))
    yield function
    lib.coldframe_function_free(function)


def side_by_side(count, work):
    """Return what each of so many threads came to, in their order: a result or an error."""
    results, barrier = [None] * count, threading.Barrier(count)

    def run(number):
        barrier.wait()
        try:
            results[number] = work(number)
        except NativeError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def started(log, count=1):
    """Wait until so many handlers have written a byte to a file."""
    deadline = threading.Event()
    for _ in range(2000):
        if log.exists() and log.stat().st_size >= count:
            return
        deadline.wait(0.005)
    raise AssertionError(f"{log} has not {count} bytes")


def at_work(host, tmp_path, **options):
    """Return a function that writes a byte to a file and then sleeps, and the file."""
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "sleeper.py").write_text(
        "import time\ndef handler(event, context):\n    open('/mnt/out/log', 'a').write('x')\n    time.sleep(event)\n"
    )
    mounts = {"/mnt/out": [str(tmp_path / "out"), "rw"]}
    options = {"timeout_s": 30, "mounts": mounts, **options}
    return new_function(host, "sleeper.handler", tmp_path / "sleeper.py", options), tmp_path / "out" / "log"


def refusal(call, *arguments):
    """Return the error of a call that has to have one."""
    with pytest.raises(NativeError) as raised:
        check(call(*arguments))
    return raised.value


# Threads.


def test_many_threads_share_a_function(echo):
    texts = ["ü" * number for number in range(8)]

    def work(number):
        return [json.loads(invoke(echo, [texts[number], turn]).payload) for turn in range(10)]

    assert side_by_side(8, work) == [[[text, turn] for turn in range(10)] for text in texts]


def test_many_threads_make_and_free_functions(host, code):
    path = code(ECHO)

    def work(number):
        function = new_function(host, "app.handler", path, {"name": f"n{number}"})
        try:
            return invoke(function, number).payload
        finally:
            lib.coldframe_function_free(function)

    assert side_by_side(4, work) == [b"%d" % number for number in range(4)]


def test_over_the_concurrency_it_is_throttled_or_waits(tmp_path):
    with opened_host(max_concurrency=1) as host:
        function, log = at_work(host, tmp_path)
        first = threading.Thread(target=invoke, args=(function, 1))
        first.start()
        started(log)
        with pytest.raises(NativeError, match="max_concurrency") as raised:
            invoke(function, 0)
        assert raised.value.code == "THROTTLED"
        with opened_call(wait=True) as call:
            assert invoke(function, 0, call).verdict == "OK"
        first.join(30)
        lib.coldframe_function_free(function)


def test_a_call_is_cancelled_from_another_thread(host, tmp_path):
    function, log = at_work(host, tmp_path)
    with opened_call() as call:
        errors = []
        thread = threading.Thread(target=lambda: errors.append(refusal(*invoking(function, b"30", call))))
        thread.start()
        started(log)
        check(lib.coldframe_call_cancel(call))
        thread.join(10)
        assert [error.code for error in errors] == ["CANCELLED"]
        # It stays so, for those that have not begun, too; others never noticed.
        assert refusal(*invoking(function, b"0", call)).code == "CANCELLED"
    assert invoke(function, 0).verdict == "OK"
    lib.coldframe_function_free(function)


def invoking(function, event, call=ffi.NULL):
    """Return a call of coldframe_invoke, as `refusal` takes it."""
    return lib.coldframe_invoke, function, event, len(event), call, ffi.new("coldframe_invocation **")


# After the end.


def test_closing_a_host_ends_what_is_in_flight(tmp_path):
    host = new_host()
    function, log = at_work(host, tmp_path)
    results = []
    thread = threading.Thread(target=lambda: results.append(invoke(function, 30)))
    thread.start()
    started(log)
    check(lib.coldframe_host_close(host))
    thread.join(10)
    assert [(result.verdict, result.error_type) for result in results] == [("EXIT", "Runtime.ExitError")]
    check(lib.coldframe_host_close(host))
    for error in (
        refusal(*invoking(function, b"0")),
        refusal(lib.coldframe_host_prewarm, host, function, 1),
        refusal(lib.coldframe_function_new, host, b"a.b", b"/", ffi.NULL, ffi.new("coldframe_function **")),
    ):
        assert (error.code, str(error)) == ("CLOSED", "this host is closed; make a new one")
    assert owned_text(lambda place: lib.coldframe_host_news(host, place)) == []
    lib.coldframe_host_free(host)
    lib.coldframe_function_free(function)


def test_a_function_outlives_its_host_and_answers_that_it_is_closed(code):
    host = new_host()
    function, other = (new_function(host, "app.handler", code(ECHO)) for _ in range(2))
    assert invoke(function, 1).payload == b"1"
    check(lib.coldframe_function_close(other))
    check(lib.coldframe_function_close(other))
    assert str(refusal(*invoking(other, b"1"))) == "this function is closed; make a new one"
    lib.coldframe_host_free(host)
    assert refusal(*invoking(function, b"1")).code == "CLOSED"
    assert json.loads(ffi.string(lib.coldframe_function_isolation(function)))
    check(lib.coldframe_function_close(function))
    lib.coldframe_function_free(function)
    lib.coldframe_function_free(other)


def test_a_forked_child_has_no_part_in_its_parents_hosts(host, echo, code):
    assert invoke(echo, 1).payload == b"1"
    end, told = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is the subject
        child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)
            codes = [refusal(*invoking(echo, b"1")).code, refusal(lib.coldframe_host_close, host).code]
            lib.coldframe_function_free(echo)
            lib.coldframe_host_free(host)
            with opened_host() as own:
                function = new_function(own, "app.handler", code(ECHO))
                codes.append(invoke(function, 2).payload.decode())
                lib.coldframe_function_free(function)
            os.write(told, json.dumps(codes).encode())
        finally:
            os._exit(0)
    os.close(told)
    with open(end, "rb") as file:
        assert json.loads(file.read()) == ["CLOSED", "CLOSED", "2"]
    assert os.waitpid(child, 0)[1] == 0
    assert invoke(echo, 3).start == "warm", "the parent's environments go on"


# Misuse.


def places():
    """Return a place for each kind of result, with rubbish in it."""
    kinds = ("host", "function", "invocation")
    return [ffi.new(f"coldframe_{kind} **", ffi.cast(f"coldframe_{kind} *", 1)) for kind in kinds]


def test_null_is_an_error_and_leaves_null(host, echo):
    null, size = ffi.NULL, 1
    hosts, functions, invocations = places()
    texts = ffi.new("char **", ffi.cast("char *", 1))
    call = lib.coldframe_call_new()
    refused = {
        "host is NULL: there is no place for the result": [(lib.coldframe_host_new, ABI, null, null)],
        "host is NULL": [
            (lib.coldframe_host_prewarm, null, echo, 1),
            (lib.coldframe_host_news, null, texts),
            (lib.coldframe_host_close, null),
            (lib.coldframe_function_new, null, b"a.b", b"/", null, functions),
        ],
        "handler is NULL": [(lib.coldframe_function_new, host, null, b"/", null, functions)],
        "code is NULL": [(lib.coldframe_function_new, host, b"a.b", null, null, functions)],
        "function is NULL: there is no place for the result": [
            (lib.coldframe_function_new, host, b"a.b", b"/", null, null)
        ],
        "function is NULL": [
            (lib.coldframe_host_prewarm, host, null, 1),
            (lib.coldframe_function_close, null),
            (lib.coldframe_invoke, null, b"1", size, null, invocations),
        ],
        "event is NULL": [(lib.coldframe_invoke, echo, null, 0, null, invocations)],
        "invocation is NULL: there is no place for the result": [(lib.coldframe_invoke, echo, b"1", size, null, null)],
        "news is NULL: there is no place for the result": [(lib.coldframe_host_news, host, null)],
        "report is NULL: there is no place for the result": [(lib.coldframe_doctor, null)],
        "trace_id is NULL": [(lib.coldframe_call_set_trace_id, call, null)],
        "json is NULL": [(lib.coldframe_call_set_client_context, call, null, 0)],
        "call is NULL": [
            (lib.coldframe_call_set_timeout_s, null, 1),
            (lib.coldframe_call_set_client_context, null, b"{}", 2),
            (lib.coldframe_call_set_trace_id, null, b"Root=1"),
            (lib.coldframe_call_set_wait, null, True),
            (lib.coldframe_call_cancel, null),
        ],
    }
    for message, calls in refused.items():
        for each in calls:
            error = refusal(*each)
            assert (error.code, str(error)) == ("MISUSE", message)
    assert [functions[0], invocations[0], texts[0]] == [null] * 3, "what held rubbish"
    assert lib.coldframe_function_isolation(null) == null
    for name in dir(lib):
        if name.endswith("_free"):
            getattr(lib, name)(null)
    lib.coldframe_call_free(call)
    assert hosts[0] != null


def test_a_size_that_no_memory_has_is_an_error(echo):
    for size in (2**63, 2**64 - 1):
        error = refusal(lib.coldframe_invoke, echo, b"1", size, ffi.NULL, ffi.new("coldframe_invocation **"))
        assert (error.code, str(error)) == ("MISUSE", f"event cannot have {size} bytes")


def test_text_that_is_no_utf_8_is_an_error(host):
    place = ffi.new("coldframe_function **")
    for arguments in ((b"\xff.b", b"/", ffi.NULL), (b"a.b", b"/\xff", ffi.NULL), (b"a.b", b"/", b'{"name": "\xff"}')):
        error = refusal(lib.coldframe_function_new, host, *arguments, place)
        assert error.code == "MISUSE"
        assert "is no UTF-8: invalid utf-8 sequence" in str(error)


def test_a_header_of_another_abi_is_refused():
    for abi in (0, ABI + 1, 2**32 - 1):
        place = ffi.new("coldframe_host **")
        error = refusal(lib.coldframe_host_new, abi, ffi.NULL, place)
        assert error.code == "MISUSE"
        assert f"built with a coldframe.h of ABI {abi}, and the library" in str(error)
        assert place[0] == ffi.NULL


def test_options_that_mean_nothing_are_refused(host):
    for options, message in {
        b'{"memoy_mb": 64}': "unknown field `memoy_mb`, expected one of `name`, `runtime`, `memory_mb`",
        b'{"memory_mb": "64"}': 'invalid type: string "64", expected u64',
        b"[1]": "must be a JSON object",
        b"{": "EOF while parsing",
    }.items():
        error = refusal(lib.coldframe_function_new, host, b"a.b", b"/", options, ffi.new("coldframe_function **"))
        assert error.code == "CONFIGURATION"
        assert message in str(error)
    error = refusal(lib.coldframe_host_new, ABI, b'{"max_concurency": 1}', ffi.new("coldframe_host **"))
    assert "the options of the host: unknown field `max_concurency`" in str(error)


def test_a_call_that_cannot_be_is_refused(echo):
    with opened_call() as call:
        for timeout_s in (0, -1, 901, float("nan"), float("inf"), 1e300, 1e-12):
            error = refusal(lib.coldframe_call_set_timeout_s, call, timeout_s)
            assert (error.code, "must be above 0 and at most 900" in str(error)) == ("CONFIGURATION", True)
        for context in (b"[]", b"1", b"{", b"", b'{"a": "\xff"}'):
            error = refusal(lib.coldframe_call_set_client_context, call, context, len(context))
            assert (error.code, "the client context is no JSON object" in str(error)) == ("PAYLOAD", True)
        assert invoke(echo, 1, call).payload == b"1", "as before"


def test_the_library_changes_nothing_of_the_process(code):
    """The handlers of signals, and the children that the process started itself."""
    libc = ctypes.CDLL(None)
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    child = os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", "exit 7"])
    with opened_host() as host:
        function = new_function(host, "app.handler", code(ECHO))
        assert invoke(function, 1).payload == b"1"
        lib.coldframe_function_free(function)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert [signal.getsignal(number) for number in sorted(signal.valid_signals())] == handlers
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    assert libc.getpid() == os.getpid()
