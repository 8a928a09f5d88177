"""O52 to O54: the embedding process dies, freezes what it closes, ends its threads, and forks."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest
from conftest import cgroups_of, descendants, directories_of, living, own_cgroups, pids_of, until

import coldframe

SLEEP = """
import time
def handler(event, context):
    time.sleep(event)
    return event
"""
COUNT = """
count = 0
def handler(event, context):
    global count
    count += 1
    return count
"""
FREEZERS = {"version 2": "", "version 1": "-cgroup2"}
MOMENTS = {
    "busy": "future = fn.submit(60)\nwhile host.environments()[0].state != 'busy': pass",
    "frozen": "assert [one.state for one in host.environments()] == ['frozen']",
}


@pytest.fixture(params=FREEZERS)
def freezer(request, monkeypatch):
    """Set COLDFRAME_PRETEND so that a freezer of this version is what there is."""
    if gone := FREEZERS[request.param]:
        if not v1_freezer():
            pytest.skip("this host has no version 1 freezer")
        monkeypatch.setenv("COLDFRAME_PRETEND", gone)
    elif "-cgroup2" in os.environ.get("COLDFRAME_PRETEND", ""):
        pytest.skip("COLDFRAME_PRETEND takes the version 2 tree away")
    return request.param


def v1_freezer():
    """Return our own cgroup in the version 1 freezer; None where there is none to be used."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        front, _, back = line.partition(" - ")
        if back.startswith("cgroup ") and "freezer" in back.split()[2].split(","):
            point = Path(front.split()[4])
            (own,) = [path for path in own_cgroups() if path.is_relative_to(point)]
            return own if os.access(own, os.W_OK) else None
    return None


