"""The example ``embedding/grading_service``: a real server, over HTTP, with submissions that attack it."""

import http.client
import io
import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EMBEDDING = Path(__file__).resolve().parents[2] / "examples" / "embedding"
SECRET = "secret-" + "f3a9c1"  # in two parts, so that no constant of this file is what is looked for
LIMITS = {"memory_mb": 512, "output_kb": 16, "processes": 16}  # of a processor so much as of 1,769 MB
PROBLEMS = {
    "square": {
        "title": "solve(n): the square of n",
        "limits": LIMITS | {"time_s": 1},
        "cases": [{"input": {"n": 3}, "expected": 9, "shown": True}, {"input": {"n": -2}, "expected": 4}],
    },
    "patient": {  # the less memory, the less processor: however little it is, to use it up takes a second or more
        "title": "solve()",
        "limits": LIMITS | {"memory_mb": 64, "time_s": 20},
        "cases": [{"input": {}, "expected": 0, "shown": True}],
    },
    "guess": {
        "title": "solve()",
        "limits": LIMITS | {"memory_mb": 1769, "time_s": 20},
        "cases": [{"input": {}, "expected": SECRET, "shown": True}],
    },
}
HOSTILE = {
    "loops": ("def solve(n):\n while True: pass", "time limit exceeded"),
    "loops when it is imported": ("while True: pass", "time limit exceeded"),
    "forks": (
        "import os\ndef solve(n):\n while True:\n  try: os.fork()\n  except OSError: pass",
        "time limit exceeded",
    ),
    "prints": ("def solve(n):\n while True: print('x' * 1000)", "output limit exceeded"),
    "leaves": ("import os\ndef solve(n): os._exit(0)", "runtime error"),
    "crashes": ("import ctypes\ndef solve(n): ctypes.string_at(0)", "runtime error"),
    "is no Python": ("def solve(n) return n", "runtime error"),
    "has no solve": ("answer = 9", "runtime error"),
    "answers a huge number": ("def solve(n): return 10 ** 4000", "wrong answer"),
    "answers true": ("def solve(n): return True", "wrong answer"),
    "nests": ("def solve(n):\n answer = []\n for _ in range(400): answer = [answer]\n return answer", "wrong answer"),
}
SPY = """
import gc, os, sys

def solve():
    gc.unfreeze()
    found = [text for thing in gc.get_objects() for text in gc.get_referents(thing) if type(text) is str]
    found += os.environ.values()
    processes = ("/proc/1/environ", "/proc/1/cmdline", "/proc/self/environ")
    found += [open(path).read() for path in processes if readable(path)]
    for place in [PLACES]:
        for folder, folders, files in os.walk(place):
            if sys.base_prefix in (folder, os.path.realpath(folder)):
                folders.clear()  # Python itself is no secret, and large
            for file in files:
                path = os.path.join(folder, file)
                if readable(path) and os.path.isfile(path):
                    found.append(open(path, errors="replace").read(100_000))
    prefix = "secret" + "-"
    secrets = {text[text.index(prefix):][:13] for text in found if prefix in text and text != prefix}
    print(len(found) > 10, sorted(secrets))
    return next(iter(secrets), None)

def readable(path):
    try:
        open(path).close()
    except OSError:
        return False
    return True
"""


