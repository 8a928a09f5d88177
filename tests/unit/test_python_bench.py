"""`coldframe bench`, over a stand-in for the core."""

import importlib
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_python_bench_statistics import noisy
from test_python_cli import run  # noqa: F401
from test_python_fake import Host, code, coldframe, errors, failure, fake, outcome  # noqa: F401

# These names are the fixtures of the stand-in.
# ruff: noqa: F811

KINDS = ["first", "cold", "frozen", "warm"]
MACHINE = {"cpu": "Z80", "cpus": 1, "kernel": "6.1", "python": "3.11.7", "coldframe": "0.1.0", "profile": "release"}


@pytest.fixture
def resting(fake):
    """The stand-in with environments that are kept when they are to be used again, and frozen where the host does."""

    def idle(host):
        state = "frozen" if host.freeze else "ready"
        return [(each.spec["name"], state) for each in host.functions if each.spec["reuse"]]

    fake.idle = idle
    return fake


@pytest.fixture
def part(coldframe):
    """Imports a module of the command line, on top of the stand-in."""
    return lambda name: importlib.import_module(f"coldframe._cli.{name}")


@pytest.fixture
def fill(part):
    """Makes a record of given wall times, with half of each in the handler."""

    def fill(control=(), **samples):
        record = part("record").Record("app.handler", dict(MACHINE), {"memory_mb": 128, "runs": 9})
        record.control.extend(control)
        for kind, walls in samples.items():
            for wall in walls:
                record.starts[kind].add(wall, {"invoke": wall / 2})
        return record

    return fill


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--runs", "0"], "--runs"),
        (["--runs", "few"], "--runs"),
        (["--plot", "x.pdf"], "must end with .png or .svg"),
        (["--plot", "/nowhere/x.png"], "there is no directory /nowhere"),
        (["--compare", "/nowhere/x.json"], "/nowhere/x.json: No such file"),
        (["--compare", __file__], "it is not what `coldframe bench --json` prints"),
    ],
)
def test_wrong_arguments_exit_2_before_anything_is_measured(run, fake, arguments, why):
    status, out, err = run("bench", "app.handler", "--code", "x", *arguments)
    assert (status, out, fake.hosts) == (2, "", [])
    assert why in err


def test_it_measures_every_kind_on_a_host_of_its_own(run, resting, code):
    seen = []
    resting.handler = lambda event, call: seen.append(call.spec["reuse"]) or b"1"
    status, out, err = run("bench", "app.handler", "--code", code, "--runs", "7")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["start", "runs", "min", "p50", "p90", "p99", "max"]
    assert [line[:2] for line in lines[1:5]] == [["first", "5"], ["cold", "7"], ["frozen", "7"], ["warm", "7"]]
    assert lines[5:7] == [[], ["phase,", "p50", *KINDS]]
    assert [line[0] for line in lines[7:10]] == ["queue", "invoke", "rest"]
    assert len(resting.hosts) == 5 + 3
    assert all(host.is_closed for host in resting.hosts)
    assert [(host.freeze, host.functions[0].spec["reuse"]) for host in resting.hosts[-3:]] == [
        (True, False),
        (True, True),
        (False, True),
    ]
    assert seen[:8] == [False] * 5 + [False, True, True], "each is used once before it is measured"
    assert seen[8:] == [False, True, True] * 7, "in turns"


def test_parked_starts_are_measured_where_environments_can_be_parked(run, resting, code, monkeypatch):
    asked = {}
    monkeypatch.setattr(Host, "park_at_most", lambda self, n: asked.update({self: n}), raising=False)
    found = json.loads(run("bench", "app.handler", "--code", code, "--runs", "2", "--json")[1])
    assert list(found["starts"]) == ["first", "cold", "parked", "frozen", "warm"]
    assert list(asked.values()) == [0, 0, 0, 1, 0, 0], "only for the kind that is about it"


