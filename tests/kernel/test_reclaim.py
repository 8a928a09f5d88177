"""Environments that have stood still for a while give memory back, and nobody notices but the machine."""

import contextlib
import itertools
import logging
import os
from pathlib import Path

import conftest
import pytest
from conftest import living

import coldframe

pytestmark = pytest.mark.needs("cgroup.memory", "cgroup.freeze")

MB = 1 << 20
BIG = 40 * MB
NOW_S, NEVER_S = 0.0, 1e6
# The host has read the code, too: pages count for an environment that reads them first.
READER = """
    import hashlib, os
    count = 0
    def handler(event, context):
        global count
        count += 1
        file = os.open("/var/task/big", os.O_RDONLY)
        if event == "from disk":
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.blake2b()
        while piece := os.read(file, 1 << 20):
            digest.update(piece)
        os.close(file)
        return [count, digest.hexdigest()]
"""
# As slow to initialise as one has to be to be worth its swap.
HOLDER = """
    import os, time, zlib
    time.sleep(0.5)
    heap = b""
    def handler(event, context):
        global heap
        if "take_mb" in event:
            heap += bytes([7]) * (event["take_mb"] << 20)
        if "write_mb" in event:
            with open("/tmp/file", "wb") as file:
                file.write(bytes([8]) * (event["write_mb"] << 20))
        if "spare_mb" in event:
            return len(bytes([1]) * (event["spare_mb"] << 20)) >> 20
        file = open("/tmp/file", "rb").read() if os.path.exists("/tmp/file") else b""
        return [len(heap) >> 20, zlib.crc32(heap), len(file) >> 20, zlib.crc32(file)]
"""


@pytest.fixture
def new_host():
    """Make hosts whose environments give memory back when they are told to; closed when the test ends."""
    with contextlib.ExitStack() as made:

        def new_host(rest_s=NEVER_S, **options):
            host = made.enter_context(coldframe.Host(**options))
            host._live().reclaim_after(rest_s)
            return host

        yield new_host


