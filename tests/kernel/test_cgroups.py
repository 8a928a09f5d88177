"""Memory, processes and processor time: what is promised to the caller, checked against the kernel's own files."""

import os
from pathlib import Path

import pytest
from conftest import descendants, living, until

import coldframe

pytestmark = pytest.mark.needs("cgroup.memory", "cgroup.cpu", "cgroup.pids")

VCPU_MB = 1769
BURN = """
import time
def handler(seconds, context):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
"""
ECHO = "def handler(event, context):\n    return event\n"


class Group:
    """The cgroup of an environment, in the kernel's files of either version."""

    def __init__(self, environment):
        self.paths = {name: Path(path) for name, path in environment.cgroups.items()}

    def read(self, controller, v1, v2):
        """Return the text of the file of the version that has the controller."""
        if controller in self.paths:
            return self.paths[controller].joinpath(v1).read_text().strip()
        return self.paths["unified"].joinpath(v2).read_text().strip()

    @property
    def memory_cap(self):
        return int(self.read("memory", "memory.limit_in_bytes", "memory.max"))

    @property
    def memory_peak(self):
        return int(self.read("memory", "memory.max_usage_in_bytes", "memory.peak"))

    @property
    def share(self):
        """Return the quota of processor time in processors; None if there is none."""
        if "cpu" in self.paths:
            quota, period = self.read("cpu", "cpu.cfs_quota_us", ""), self.read("cpu", "cpu.cfs_period_us", "")
        else:
            quota, period = self.read("cpu", "", "cpu.max").split()
        return None if quota in {"-1", "max"} else int(quota) / int(period)


@pytest.fixture
def group(host):
    """Return the group of the one environment."""

    def group():
        (environment,) = living(host)
        return Group(environment)

    return group


# Memory


@pytest.mark.parametrize("memory_mb", [32, 128, 1024])
def test_the_cap_is_on_the_whole_environment(make, group, host, memory_mb):
    make(ECHO, memory_mb=memory_mb)(1)
    assert group().memory_cap == memory_mb << 20
    (environment,) = living(host)
    for path in environment.cgroups.values():
        # Whoever is in the environment is in the group, but for its init: that one is ours.
        (handler,) = descendants(environment.pid)
        assert Path(path, "cgroup.procs").read_text().split() == [str(handler)], path


def test_nothing_is_swapped(make, group):
    make(ECHO)(1)
    files = group().paths
    swap = files.get("memory", Path("/-")) / "memory.memsw.limit_in_bytes"
    if swap.exists():
        assert int(swap.read_text()) == 128 << 20
        # The sum of memory and swap is capped by that; that none of it is swap, by this.
        assert files["memory"].joinpath("memory.swappiness").read_text() == "0\n"
    elif "memory" not in files and files["unified"].joinpath("memory.swap.max").exists():
        assert files["unified"].joinpath("memory.swap.max").read_text() == "0\n"
    else:
        assert len(Path("/proc/swaps").read_text().splitlines()) == 1, "this kernel counts no swap, and has some"


OVER = {
    "the heap": """
        def handler(event, context):
            return len(bytes([1]) * (event << 20))
    """,
    "/tmp": """
        def handler(event, context):
            with open("/tmp/big", "wb") as file:
                for _ in range(event):
                    file.write(bytes([1]) * (1 << 20))
            return "written"
    """,
    "/dev/shm": """
        def handler(event, context):
            with open("/dev/shm/big", "wb") as file:
                for _ in range(event):
                    file.write(bytes([1]) * (1 << 20))
            return "written"
    """,
    "a file without a name": """
        import os
        def handler(event, context):
            file = os.memfd_create("big")
            for _ in range(event):
                os.write(file, bytes([1]) * (1 << 20))
            return "written"
    """,
    "its children together": """
        import os, time
        def handler(event, context):
            reader, writer = os.pipe()
            for _ in range(4):
                if os.fork() == 0:
                    eaten = bytes([1]) * ((event // 4) << 20)
                    os.write(writer, b".")
                    time.sleep(60)
                    os._exit(len(eaten) & 1)
            return len([os.read(reader, 1) for _ in range(4)])
    """,
    "the heap and /tmp together": """
        def handler(event, context):
            eaten = bytes([1]) * ((event // 2) << 20)
            with open("/tmp/big", "wb") as file:
                for _ in range(event // 2):
                    file.write(bytes([1]) * (1 << 20))
            return len(eaten)
    """,
}


