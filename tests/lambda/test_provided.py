"""Functions whose runtime is a program of their own that speaks Lambda's Runtime API, and extensions beside it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import descendants, until
from programs import ECHO, PYTHON, executable, program

import coldframe

pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"the bootstraps here are scripts for {PYTHON}")


def test_an_event_goes_in_and_the_answer_comes_out(provided):
    fn = provided(ECHO, name="echo")
    first = fn.invoke({"n": "Ä"})
    assert first.ok, first.log
    assert first.payload["event"] == {"n": "Ä"}
    assert first.payload["request"] == first.request_id
    assert "handling {'n': 'Ä'}" in first.log
    assert (first.report.start, fn.invoke(1).report.start) == ("cold", "warm")
    third = fn(2)
    assert third["calls"] == 3
    assert third["headers"]["Lambda-Runtime-Invoked-Function-Arn"].endswith(":function:echo")
    assert third["headers"]["Content-Type"] == "application/json"


def test_the_environment_is_lambdas(provided):
    fn = provided(
        """\
        def handle(event, request, headers):
            return {"env": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "pid": os.getpid(),
                    "argv": sys.argv, "deadline": int(headers["Lambda-Runtime-Deadline-Ms"])}
        """,
        env={"MINE": "1"},
        timeout_s=7,
        handler="my.handler",
    )
    before = time.time()
    answer = fn()
    env = answer["env"]
    assert env["_HANDLER"] == "my.handler"
    assert env["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert env["MINE"] == "1"
    assert "AWS_EXECUTION_ENV" not in env
    assert "PYTHONPATH" not in env
    assert answer["cwd"] == env["LAMBDA_TASK_ROOT"] == "/var/task"
    assert answer["uid"] == 993
    assert answer["argv"] == ["/var/task/bootstrap"]
    assert before + 6 < answer["deadline"] / 1000 < time.time() + 8


def test_an_error_is_the_runtimes(provided):
    fn = provided(
        """\
        while True:
            request, headers, body = following()
            respond(request, b'{"errorMessage": "no", "errorType": "MyError", "trace": []}', "error")
        """
    )
    failed = fn.invoke()
    assert (failed.error.error_type, failed.error.error_message) == ("MyError", "no")
    assert isinstance(failed.error, coldframe.HandlerError)
    assert fn.invoke().report.start == "warm"


def test_a_failed_initialisation_is_told(provided):
    fn = provided("""ask("POST", ROOT + "/init/error", b'{"errorMessage": "no", "errorType": "Broken"}')""")
    failed = fn.invoke()
    assert isinstance(failed.error, coldframe.InitError)
    assert failed.error.error_type == "Broken"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("sys.exit(0)", "Runtime exited without providing a reason"),
        ("sys.exit(7)", "exit status 7"),
        ("os.kill(os.getpid(), 9)", "signal: killed"),
    ],
)
def test_an_exit_is_told(provided, end, message):
    for source in (f"following(); {end}", end):
        failed = provided(source).invoke()
        assert isinstance(failed.error, coldframe.EnvironmentExit)
        assert failed.error.error_message.endswith(message)


def test_a_deadline_ends_the_runtime_and_all_that_it_started(provided):
    fn = provided(
        """\
        request, headers, body = following()
        subprocess.Popen(["sleep", "1000"])
        time.sleep(1000)
        """,
        timeout_s=0.5,
    )
    failed = fn.invoke()
    assert isinstance(failed.error, coldframe.InvocationTimeout)
    assert not [one for one in fn.host.environments() if one.state != "dead"] or fn.invoke().report.start == "cold"


def test_its_memory_is_capped(provided):
    fn = provided(
        """\
        request, headers, body = following()
        hoard = [bytearray(1 << 20) for _ in range(200)]
        """,
        memory_mb=96,
        timeout_s=20,
    )
    assert isinstance(fn.invoke().error, coldframe.OutOfMemoryError)


def test_what_runs_on_after_the_answer_is_let_finish(provided):
    fn = provided(
        """\
        while True:
            request, headers, body = following()
            respond(request, b'"done"')
            time.sleep(0.3)
            open("/tmp/finished", "a").write("x") if body == b'"first"' else None
            if body == b'"second"':
                break
        request, headers, body = following()
        respond(request, json.dumps(open("/tmp/finished").read()))
        """
    )
    begun = time.monotonic()
    assert fn("first") == "done"
    assert time.monotonic() - begun < 5
    deadline = time.monotonic() + 5
    while fn.host.environments()[0].state == "busy" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fn("second") == "done"
    while fn.host.environments()[0].state == "busy" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fn("third") == "x"


def test_nothing_else_is_reachable(provided):
    fn = provided(
        """\
        import socket
        def handle(event, request, headers):
            found = []
            for port in range(1, 65536):
                with socket.socket() as probe:
                    # One that is given the very port that it looks for finds itself.
                    if probe.connect_ex(("127.0.0.1", port)) == 0 and probe.getsockname()[1] != port:
                        found.append(port)
            return found
        """,
        memory_mb=1769,
        timeout_s=60,
    )
    assert fn() == [9001]


def test_a_wrapper_starts_the_runtime(provided):
    fn = provided(
        """\
        def handle(event, request, headers):
            return os.environ.get("WRAPPED")
        """,
        layer={"wrapper": "os.environ['WRAPPED'] = 'yes'; os.execv(sys.argv[1], sys.argv[1:])"},
        env={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"},
    )
    assert fn() == "yes"


def test_a_missing_wrapper_is_exit_status_127(provided):
    failed = provided(ECHO, env={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/none"}).invoke()
    assert failed.error.error_message.endswith("Runtime exited with error: exit status 127")


def test_a_bootstrap_may_come_from_a_layer(function, tmp_path):
    (tmp_path / "code").mkdir()
    executable(tmp_path / "layer/bootstrap", program(ECHO))
    fn = function(tmp_path / "code", layers=[tmp_path / "layer"])
    assert fn(1)["event"] == 1


@pytest.mark.parametrize(("mode", "message"), [(None, "Couldn't find valid bootstrap"), (0o644, "not executable")])
def test_a_function_without_a_bootstrap_is_refused(function, tmp_path, mode, message):
    (tmp_path / "readme").write_text("")
    if mode:
        (tmp_path / "bootstrap").write_text("")
        (tmp_path / "bootstrap").chmod(mode)
    with pytest.raises(coldframe.ConfigurationError, match=message):
        function(tmp_path)


def test_a_bootstrap_that_cannot_be_run_is_told(function, tmp_path):
    (tmp_path / "bootstrap").write_text("no program, and no line that names one")
    os.chmod(tmp_path / "bootstrap", 0o755)
    failed = function(tmp_path).invoke()
    assert isinstance(failed.error, coldframe.InitError)
    assert failed.error.error_type == "Runtime.InvalidEntrypoint"


STREAM = """\
import socket
def stream(request, pieces, trailer=""):
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
    with socket.create_connection((host, int(port))) as to:
        to.sendall(
            f"POST {ROOT}/invocation/{request}/response HTTP/1.1\\r\\nHost: {host}\\r\\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n"
            "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\\r\\n\\r\\n".encode())
        for piece in pieces:
            to.sendall(f"{len(piece):x}\\r\\n{piece}\\r\\n".encode())
        to.sendall(f"0\\r\\n{trailer}\\r\\n".encode())
        return to.recv(1000)
