"""The command line, over a stand-in for the core."""

import importlib
import io
import json
import sys

import pytest
from test_python_fake import REPORT, code, coldframe, errors, failure, fake, outcome  # noqa: F401

# These names are the fixtures of the stand-in.
# ruff: noqa: F811

LOG = "START RequestId: r\nhello\nEND RequestId: r\nREPORT RequestId: r\n"


@pytest.fixture
def run(coldframe, capsys, monkeypatch):
    """Runs the command; returns the exit code, standard output and standard error."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            status = importlib.import_module("coldframe._cli").main([str(each) for each in arguments])
        except SystemExit as leaving:
            status = leaving.code
        return status, *capsys.readouterr()

    return run


def test_invoke_prints_the_payload_and_the_log(run, fake, code):
    fake.handler = lambda event, call: outcome(event, log=LOG)
    assert run("invoke", "app.handler", "--code", code, "--event", '{"name": "Ädä"}') == (0, '{"name": "Ädä"}\n', LOG)
    assert run("invoke", "app.handler", "--code", code) == (0, "{}\n", LOG)


def test_invoke_takes_an_event_from_a_file_or_standard_input(run, code, tmp_path):
    (tmp_path / "event.json").write_text("[1, NaN]")
    assert run("invoke", "app.handler", "--code", code, "--event", f"@{tmp_path}/event.json")[:2] == (0, "[1, NaN]\n")
    assert run("invoke", "app.handler", "--code", code, "--event", "-", stdin="\ufeff".encode() + b"[2]")[:2] == (
        0,
        "[2]\n",
    )


def test_invoke_passes_its_options_on(run, fake, code, tmp_path):
    options = ["--memory", "256", "--timeout", "0.5", "--layer", tmp_path, "--env", "A=b=c", "--isolation", "available"]
    assert run("invoke", "app.handler", "--code", code, *options)[0] == 0
    spec = fake.hosts[0].functions[0].spec
    assert (spec["memory_mb"], spec["timeout_s"], spec["layers"]) == (256, 0.5, [str(tmp_path)])
    assert (spec["env"], spec["isolation"]) == ({"A": "b=c"}, "available")


def test_a_failed_invocation_exits_1_with_the_error_on_standard_error(run, fake, code):
    fake.handler = lambda event, call: failure("handler", "ValueError", "boom", ["  File x\n"])
    status, out, err = run("invoke", "app.handler", "--code", code)
    assert (status, out) == (1, "")
    assert json.loads(err) == {"errorMessage": "boom", "errorType": "ValueError", "stackTrace": ["  File x\n"]}


def test_json_is_every_field(run, fake, code):
    fake.handler = lambda event, call: outcome(b'{"a": 1}', log=LOG)
    status, out, err = run("invoke", "app.handler", "--code", code, "--json")
    expected = {"ok": True, "payload": {"a": 1}, "error": None, "request_id": "r", "log": LOG, "report": REPORT}
    assert (status, json.loads(out), err) == (0, expected, "")
    fake.handler = lambda event, call: failure("timeout", "Sandbox.Timedout", "too late")
    status, out, _ = run("invoke", "app.handler", "--code", code, "--json")
    error = {
        "class": "InvocationTimeout",
        "error_type": "Sandbox.Timedout",
        "error_message": "too late",
        "stack_trace": [],
    }
    assert (status, json.loads(out)["error"], json.loads(out)["ok"]) == (1, error, False)


def test_json_has_the_fields_of_the_classes(run, coldframe, code):
    found = json.loads(run("invoke", "app.handler", "--code", code, "--json")[1])
    assert found.keys() == {"ok", *coldframe.Invocation.__dataclass_fields__}
    assert found["report"].keys() == coldframe.Report.__dataclass_fields__.keys()


def test_half_a_surrogate_pair_can_be_printed(run, fake, code):
    fake.handler = lambda event, call: b'"a\\ud800b"'
    assert run("invoke", "app.handler", "--code", code)[1] == '"a\\ud800b"\n'


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "command"),
        (["nonsense"], "invalid choice"),
        (["invoke", "app.handler"], "--code"),
        (["invoke", "--code", "x"], "handler"),
        (["invoke", "nodot", "--code", "x"], "not in Lambda's notation"),
        (["invoke", "app.handler", "--code", ""], "code must be a path"),
        (["invoke", "app.handler", "--code", "x", "--event", "{"], "it is not JSON"),
        (["invoke", "app.handler", "--code", "x", "--event", "@/nowhere"], "/nowhere: No such file"),
        (["invoke", "app.handler", "--code", "x", "--event", "[" * 100_000], "nested too deeply"),
        (["invoke", "app.handler", "--code", "x", "--event", '"\\ud800"'], "half of a surrogate pair"),
        (["invoke", "app.handler", "--code", "x", "--memory", "much"], "--memory"),
        (["invoke", "app.handler", "--code", "x", "--timeout", "0"], "timeout_s is 0"),
        (["invoke", "app.handler", "--code", "x", "--env", "A"], "'A' is not NAME=VALUE"),
        (["invoke", "app.handler", "--code", "x", "--env", "_HANDLER=x"], "reserved"),
    ],
)
def test_wrong_arguments_exit_2_and_say_why(run, arguments, why):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert why in err


def test_errors_of_the_core_are_lines_and_not_tracebacks(run, fake, code):
    for cls, expected in (("ConfigurationError", 2), ("HostCapabilityError", 1), ("ThrottledError", 1)):

        def handler(event, call, cls=cls):
            raise getattr(errors(), cls)("what to do")

        fake.handler = handler
        assert run("invoke", "app.handler", "--code", code) == (expected, "", "coldframe: what to do\n")


def test_ctrl_c_exits_130(run, fake, code):
    def handler(event, call):
        raise KeyboardInterrupt

    fake.handler = handler
    assert run("invoke", "app.handler", "--code", code)[0] == 130


def lacking():
    return [
        {"protection": "seccomp", "in_force": True, "detail": "allow-list", "remedy": None},
        {"protection": "user namespace", "in_force": False, "detail": "refused", "remedy": "sysctl -w x=1"},
    ]


def test_doctor_says_what_there_is(run, fake):
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    assert out.splitlines() == ["yes  seccomp  allow-list", "", 'isolation="strict" can be had.']


def test_doctor_says_what_is_missing_and_what_would_mend_it(run, fake):
    fake.doctor = lacking
    status, out, _ = run("doctor")
    assert status == 1
    assert "NO   user namespace  refused" in out
    assert "to mend it: sysctl -w x=1" in out
    assert "\033[" not in out


def test_doctor_as_json(run, fake):
    fake.doctor = lacking
    status, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert (status, found["strict"], found["protections"]) == (1, False, lacking())
    assert found["build"]["profile"] == "release"


def test_doctor_lists_what_is_left(run, fake):
    dead = {"owner": "coldframe-7-a", "alive": False, "directory": "/state/a", "cgroups": ["/sys/a"], "processes": [12]}
    fake.leftovers = lambda: [dead, dead | {"owner": "coldframe-8-b", "alive": True, "cgroups": [], "processes": []}]
    status, out, _ = run("doctor")
    assert status == 0, "what is left over takes nothing away from the protections"
    first, second = out.split("\n\n")[2:]
    assert first.splitlines() == [
        "coldframe-7-a has ended without closing its host; `coldframe gc` collects what it left:",
        "     directory  /state/a",
        "     cgroup     /sys/a",
        "     process    12",
    ]
    assert "coldframe-8-b lives" in second
    assert json.loads(run("doctor", "--json")[1])["leftovers"] == fake.leftovers()


def test_colours_are_for_terminals(coldframe):
    doctor, terminal = map(importlib.import_module, ("coldframe._cli.doctor", "coldframe._cli.terminal"))
    assert doctor.table(lacking(), terminal.Style(colours=True))[0].startswith("\033[32myes\033[0m")
