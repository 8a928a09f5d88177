"""What the cgroups hold, and what happens with each of them switched off.

COLDFRAME_PRETEND takes one protection away when a host is made; everything here is small enough to be let loose.
"""

import errno
import time
from pathlib import Path

import pytest
from conftest import SLOWNESS, living

import coldframe

EAT = """
def handler(mebibytes, context):
    eaten = [bytes([1]) * (1 << 20) for _ in range(mebibytes)]
    return len(eaten)
"""
FORK = """
import os, signal
def handler(most, context):
    children = []
    try:
        for _ in range(most):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
        return [len(children), 0]
    except OSError as error:
        return [len(children), error.errno]
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
"""
BURN = """
import threading, time
def burn():
    while True:
        pass
def handler(seconds, context):
    begun = time.process_time()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return time.process_time() - begun
"""
COUNT = """
import threading, time
counted = 0
def count():
    global counted
    while True:
        counted += 1
        time.sleep(0.001)
threading.Thread(target=count, daemon=True).start()
def handler(event, context):
    return counted
"""


@pytest.fixture
def without(make, monkeypatch):
    """Make a function on a host that lacks a protection."""
    hosts = []

    def without(protection, source, **options):
        monkeypatch.setenv("COLDFRAME_PRETEND", f"-{protection}")
        host = coldframe.Host()
        hosts.append(host)
        fn = make(source, host=host, isolation="available", **options)
        name = {"freezer": "cgroup.freeze"}.get(protection, f"cgroup.{protection}")
        assert [name for name, what in fn.isolation.items() if what.startswith("missing")] == [name]
        with pytest.raises(coldframe.HostCapabilityError, match=name):
            make(source, host=host, isolation="strict", **options)
        return fn

    yield without
    for host in hosts:
        host.close()


@pytest.mark.needs("cgroup.memory")
def test_memory_ends_at_the_cap(make, without):
    error = make(EAT, memory_mb=442, timeout_s=10 * SLOWNESS).invoke(460).error
    assert isinstance(error, coldframe.OutOfMemoryError)
    assert without("memory", EAT, memory_mb=442, timeout_s=20 * SLOWNESS)(460) == 460


@pytest.mark.needs("cgroup.pids")
def test_processes_end_at_the_cap(make, without):
    fn = make(FORK, max_processes=20, memory_mb=1769)
    assert fn(60) == [19, errno.EAGAIN]  # the handler's own process is the twentieth
    (environment,) = living(fn.host)
    group = Path(environment.cgroups.get("pids") or environment.cgroups["unified"])
    assert group.joinpath("pids.max").read_text() == "20\n"
    # Without it RLIMIT_NPROC counts them, by user: as root, environments are different users.
    assert without("pids", FORK, max_processes=20, memory_mb=1769)(60)[0] > 19
    assert make(FORK, memory_mb=1769)(60) == [60, 0]


@pytest.mark.needs("cgroup.cpu")
def test_processor_time_ends_at_the_quota(make, without):
    assert make(BURN)(0.5) < 0.08  # a fourteenth of a processor, and a burst
    assert without("cpu", BURN)(0.5) > 0.15  # whatever else this machine does


@pytest.mark.needs("cgroup.freeze")
def test_nothing_runs_between_invocations(make, without):
    frozen, free = make(COUNT, memory_mb=1769), without("freezer", COUNT, memory_mb=1769)
    ran = {}
    for name, fn in (("frozen", frozen), ("free", free)):
        before = fn()
        time.sleep(0.3)  # the time in which nothing is to happen
        ran[name] = fn() - before
    assert ran["frozen"] < 20
    assert ran["free"] > 100