"""


def test_an_answer_is_streamed_as_it_is_written(provided):
    fn = provided(
        STREAM
        + """\
def pieces():
    yield "a"
    while not os.path.exists("/tmp/go"):
        time.sleep(0.01)
    yield "b"
def wait(seconds):
    time.sleep(seconds)
    open("/tmp/go", "w").close()
request, headers, body = following()
threading.Thread(target=wait, args=[0.7]).start()
stream(request, pieces())
request, headers, body = following()
stream(request, ['{"whole": ', "true}"])
following()
""",
        timeout_s=10,
    )
    times = [(chunk, time.monotonic()) for chunk in fn.stream()]
    assert [chunk for chunk, _ in times] == [b"a", b"b"]
    assert times[1][1] - times[0][1] > 0.3
    assert fn.invoke().payload == {"whole": True}


def test_an_error_in_the_middle_of_a_stream_is_told_after_it(provided):
    fn = provided(
        STREAM
        + """\
import base64
error = base64.b64encode(b'{"errorMessage": "no", "errorType": "Broken"}').decode()
request, headers, body = following()
name = "Lambda-Runtime-Function-Error"
stream(request, ["a"], f"{name}-Type: Error\\r\\n{name}-Body: {error}\\r\\n")
following()
"""
    )
    chunks = fn.stream()
    assert next(chunks) == b"a"
    with pytest.raises(coldframe.HandlerError, match="no") as caught:
        next(chunks)
    assert caught.value.error_type == "Broken"


@pytest.mark.needs("root")
def test_with_the_hosts_network_nobody_else_is_answered(provided):
    fn = provided(
        """\
        def handle(event, request, headers):
            return os.environ["AWS_LAMBDA_RUNTIME_API"]
        """,
        network=True,
    )
    host, port = fn().split(":")
    assert port != "9001"
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        stranger.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionResetError):
            assert stranger.recv(100) == b""
    assert fn() == f"{host}:{port}"


def test_etc_has_the_settings_of_jdks_and_tells_nothing_else_of_the_host(provided):
    fn = provided(
        """\
        def handle(event, request, headers):
            return os.listdir("/etc")
        """
    )
    usual = {"ld.so.cache", "ssl", "pki", "ca-certificates", "localtime", "alternatives"}
    made = {"passwd", "group", "hosts", "nsswitch.conf"}
    jdks = {entry.name for entry in Path("/etc").iterdir() if entry.is_dir() and re.match(r"java(-|$)", entry.name)}
    found = set(fn())
    assert made | jdks <= found <= made | jdks | usual


def test_what_goes_on_after_the_answer_has_its_share_of_the_processor(provided):
    fn = provided(
        """\
        request, headers, body = following()
        respond(request, b'"first"')
        wall, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - wall < 1:
            pass
        share = (time.process_time() - cpu) / (time.monotonic() - wall)
        request, headers, body = following()
        respond(request, json.dumps(share))
        following()
        """,
        memory_mb=442,
        timeout_s=10,
    )
    assert fn() == "first"
    deadline = time.monotonic() + 10
    while fn.host.environments()[0].state == "busy" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fn() < 0.5, "a quarter of a processor, and what a period allows at its begin"


def test_what_goes_on_after_the_answer_is_in_flight(provided):
    with coldframe.Host(max_concurrency=1) as host:
        fn = provided(
            "request, headers, body = following()\nrespond(request, b'1')\ntime.sleep(1000)", host=host, timeout_s=60
        )
        assert fn() == 1
        with pytest.raises(coldframe.ThrottledError):
            fn()
        assert [one.state for one in host.environments()] == ["busy"]


def test_ctrl_c_is_heard_while_a_program_prints(tmp_path):
    executable(tmp_path / "bootstrap", program("following()\nwhile True:\n    print('x' * 1000, flush=True)"))
    script = f"""
import coldframe
fn = coldframe.Function("any", {str(tmp_path)!r}, runtime="provided", timeout_s=50)
print("ready", flush=True)
try:
    fn()
except KeyboardInterrupt:
    print("heard", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        assert until(lambda: any("bootstrap" in what for what in descendants(process.pid).values()))
        time.sleep(0.2)  # the call itself cannot be seen from outside
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "heard\n"
        assert time.monotonic() - begun < 10


def test_where_environments_are_not_used_again_nobody_waits_for_one_that_goes_on(provided):
    """It has answered, and does not ask for the next event yet: whoever may use it again would wait for that."""
    fn = provided(
        """
        while True:
            request, headers, body = following()
            respond(request, body)
            time.sleep(0.6)
        """,
        reuse=False,
    )
    fn(1)
    begun = time.monotonic()
    assert fn(2) == 2
    assert time.monotonic() - begun < 0.25
