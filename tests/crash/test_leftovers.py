"""What cannot be ended and what the dead leave: told once, listed by `coldframe doctor`, collected when it can be."""

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import cgroups_of, descendants, directories_of, living, until
from test_death import SLEEP, embedding, started

import coldframe
from coldframe import _core

OVERDUE_S = 5
"""After which what does not end is reported."""
CLOSING_S = 10
"""How long a close waits at most."""
PTRACE_SEIZE = 0x4206
WALL = 0x4000_0000


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """Have a state directory that nobody else on this machine collects from."""
    monkeypatch.setenv("COLDFRAME_STATE_DIR", str(tmp_path / "state"))


def doctor(*arguments):
    command = [sys.executable, "-m", "coldframe", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def foreigner(groups=()):
    """Run a process that is none of ours in these cgroups."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            for group in groups:
                Path(group, "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()


# The dead


def test_doctor_lists_what_the_dead_left_and_collects_nothing(tmp_path):
    assert _core.leftovers() == []
    assert not (tmp_path / "state").exists(), "to look makes nothing"
    with embedding(tmp_path, SLEEP, "fn(0)") as process:
        assert _core.leftovers() == [], "it lives"
        process.kill()
        process.wait(5)
    assert until(lambda: not descendants(process.pid))
    for _ in range(2):
        (left,) = json.loads(doctor("--json"))["leftovers"]
        assert left["owner"].startswith(f"coldframe-{process.pid}-")
        assert (left["alive"], left["directory"]) == (False, directories_of(process.pid)[0])
        assert left["cgroups"]
        assert set(left["cgroups"]) <= set(cgroups_of(process.pid))
        assert until(lambda: not _core.leftovers()[0]["processes"]), "they ended with their owner"
    text = doctor()
    assert f"{left['owner']} has ended without closing its host" in text
    assert all(path in text for path in left["cgroups"])
    coldframe.Host().close()
    assert _core.leftovers() == []
    assert "has ended without" not in doctor()


def test_a_fork_of_a_dead_owner_does_not_keep_its_leftovers(tmp_path):
    """It has a copy of every descriptor, also of the lock that says that the owner lives."""
    statement = (
        "import os, time\n        child = os.fork()\n        if child == 0:\n            time.sleep(600)\n"
        f"        open({str(tmp_path / 'child')!r}, 'w').write(str(child))"
    )
    with embedding(tmp_path, SLEEP, statement) as process:
        child = int((tmp_path / "child").read_text())
        try:
            process.kill()
            process.wait(5)
            assert started(child) is not None
            assert until(lambda: [left["owner"].split("-")[1] for left in _core.leftovers()] == [str(process.pid)])
            coldframe.Host().close()
            assert _core.leftovers() == []
            assert not cgroups_of(process.pid)
            assert not directories_of(process.pid)
        finally:
            os.kill(child, signal.SIGKILL)


# What cannot be ended


@contextlib.contextmanager
def traced(environment):
    """Hold the handler of an environment as a debugger does: killed, it stays until the debugger has heard of it."""
    (handler,) = descendants(environment.pid)
    assert ctypes.CDLL(None).ptrace(PTRACE_SEIZE, handler, 0, 0) == 0
    yield
    assert until(lambda: os.waitpid(handler, WALL | os.WNOHANG)[0] == handler)


@pytest.mark.needs("root")
def test_what_cannot_be_ended_is_told_once_and_listed_until_it_is_gone(make, caplog):
    """A process of somebody else in the cgroup, a cgroup made below it, and a process that a debugger holds."""
    with coldframe.Host() as host, contextlib.ExitStack() as held, caplog.at_level(logging.WARNING, "coldframe"):
        host._native.park_at_most(0, 0)
        fn = make(SLEEP, host=host, timeout_s=60)
        host.prewarm(fn, 3)
        crowded, nested, debugged = living(host, 3)
        held.enter_context(traced(debugged))
        stranger = held.enter_context(foreigner(crowded.cgroups.values()))
        below = Path(nested.cgroups["unified"], "below")
        below.mkdir()
        held.callback(below.rmdir)
        for environment in (crowded, nested):
            os.kill(environment.pid, signal.SIGKILL)
        # Not by the host, which would end the stranger, too.
        living(host, 1)
        fn.close()
        began = time.monotonic()
        other = make(SLEEP, host=host, name="other")
        assert other(0) == 0, "nobody is held up"
        assert _core.leftovers() == []
        assert until(lambda: len({Path(path).name for left in _core.leftovers() for path in left["cgroups"]}) == 3, 12)
        assert time.monotonic() - began >= OVERDUE_S * 0.9
        assert other(0) == 0
        told = {one.id: [each for each in caplog.messages if one.id in each] for one in (crowded, nested, debugged)}
        assert [len(messages) for messages in told.values()] == [1, 1, 1]
        assert f"process {stranger} (sleep, S) is in /sys/fs/cgroup" in told[crowded.id][0]
        assert str(below) in told[nested.id][0]
        assert f"its init, process {debugged.pid}, has been killed and lives" in told[debugged.id][0]
        (left,) = _core.leftovers()
        assert (left["alive"], stranger in left["processes"]) == (True, True)
        assert set(crowded.cgroups.values()) <= set(left["cgroups"])
        assert f"{left['owner']} lives, and cannot end" in doctor()
        # And when what held them is gone, so are they, and nothing more is said.
        held.close()
        assert until(lambda: _core.leftovers() == [])
        gone = [path for one in (crowded, nested, debugged) for path in one.cgroups.values()]
        assert not list(filter(os.path.exists, gone))
        assert other(0) == 0
        assert len(caplog.messages) == 3
    assert not cgroups_of(os.getpid())


@pytest.mark.needs("root")
def test_a_close_that_cannot_end_all_says_so_in_time_and_the_next_host_does(make):
    host = coldframe.Host()
    fn = make(SLEEP, host=host)
    fn(0)
    (environment,) = living(host)
    with traced(environment):
        began = time.monotonic()
        with pytest.raises(coldframe.ColdframeError, match="would not die within ten seconds") as told:
            host.close()
        assert CLOSING_S <= time.monotonic() - began < CLOSING_S + 2
        assert str(environment.pid) in str(told.value)
        assert any(path in str(told.value) for path in environment.cgroups.values())
    assert until(lambda: started(environment.pid) is None)
    coldframe.Host().close()
    assert _core.leftovers() == []
    assert not cgroups_of(os.getpid())
