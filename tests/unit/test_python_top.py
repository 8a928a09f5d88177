"""What `coldframe top` makes of what programs say: of honest ones, and of any other."""

import contextlib
import json
import os
import socket
import threading
import time

import pytest

from coldframe._cli import frame as frames
from coldframe._cli import owners
from coldframe._cli.terminal import Style, printable

NOW = 1_800_000_000.0
ENVIRONMENT = {
    "id": "0123456789abcdef0123456789abcdef",
    "function": "hello",
    "state": "frozen",
    "memory_mb": 34.4,
    "memory_limit_mb": 128,
    "cpu_s": 1.5,
    "invocations": 7,
    "created": NOW - 3700,
    "last_used": NOW - 75,
}
SAID = {
    "schema": 1,
    "version": "0.1.0",
    "pid": 1,
    "time": NOW,
    "started": NOW - 90_000,
    "max_concurrency": 1000,
    "in_flight": 2,
    "invocations": 4321,
    "parked": 1,
    "memory_mb": 40.0,
    "environments": [ENVIRONMENT],
}


@contextlib.contextmanager
def saying(path, text, *, slowly=False):
    """Be an owner that says this to whoever asks; slowly: begins, and says no more."""
    (path / "owner").mkdir()
    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "owner" / "status"))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(text)
                if slowly:
                    over.wait(10)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield {"owner": "coldframe-1-a", "directory": str(path / "owner")}
        finally:
            over.set()
            thread.join(10)


def ask(path, text):
    with saying(path, text) as owner:
        (host,) = owners.ask_all([owner | {"owner": "coldframe-1-\x1b[2J"}])
    assert host.owner == "coldframe-1-\\x1b[2J"
    return host


def test_an_answer_is_taken_as_it_is(tmp_path):
    host = ask(tmp_path, json.dumps(SAID).encode())
    assert host.error is None
    assert host.pid == os.getpid(), "as the kernel says, not the answer"
    assert (host.version, host.invocations, host.parked) == ("0.1.0", 4321, 1)
    assert [each.function for each in host.environments] == ["hello"]
    found = host.as_dict()["environments"][0]
    assert found == ENVIRONMENT | {"cpu_percent": None}


HOSTILE = [
    (b"", "does not answer"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"[1]", "another version"),
    (b'{"schema": 2}', "another version"),
    (b"x" * (owners._MOST_BYTES + 1), "more than anybody wants"),
]


@pytest.mark.parametrize(("text", "why"), HOSTILE, ids=[why for _, why in HOSTILE])
def test_what_is_no_answer_is_said_to_be_none(tmp_path, text, why):
    host = ask(tmp_path, text)
    assert why in host.error
    assert host.environments == []


def test_nothing_that_a_program_says_reaches_beyond_its_row(tmp_path):
    evil = "\x1b[2J\x1b]0;title\x07\n\r\u202e\u200d\uff37\u0301" + "x" * 1000
    said = SAID | {
        "version": evil,
        "time": float("nan"),
        "started": 10**400,
        "parked": "many",
        "in_flight": True,
        "environments": [
            ENVIRONMENT | {"function": evil, "state": evil, "id": 7, "cpu_s": float("inf")},
            "nonsense",
            {},
        ],
    }
    host = ask(tmp_path, json.dumps(said).encode())
    assert host.error is None
    assert (host.time, host.started, host.parked, host.in_flight) == (None, None, None, None)
    first, empty = host.environments
    assert (first.state, first.id, first.cpu_s) == ("?", "", None)
    assert first.function.isascii()
    assert first.function.isprintable()
    assert len(first.function) <= 64
    assert (empty.state, empty.function) == ("?", "")
    for width in (40, 80, 200):
        lines = frames.frame([host], Style(width=width), "cpu", 10).lines
        assert all(line.isprintable() for line in lines)
        assert max(map(len, lines)) <= width


