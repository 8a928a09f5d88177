"""Extensions beside a runtime: registered, told of every event and of the end, and waited for."""

import json
import time
from pathlib import Path

import pytest
from conftest import until
from programs import ECHO, PYTHON, executable, program

import coldframe

pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"the programs here are scripts for {PYTHON}")

WATCHER = """\
me, about = register("INVOKE", "SHUTDOWN")
print("watching", json.dumps(about), sorted(os.environ), flush=True)
while True:
    event = next_event(me)
    print("told", json.dumps(event), flush=True)
    if event["eventType"] == "SHUTDOWN":
        with open("/mnt/out/last", "a") as file:
            file.write(json.dumps(event) + "\\n")
        break
"""


@pytest.fixture
def out(tmp_path):
    """Return a folder that environments can write to."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def watched(provided, out):
    """Return a function that makes functions with an extension beside them."""

    def of(source=ECHO, extension=WATCHER, **options):
        options.setdefault("mounts", {"/mnt/out": (out, "rw")})
        return provided(source, {"extensions/watcher": extension}, **options)

    return of


def told(log):
    return [json.loads(line.removeprefix("told ")) for line in log.splitlines() if line.startswith("told ")]


def ends(out):
    file = out / "last"
    assert until(file.exists, 5)
    return [json.loads(line) for line in file.read_text().splitlines()]


def idle(fn):
    assert until(lambda: all(one.state != "busy" for one in fn.host.environments()), 5)


def test_an_extension_hears_of_every_event_and_of_the_end(watched, out):
    fn = watched(name="f", handler="my.handler")
    first = fn.invoke({"n": 1})
    assert first.ok, first.log
    assert '"handler": "my.handler"' in first.log
    idle(fn)
    second = fn.invoke({"n": 2})
    assert second.report.start == "warm"
    (event,) = told(first.log + second.log)[:1]
    assert event["eventType"] == "INVOKE"
    assert event["requestId"] == first.request_id
    assert event["invokedFunctionArn"].endswith(":function:f")
    assert abs(event["deadlineMs"] / 1000 - time.time()) < 60
    idle(fn)
    fn.close()
    (end,) = ends(out)
    assert (end["eventType"], end["shutdownReason"]) == ("SHUTDOWN", "SPINDOWN")


def test_an_extension_has_no_variables_of_the_runtime(watched):
    log = watched(env={"MINE": "1"}).invoke().log
    names = next(line for line in log.splitlines() if line.startswith("watching"))
    assert "'MINE'" in names
    assert "'AWS_LAMBDA_RUNTIME_API'" in names
    assert "'_HANDLER'" not in names
    assert "'LAMBDA_TASK_ROOT'" not in names


def test_the_runtime_starts_when_all_extensions_have_registered(provided):
    fn = provided(
        "def handle(event, request, headers):\n    return os.listdir('/tmp')",
        {
            "extensions/slow": "time.sleep(0.3); open('/tmp/slow', 'w')\nme, _ = register('INVOKE')\n"
            "while True:\n    next_event(me)",
            "extensions/quick": "open('/tmp/quick', 'w')\nme, _ = register('INVOKE')\nwhile True:\n    next_event(me)",
        },
    )
    assert sorted(fn()) == ["quick", "slow"]


def test_the_answer_waits_for_no_extension_but_the_next_event_does(watched):
    fn = watched(
        extension="""\
        me, _ = register("INVOKE")
        while True:
            next_event(me)
            time.sleep(0.5)
        """,
    )
    fn.invoke()
    idle(fn)
    begun = time.monotonic()
    assert fn.invoke().report.start == "warm"
    assert time.monotonic() - begun < 0.4
    assert [one.state for one in fn.host.environments() if one.function == "app"] == ["busy"]
    idle(fn)


def test_an_extension_that_takes_too_long_is_ended_with_the_environment(watched, out):
    fn = watched(
        extension="""\
        me, _ = register("INVOKE", "SHUTDOWN")
        next_event(me)
        time.sleep(1000)
        """,
        timeout_s=0.5,
    )
    assert fn.invoke().ok
    assert until(lambda: not fn.host.environments(), 8)


def test_a_timeout_is_a_reason(watched, out):
    fn = watched("following(); time.sleep(1000)", timeout_s=0.3)
    begun = time.monotonic()
    assert isinstance(fn.invoke().error, coldframe.InvocationTimeout)
    assert time.monotonic() - begun < 3
    assert [end["shutdownReason"] for end in ends(out)] == ["TIMEOUT"]


def test_a_failure_is_a_reason(watched, out):
    fn = watched("following(); sys.exit(3)")
    assert isinstance(fn.invoke().error, coldframe.EnvironmentExit)
    assert [end["shutdownReason"] for end in ends(out)] == ["FAILURE"]


def test_the_runtime_is_asked_to_end_first(watched, out):
    fn = watched(
        """\
        def leave(*_):
            open("/mnt/out/first", "w").close()
            os._exit(0)
        signal.signal(signal.SIGTERM, leave)
        def handle(event, request, headers):
            return None
        """,
        extension=WATCHER.replace("with open", "assert os.path.exists('/mnt/out/first')\n        with open"),
    )
    fn()
    idle(fn)
    fn.close()
    assert len(ends(out)) == 1


def test_one_that_will_not_end_is_ended(watched, out):
    fn = watched(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ECHO,
        extension="""\
        me, _ = register("SHUTDOWN")
        next_event(me)
        time.sleep(1000)
        """,
    )
    fn()
    idle(fn)
    begun = time.monotonic()
    fn.close()
    assert until(lambda: not fn.host.environments(), 8)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("extension", "kind"),
    [
        ("sys.exit(1)", "Extension.Crash"),
        (
            (
                "me, _ = register('INVOKE')\nask('POST', EXTENSIONS + '/init/error', '{}', "
                "{**me, 'Lambda-Extension-Function-Error-Type': 'Extension.Mine'})"
            ),
            "Extension.InitError",
        ),
    ],
)
def test_an_extension_that_fails_fails_the_initialisation(watched, extension, kind):
    failed = watched(extension=extension).invoke()
    assert isinstance(failed.error, coldframe.InitError)
    assert failed.error.error_type == kind


def test_an_extension_that_cannot_be_started_is_told(function, tmp_path):

    executable(tmp_path / "code/bootstrap", program(ECHO))
    executable(tmp_path / "layer/extensions/broken", "#!/no/such/interpreter\n")
    failed = function(tmp_path / "code", layers=[tmp_path / "layer"]).invoke()
    assert failed.error.error_type == "Extension.LaunchError"


def test_more_than_ten_are_refused(provided):
    with pytest.raises(coldframe.ConfigurationError, match="11 external extensions"):
        provided(ECHO, {f"extensions/e{number}": WATCHER for number in range(11)})


def test_an_internal_extension_hears_of_events(provided):
    fn = provided(
        """\
        inner = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        me, _ = register("INVOKE", name="inner", api=inner)
        heard = []
        def listen():
            while True:
                heard.append(next_event(me, inner)["requestId"])
        threading.Thread(target=listen, daemon=True).start()
        def handle(event, request, headers):
            while request not in heard:
                time.sleep(0.01)
            return len(heard)
        """
    )
    assert fn() == 1
    assert fn() == 2


def test_a_python_function_has_extensions_too(make, tmp_path, out):

    executable(tmp_path / "layer/extensions/watcher", program(WATCHER))
    fn = make(
        """\
        import os
        calls = 0
        def handler(event, context):
            global calls
            calls += 1
            print("handled", event)
            if event == "fail":
                raise ValueError("no")
            return [calls, context.aws_request_id, context.function_name, context.get_remaining_time_in_millis() > 500,
                    os.environ["AWS_LAMBDA_RUNTIME_API"], context.client_context and context.client_context.custom]
        """,
        layers=[tmp_path / "layer"],
        mounts={"/mnt/out": (out, "rw")},
    )
    first = fn.invoke("Ä", client_context={"custom": {"a": "ö"}})
    assert first.ok, first.log
    assert first.payload == [1, first.request_id, "app", True, "127.0.0.1:9001", {"a": "ö"}]
    assert "handled Ä" in first.log
    idle(fn)
    failed = fn.invoke("fail")
    assert isinstance(failed.error, coldframe.HandlerError)
    assert (failed.error.error_type, failed.error.error_message) == ("ValueError", "no")
    assert failed.report.start == "warm"
    idle(fn)
    fn.close()
    assert len(ends(out)) == 1


def test_a_python_function_may_be_wrapped(make, tmp_path):

    executable(tmp_path / "layer/wrapper", '#!/bin/bash\nexport WRAPPED="$# $0"\nexec "$@"\n')
    fn = make(
        "import os\ndef handler(event, context):\n    return os.environ['WRAPPED']\n",
        layers=[tmp_path / "layer"],
        env={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"},
    )
    assert fn() == "5 /opt/wrapper"


COLLECTOR = """\
out = open("/mnt/out/records", "ab", buffering=0)
class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        for record in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            out.write(json.dumps(record).encode() + b"\\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
def over_tcp(listener):
    while True:
        connection, _ = listener.accept()
        for line in connection.makefile("rb"):
            out.write(line)
PROTOCOL = "HTTP"
me, _ = register("INVOKE", "SHUTDOWN")
if PROTOCOL == "HTTP":
    server = HTTPServer(("0.0.0.0", 8080), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    destination = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/records"}
else:
    import socket
    threading.Thread(target=over_tcp, args=[socket.create_server(("127.0.0.1", 8080))], daemon=True).start()
    destination = {"protocol": "TCP", "port": 8080}
status, _, answer = ask("PUT", "/2022-07-01/telemetry", {
    "schemaVersion": "2022-07-01", "types": ["platform", "function", "extension"],
    "buffering": {"timeoutMs": 25}, "destination": destination}, me)
assert (status, answer) == (200, b'"OK"'), (status, answer)
while next_event(me)["eventType"] == "INVOKE":
    print("an extension's line", flush=True)
"""


@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_telemetry_is_delivered_inside(watched, out, protocol):
    fn = watched(extension=COLLECTOR.replace('"HTTP"\n', f'"{protocol}"\n'), name="f")
    first = fn.invoke("one")
    assert first.ok, first.log
    idle(fn)
    fn.invoke("two")
    idle(fn)
    fn.close()
    assert until(lambda: not fn.host.environments(), 8)
    records = [json.loads(line) for line in (out / "records").read_text().splitlines()]
    assert all(record["time"].endswith("Z") for record in records)
    kinds = [record["type"] for record in records]
    for kind in ("platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.extension"):
        assert kinds.count(kind) == 1, kinds
    for kind in ("platform.start", "platform.runtimeDone", "platform.report"):
        assert kinds.count(kind) == 2, kinds
    of = {kind: [record["record"] for record in records if record["type"] == kind] for kind in kinds}
    assert of["platform.start"][0]["requestId"] == first.request_id
    assert of["platform.report"][0]["metrics"]["memorySizeMB"] == 128
    assert "handling one\n" in of["function"]
    assert "an extension's line\n" in of["extension"]


def test_a_second_try_is_one_of_the_invocation(watched, out):
    once = """\
if not os.path.exists("/mnt/out/tried"):
    open("/mnt/out/tried", "w").close()
    sys.exit(1)
"""
    fn = watched(extension=once + COLLECTOR)
    invocation = fn.invoke()
    assert invocation.ok, invocation.log
    assert "Phase: init\tStatus: error\tError Type: Extension.Crash" in invocation.log
    idle(fn)
    records = [json.loads(line) for line in (out / "records").read_text().splitlines()]
    assert [one["record"]["phase"] for one in records if one["type"] == "platform.initStart"] == ["invoke"]
