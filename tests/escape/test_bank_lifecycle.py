"""O47 to O51: odd answers and odd ends, what runs on in the background, and what the next event finds."""

import resource
import time
from pathlib import Path

import pytest
from conftest import SLOWNESS, descendants, living, until

import coldframe

# Answers

RESULT = """
def handler(event, context):
    circle, deep = [], []
    circle.append(circle)
    for _ in range(10_000):
        deep = [deep]
    results = {
        "an object": object(), "a set": {1}, "bytes": b"x", "a circle": circle, "depth": deep, "a key": {(1,): 2},
        "half a pair": "\\ud800", "itself": handler,
    }
    return results[event]
"""
ODD = ["an object", "a set", "bytes", "a circle", "depth", "a key", "half a pair", "itself"]


@pytest.mark.bank("O47")
def test_a_result_that_is_not_json_is_an_error_of_its_own(attack):
    for result in ODD:
        error = attack(RESULT, result).error
        assert type(error) is coldframe.PayloadError, result
        assert error.error_type == "Runtime.MarshalError", result


@pytest.mark.bank("O47")
def test_a_result_that_is_not_a_number_is_lambdas_answer(attack):
    invocation = attack("def handler(event, context):\n    return [float('nan'), float('inf')]\n")
    assert str(invocation.unwrap()) == "[nan, inf]"


# Ends

EXITS = {
    "sys.exit(0)": (coldframe.EnvironmentExit, "Runtime.ExitError", "exited without providing a reason"),
    "os._exit(0)": (coldframe.EnvironmentExit, "Runtime.ExitError", "exited without providing a reason"),
    "os._exit(3)": (coldframe.EnvironmentExit, "Runtime.ExitError", "exit status 3"),
    "os.kill(os.getpid(), 9)": (coldframe.EnvironmentExit, "Runtime.ExitError", "signal: killed"),
    "1 / 0": (coldframe.HandlerError, "ZeroDivisionError", "division by zero"),
    "os.fork() or os._exit(0)": (None, None, None),
}


@pytest.mark.bank("O48")
def test_each_end_has_an_error_of_its_own(attack):
    for statement, (kind, name, message) in EXITS.items():
        error = attack(f"import os, sys\ndef handler(event, context):\n    {statement}\n").error
        if kind is None:
            assert error is None, "a child's end is nobody's"
        else:
            assert (type(error), error.error_type) == (kind, name), statement
            assert message in error.error_message


CRASH = """
import ctypes, os, resource
def handler(event, context):
    os.chdir("/tmp")
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    if event == "itself":
        ctypes.string_at(0)
    pid = os.fork()
    if pid == 0:
        if event == "a program":
            os.execv("/bin/sh", ["sh", "-c", "kill -SEGV $$"])
        ctypes.string_at(0)
    _, status = os.waitpid(pid, 0)
    cores = [name for name in os.listdir("/tmp") if name.startswith("core")]
    return [os.WTERMSIG(status), os.WCOREDUMP(status), len(cores)]
"""


@pytest.mark.bank("O49")
def test_a_segmentation_fault_is_named_and_leaves_no_core(attack):
    error = attack(CRASH, "itself").error
    assert type(error) is coldframe.EnvironmentExit
    assert "signal: segmentation fault" in error.error_message
    assert attack(CRASH, "a child").unwrap() == attack(CRASH, "a program").unwrap() == [11, False, 0]


@pytest.mark.bank("O49", twin=True)
def test_without_limits_a_program_leaves_one(attack, without):
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith(("|", "/")) or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip(f"this host lets nobody dump core into the working directory: {pattern}")
    host = without("rlimits")
    assert attack(CRASH, "a program", host=host).unwrap() == [11, True, 1]
    # The handler itself has changed users and can be dumped only where that is allowed as well.
    assert attack(CRASH, "a child", host=host).unwrap() == [11, False, 0]


# The background

BUSY = """
import os, subprocess, threading, time
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.001)
threading.Thread(target=tick, daemon=True).start()
left = subprocess.Popen(["sh", "-c", "while :; do echo >> /tmp/ticks; sleep 0.001; done"], start_new_session=True)
while not os.path.exists("/tmp/ticks"):
    pass
def handler(event, context):
    return [ticks, os.path.getsize("/tmp/ticks")]
"""


def run_on(fn, seconds=0.5):
    """Return what a thread and a child of the function did between two of its invocations, and their processes."""
    before = fn()
    (environment,) = [one for one in fn.host.environments() if one.function == fn.name]
    processes = {environment.pid, *descendants(environment.pid)}
    assert len(processes) >= 3
    time.sleep(seconds)  # the time that is looked at
    return [after - early for early, after in zip(before, fn(), strict=True)], processes


@pytest.mark.bank("O50")
@pytest.mark.needs("cgroup.freeze")
def test_a_thread_and_a_child_stand_still_while_idle_and_go_with_the_function(make, without):
    fn = make(BUSY, memory_mb=1769, host=without())
    done, processes = run_on(fn)
    assert max(done) < 20
    fn.close()
    assert until(lambda: not processes & set(descendants()), 2)


@pytest.mark.bank("O50", twin=True)
@pytest.mark.needs("cgroup.freeze")
def test_without_the_freezer_they_run_on_until_the_function_goes(make, without):
    fn = make(BUSY, memory_mb=1769, host=without("freezer"), isolation="available")
    done, processes = run_on(fn, 0.5 * SLOWNESS)
    assert min(done) > 20 / SLOWNESS
    fn.close()
    assert until(lambda: not processes & set(descendants()), 2)


# Warm state

LEAVE = """
import os, sys, tempfile
kept = []
def handler(event, context):
    seen = {
        "global": list(kept), "module": getattr(tempfile, "left", None), "variable": os.environ.get("LEFT"),
        "file": os.path.exists("/tmp/left"), "shared memory": os.path.exists("/dev/shm/left"), "directory": os.getcwd(),
        "umask": os.umask(0o077), "descriptor": len(os.listdir("/proc/self/fd")),
    }
    kept.append(1)
    tempfile.left = 1
    os.environ["LEFT"] = "1"
    open("/tmp/left", "w").close()
    open("/dev/shm/left", "w").close()
    os.chdir("/tmp")
    os.open("/dev/null", os.O_RDONLY)
    return seen
"""
FRESH = {
    "global": [],
    "module": None,
    "variable": None,
    "file": False,
    "shared memory": False,
    "directory": "/var/task",
    "umask": 0o022,
    "descriptor": 5,
}
WARM = {
    "global": [1],
    "module": 1,
    "variable": "1",
    "file": True,
    "shared memory": True,
    "directory": "/tmp",
    "umask": 0o077,
    "descriptor": 6,
}


@pytest.mark.bank("O51")
def test_the_next_event_of_an_environment_finds_what_the_last_one_left(make, without):
    fn = make(LEAVE, host=without())
    assert [fn(), fn()] == [FRESH, WARM]
    assert len(living(fn.host)) == 1


@pytest.mark.bank("O51", twin=True)
def test_in_an_environment_for_each_event_it_finds_nothing(make, without):
    fn = make(LEAVE, reuse=False, host=without())
    assert [fn(), fn()] == [FRESH, FRESH]
