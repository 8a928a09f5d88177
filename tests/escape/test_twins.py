"""What the cgroups hold, and what happens with each of them switched off.

COLDFRAME_PRETEND takes one protection away when a host is made; everything here is small enough to be let loose.
"""

import time

import pytest

import coldframe

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