def test_what_cannot_be_had_is_named_with_the_reason(run, resting, code, part, monkeypatch):
    monkeypatch.setattr(part("measure"), "_QUIET_WITHIN_S", 0.02)
    resting.idle = lambda host: [(each.spec["name"], "ready") for each in host.functions if each.spec["reuse"]]
    status, out, _ = run("bench", "app.handler", "--code", code, "--runs", "2")
    assert status == 0
    assert "frozen: not measured, its environments were ready after" in out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["first", "cold", "warm"]


def test_a_start_of_another_kind_is_not_counted(run, resting, code):
    resting.handler = lambda event, call: outcome(b"1", start="cold")
    status, out, err = run("bench", "app.handler", "--code", code, "--runs", "2")
    assert (status, out) == (1, "")
    assert "a frozen start came out as cold" in err


@pytest.mark.parametrize("failing", [1, 6, 7, 8, 11])
def test_it_stops_at_a_failure(run, resting, code, failing):
    calls = []

    def handler(event, call):
        calls.append(event)
        return failure("handler", "ValueError", "boom") if len(calls) == failing else event

    resting.handler = handler
    status, out, err = run("bench", "app.handler", "--code", code, "--runs", "5")
    assert (status, out) == (1, "")
    assert "an invocation failed: ValueError: boom" in err
    assert len(calls) == failing
    assert all(host.is_closed for host in resting.hosts)


@pytest.mark.parametrize(("at", "kinds"), [(1, []), (3, ["first"]), (11, KINDS[:3])])
def test_ctrl_c_prints_what_was_measured(run, resting, code, at, kinds):
    calls = []

    def handler(event, call):
        calls.append(event)
        if len(calls) == at:
            signal.raise_signal(signal.SIGINT)
        return event

    resting.handler = handler
    status, out, err = run("bench", "app.handler", "--code", code, "--runs", "5", "--json", "--plot", "x.svg")
    assert status == 130
    assert all(host.is_closed for host in resting.hosts)
    assert not Path("x.svg").exists()
    if kinds:
        found = json.loads(out)
        assert (list(found["starts"]), found["interrupted"]) == (kinds, True)
        assert "no plot was drawn" in err
    else:
        assert (out, err) == ("", "coldframe: interrupted before anything was measured\n")


def test_json_has_every_measurement(run, resting, code):
    phases = {"initialise": 0.001, "invoke": 0.002}
    resting.handler = lambda event, call: outcome(b"1", phases=phases, throttled_ms=0.5)
    options = ["--runs", "12", "--json", "--env", "SECRET=hidden", "--memory", "256"]
    status, out, err = run("bench", "app.handler", "--code", code, *options)
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found.keys() == {
        "schema", "unit", "handler", "machine", "options", "date", "interrupted", "skipped", "control", "starts",
    }  # fmt: skip
    assert (found["schema"], found["unit"], found["handler"], found["interrupted"]) == (1, "ms", "app.handler", False)
    assert found["machine"].keys() == {*MACHINE, "isolation"}
    assert found["machine"]["isolation"] == {"network": "namespace"}
    assert found["options"]["memory_mb"] == 256
    assert found["options"]["env"] == ["SECRET"]
    assert "hidden" not in out
    assert len(found["control"]) == 5 + 12
    assert list(found["starts"]) == KINDS
    for kind, start in found["starts"].items():
        runs = 5 if kind == "first" else 12
        assert start.keys() == {
            "runs", "min", "p50", "p90", "p99", "max", "phases_p50", "samples", "phases", "throttled",
        }  # fmt: skip
        assert start["runs"] == len(start["samples"]) == runs
        assert start["min"] <= start["p50"] <= start["p90"] <= start["p99"] <= start["max"] == max(start["samples"])
        assert start["phases"].keys() == {"initialise", "invoke", "rest"}
        assert start["throttled"] == [0.5] * runs
        for index, wall in enumerate(start["samples"]):
            assert sum(values[index] for values in start["phases"].values()) == pytest.approx(wall, abs=1e-5)


