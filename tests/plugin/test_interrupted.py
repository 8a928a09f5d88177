"""Nothing is left behind when a run is interrupted: no process at once, and no cgroup and no directory for longer than
until the next host."""

import signal
import subprocess
import sys

import pytest
from conftest import cgroups_of, descendants, directories_of, seats, until  # those of all tests

import coldframe

pytest_plugins = ["pytester", "projects"]

TESTS = """
import os
import signal
import time
import pytest

def handler(event, context):
    time.sleep(60)

def test_waits(coldframe_function, coldframe_host):
    fn = coldframe_function("test_waits.handler", "test_waits.py", timeout_s=60)
    running = fn.submit()
    while "busy" not in [each.state for each in coldframe_host.environments()]:
        time.sleep(0.01)
    print("\\nready", os.getpid(), flush=True)
    running.result()

@pytest.mark.coldframe(timeout_s=60)
def test_marked():
    time.sleep(60)

def test_crashes(coldframe_function, coldframe_host, capfd):
    fn = coldframe_function("test_waits.handler", "test_waits.py", timeout_s=60)
    fn.submit()
    while "busy" not in [each.state for each in coldframe_host.environments()]:
        time.sleep(0.01)
    with open("crashed", "w") as file:
        file.write(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_of(pid):
    """Return the cgroups and directories that hosts of a process made."""
    return cgroups_of(pid) + directories_of(pid)


def collect():
    """Make a host, which collects what dead ones have left."""
    coldframe.Host().close()


@pytest.fixture
def start(project):
    """Return a function that starts a pytest which Ctrl-C reaches, as it does at a terminal."""
    project.makepyfile(test_waits=TESTS)
    started = []

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", *arguments]
        # A shell in the background has it ignored, and so would its children.
        restored = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(command, cwd=project.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        finally:
            signal.signal(signal.SIGINT, restored)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_run_leaves_nothing(start, number):
    before = set(descendants())
    process = start("-s", "-k", "test_waits.py and test_waits")
    assert any(line.startswith(b"ready") for line in process.stdout)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    if number == signal.SIGINT:
        assert b"KeyboardInterrupt" in out
        assert left_of(process.pid) == []
    assert until(lambda: set(descendants()) <= before), set(descendants()) - before
    collect()
    assert until(lambda: left_of(process.pid) == [])


def test_a_marked_test_is_interrupted_like_any_other(start):
    before = set(descendants())
    process = start("-k", "test_marked")
    # An environment, parked or at work.
    assert until(lambda: any(below for below in seats(process.pid).values()), within_s=20)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in out
    assert until(lambda: set(descendants()) <= before)
    assert left_of(process.pid) == []


def test_a_worker_of_xdist_that_crashes_leaves_nothing(project):
    project.makepyfile(test_waits=TESTS)
    before = set(descendants())
    result = project.runpytest_subprocess("-n1", "-k", "test_crashes", "--max-worker-restart=0")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running 'test_waits.py::test_crashes'*"])
    assert until(lambda: set(descendants()) <= before)
    collect()
    crashed = int(project.path.joinpath("crashed").read_text())
    assert until(lambda: left_of(crashed) == [])
