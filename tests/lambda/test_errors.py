"""What the caller gets when a handler fails: Lambda's payload, the class, and the user's own stack trace."""

import copy
import pickle
import re
import subprocess
import sys
import traceback

import pytest

import coldframe

RAISES = """
class Unhappy(Exception):
    pass

def deeper(text):
    raise Unhappy(text)

def handler(event, context):
    if event == "fine":
        return "fine"
    deeper(event)
"""

INIT_ERRORS = {
    "Runtime.ImportModuleError": (
        "import nowhere_to_be_found\n",
        "app.handler",
        "Unable to import module 'app': No module named 'nowhere_to_be_found'",
    ),
    "Runtime.HandlerNotFound": ("x = 1\n", "app.handler", "Handler 'handler' missing on module 'app'"),
    "Runtime.UserCodeSyntaxError": (
        "x = (\n",
        "app.handler",
        "Syntax error in module 'app': '(' was never closed (app.py, line 1)",
    ),
    "Runtime.BuiltInModuleConflict": (
        "x = 1\n",
        "sys.exit",
        "Cannot use built-in module sys as a handler module",
    ),
    "ZeroDivisionError": ("1 / 0\n", "app.handler", "division by zero"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt('stop')\n", "app.handler", "stop"),
}


def text_of(error):
    return "".join(traceback.format_exception(error))


def test_a_handler_that_raises_is_a_result_of_invoke(make):
    fn = make(RAISES)
    invocation = fn.invoke("boom")
    assert not invocation.ok
    assert invocation.payload is None
    error = invocation.error
    assert type(error) is coldframe.HandlerError
    assert (error.error_type, error.error_message) == ("Unhappy", "boom")
    assert error.invocation is invocation
    assert fn("fine") == "fine"


def test_the_stack_trace_is_the_users_own_frames_outermost_first(make):
    error = make(RAISES).invoke("boom").error
    assert error.stack_trace == (
        '  File "/var/task/app.py", line 11, in handler\n    deeper(event)\n',
        '  File "/var/task/app.py", line 6, in deeper\n    raise Unhappy(text)\n',
    )
    shown = text_of(error)
    assert "raise Unhappy(text)" in shown
    assert 'File "/var/task/app.py", line 6, in deeper' in shown
    assert "Unhappy: boom" in shown


def test_a_call_and_unwrap_raise_the_error_of_the_invocation(make):
    fn = make(RAISES)
    with pytest.raises(coldframe.HandlerError, match="Unhappy: boom") as caught:
        fn("boom")
    assert caught.value.invocation.error is caught.value
    assert caught.value.invocation.report.memory_mb == 128
    invocation = fn.invoke("bang")
    for _ in range(2):
        with pytest.raises(coldframe.HandlerError, match="bang"):
            invocation.unwrap()


def test_an_error_can_be_the_cause_of_the_callers_own(make):
    fn = make(RAISES)

    def call():
        try:
            fn("boom")
        except coldframe.HandlerError as error:
            raise RuntimeError("the order failed") from error

    with pytest.raises(RuntimeError) as caught:
        call()
    assert isinstance(caught.value.__cause__, coldframe.HandlerError)
    assert "raise Unhappy(text)" in text_of(caught.value)


def test_of_a_chain_of_exceptions_the_last_one_is_reported(make):
    fn = make(
        "def handler(event, context):\n"
        "    try:\n"
        "        {}['a']\n"
        "    except KeyError as error:\n"
        "        raise ValueError('no a') from error\n"
    )
    error = fn.invoke().error
    assert (error.error_type, error.error_message) == ("ValueError", "no a")
    assert len(error.stack_trace) == 1


@pytest.mark.parametrize(
    ("body", "error_type", "message"),
    [
        ("raise KeyError('k')", "KeyError", "'k'"),
        ("raise ValueError", "ValueError", ""),
        ("raise ValueError('ü\\ud800\\n\\0')", "ValueError", "ü?\n\0"),
        ("raise ExceptionGroup('many', [ValueError(1), TypeError(2)])", "ExceptionGroup", "many (2 sub-exceptions)"),
        ("raise type('Runtime.Odd', (Exception,), {})('x')", "Runtime.Odd", "x"),
        ("raise StopIteration(1)", "StopIteration", "1"),
        ("raise GeneratorExit('g')", "GeneratorExit", "g"),
        ("assert event, 'empty'", "AssertionError", "empty"),
    ],
)
def test_the_type_and_the_message_are_the_exceptions_own(make, body, error_type, message):
    error = make(f"def handler(event, context):\n    {body}\n").invoke().error
    assert type(error) is coldframe.HandlerError
    assert (error.error_type, error.error_message) == (error_type, message)


def test_an_exception_that_cannot_be_printed_is_reported_all_the_same(make):
    fn = make(
        "class Mute(Exception):\n"
        "    def __str__(self):\n"
        "        raise RuntimeError('no')\n"
        "def handler(event, context):\n"
        "    if event:\n"
        "        return event\n"
        "    raise Mute\n"
    )
    error = fn.invoke().error
    assert type(error) is coldframe.HandlerError
    assert error.error_type == "Mute"
    assert error.error_message
    assert fn(1) == 1


def test_a_message_of_many_megabytes_is_cut_and_the_environment_lives(make):
    fn = make(
        "def handler(event, context):\n    if event:\n        return event\n    raise ValueError('x' * 10_000_000)\n",
        timeout_s=20,
    )
    error = fn.invoke().error
    assert type(error) is coldframe.HandlerError
    assert error.error_type == "ValueError"
    assert 1_000 < len(error.error_message) <= 6_291_556
    assert fn(1) == 1


@pytest.mark.parametrize("name", INIT_ERRORS)
def test_every_initialisation_error_has_its_name(make, name):
    source, handler, message = INIT_ERRORS[name]
    invocation = make(source, handler=handler).invoke()
    error = invocation.error
    assert type(error) is coldframe.InitError
    assert (error.error_type, error.error_message) == (name, message)
    assert error.invocation is invocation
    assert invocation.report.start == "cold"
    assert invocation.report.init_duration_ms > 0
    assert f"[ERROR] {name}" in invocation.log


def test_an_initialisation_that_raises_shows_the_users_frames(make):
    error = make("def fail():\n    raise RuntimeError('at import')\nfail()\n").invoke().error
    assert error.stack_trace[-2:] == (
        '  File "/var/task/app.py", line 3, in <module>\n    fail()\n',
        "  File \"/var/task/app.py\", line 2, in fail\n    raise RuntimeError('at import')\n",
    )


def test_a_syntax_error_shows_the_line(make):
    error = make("x = 1\ny = = 2\n").invoke().error
    assert error.error_type == "Runtime.UserCodeSyntaxError"
    assert len(error.stack_trace) == 1
    assert "Line 2" in error.stack_trace[0]
    assert "y = = 2" in error.stack_trace[0]


def test_an_error_in_an_imported_module_of_the_code_is_the_modules(make):
    helper = "import json\ndef handler(event, context):\n    return json.loads(event)\n"
    error = make({"app.py": "from helper import handler\n", "helper.py": helper}).invoke("[").error
    assert error.error_type == "JSONDecodeError"
    assert error.stack_trace[0].startswith('  File "/var/task/helper.py", line 3, in handler\n')
    assert len(error.stack_trace) > 1, "frames of the standard library belong to the user's call"


def test_an_initialisation_that_takes_too_long_is_a_timeout(make):
    invocation = make("while True: pass\n", memory_mb=1769, timeout_s=0.5).invoke()
    error = invocation.error
    assert isinstance(error, coldframe.InvocationTimeout)
    assert error.error_type == "Sandbox.Timedout"
    assert error.error_message.endswith("Error: Task timed out after 0.50 seconds"), "the second try's time"
    assert 10_000 <= invocation.report.init_duration_ms < 11_000
    assert 500 <= invocation.report.duration_ms < 1_500
    assert re.findall(r"Phase: (\w+)\tStatus: (\w+)", invocation.log) == [("init", "timeout"), ("invoke", "timeout")]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import os\nos._exit(0)\n", "Runtime exited without providing a reason"),
        ("import sys\nsys.exit(0)\n", "Runtime exited without providing a reason"),
        ("import sys\nsys.exit(7)\n", "Runtime exited with error: exit status 7"),
        ("import os\nos.kill(os.getpid(), 11)\n", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_an_initialisation_that_exits_is_an_exit(make, source, text):
    invocation = make(source).invoke()
    assert type(invocation.error) is coldframe.EnvironmentExit
    assert invocation.error.error_type == "Runtime.ExitError"
    assert invocation.error.error_message == f"RequestId: {invocation.request_id} Error: {text}"


def test_an_initialisation_over_its_memory_is_out_of_memory(make):
    error = make("x = bytearray(200 << 20)\n", memory_mb=64).invoke().error
    assert type(error) is coldframe.OutOfMemoryError
    assert error.error_type == "Runtime.OutOfMemory"


def test_a_timeout_has_lambdas_words(make):
    fn = make("import time\ndef handler(event, context):\n    time.sleep(event)\n    return 'ok'\n", timeout_s=0.5)
    invocation = fn.invoke(30)
    assert type(invocation.error) is coldframe.InvocationTimeout
    assert isinstance(invocation.error, TimeoutError)
    assert invocation.error.error_type == "Sandbox.Timedout"
    assert invocation.error.error_message == (
        f"RequestId: {invocation.request_id} Error: Task timed out after 0.50 seconds"
    )
    assert 500 <= invocation.report.duration_ms < 750
    assert fn(0) == "ok"


def test_an_out_of_memory_has_lambdas_words(make):
    fn = make("def handler(event, context):\n    return len(bytearray(event))\n", memory_mb=64)
    invocation = fn.invoke(500 << 20)
    assert type(invocation.error) is coldframe.OutOfMemoryError
    assert isinstance(invocation.error, MemoryError)
    assert invocation.error.error_message == (
        f"RequestId: {invocation.request_id} Error: Runtime exited with error: signal: killed"
    )
    assert invocation.report.max_memory_mb == 64
    assert fn(1) == 1


def test_what_fails_inside_is_raised_by_a_call_with_the_built_in_class_too(make):
    fn = make("import time\ndef handler(event, context):\n    time.sleep(30)\n", timeout_s=0.2)
    with pytest.raises(TimeoutError):
        fn()


@pytest.mark.parametrize(
    "result",
    [
        "{1, 2}",
        "object()",
        "b'bytes'",
        "{(1, 2): 3}",
        "'\\ud800'",
        "(lambda a: a.append(a) or a)([])",
        "1j",
    ],
)
def test_a_response_that_is_not_json_is_a_payload_error(make, result):
    fn = make(f"def handler(event, context):\n    return 'ok' if event else {result}\n")
    invocation = fn.invoke()
    assert type(invocation.error) is coldframe.PayloadError
    assert invocation.error.error_type == "Runtime.MarshalError"
    assert invocation.error.error_message.startswith("Unable to marshal response: ")
    assert fn(1) == "ok"


@pytest.mark.parametrize(
    ("source", "event"),
    [
        (RAISES, "boom"),
        ("import nowhere\n", None),
        ("import time\ndef handler(event, context):\n    time.sleep(30)\n", None),
        ("import os\ndef handler(event, context):\n    os._exit(1)\n", None),
        ("def handler(event, context):\n    return bytearray(500 << 20)\n", None),
        ("def handler(event, context):\n    return {1}\n", None),
    ],
)
def test_errors_and_invocations_survive_pickling_and_copying(make, source, event):
    invocation = make(source, timeout_s=0.5, memory_mb=64).invoke(event)
    error = invocation.error
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert (twin.error_type, twin.error_message) == (error.error_type, error.error_message)
        assert twin.stack_trace == error.stack_trace
        assert twin.invocation.request_id == invocation.request_id
        assert twin.invocation.log == invocation.log
        assert twin.invocation.report == invocation.report
        assert twin.invocation.error is twin
        assert text_of(twin).count("most recent call last") == text_of(error).count("most recent call last")
    again = pickle.loads(pickle.dumps(invocation))
    assert again.report == invocation.report
    assert again.error.invocation is again


def test_an_error_crosses_to_another_process():
    program = (
        "import coldframe, pickle, sys\n"
        "try:\n"
        "    raise coldframe.HandlerError('ValueError: 3', error_type='ValueError', stack_trace=['  File ...\\n'])\n"
        "except coldframe.HandlerError as error:\n"
        "    sys.stdout.buffer.write(pickle.dumps(error))\n"
    )
    sent = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    error = pickle.loads(sent.stdout)
    assert type(error) is coldframe.HandlerError
    assert (str(error), error.error_type) == ("ValueError: 3", "ValueError")
    assert error.stack_trace == ("  File ...\n",)