def test_json_can_be_read_again(run, resting, code, part, tmp_path):
    written = run("bench", "app.handler", "--code", code, "--runs", "2", "--json")[1]
    (tmp_path / "before.json").write_text(written)
    assert part("record").read(str(tmp_path / "before.json")).as_dict() == json.loads(written)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"starts": []},
        {"starts": {"cold": {"samples": [0.0], "phases": {}, "throttled": []}}},
        {"starts": {"cold": {"samples": ["1"], "phases": {}, "throttled": []}}},
        {"starts": {"cold": {"samples": [1.0], "phases": {"invoke": []}, "throttled": []}}},
        {"control": None},
        {"machine": 1},
    ],
    ids=str,
)
def test_what_is_no_record_cannot_be_compared_with(run, fill, fake, tmp_path, change):
    (tmp_path / "x.json").write_text(json.dumps({**fill(cold=[1.0]).as_dict(), **change}))
    status, out, err = run("bench", "app.handler", "--code", "x", "--compare", tmp_path / "x.json")
    assert (status, out, fake.hosts) == (2, "", [])
    assert f"--compare {tmp_path}/x.json: it " in err


def test_phases_that_some_runs_lack_are_zero_there(part):
    start = part("record").Start()
    start.add(5.0, {"queue": 1.0})
    start.add(6.0, {"thaw": 2.0, "invoke": 1.0})
    assert start.phases == {"queue": [1.0, 0.0], "thaw": [0.0, 2.0], "invoke": [0.0, 1.0], "rest": [4.0, 3.0]}
    assert list(start.medians()) == ["queue", "thaw", "invoke", "rest"]


def test_reports_with_phases_are_taken_as_they_are(part):
    report = type("Report", (), {"phases": {"fork": 1.0, "isolate": 2.0}})()
    assert part("measure")._phases(report) == {"fork": 1.0, "isolate": 2.0}


def test_the_table_of_known_samples(part, fill):
    record = fill(cold=[2.0, 1.0, 4.0], warm=[0.1, 0.2, 0.3], control=[1.0, 0.5, 0.7])
    lines = part("table").report(record, part("terminal").Style())
    assert lines[:3] == [
        "start     runs       min       p50       p90       p99       max",
        "cold         3     1.000     2.000     4.000     4.000     4.000",
        "warm         3     0.100     0.200     0.300     0.300     0.300",
    ]
    assert lines[4:7] == [
        "phase, p50        cold        warm",
        "invoke           1.000 ▅     0.100 ▅",
        "rest             1.000 ▅     0.100 ▅",
    ]
    assert lines[8:] == [
        "app.handler, 128 MB; milliseconds of wall clock around the call",
        "Z80, 1 CPUs, Linux 6.1, Python 3.11.7, coldframe 0.1.0",
        "for comparison, starting /bin/true: 0.700",
    ]


def test_a_wide_terminal_shows_distributions(part, fill):
    record = fill(first=[100.0], warm=[1.0])
    head, first, warm = part("table").report(record, part("terminal").Style(width=108))[:3]
    assert head.endswith("min to p99 on a log scale")
    assert first.endswith(" " * 40 + "●")
    assert warm.endswith("1.000    ●")


@pytest.mark.parametrize("width", [20, 30, 50, 80, 200])
def test_no_line_of_the_tables_is_wider_than_the_terminal(part, fill, width):
    record = fill(**{kind: noisy(3.0) for kind in part("record").KINDS})
    if width >= 50:
        table = part("table").report(record, part("terminal").Style(width=width))
        assert max(map(len, table)) <= width
    else:
        assert part("table").report(record, part("terminal").Style(width=width)), "it does not fail"


def test_a_terminal_without_unicode_gets_none(part, fill):
    style = part("terminal").Style.of(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    record = fill(cold=noisy(1.0), warm=noisy(0.1))
    "\n".join(part("table").report(record, style)).encode("ascii")


@pytest.mark.parametrize(
    ("variables", "at_a_terminal", "in_a_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR": "0"}, False, False),
    ],
    ids=str,
)
def test_colours_are_for_terminals_that_want_them(part, monkeypatch, variables, at_a_terminal, in_a_pipe):
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = io.TextIOWrapper(io.BytesIO())
    assert part("terminal").Style.of(stream).colours == in_a_pipe
    stream.isatty = lambda: True
    assert part("terminal").Style.of(stream).colours == at_a_terminal