@contextmanager
def embedding(folder, moment):
    """Run a program that has an environment at this moment; yield it, that one's init, and all below by now."""
    folder.joinpath("app.py").write_text(SLEEP)
    program = textwrap.dedent(f"""
        import coldframe, threading
        host = coldframe.Host()
        # A whole processor: under a quota death is slow, and nobody is left to lift it.
        fn = coldframe.Function("app.handler", {str(folder)!r}, host=host, timeout_s=60, memory_mb=1769)
        fn(0)
        {textwrap.indent(MOMENTS[moment], "        ").lstrip()}
        print(host.environments()[0].pid, flush=True)
        threading.Event().wait()
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            environment = int(process.stdout.readline())
            yield process, environment, psutil.Process(process.pid).children(recursive=True)
        finally:
            process.kill()


def alive(processes):
    """Return those that still are what they were, and no corpses."""
    found = []
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            if one.is_running() and one.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
                found.append(one)
    return found


def collected(owner, processes):
    return not alive(processes) and not cgroups_of(owner) and not directories_of(owner)


@pytest.mark.bank("O52")
@pytest.mark.needs("cgroup.freeze")
@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_outlives_a_killed_owner(unchanged, tmp_path, freezer, moment):
    with embedding(tmp_path, moment) as (process, _, processes):
        assert len(processes) >= 4
        process.kill()
        process.wait(5)
        if (freezer, moment) != ("version 1", "frozen"):
            assert until(lambda: not alive(processes), 2), alive(processes)
        else:
            # What the version 1 freezer stopped cannot even die. The others end, and the rest is the next start's.
            assert until(lambda: len(alive(processes)) < len(processes), 2)
        begun = time.monotonic()
        coldframe.Host().close()
        assert until(lambda: collected(process.pid, processes), 2), (alive(processes), cgroups_of(process.pid))
        assert time.monotonic() - begun < 2


@pytest.mark.bank("O52", twin=True)
@pytest.mark.needs("cgroup.freeze")
def test_where_no_init_watches_everything_does_until_the_next_start(unchanged, tmp_path, freezer):
    with embedding(tmp_path, "busy") as (process, environment, processes):
        inits = [one for one in alive(processes) if pids_of(one.pid)[-1:] == ["1"]]
        (handler,) = next(one for one in inits if one.pid == environment).children()
        try:
            for one in inits:
                one.suspend()
            process.kill()
            process.wait(5)
            time.sleep(0.5)  # in which they would have gone
            assert {*inits, handler} <= {*alive(processes)}
            coldframe.Host().close()
            assert until(lambda: not cgroups_of(process.pid) and not alive([handler]), 2), cgroups_of(process.pid)
            if freezer == "version 1":
                # No cgroup of ours has the inits there. They see to their own end when they go on.
                for one in alive(inits):
                    with suppress(psutil.NoSuchProcess):  # those of its seats go with a zygote's
                        one.resume()
            assert until(lambda: collected(process.pid, processes), 2), alive(processes)
        finally:
            for one in alive(inits):
                one.kill()


# The version 1 freezer


@pytest.fixture
def legacy(without):
    """Return a host whose freezer is the version 1's."""
    if not v1_freezer():
        pytest.skip("this host has no version 1 freezer")
    host = without("cgroup2")
    host._native.park_at_most(0, 0)
    return host


def frozen(make, host, source=COUNT, **options):
    """Return a function whose one environment is frozen by version 1, with that environment and its processes."""
    fn = make(source, host=host, isolation="available", memory_mb=1769, **options)
    fn(0)
    (environment,) = living(host)
    state = Path(environment.cgroups["freezer"], "freezer.state")
    assert until(lambda: state.read_text() == "FROZEN\n")
    assert environment.state == "frozen"
    return fn, environment, {environment.pid, *descendants(environment.pid)}


def gone(environment, processes):
    there = [path for path in environment.cgroups.values() if Path(path).exists()]
    return not there and not processes & set(descendants())


@pytest.mark.bank("O53")
@pytest.mark.parametrize("ending", ["function", "host"])
def test_what_version_1_froze_is_closed_at_once(make, legacy, ending):
    fn, environment, processes = frozen(make, legacy)
    begun = time.monotonic()
    (fn if ending == "function" else legacy).close()
    assert time.monotonic() - begun < 2
    assert until(lambda: gone(environment, processes), 2), environment.cgroups


@pytest.mark.bank("O53")
def test_it_goes_on_with_the_next_event(make, legacy):
    fn, environment, _ = frozen(make, legacy)
    assert [fn(0), fn(0)] == [2, 3]
    assert [one.id for one in living(legacy)] == [environment.id]


@pytest.mark.bank("O53")
@pytest.mark.parametrize("ending", ["deadline", "cancelled", "killed"])
def test_frozen_in_the_midst_of_an_event_it_ends_on_time(make, legacy, ending):
    fn, environment, processes = frozen(make, legacy, SLEEP, timeout_s=1 if ending == "deadline" else 30)
    future = fn.submit(60)
    assert until(lambda: [one.state for one in legacy.environments()] == ["busy"])
    Path(environment.cgroups["freezer"], "freezer.state").write_text("FROZEN")
    begun = time.monotonic()
    if ending == "deadline":
        assert isinstance(future.result(3).error, coldframe.InvocationTimeout)
    elif ending == "cancelled":
        assert future.cancel()
    else:
        os.kill(environment.pid, signal.SIGKILL)
        assert isinstance(future.result(3).error, coldframe.EnvironmentExit)
    assert until(lambda: gone(environment, processes), 2), environment.cgroups
    assert time.monotonic() - begun < 3
    assert fn(0) == 0


@pytest.mark.bank("O53", twin=True)
@pytest.mark.needs("root")
def test_what_nobody_thaws_survives_even_a_kill():
    own = v1_freezer()
    if not own:
        pytest.skip("this host has no version 1 freezer")
    group = own / f"coldframe-test-{os.getpid()}"
    group.mkdir()
    try:
        with subprocess.Popen(["sleep", "60"]) as victim:
            (group / "cgroup.procs").write_text(str(victim.pid))
            (group / "freezer.state").write_text("FROZEN")
            assert until(lambda: (group / "freezer.state").read_text() == "FROZEN\n")
            victim.kill()
            with pytest.raises(subprocess.TimeoutExpired):
                victim.wait(0.5)
            (group / "freezer.state").write_text("THAWED")
            assert victim.wait(5) == -signal.SIGKILL
    finally:
        assert until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


# Threads and children of the owner


@pytest.mark.bank("O54")
def test_environments_outlive_the_thread_that_made_them(make, without, background):
    made = []

    def work():
        fn = make(COUNT, host=without())
        made.extend([fn, fn(0)])

    background(work).join(30)
    fn, first = made
    (before,) = living(fn.host)
    assert (first, fn(0)) == (1, 2)
    background(lambda: made.append(fn(0))).join(30)
    assert made[-1] == 3
    assert [one.id for one in living(fn.host)] == [before.id]


@pytest.mark.bank("O54")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_the_owner_come_and_go(make, without, method):
    fn = make(COUNT, host=without())
    assert fn(0) == 1
    (before,) = living(fn.host)
    child = multiprocessing.get_context(method).Process(target=os.getpid)
    child.start()
    child.join(30)
    resource_tracker._resource_tracker._stop()  # which is meant to stay
    assert child.exitcode == 0
    assert fn(0) == 2
    assert [one.id for one in living(fn.host)] == [before.id]


@pytest.mark.bank("O54")
def test_so_does_one_that_runs_everything_that_is_registered_for_its_end(make, without):
    fn = make(COUNT, host=without())
    assert fn(0) == 1
    (before,) = living(fn.host)
    pid = os.fork()
    if pid == 0:
        try:
            fn.close()
            fn.host.close()
            coldframe.default_host().close()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert fn(0) == 2
    assert [one.id for one in living(fn.host)] == [before.id]


@pytest.mark.bank("O54", twin=True)
def test_what_dies_with_its_parent_by_the_kernels_means_dies_with_a_thread(background):
    """PR_SET_PDEATHSIG, which is how one would do it, looks at the thread that forked."""
    libc, children = ctypes.CDLL(None), []

    def fork():
        pid = os.fork()
        if pid == 0:
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)
            os.write(writer, b"x")
            signal.pause()
        children.append(pid)
        os.read(reader, 1)

    reader, writer = os.pipe()
    background(fork).join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == -signal.SIGKILL
    os.close(reader)
    os.close(writer)
    assert threading.main_thread().is_alive(), "and the process lives on"
