"""SIGKILL and SIGSTOP at every step of an environment's life, to its process, its init, its zygote, the zygote's init.

Each step is tried with the blow at several moments, so that it falls before, into and after what the step is made of. A
call ends in time, with its own answer or a typed error; the next one works; nothing is left. What test_death.py and
test_stock_death.py strike while it is at rest (busy, frozen, parked) is not repeated here.
"""

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import cgroups_of, descendants, directories_of, inventory, living, parent, pids_of, until
from test_death import started
from test_stock_death import left

import coldframe

PARTS = ["zygote's init", "zygote", "init", "handler"]
IN_TIME_S = 5
MAKING_S = 10
"""How long a caller waits for a seat. Nobody can tell of an init that is killed before it has said its first word."""
MOMENTS_S = [0, 0.001, 0.006]
"""After a step has begun: most take less than the last, and all more than the first."""

SOURCE = """
    import os, time
    time.sleep(float(os.environ.get("IMPORT_S", 0)))
    def handler(event, context):
        if event == "long":
            time.sleep(60)
        return "x" * event if isinstance(event, int) else event
"""
LARGE = 5_000_000
"""Bytes of an answer that takes some milliseconds."""


def children(pid):
    with suppress(OSError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def hit(part, number=signal.SIGKILL, init=None):
    """Send a signal to this part of whatever is being made, waits or serves now; `init`: of that environment."""
    tops = [pid for pid in children(os.getpid()) if pids_of(pid)[-1:] == ["1"]]
    below = {pid: top for top in tops for pid in children(top)}
    zygotes = [pid for pid in below if pids_of(pid)[-1:] == ["3"]]
    inits = [init] if init else [pid for pid in below if pid not in zygotes]
    handlers = [pid for init in inits for pid in children(init)]
    top = [below[init]] if init in below else tops
    victims = {"zygote's init": top, "zygote": zygotes, "init": inits, "handler": handlers}[part]
    lives = {victim: started(victim) for victim in victims}
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, number)
    if number == signal.SIGKILL:
        # The signal takes its time: a call that comes before its end may still be given to whoever is to die.
        assert until(lambda: not [pid for pid, start in lives.items() if start and started(pid) == start])
    return bool(victims)


def check(invocation, answer):
    """It was answered rightly, or says that its environment has ended."""
    if invocation.error is None:
        assert invocation.payload == answer
    else:
        assert type(invocation.error) is coldframe.EnvironmentExit, invocation.error
        assert "killed" in invocation.error.error_message


def ends(future, answer):
    """Return once a call has ended in time, rightly, or with an error that says that what it needed was ended."""
    error = future.exception(MAKING_S + 2)
    if error is None:
        check(future.result(), answer)
    else:
        assert type(error) is coldframe.ColdframeError, error
        assert re.search("ended|No such process|not permitted|Broken pipe|reset|timed out", str(error)), error


@pytest.fixture
def site(make):
    """Return a host, and check when the test ends that it goes in time and leaves nothing."""
    gc.collect()
    before = inventory()
    host = coldframe.Host()
    yield host
    began = time.monotonic()
    host.close()
    assert time.monotonic() - began < IN_TIME_S
    assert until(lambda: not cgroups_of(os.getpid()) and not directories_of(os.getpid()))
    gc.collect()
    assert until(lambda: not inventory()["processes"] - before["processes"]), left(before)


@pytest.mark.parametrize("part", PARTS)
def test_killed_while_it_is_made_and_initialised(make, site, part):
    """From a zygote that is being started, through a seat and an import, to a first answer."""
    began = time.monotonic()
    for moment in [*MOMENTS_S, 0.03]:
        fn = make(SOURCE, host=site, reuse=False, timeout_s=10, env={"IMPORT_S": "0.02"})
        future = fn.submit(1)
        time.sleep(moment)
        hit(part)
        ends(future, "x")
        assert fn(2) == "xx", moment
        fn.close()
    assert time.monotonic() - began < MAKING_S + 20


@pytest.mark.parametrize("part", PARTS)
def test_killed_while_it_is_thawed_invoked_and_answers(make, site, part):
    fn = make(SOURCE, host=site, timeout_s=10)
    for moment in MOMENTS_S:
        assert fn("warm") == "warm"
        (environment,) = living(site)
        future = fn.submit(LARGE)
        time.sleep(moment)
        hit(part, init=environment.pid)
        ends(future, "x" * LARGE)
        assert fn("next") == "next", moment


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("step", ["retired", "closed", "out of time"])
def test_killed_while_it_is_ended(make, site, part, step):
    for moment in MOMENTS_S[:2]:
        fn = make(SOURCE, host=site, timeout_s=0.1, reuse=step != "retired")
        if step == "out of time":
            fn.invoke(1)
            future = fn.submit("long")
            time.sleep(0.1 + moment)
        else:
            assert fn(1) == "x"
            future = None
        if step == "closed":
            fn.close()
        time.sleep(moment)
        hit(part)
        if future is not None:
            invocation = future.result(IN_TIME_S)
            assert isinstance(invocation.error, (coldframe.InvocationTimeout, coldframe.EnvironmentExit))
        with make(SOURCE, host=site, timeout_s=10, name="next") as other:
            assert other(3) == "xxx"