@pytest.mark.parametrize("source", OVER.values(), ids=OVER)
def test_over_the_cap_the_environment_is_killed(make, host, source):
    fn = make(source, memory_mb=256, tmp_mb=512, timeout_s=20)
    fn(120)  # far enough below the cap
    invocation = fn.invoke(320)
    error = invocation.error
    assert isinstance(error, coldframe.OutOfMemoryError)
    assert isinstance(error, MemoryError)
    assert error.error_type == "Runtime.OutOfMemory"
    assert invocation.report.max_memory_mb == 256
    assert fn.invoke(1).ok, "the next one works"


def test_what_is_given_back_may_be_used_again(make):
    fn = make(OVER["the heap"], memory_mb=256, timeout_s=20)
    for _ in range(4):
        assert fn(150) == 150 << 20


def test_memory_run_out_at_initialisation_is_told_so(make):
    error = make("eaten = bytes([1]) * (200 << 20)\n" + ECHO, memory_mb=64).invoke(1).error
    assert isinstance(error, coldframe.OutOfMemoryError)


def test_a_killed_child_is_out_of_memory_even_if_the_handler_answers(make):
    fn = make(
        """
        import os
        def handler(event, context):
            pid = os.fork()
            if pid == 0:
                eaten = bytes([1]) * (event << 20)
                os._exit(0)
            return os.waitpid(pid, 0)[1]
        """,
        memory_mb=128,
        timeout_s=10,
    )
    assert isinstance(fn.invoke(200).error, coldframe.OutOfMemoryError)
    assert fn(1) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("os.kill(os.getpid(), 9)", "killed"),
        ("os.abort()", "aborted"),
        ("os.kill(os.getpid(), 11)", "segmentation fault"),
        ("os._exit(0)", "exit"),
        ("os._exit(3)", "3"),
    ],
)
def test_every_other_death_is_told_apart(make, call, words):
    fn = make(f"import os\ndef handler(event, context):\n    if event:\n        {call}\n    return 'alive'\n")
    error = fn.invoke(1).error
    assert isinstance(error, coldframe.EnvironmentExit)
    assert not isinstance(error, coldframe.OutOfMemoryError)
    assert error.error_type == "Runtime.ExitError"
    assert words in error.error_message.lower()
    assert fn(0) == "alive"


def test_the_peak_is_reported(make, group):
    fn = make(OVER["the heap"], memory_mb=512, timeout_s=20)
    little = fn.invoke(1).report.max_memory_mb
    much = fn.invoke(300).report.max_memory_mb
    assert 1 <= little < 40
    assert 300 <= much < 340
    assert abs((group().memory_peak >> 20) - much) <= 1
    assert fn.invoke(1).report.max_memory_mb == much, "the peak of the environment, not of the invocation"


# Processes


def test_the_cap_on_processes_counts_threads(make, group):
    fn = make(
        """
        import threading
        def handler(event, context):
            stop, threads = threading.Event(), []
            try:
                while len(threads) < 60:
                    thread = threading.Thread(target=stop.wait)
                    thread.start()
                    threads.append(thread)
            except RuntimeError:
                pass
            finally:
                stop.set()
            for thread in threads:
                thread.join()
            return len(threads)
        """,
        max_processes=16,
    )
    assert fn() == 15
    assert fn() == 15, "it recovers"
    assert int(group().read("pids", "pids.max", "pids.max")) == 16


# Used again

TAKE = "def handler(mb, context):\n    return len(bytes([1]) * (mb << 20)) >> 20\n"


def version_1(host):
    """Return the version 1 cgroups of the one environment; skip where there are none."""
    (environment,) = living(host)
    paths = {path for name, path in environment.cgroups.items() if name != "unified"}
    if not paths:
        pytest.skip("version 2 cgroups are made anew for every environment")
    return paths


def test_a_cgroup_is_used_again_as_if_it_were_new(make):
    with coldframe.Host() as host:
        host._native.park_at_most(0, 1)
        with make(TAKE, memory_mb=VCPU_MB, host=host) as fn:
            for _ in range(10):
                fn(60)
            first = version_1(host)
            assert until(lambda: Group(living(host)[0]).share is not None)
        assert until(lambda: not host.environments())
        # A seat may be free that was made before.
        for _ in range(4):
            with make(TAKE, memory_mb=VCPU_MB, host=host) as fn:
                report = fn.invoke(1).report
                if version_1(host) == first:
                    break
            assert until(lambda: not host.environments())
        else:
            pytest.fail("nobody got it again")
        assert report.max_memory_mb < 20, "what the one before took is none of its own"
        assert report.cpu_ms < 30