@pytest.fixture
def reader(make):
    """Make functions that read a large file of their own code."""

    def reader(host, size=BIG, source=READER):
        return make({"app.py": source, "big": os.urandom(size // 2).hex()}, memory_mb=1024, timeout_s=60, host=host)

    return reader


class Memory:
    """What an environment holds, by the kernel's own files of either version."""

    def __init__(self, host):
        (environment,) = living(host)
        self.v1, self.v2 = (environment.cgroups.get(name, "") for name in ("memory", "unified"))

    def number(self, v1, v2):
        return int(Path(self.v1 or self.v2, v1 if self.v1 else v2).read_text())

    @property
    def held(self):
        return self.number("memory.usage_in_bytes", "memory.current")

    @property
    def with_swap(self):
        if self.v1:
            return self.number("memory.memsw.usage_in_bytes", "")
        return self.held + self.number("", "memory.swap.current")

    @property
    def cap_with_swap(self):
        if self.v1:
            return self.number("memory.memsw.limit_in_bytes", "")
        return self.number("", "memory.max") + self.number("", "memory.swap.max")


def until(condition):
    """Return whether the condition held at last: swap may lie on a slow disk."""
    return conftest.until(condition, within_s=30)


def state(host):
    (environment,) = living(host)
    return environment.state


def test_pages_of_files_are_given_back(new_host, reader):
    hosts = new_host(), new_host()
    functions = [reader(host) for host in hosts]
    digests = [fn("from disk")[1] for fn in functions]
    resting, twin = map(Memory, hosts)
    before = resting.held
    assert before > BIG
    assert twin.held > BIG
    hosts[0]._native.reclaim_after(NOW_S)
    assert until(lambda: resting.held < before - 0.9 * BIG), (before, resting.held)
    assert state(hosts[0]) == "frozen"
    assert twin.held > BIG, "nobody told this one"
    for fn, digest in zip(functions, digests, strict=True):
        invocation = fn.invoke("again")
        assert invocation.unwrap() == [2, digest]
        assert invocation.report.start == "warm"


def test_it_is_told(new_host, reader, caplog):
    host = new_host(NOW_S)
    fn = reader(host)
    fn("from disk")
    memory = Memory(host)
    assert until(lambda: memory.held < BIG)
    with caplog.at_level(logging.DEBUG, "coldframe"):
        assert until(lambda: fn("again") and is_told(caplog))
    told = next(record for record in caplog.records if "reclaimed memory" in record.getMessage())
    assert told.levelno == logging.DEBUG
    assert f"reclaimed memory of environment {living(host)[0].id}" in told.getMessage()


def test_nothing_is_taken_from_an_environment_that_is_not_frozen(new_host, reader):
    hosts = new_host(NOW_S, freeze=False), new_host(NOW_S)
    for host in hosts:
        reader(host)("from disk")
    running, frozen = map(Memory, hosts)
    assert until(lambda: frozen.held < BIG)
    assert running.held > BIG


def is_told(caplog):
    return any("reclaimed memory" in record.getMessage() for record in caplog.records)


def test_no_answer_is_wrong_whenever_it_happens(new_host, reader, caplog):
    host = new_host(NOW_S)
    fn = reader(host, 4 * MB)
    _, digest = fn("from disk")
    counts = itertools.count(2)
    with caplog.at_level(logging.DEBUG, "coldframe"):
        assert [fn("again") for _ in range(50)] == [[next(counts), digest] for _ in range(50)]
        assert until(lambda: fn("again") == [next(counts), digest] and is_told(caplog)), "something was taken back"


def test_an_environment_may_end_meanwhile(new_host, reader, background, caplog):
    host = new_host(NOW_S)
    for fn in [reader(host, 4 * MB) for _ in range(10)]:
        fn("from disk")
        background(fn.close)
    with caplog.at_level(logging.DEBUG, "coldframe"):
        fn = reader(host, 4 * MB)
        fn("from disk")
        assert until(lambda: fn("again") and is_told(caplog)), "it is being done"
    fn.close()
    assert until(lambda: not host.environments()), host.environments()


# Where the host has swap


@pytest.fixture
def swap(monkeypatch):
    """Skip where the host has no swap to speak of, or does not count it."""
    fields = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    if int(fields["SwapFree:"]) << 10 < 100 * MB:
        pytest.skip(f"this host has {fields['SwapFree:']} kB of free swap")


def holds(new_host, make, source=HOLDER, **event):
    """Return a host, and a function of 64 MB whose environment holds something."""
    host = new_host()
    fn = make(source, memory_mb=64, timeout_s=60, host=host)
    fn(event)
    return host, fn


def test_with_swap_the_heap_and_tmp_are_given_back_too(swap, new_host, make):
    host, fn = holds(new_host, make, take_mb=16, write_mb=8)
    held = fn({})
    assert held[::2] == [16, 8]
    memory = Memory(host)
    before = memory.with_swap
    host._native.reclaim_after(NOW_S)
    assert until(lambda: memory.held < before / 2), (before, memory.held)
    assert memory.with_swap < before + MB
    assert state(host) == "frozen"
    host._native.reclaim_after(NEVER_S)
    assert fn({}) == held
    assert living(host)[0].memory_mb > 20


def test_what_is_on_swap_counts_for_the_cap(swap, new_host, make):
    host, fn = holds(new_host, make, take_mb=24)
    memory = Memory(host)
    for spare_mb in (24, 60):
        host._native.reclaim_after(NOW_S)
        assert until(lambda: memory.held < 12 * MB), memory.held
        host._native.reclaim_after(NEVER_S)
        assert until(lambda: memory.cap_with_swap == 64 * MB)
        invocation = fn.invoke({"spare_mb": spare_mb})
        if spare_mb == 24:
            assert invocation.unwrap() == 24
            assert memory.with_swap < 64 * MB
    assert isinstance(invocation.error, coldframe.OutOfMemoryError)


def test_what_is_made_again_sooner_is_not_swapped(swap, new_host, make):
    quick, slow = HOLDER.replace("time.sleep(0.5)", ""), HOLDER
    hosts = [holds(new_host, make, source, take_mb=24)[0] for source in (quick, slow)]
    memories = [Memory(host) for host in hosts]
    for host in hosts:
        host._native.reclaim_after(NOW_S)
    assert until(lambda: memories[1].held < 12 * MB)
    assert memories[0].held > 24 * MB


def test_without_swap_the_heap_stays(new_host, reader, monkeypatch):
    monkeypatch.setenv("COLDFRAME_PRETEND", "-swap")
    host = new_host()
    reads = HOLDER.replace("def handler", "def hold") + READER.replace("def handler", "def read")
    either = "return (hold if isinstance(event, dict) else read)(event, context)"
    both = f"\n    def handler(event, context):\n        {either}\n"
    fn = reader(host, BIG, reads + both)
    fn({"take_mb": 16})
    fn("from disk")
    memory = Memory(host)
    host._native.reclaim_after(NOW_S)
    assert until(lambda: memory.held < BIG)
    assert memory.held > 16 * MB
