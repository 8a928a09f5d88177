"""The commands `coldframe invoke`, `bench` and `doctor`, as a shell sees them."""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time

import psutil
import pytest

import coldframe

APP = """
import os, sys, time
def handler(event, context):
    print("hello from the log")
    return {"event": event, "memory": context.memory_limit_in_mb, "env": os.environ.get("MINE"), "ü": "€"}
def fails(event, context):
    raise ValueError("boom")
def sleeps(event, context):
    time.sleep(30)
def noise(event, context):
    print("\\x1b[31mred")
    return "😀"
"""
QUANTILES = {"min", "p50", "p90", "p99", "max", "phases_p50"}
KINDS = {"first", "cold", "frozen", "warm"}


@pytest.fixture
def app(tmp_path):
    """Return the path of a file with some handlers."""
    path = tmp_path / "app.py"
    path.write_text(APP)
    return str(path)


def command(*arguments, stdin="", **options):
    """Run the command and return its exit code, standard output and standard error."""
    script = os.path.join(sysconfig.get_path("scripts"), "coldframe")
    program = [script] if os.path.exists(script) else [sys.executable, "-m", "coldframe"]
    told = subprocess.run(
        [*program, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=50, **options
    )
    return told.returncode, told.stdout, told.stderr


def test_invoke_prints_the_payload_and_the_log_apart(app):
    code, out, err = command("invoke", "app.handler", "--code", app, "--event", '{"name": "Ada"}')
    assert code == 0
    assert json.loads(out) == {"event": {"name": "Ada"}, "memory": "128", "env": None, "ü": "€"}
    assert out.endswith("}\n")
    assert "hello from the log\n" in err
    assert re.search(r"^START RequestId: ", err, re.MULTILINE)
    assert re.search(r"^REPORT RequestId: .*Init Duration", err, re.MULTILINE)


def test_invoke_takes_events_from_files_and_from_standard_input(app, tmp_path):
    (tmp_path / "event.json").write_text('["file"]')
    for event, stdin, expected in ((f"@{tmp_path}/event.json", "", ["file"]), ("-", '"in"', "in"), ("1.5", "", 1.5)):
        code, out, _ = command("invoke", "app.handler", "--code", app, "--event", event, stdin=stdin)
        assert (code, json.loads(out)["event"]) == (0, expected)
    assert json.loads(command("invoke", "app.handler", "--code", app)[1])["event"] == {}


def test_invoke_takes_limits_and_variables(app):
    _, out, err = command("invoke", "app.handler", "--code", app, "--memory", "256", "--env", "MINE=a=b")
    assert (json.loads(out)["memory"], json.loads(out)["env"]) == ("256", "a=b")
    assert "Memory Size: 256 MB" in err
    began = time.monotonic()
    code, out, err = command("invoke", "app.sleeps", "--code", app, "--timeout", "0.3")
    assert (code, out) == (1, "")
    assert "Task timed out after 0.30 seconds" in err
    assert time.monotonic() - began < 5


def test_invoke_exits_with_1_when_the_invocation_failed(app):
    code, out, err = command("invoke", "app.fails", "--code", app)
    assert (code, out) == (1, "")
    assert "ValueError" in err
    assert "boom" in err
    assert "REPORT RequestId" in err
    assert command("invoke", "app.nothing", "--code", app)[0] == 1


def test_invoke_with_json_prints_every_field(app):
    code, out, err = command("invoke", "app.handler", "--code", app, "--json", "--event", "7")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["ok"] is True
    assert told["payload"]["event"] == 7
    assert told["error"] is None
    assert f"\nSTART RequestId: {told['request_id']}" in told["log"]
    assert told["report"].keys() == {field.name for field in dataclasses.fields(coldframe.Report)}
    assert {"ok", "payload", "error", "request_id", "log", "report"} <= told.keys()


def test_invoke_with_json_of_a_failure(app):
    code, out, _ = command("invoke", "app.fails", "--code", app, "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["payload"]) == (1, False, None)
    assert told["error"]["error_type"] == "ValueError"
    assert told["error"]["error_message"] == "boom"
    assert len(told["error"]["stack_trace"]) == 1
    assert told["report"]["start"] == "cold"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["invoke"],
        ["invoke", "app.handler"],
        ["invoke", "handler", "--code", "APP"],
        ["invoke", "app.handler", "--code", "/nowhere"],
        ["invoke", "app.handler", "--code", "APP", "--event", "{"],
        ["invoke", "app.handler", "--code", "APP", "--event", "@/nowhere.json"],
        ["invoke", "app.handler", "--code", "APP", "--event", "[" * 20_000],
        ["invoke", "app.handler", "--code", "APP", "--memory", "1"],
        ["invoke", "app.handler", "--code", "APP", "--memory", "much"],
        ["invoke", "app.handler", "--code", "APP", "--timeout", "0"],
        ["invoke", "app.handler", "--code", "APP", "--env", "NOVALUE"],
        ["invoke", "app.handler", "--code", "APP", "--unknown"],
        ["bench", "app.handler", "--code", "APP", "--runs", "0"],
        ["bench", "app.handler", "--code", "APP", "--plot", "picture.txt"],
        ["bench", "app.handler", "--code", "APP", "--compare", "/nowhere.json"],
        ["bench", "app.handler", "--code", "APP", "--compare", "APP"],
        ["doctor", "now"],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_arguments_that_are_off_exit_with_2_and_no_traceback(app, arguments):
    code, out, err = command(*(app if each == "APP" else each for each in arguments))
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err


def test_an_event_on_standard_input_that_is_not_json_is_off_too(app):
    assert command("invoke", "app.handler", "--code", app, "--event", "-", stdin="{")[0] == 2


def test_help_and_nothing_else(app):
    for arguments in (["--help"], ["invoke", "--help"], ["bench", "--help"], ["doctor", "--help"]):
        code, out, err = command(*arguments)
        assert (code, err) == (0, "")
        assert "usage: coldframe" in out


def test_payloads_survive_a_terminal_that_knows_ascii_only(app):
    code, out, _ = command(
        "invoke", "app.noise", "--code", app, env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    )
    assert code == 0
    assert json.loads(out.replace("\\U0001f600", "😀")) == "😀"


def test_ctrl_c_ends_the_command(app):
    running = subprocess.Popen(
        [sys.executable, "-m", "coldframe", "invoke", "app.sleeps", "--code", app, "--timeout", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    program, deadline = psutil.Process(running.pid), time.monotonic() + 20
    while len(program.children(recursive=True)) < 3:  # a zygote, an init and the handler
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_doctor_says_what_this_host_gives():
    code, out, err = command("doctor")
    assert code in {0, 1}
    assert err == ""
    assert ("can be had" in out) == (code == 0)
    for protection in ("landlock", "seccomp", "namespaces", "cgroup"):
        assert protection in out


def test_doctor_with_json():
    code, out, _ = command("doctor", "--json")
    told = json.loads(out)
    assert told["strict"] == (code == 0)
    assert told["protections"]
    for each in told["protections"]:
        assert each.keys() >= {"protection", "in_force", "detail", "remedy"}
        assert each["in_force"] or each["remedy"], "what is missing can be mended"
    assert told["strict"] == all(each["in_force"] for each in told["protections"])


def test_doctor_agrees_with_a_strict_function(app):
    code = command("doctor")[0]
    try:
        coldframe.Function("app.handler", app).close()
    except coldframe.HostCapabilityError:
        assert code == 1
    else:
        assert code == 0


def test_bench_prints_a_table(app):
    code, out, err = command("bench", "app.handler", "--code", app, "--runs", "5", "--memory", "1769")
    assert (code, err) == (0, "")
    head, *lines = out.partition("\n\n")[0].splitlines()
    assert head.split() == ["start", "runs", "min", "p50", "p90", "p99", "max"]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows.keys() >= KINDS
    for row in rows.values():
        assert row[0] == "5"
        assert all(re.fullmatch(r"\d+\.\d+", value) for value in row[1:])
    medians = {name: float(row[2]) for name, row in rows.items()}
    assert medians["first"] > medians["cold"] > medians["frozen"] > 0
    assert medians["cold"] > medians["warm"] > 0


def test_bench_with_json_and_a_comparison(app, tmp_path):
    code, out, err = command("bench", "app.handler", "--code", app, "--runs", "2", "--json", "--event", "[1]")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["handler"] == "app.handler"
    assert told["machine"]["isolation"]
    assert told["starts"].keys() >= KINDS
    assert not told["skipped"]
    for start in told["starts"].values():
        assert start.keys() >= QUANTILES | {"runs", "samples", "phases"}
        assert len(start["samples"]) == start["runs"] == 2
        assert start["min"] <= start["p50"] <= start["p90"] <= start["p99"] <= start["max"]
        assert all(len(values) == 2 for values in start["phases"].values())
    (tmp_path / "before.json").write_text(out)
    arguments = ("bench", "app.handler", "--code", app, "--runs", "1", "--compare", str(tmp_path / "before.json"))
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert out.count("too few runs") == len(told["starts"])
    assert "not alike, event_bytes: 3, now 2" in out


def test_ctrl_c_in_a_bench_prints_what_was_measured(app):
    running = subprocess.Popen(
        [sys.executable, "-m", "coldframe", "bench", "app.handler", "--code", app, "--runs", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    program, deadline = psutil.Process(running.pid), time.monotonic() + 20
    seen = set()
    while len(seen) < 6:  # inits of first starts that are over, and of one that goes on
        assert time.monotonic() < deadline
        seen |= {child.pid for child in program.children()}
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (130, "")
    assert re.search(r"^first +\d+ ", out, re.MULTILINE)
    assert "interrupted: not all runs were made" in out


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is not None, reason="matplotlib is installed")
def test_bench_says_what_a_plot_needs_before_it_measures(app, tmp_path):
    code, out, err = command("bench", "app.handler", "--code", app, "--plot", str(tmp_path / "plot.svg"))
    assert (code, out) == (2, "")
    assert "coldframe[plot]" in err


def test_bench_of_a_function_that_fails_exits_with_1(app):
    code, out, err = command("bench", "app.fails", "--code", app, "--runs", "2")
    assert (code, out) == (1, "")
    assert "boom" in err
    assert "Traceback (most recent call last):\n  File" not in err