def test_a_cgroup_that_ran_out_of_memory_is_not_used_again(make):
    with coldframe.Host() as host:
        host._native.park_at_most(0, 1)
        fn = make(TAKE, memory_mb=64, host=host)
        fn(1)
        paths = version_1(host)
        assert isinstance(fn.invoke(200).error, coldframe.OutOfMemoryError)
        assert until(lambda: not any(map(os.path.exists, paths)))


# Processor time


@pytest.mark.parametrize("memory_mb", [64, 128, 442, 884, 1769, 3538])
def test_the_quota_is_in_proportion_to_memory(make, group, memory_mb):
    make(BURN, memory_mb=memory_mb)(0.05)
    assert group().share == pytest.approx(memory_mb / VCPU_MB, rel=0.02)


def test_the_quota_waits_until_it_could_be_used_up(make, group):
    """A period lasts 10 ms or more and lets a whole processor be used for as long: short events are far from it."""
    fn = make(BURN, memory_mb=VCPU_MB)
    report = fn.invoke(0.001).report
    assert group().share is None or report.duration_ms > 4, "which may happen on a machine that has much to do"
    for _ in range(12):
        fn(0.001)
    assert until(lambda: group().share == pytest.approx(1, rel=0.02)), "events add up"


def test_an_environment_that_serves_once_is_limited_while_it_serves(make, group):
    future = make(BURN, memory_mb=884, reuse=False).submit(0.3)
    assert until(lambda: group().share == pytest.approx(0.5, rel=0.02))
    report = future.result().report
    assert 0.3 < report.cpu_ms / report.duration_ms < 0.75


def test_what_does_not_stand_still_between_events_is_limited_from_the_first(make):
    with coldframe.Host(freeze=False) as host:
        make(ECHO, memory_mb=884, host=host)(1)
        (environment,) = living(host)
        assert Group(environment).share == pytest.approx(0.5, rel=0.02)


def test_the_weight_is_in_proportion_to_memory(make, group):
    weights = {}
    for memory_mb in (442, 1769):
        with make(ECHO, memory_mb=memory_mb) as fn:
            fn(1)
            weights[memory_mb] = int(group().read("cpu", "cpu.shares", "cpu.weight"))
    assert weights[1769] / weights[442] == pytest.approx(4, rel=0.05)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor says little about halves")
def test_half_a_processor_is_half_a_processor(make):
    fn = make(BURN, memory_mb=884)
    fn(0.05)
    report = fn.invoke(1.5).report
    assert report.duration_ms >= 1500
    assert 0.35 < report.cpu_ms / report.duration_ms < 0.6
    assert 300 < report.throttled_ms < 1500


def test_a_whole_processor_is_not_throttled(make):
    fn = make(BURN, memory_mb=3538)
    fn(0.05)
    report = fn.invoke(0.5).report
    assert report.throttled_ms < 50
    assert report.cpu_ms > 200  # others may want the processor too


def test_initialisation_runs_at_full_speed(make):
    source = """
    import time
    begun = time.monotonic()
    while time.process_time() < 0.3:
        pass
    took = time.monotonic() - begun
    def handler(event, context):
        return took
    """
    # With the quota of 32 MiB this would take sixteen seconds.
    assert make(source, memory_mb=32)() < 3


def test_time_is_counted_for_each_invocation(make):
    fn = make(BURN, memory_mb=1769)
    fn(0.01)
    long, short = fn.invoke(0.3).report, fn.invoke(0.001).report
    assert 100 < long.cpu_ms < long.duration_ms * 1.2 + 20
    assert short.cpu_ms < 50
    assert short.throttled_ms < 50


def test_time_of_children_is_counted(make):
    fn = make(
        """
        import os, time
        def handler(event, context):
            pid = os.fork()
            if pid == 0:
                while time.process_time() < 0.2:
                    pass
                os._exit(0)
            os.waitpid(pid, 0)
        """,
        memory_mb=1769,
    )
    assert fn.invoke().report.cpu_ms >= 200