@pytest.mark.parametrize("part", PARTS)
def test_killed_while_the_host_is_closed(make, background, part):
    gc.collect()
    before = inventory()
    for moment in MOMENTS_S[:2]:
        host = coldframe.Host()
        fn = make(SOURCE, host=host, timeout_s=10)
        fn(1)
        futures = [fn.submit("long"), fn.submit(1)]
        began = time.monotonic()
        closing = background(host.close)
        time.sleep(moment)
        hit(part)
        closing.join(IN_TIME_S)
        # Whatever is in flight has an end when the host has.
        for future in futures:
            if (error := future.exception(IN_TIME_S)) is None:
                check(future.result(), "x")
            else:
                assert isinstance(error, coldframe.ColdframeError | CancelledError), error
        with pytest.raises(coldframe.ColdframeError, match="closed"):
            fn(1)
        assert time.monotonic() - began < IN_TIME_S
        fn.close()
        del futures, future
    gc.collect()
    assert until(lambda: inventory() == before), left(before)


# The embedding process


STEPS = {
    "starting a zygote": "",
    "making a seat": "fn(0)\none = make(reuse=False)\nthreading.Thread(target=lambda: [*map(one, [0] * 99)]).start()",
    "initialising": "fn(0)\nmake(env={'IMPORT_S': '60'}).submit(0)\nwhile 'init' not in states(): pass",
    "answering": f"threading.Thread(target=lambda: [fn({LARGE}) for _ in range(1000)]).start()",
    "retiring": "host._native.park_at_most(0, 0)\nmake(reuse=False)(0)",
    "closing": "fn(0)\nhost.prewarm(fn, 5)\nthreading.Thread(target=host.close).start()",
}
EMBEDDING = """
    import coldframe, sys, threading, time
    host = coldframe.Host()
    def make(**options):
        return coldframe.Function("app.handler", sys.argv[1], host=host, timeout_s=60, memory_mb=1769, **options)
    def states():
        return [each.state for each in host.environments()]
    fn = make()
"""


@pytest.mark.parametrize("moment_s", [0.0005, 0.01])
@pytest.mark.parametrize("step", STEPS)
def test_the_embedding_process_is_killed(tmp_path, step, moment_s):
    (tmp_path / "app.py").write_text(textwrap.dedent(SOURCE))
    program = textwrap.dedent(EMBEDDING) + STEPS[step] + "\nprint('ready', flush=True)\nfn.submit(0)\ntime.sleep(60)"
    before = set(descendants())
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(moment_s)
        process.kill()
    assert until(lambda: not set(descendants()) - before, 2), "two seconds later"
    coldframe.Host().close()
    # Or whoever else starts one on this machine just now, and is not done yet.
    assert until(lambda: not cgroups_of(process.pid) and not directories_of(process.pid))


# SIGSTOP


STOPPING = """
    import contextlib, os, signal, threading, time
    def family(kind):
        if kind == "children":
            for _ in range(5):
                if os.fork() == 0:
                    os.kill(os.getpid(), signal.SIGSTOP)
                    os._exit(0)
        elif kind == "a thread of many":
            for _ in range(5):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            signal.pthread_kill(threading.enumerate()[-1].ident, signal.SIGSTOP)
        elif kind == "by its child":
            if os.fork() == 0:
                os.kill(os.getppid(), signal.SIGSTOP)
                os._exit(0)
        elif kind == "the group":
            if os.fork() == 0:
                time.sleep(60)
            os.killpg(0, signal.SIGSTOP)
        elif kind == "all that there are":
            # Neither itself nor its init is among them.
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif kind == "its init":
            for number in (signal.SIGSTOP, signal.SIGKILL):
                with contextlib.suppress(PermissionError):
                    os.kill(1, number)
    def handler(event, context):
        if event:
            family(event)
            if event not in {"children", "its init"}:
                time.sleep(60)
        return "fine"
"""


@pytest.mark.parametrize(
    ("kind", "ends_it"),
    [
        ("children", False),
        ("its init", False),
        ("a thread of many", True),
        ("by its child", True),
        ("the group", True),
        ("all that there are", True),
    ],
)
def test_stopped_from_inside_it_ends_on_time(make, site, kind, ends_it):
    fn = make(STOPPING, host=site, timeout_s=0.3)
    fn(None)
    for _ in range(3):
        began = time.monotonic()
        invocation = fn.invoke(kind)
        took = time.monotonic() - began
        assert took < 2
        assert isinstance(invocation.error, coldframe.InvocationTimeout) == ends_it, invocation.error
        assert (invocation.payload == "fine") == (not ends_it)
        assert fn(None) == "fine"


@pytest.mark.parametrize("part", ["init", "zygote", "zygote's init"])
def test_stopped_from_outside_a_warm_environment_answers_and_ends(make, part):
    """Nobody inside can do it: these only serve what is made later."""
    with coldframe.Host() as host:
        fn = make(SOURCE, host=host, timeout_s=5)
        assert fn(1) == "x"
        (environment,) = living(host)
        assert parent(environment.pid)
        assert hit(part, signal.SIGSTOP, init=environment.pid)
        began = time.monotonic()
        assert fn(2) == "xx"
        fn.close()
        host.close()
        assert time.monotonic() - began < IN_TIME_S
    assert until(lambda: not cgroups_of(os.getpid()))