def test_who_does_not_answer_keeps_nobody_else_waiting(tmp_path):
    (tmp_path / "slow").mkdir()
    with saying(tmp_path / "slow", b"{", slowly=True) as slow, saying(tmp_path, json.dumps(SAID).encode()) as quick:
        began = time.monotonic()
        hosts = owners.ask_all([slow, quick], 0.3)
        assert time.monotonic() - began < 2
    assert "does not answer" in hosts[0].error
    assert hosts[1].error is None
    # Its socket is still there, and nobody listens.
    assert "about to end" in owners.ask_all([quick])[0].error
    (tmp_path / "owner" / "status").unlink()
    assert "has no socket" in owners.ask_all([quick])[0].error


def test_what_is_used_is_used_since_the_last_look(tmp_path):
    before, now = (ask_of(seconds, cpu) for seconds, cpu in ((NOW, 1.5), (NOW + 2, 2.5)))
    now.environments.append(owners.Environment("new", "f", "busy", 1, 1, 0.5, 1, NOW, NOW))
    now.compare(before)
    assert [each.cpu_percent for each in now.environments] == [50.0, 25.0]
    backwards = ask_of(NOW - 5, 9.0)
    backwards.compare(now)
    assert backwards.environments[0].cpu_percent is None, "a clock that was set says nothing"


def ask_of(seconds, cpu):
    host = owners.Host("coldframe-1-a")
    said = SAID | {"time": seconds, "environments": [ENVIRONMENT | {"cpu_s": cpu}]}
    owners._take(host, json.dumps(said).encode())
    return host


def many(count):
    host = ask_of(NOW, 1.0)
    host.pid, host.program = 4711, "python service.py --port 8000"
    rows = [
        owners.Environment(f"{n:032x}", f"function-{n}", owners.STATES[n % 5], n, 128, n / 10, n, NOW - n, NOW - n)
        for n in range(count)
    ]
    host.environments = rows
    return host


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 160])
@pytest.mark.parametrize("height", [5, 8, 24, 50])
def test_a_frame_fits_the_terminal(width, height):
    for hosts in ([], [many(0)], [many(3)], [many(500)], [many(2) for _ in range(40)]):
        shown = frames.frame(hosts, Style(width=width), "state", height)
        assert len(shown.lines) == height
        assert max(map(len, shown.lines)) <= width


def test_a_frame_has_what_matters_at_80_columns():
    lines = frames.frame([many(3)], Style(width=80), "state").lines
    assert lines[0] == "coldframe: 1 program, 3 environments: 1 busy, 1 init, 1 ready, 40 MB"
    assert "python service.py" in lines[2]
    assert "2/1000 in flight, 4321 invoked" in lines[2]
    assert " ".join(lines[4].split()) == "PID FUNCTION ENVIRONMENT STATE MEMORY MB CPU% INVOKED AGE IDLE"
    assert " ".join(lines[5].split()) == "4711 function-0 0000000000… busy 0/128 - 0 0s -"


def test_environments_are_sorted_and_scrolled():
    host = many(500)
    shown = frames.frame([host], Style(width=100), "invocations", 24)
    assert "function-499" in shown.lines[5]
    assert "1 to 18 of 500" in shown.lines[-1]
    end = frames.frame([host], Style(width=100), "invocations", 24, 10_000)
    assert (end.top, end.total) == (482, 482)
    assert "function-0 " in end.lines[-2]
    states = [line.split()[3] for line in frames.frame([host], Style(width=120), "state").lines[5:]]
    assert states == sorted(states, key=owners.STATES.index)


def test_what_a_terminal_cannot_show_is_not_sent():
    assert all(line.isascii() for line in frames.frame([many(3)], Style(width=60, unicode=False), "age", 20).lines)
    assert printable("grün\tx\x9b", 20) == "grün\\tx\\x9b"
    assert printable("abcdefgh", 6) == "abc..."


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (-3, "0s"), (59.9, "59s"), (61, "1m01s"), (7260, "2h01m"), (90_000, "1d01h")]
)
def test_times_are_short(seconds, text):
    assert frames.span(seconds) == text
