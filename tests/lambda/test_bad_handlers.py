"""What a handler gets that ends its process, spoils its interpreter or floods its output; the next one works."""

from concurrent.futures import wait

import psutil
import pytest

import coldframe
from coldframe import EnvironmentExit, HandlerError, PayloadError

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
    ["return {1}", "return object()", "return b'bytes'", "return '\\ud800'", "return {(1,): 2}", "return handler"],
)
def test_a_response_that_is_not_json(harm, body):
    fn = harm(body)
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert error.error_type == "Runtime.MarshalError"
    assert works(fn)


def test_a_response_that_is_nested_ten_thousand_deep(harm):
    fn = harm("result = []\nfor _ in range(10_000):\n    result = [result]\nreturn result")
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert works(fn)


def test_a_response_of_more_digits_than_python_reads(harm):
    fn = harm("sys.set_int_max_str_digits(0)\nreturn 10 ** 10_000")
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert works(fn)


EXITS = {
    "os._exit(0)": "Runtime exited without providing a reason",
    "os._exit(9)": "Runtime exited with error: exit status 9",
    "sys.exit()": "Runtime exited without providing a reason",
    "sys.exit(3)": "Runtime exited with error: exit status 3",
    "sys.exit('words')": "Runtime exited with error: exit status 1",
    "exit(4)": "Runtime exited with error: exit status 4",
    "raise SystemExit(5)": "Runtime exited with error: exit status 5",
    "os.abort()": "Runtime exited with error: signal: aborted",
    "ctypes.string_at(0)": "Runtime exited with error: signal: segmentation fault",
    "os.kill(os.getpid(), signal.SIGKILL)": "Runtime exited with error: signal: killed",
    "os.kill(os.getpid(), signal.SIGTERM)": "Runtime exited with error: signal: terminated",
    "threading.Thread(target=os._exit, args=(6,)).start(); time.sleep(30)": "Runtime exited with error: exit status 6",
    "os.execv('/bin/sh', ['sh', '-c', 'exit 7'])": "Runtime exited with error: exit status 7",
}


@pytest.mark.parametrize("body", EXITS)
def test_a_handler_that_ends_the_process(harm, body):
    fn = harm(body)
    invocation = fn.invoke("harm")
    assert type(invocation.error) is EnvironmentExit
    assert invocation.error.error_type == "Runtime.ExitError"
    assert invocation.error.error_message == f"RequestId: {invocation.request_id} Error: {EXITS[body]}"
    assert invocation.report.duration_ms < 2_500
    assert works(fn)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(2); return 'slept'", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("f = lambda: f()\nf()", "RecursionError"),
        ("raise MemoryError", "MemoryError"),
        ("raise BaseException('base')", "BaseException"),
    ],
)
def test_a_handler_that_raises_what_is_no_exception(harm, body, name):
    fn = harm(body)
    error = fn.invoke("harm").error
    if type(error) is EnvironmentExit and "SIGINT" in body:
        assert "interrupt" in error.error_message  # the runtime may leave the signal to the kernel
    else:
        assert type(error) is HandlerError
        assert error.error_type == name
    assert works(fn)


def test_a_handler_that_recurses_until_its_stack_is_full(harm):
    fn = harm("sys.setrecursionlimit(10 ** 9)\nf = lambda x: sorted([x], key=f)\nf(1)", memory_mb=512)
    error = fn.invoke("harm").error
    assert type(error) is EnvironmentExit
    assert error.error_message.endswith("signal: segmentation fault")
    assert works(fn)


@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_handler_that_closes_all_its_descriptors(harm, first):
    fn = harm(f"os.closerange({first}, 1024)\nreturn 'closed'")
    invocation = fn.invoke("harm")
    assert type(invocation.error) is EnvironmentExit
    assert invocation.report.duration_ms < 2_500
    assert works(fn)


def test_a_handler_that_closes_its_streams_only(harm):
    fn = harm("os.closerange(0, 3)\nreturn 'closed'")
    assert fn("harm") == "closed"
    assert works(fn)


def test_a_handler_that_puts_something_else_at_the_control_descriptor(harm):
    fn = harm("os.dup2(os.open('/dev/null', os.O_RDWR), 3)\nreturn 'nothing'")
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, EnvironmentExit | coldframe.InvocationTimeout)
    assert works(fn)


@pytest.mark.parametrize(
    "body", ["del sys.stdout", "sys.stdout = None", "sys.stdout = io.StringIO()", "sys.stdout.close()"]
)
def test_a_handler_that_takes_sys_stdout_away(harm, body):
    fn = harm(f"{body}\nreturn 'quiet'")
    assert fn("harm") == "quiet"
    assert works(fn)


@pytest.mark.parametrize(
    "body",
    [
        "os._exit = lambda code: None\nsys.exit(1)",
        "json = __import__('json')\njson.dumps = json.loads = json.JSONEncoder = None\nreturn 'fine'",
        "sys.modules.clear()\nreturn 'fine'",
        "import builtins\nbuiltins.len = builtins.isinstance = builtins.print = None\nreturn 'fine'",
        "os.environ.clear()\nos.chdir('/')\nreturn 'fine'",
        "import gc\ngc.disable()\nsys.setrecursionlimit(50)\nreturn 'fine'",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsys.settrace(lambda *a: 1 / 0)\nreturn 'fine'",
        "time.monotonic_ns = struct.pack = struct.unpack = None\nreturn 'fine'",
        "sys.path.clear()\nsys.meta_path.clear()\nreturn 'fine'",
    ],
)
def test_a_handler_that_spoils_the_interpreter_spoils_no_more_than_its_environment(harm, body):
    fn = harm(body)
    invocation = fn.invoke("harm")
    assert invocation.payload == "fine" or isinstance(invocation.error, coldframe.InvocationError)
    fn.invoke("well")  # the same environment, and its own affair
    fn.close()
    assert works(harm("return 'fine'"))


def test_output_without_end_costs_the_embedding_process_nothing(harm):
    fn = harm(
        "block = b'x' * 65_536\nfor _ in range(3_200):\n    os.write(1, block)\nreturn 'printed'",
        memory_mb=1769,
        timeout_s=60,
    )
    assert works(fn)
    process = psutil.Process()
    before = highest = process.memory_info().rss
    future = fn.submit("harm")
    while not future.done():
        highest = max(highest, process.memory_info().rss)
        wait([future], timeout=0.01)
    invocation = future.result()
    assert invocation.payload == "printed"
    assert len(invocation.log) < 1_100_000
    assert invocation.report.log_dropped_bytes == 65_536 * 3_200 - (1 << 20)
    assert "bytes of output were dropped" in invocation.log
    assert highest - before < 8 << 20
    assert works(fn)


def test_output_until_the_deadline_is_bounded_too(harm):
    fn = harm("while True:\n    print('x' * 1000)", timeout_s=0.5, log_kb=64)
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    assert invocation.report.duration_ms < 800
    assert invocation.report.log_dropped_bytes > 0
    assert len(invocation.log) < 70_000
    assert works(fn)