def request(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def submit(port: int, problem: str, body: str | bytes) -> tuple[int, Any]:
    text = body.encode() if isinstance(body, str) else body
    return request(port, "POST", f"/problems/{problem}/submissions", text)


@contextmanager
def service(folder: Path, *options: str) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    folder.mkdir()
    for name, problem in PROBLEMS.items():
        (folder / f"{name}.json").write_text(json.dumps(problem), encoding="utf-8")
    command = [sys.executable, "-m", "grading_service", "--port", "0", "--problems", folder, *options]
    with subprocess.Popen(
        command, cwd=EMBEDDING, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        try:
            port = next(int(found[1]) for line in server.stderr if (found := re.search(r"running on .*:(\d+)", line)))
            yield port, server
        finally:
            server.terminate()
            server.stderr.read()
            server.wait(40)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with service(tmp_path_factory.mktemp("service") / "problems", "--side-by-side", "8") as (port, _):
        yield port


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return buffer.getvalue()


def test_a_right_one_is_accepted_and_what_it_used_is_told(port: int) -> None:
    status, answer = submit(port, "square", "def solve(n):\n print('squaring', n)\n return n * n")
    assert (status, answer["verdict"]) == (200, "accepted")
    shown, hidden = answer["cases"]
    assert (shown["output"], shown["error"]) == ("squaring 3\n", None)
    assert (hidden["output"], hidden["error"]) == (None, None)
    assert 0 < shown["wall_ms"] < 1000
    assert 0 < shown["memory_mb"] <= 64
    assert shown["cpu_ms"] < 1000


def test_errors_are_shown_for_the_cases_that_are_shown(port: int) -> None:
    status, answer = submit(port, "square", "def solve(n):\n return n / 0")
    shown, hidden = answer["cases"]
    assert (status, answer["verdict"]) == (200, "runtime error")
    assert 'File "/var/task/submission.py", line 2, in solve' in shown["error"]
    assert shown["error"].endswith("ZeroDivisionError: division by zero")
    assert hidden == hidden | {"verdict": "runtime error", "error": None, "output": None}


def test_every_attack_gets_its_verdict_and_the_service_answers_meanwhile(port: int) -> None:
    with ThreadPoolExecutor() as pool:
        graded = {name: pool.submit(submit, port, "square", source) for name, (source, _) in HOSTILE.items()}
        waited = []
        while not all(each.done() for each in graded.values()):
            began = time.monotonic()
            assert request(port, "GET", "/health")[0] == 200
            waited.append(time.monotonic() - began)
        right = pool.submit(submit, port, "square", "def solve(n): return n * n")
    verdicts = {name: {case["verdict"] for case in each.result()[1]["cases"]} for name, each in graded.items()}
    assert verdicts == {name: {verdict} for name, (_, verdict) in HOSTILE.items()}
    assert right.result()[1]["verdict"] == "accepted"
    assert max(waited) < 2

    deadline = time.monotonic() + 10  # every function was closed: what is left of them is going
    while (health := request(port, "GET", "/health")[1]) != {"submissions": 0, "places": 32, "environments": 0}:
        assert time.monotonic() < deadline, health


def test_an_answer_that_is_too_large_is_output_as_well(port: int) -> None:
    status, answer = submit(port, "guess", "def solve(): return 'x' * 7_000_000")
    assert (status, answer["verdict"]) == (200, "output limit exceeded")


def test_over_the_memory_it_is_told_so(port: int) -> None:
    bomb = "def solve():\n hoard = []\n while True: hoard.append(bytearray(1 << 20))"
    status, answer = submit(port, "patient", bomb)
    assert (status, answer["verdict"]) == (200, "memory limit exceeded")
    assert answer["cases"][0]["memory_mb"] == 64


def test_expected_answers_are_nowhere_inside(port: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    problems = str(tmp_path_factory.getbasetemp())
    places = ", ".join(map(repr, ["/var", "/opt", "/tmp", "/mnt", "/dev/shm", "/home", "/root", "/run", problems]))
    status, answer = submit(port, "guess", SPY.replace("PLACES", places))
    assert (status, answer["verdict"]) == (200, "wrong answer"), answer
    assert answer["cases"][0]["output"] == "True []\n"


def test_a_zip_is_taken_and_a_bad_one_is_refused(port: int) -> None:
    good = archive(**{"submission.py": "from helper import solve", "helper.py": "def solve(n): return n * n"})
    assert submit(port, "square", good)[1]["verdict"] == "accepted"
    for bad in (archive(zeros="0" * 20_000_000), archive(**{"../../escape.py": ""}), good[:-30]):
        status, answer = submit(port, "square", bad)
        assert status == 422, answer
        assert "/tmp" not in answer["error"]


def test_what_is_too_large_or_for_nothing_is_refused(port: int) -> None:
    assert submit(port, "square", b"#" * 300_000)[0] == 413
    assert submit(port, "cube", "def solve(n): return n ** 3")[0] == 404


def test_a_full_service_says_so_and_ends_what_it_began_before_it_stops(tmp_path: Path) -> None:
    options = ("--side-by-side", "2", "--places", "1")
    with service(tmp_path / "problems", *options) as (port, server), ThreadPoolExecutor() as pool:
        begun = pool.submit(submit, port, "square", HOSTILE["loops"][0])
        while request(port, "GET", "/health")[1]["submissions"] == 0:
            assert not begun.done()
        assert submit(port, "square", "def solve(n): return n * n")[0] == 429
        server.send_signal(signal.SIGTERM)
        assert begun.result()[1]["verdict"] == "time limit exceeded"
        assert server.wait(40) in (0, -signal.SIGTERM)


def test_it_does_not_start_where_submissions_could_read_the_answers() -> None:
    command = [sys.executable, "-m", "grading_service", "--port", "0", "--problems", "/usr/bin"]
    done = subprocess.run(command, cwd=EMBEDDING, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode != 0
    assert "submissions could read the expected answers in /usr/bin; keep them outside of /usr" in done.stderr