def test_a_quota_that_was_felt_is_mentioned(part, fill):
    record = fill(warm=[1.0] * 10)
    record.starts["warm"].throttled[:] = [0.0] * 8 + [50.0] * 2
    text = " ".join(part("table").report(record, part("terminal").Style()))
    assert "the processor quota held 20% of warm starts: it follows --memory, and 1769 MB is one processor" in text


def test_the_table_of_a_comparison(run, resting, fill, code, tmp_path):
    earlier = fill(cold=[0.0001] * 9, warm=[1000.0] * 9, parked=[1.0])
    (tmp_path / "before.json").write_text(json.dumps(earlier.as_dict()))
    options = ["--runs", "9", "--compare", tmp_path / "before.json"]
    status, out, _ = run("bench", "app.handler", "--code", code, *options)
    assert status == 0
    lines = out.partition("p50         before")[2].splitlines()
    assert re.fullmatch(r"cold +0\.000 .* slower", lines[1])
    assert re.fullmatch(r"warm +1000\.000 .* faster", lines[2])
    assert "not alike, cpu: Z80, now " in out
    assert "not alike, runs" not in out
    comparison = json.loads(run("bench", "app.handler", "--code", code, *options, "--json")[1])["comparison"]
    assert {kind: each["verdict"] for kind, each in comparison["starts"].items()} == {
        "cold": "slower",
        "warm": "faster",
    }
    assert comparison["starts"]["cold"].keys() == {"before", "after", "ratio", "adjusted", "verdict"}


def test_a_bar_is_for_terminals(part, monkeypatch, capsys):
    progress = part("progress").Progress()
    progress("cold", 1, 10)
    progress.clear()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    progress = part("progress").Progress()
    progress("cold", 5, 10)
    progress("cold", 6, 10)
    progress.clear()
    _, first, cleared = capsys.readouterr().err.split("\r\033[K")
    assert re.fullmatch(r"cold   ━{13}─{13} 5/10, \d+ s left", first), "the next one would have come too soon"
    assert cleared == ""


def test_it_says_what_a_plot_needs(run, fake, code, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, _, err = run("bench", "app.handler", "--code", code, "--plot", tmp_path / "x.png")
    assert (status, "pip install 'coldframe[plot]'" in err, fake.hosts) == (2, True, [])


DRAWING = """
from coldframe._cli import plot, record, statistics
def fill(factor):
    found = record.Record("app.handler", {"cpu": "Z80"}, {"memory_mb": 128})
    for kind, wall in (("first", 100.0), ("cold", 2.0), ("warm", 0.1)):
        for number in range(9):
            found.starts[kind].add(wall * factor + number / 100, {"invoke": wall / 2, "one-to-come": wall / 5})
    return found
now, before = fill(1.0), fill(2.0)
changes = {"cold": statistics.compare(before.starts["cold"].samples, now.starts["cold"].samples, ([], []))}
plot.draw(sys.argv[1] + "/one.svg", now)
plot.draw(sys.argv[1] + "/one.png", now)
plot.draw(sys.argv[1] + "/two.svg", now, before, changes)
"""


def test_plots_are_drawn(tmp_path):
    """In a process of its own, since numpy starts threads that never end."""
    path = [entry for entry in sys.path if entry]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{DRAWING}", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named 'matplotlib'" in done.stderr:
        pytest.skip("matplotlib, which the extra `plot` is made of, is not installed")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    one, two = ((tmp_path / name).read_text() for name in ("one.svg", "two.svg"))
    for text in ("<svg", "Starts of app.handler, 128 MB", "Z80", "9 runs", "2.04 ms, p99 2.08", "one-to-come"):
        assert text in one
    assert "before" not in one
    assert "cold, before" in two
    assert "faster" in two
