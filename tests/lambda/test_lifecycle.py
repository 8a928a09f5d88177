"""An initialisation that fails is tried again, within the first invocation, as in Lambda."""

import re
import socket
import threading
from contextlib import ExitStack

import pytest
from conftest import until

import coldframe

INIT_REPORT = re.compile(
    r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: (init|invoke)\t"
    r"Status: (error|timeout)(?:\tError Type: ([\w.]+))?\n"
)


def tries(invocation):
    """Return the phase and the status of every initialisation that failed, as the log has them."""
    return INIT_REPORT.findall(invocation.log)


HANDLER = "def handler(event, context):\n    print('handled')\n    return event\n"
ASKING = """
import os, socket, sys, time
def ask():
    with socket.create_connection(("127.0.0.1", {port})) as asked:
        return asked.makefile().read()
exec(ask())
"""


@pytest.fixture
def scripted(make):
    """Return a factory of functions whose nth initialisation runs the nth of some texts, and notes that in `told`."""
    with ExitStack() as servers:

        def scripted(*texts, handler=HANDLER, told=None, **options):
            server = servers.enter_context(socket.create_server(("127.0.0.1", 0)))

            def tell():
                for text in texts:
                    with server.accept()[0] as asking:
                        asking.sendall(text.encode())
                    if told is not None:
                        told.append(text)

            thread = threading.Thread(target=tell)
            thread.start()
            servers.callback(thread.join)
            return make(ASKING.format(port=server.getsockname()[1]) + handler, network=True, **options)

        yield scripted


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("raise ValueError('not yet')", "Runtime.Unknown"),
        ("import nowhere", "Runtime.ImportModuleError"),
        ("sys.exit(3)", "Runtime.ExitError"),
        ("bytearray(200 << 20)", "Runtime.OutOfMemory"),
    ],
)
def test_an_initialisation_that_fails_once_is_nothing_the_caller_sees(scripted, fault, kind):
    fn = scripted(fault, "print('second')", memory_mb=64)
    invocation = fn.invoke(7)
    assert invocation.payload == 7
    assert tries(invocation) == [("init", "error", kind)]
    order = re.findall(r"^(INIT_START|INIT_REPORT|second|START|handled|END|REPORT)", invocation.log, re.MULTILINE)
    assert order == ["INIT_START", "INIT_REPORT", "second", "START", "handled", "END", "REPORT"]
    assert invocation.report.start == "cold"
    assert "\tInit Duration" not in invocation.log[invocation.log.index("START RequestId") :]
    warm = fn.invoke(8)
    assert (warm.payload, warm.report.start, warm.report.environment_id) == (
        8,
        "warm",
        invocation.report.environment_id,
    )


def test_the_second_try_is_within_the_timeout_of_the_invocation(scripted):
    invocation = scripted("raise ValueError", "time.sleep(30)", timeout_s=0.5).invoke()
    assert type(invocation.error) is coldframe.InvocationTimeout
    assert invocation.error.error_message.endswith("Error: Task timed out after 0.50 seconds")
    assert tries(invocation) == [("init", "error", "Runtime.Unknown"), ("invoke", "timeout", "")]
    assert 500 <= invocation.report.duration_ms < 1500


def test_what_the_second_try_took_is_taken_from_the_handler(scripted):
    asks = "def handler(event, context):\n    return context.get_remaining_time_in_millis()\n"
    invocation = scripted("raise ValueError", "time.sleep(0.3)", handler=asks, timeout_s=2).invoke()
    assert 0 < invocation.payload <= 1700
    assert 300 <= invocation.report.duration_ms <= invocation.report.billed_duration_ms
    assert invocation.report.phases["invoke"] < invocation.report.duration_ms - 300
    sleeps = "def handler(event, context):\n    time.sleep(0.9)\n"
    invocation = scripted("raise ValueError", "time.sleep(0.3)", handler=sleeps, timeout_s=1).invoke()
    assert type(invocation.error) is coldframe.InvocationTimeout
    assert 1000 <= invocation.report.duration_ms < 1200


def test_the_second_try_is_in_another_environment(scripted):
    leave = "open('/tmp/left', 'w').close()\nraise ValueError"
    assert (
        scripted(leave, "", handler="def handler(event, context):\n    return os.path.exists('/tmp/left')\n")() is False
    )


def test_a_second_failure_is_the_one_that_counts(scripted):
    invocation = scripted("raise ValueError('first')", "raise KeyError('second')").invoke()
    assert type(invocation.error) is coldframe.InitError
    assert (invocation.error.error_type, invocation.error.error_message) == ("KeyError", "'second'")
    assert "[ERROR] ValueError: first" in invocation.log
    assert "[ERROR] KeyError: 'second'" in invocation.log


def test_what_fails_always_is_tried_twice_for_every_event(make):
    fn = make("print('importing')\nimport nowhere\n")
    for _ in range(2):
        invocation = fn.invoke()
        assert type(invocation.error) is coldframe.InitError
        assert invocation.log.count("importing\n") == 2
        assert invocation.report.start == "cold"


def test_a_function_that_is_closed_meanwhile_is_not_tried_again(make, background):
    fn, ended = make("import time\ntime.sleep(30)\n"), []
    calling = background(lambda: ended.append(fn.invoke()))
    assert until(lambda: [one for one in fn.host.environments() if one.state == "init"])
    fn.close()
    calling.join(10)
    assert type(ended[0].error) is coldframe.EnvironmentExit
    assert len(tries(ended[0])) == 1


def test_the_second_try_can_be_cancelled(scripted):
    told = []
    fn = scripted("raise ValueError", "time.sleep(30)", told=told, timeout_s=20)
    future = fn.submit()
    assert until(lambda: len(told) == 2)
    assert future.cancel()
    assert until(lambda: not [one for one in fn.host.environments() if one.function == fn.name])


def test_what_is_made_ahead_is_tried_once(make):
    fn = make("print('importing')\nraise ValueError('broken')\n")
    with pytest.raises(coldframe.InitError, match="ValueError"):
        fn.host.prewarm(fn, 1)


@pytest.mark.parametrize(
    ("code", "error", "error_type"),
    [
        ("raise ValueError('not today')", coldframe.InitError, "ValueError"),
        ("import nothing_of_that_name", coldframe.InitError, "Runtime.ImportModuleError"),
        ("import os; os._exit(3)", coldframe.EnvironmentExit, "Runtime.ExitError"),
        ("held = bytearray(200 << 20)", coldframe.OutOfMemoryError, "Runtime.OutOfMemory"),
    ],
)
def test_prewarming_what_cannot_be_initialised_says_why(make, code, error, error_type):
    fn = make(f"{code}\ndef handler(event, context): pass")
    with pytest.raises(error) as raised:
        fn.host.prewarm(fn, 1)
    assert raised.value.error_type == error_type
    assert raised.value.invocation is None
    assert "{" not in str(raised.value)
