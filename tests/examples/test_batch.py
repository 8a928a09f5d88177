"""The example ``embedding/batch``: a thousand events, hostile ones, and Ctrl-C."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

EMBEDDING = Path(__file__).resolve().parents[2] / "examples" / "embedding"
HOSTILE = """
import os, time

spoiled = False

def handler(event, context):
    global spoiled
    if spoiled:
        raise RuntimeError("somebody was here before")
    match event:
        case "spoils":
            spoiled = True
            raise ValueError("as ever")
        case "loops":
            while True: pass
        case "exits": os._exit(0)
        case "large": return "x" * 7_000_000
        case "nests":
            value = []
            for _ in range(100_000): value = [value]
            return value
        case "sleeps": time.sleep(0.2)
        case "forks":
            while True:
                try: os.fork()
                except OSError: pass
    print("seen", event)
    return event
"""


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "batch", *map(str, arguments)],
        cwd=EMBEDDING,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background has what it starts ignore Ctrl-C, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no thread here
    )


def run(*arguments: object) -> tuple[int, str, str]:
    with start(*arguments) as process:
        out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def results(folder: Path) -> dict[int, Any]:
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    numbers = [line["event"] for line in lines]
    assert len(set(numbers)) == len(numbers), "an event is there twice"
    return {line["event"]: line for line in lines}


def write(path: Path, events: list[object]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(HOSTILE, encoding="utf-8")
    return path


def test_a_thousand_events(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    with events.open("w", encoding="utf-8") as file:
        subprocess.run(
            [sys.executable, "-m", "batch.sample", "1000"], cwd=EMBEDDING, stdout=file, timeout=20, check=True
        )
    status, out, err = run(events, "--out", tmp_path / "results")
    assert (status, err) == (1, "")
    assert out.startswith("1000 events, 10 failed; results in ")
    done = results(tmp_path / "results")
    assert sorted(done) == list(range(1, 1001))
    lines = [json.loads(line)["line"] for line in events.read_text(encoding="utf-8").splitlines()]
    for number, line in done.items():
        if number % 100 == 43:
            assert (line["ok"], line["tries"]) == (False, 2)
            assert "ValueError: not a line of a log" in (tmp_path / "results" / line["log"]).read_text(encoding="utf-8")
        else:
            assert (line["ok"], line["tries"]) == (True, 1)
            assert lines[number - 1].startswith(line["result"]["client"])


def test_hostile_events_fail_alone(tmp_path: Path, code: Path) -> None:
    events = ["loops", "exits", "large", "nests", "forks", "spoils", "after", "well"]
    options = ("--code", code, "--timeout", 0.5, "--memory", 1769, "--side-by-side", 1, "--out", tmp_path / "results")
    status, _, _ = run(write(tmp_path / "events.jsonl", events), *options)
    done = results(tmp_path / "results")
    errors = [done[number].get("error", "").partition(":")[0] for number in range(1, 6)]
    assert status == 1
    assert errors == [
        "Sandbox.Timedout",
        "Runtime.ExitError",
        "Function.ResponseSizeTooLarge",
        "Runtime.MarshalError",
        "Sandbox.Timedout",
    ]
    assert "Status: timeout" in (tmp_path / "results" / done[1]["log"]).read_text(encoding="utf-8")
    # What the sixth leaves in its environment makes the next ones fail; the second time each is alone.
    assert [(done[number]["ok"], done[number]["tries"]) for number in (6, 7, 8)] == [(False, 2), (True, 2), (True, 2)]
    assert done[6]["error"] == "ValueError: as ever"


def test_after_control_c_it_goes_on_where_it_was(tmp_path: Path, code: Path) -> None:
    events = write(tmp_path / "events.jsonl", ["sleeps"] * 12)
    results_file = tmp_path / "results" / "results.jsonl"
    arguments = (events, "--code", code, "--out", tmp_path / "results", "--side-by-side", 2)
    with start(*arguments) as process:
        deadline = time.monotonic() + 30
        while not results_file.exists() or results_file.read_bytes().count(b"\n") < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = run(*arguments)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (second[0], second[2]) == (1, f"{tmp_path / 'results'} is in use by another batch\n")
    assert (process.returncode, err) == (130, "")
    before = results(tmp_path / "results")
    assert out == f"stopped after {len(before)} of 12 events; the same command goes on from there\n"
    assert 3 <= len(before) < 12

    with results_file.open("a", encoding="utf-8") as file:
        file.write('{"event": 12, "ok": tr')  # as a loss of power might leave it
    assert run(*arguments)[0] == 0
    after = results(tmp_path / "results")
    assert sorted(after) == list(range(1, 13))
    assert {number: after[number] for number in before} == before
    assert run(*arguments)[1].startswith("12 events, 0 failed; ")


def test_what_cannot_be_a_batch_is_said_at_once(tmp_path: Path, code: Path) -> None:
    events = write(tmp_path / "events.jsonl", ["well"])
    assert run(events, "--code", code, "--out", tmp_path / "a")[0] == 0
    other = write(tmp_path / "other.jsonl", ["else"])
    status, _, err = run(other, "--code", code, "--out", tmp_path / "a")
    assert (status, err) == (1, f"{tmp_path / 'a'} has the results of other events; name another folder\n")
    status, _, err = run(events, "--code", code, "--handler", "app.missing", "--out", tmp_path / "b")
    assert (status, "Runtime.HandlerNotFound" in err, "Traceback" in err) == (1, True, False)
    status, _, err = run(events, "--code", code, "--memory", 1, "--out", tmp_path / "b")
    assert (status, err) == (1, "memory_mb is 1; it must be from 32 to 10240 MiB\n")
    other.write_text('"well"\nnot JSON\n', encoding="utf-8")
    status, _, err = run(other, "--code", code, "--out", tmp_path / "c")
    assert (status, err.startswith(f"{other}, line 2: ")) == (1, True)
