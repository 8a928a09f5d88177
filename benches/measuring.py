"""Times and waits: what every bench is made of."""

import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import coldframe

ONE_VCPU_MB = 1769
ECHO = "def handler(event, context):\n    return event\n"
EVENT = {"name": "Ada", "n": 1}
PATIENCE_S = 10.0
"""How long what happens off the clock may take before the bench gives up."""

Times = dict[str, list[float]]
"""Seconds, by the name of what took them."""


def timed(what: Callable[[], object]) -> float:
    """Return the seconds that `what()` takes."""
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def p99(times: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(times)[int(len(times) * 0.99)]


def ratio(times: Times, other: str, ours: str = "ours") -> float:
    """Return our median over another one."""
    return statistics.median(times[ours]) / statistics.median(times[other])


def until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait, off the clock, for what gives no signal."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {within_s:g} s in vain until {condition.__doc__ or condition}")
        time.sleep(0.0005)  # the rhythm of looking: the condition decides


def need(*, tool: str, why: str) -> str:
    """Return the path of a program; without it the bench is skipped, or fails where COLDFRAME_REQUIRE says so."""
    if path := shutil.which(tool):
        return path
    reason = f"{tool} is not installed: {why}"
    if {"all", tool} & set(os.environ.get("COLDFRAME_REQUIRE", "").split(",")):
        pytest.fail(f"{reason} (COLDFRAME_REQUIRE demands it)", pytrace=False)
    pytest.skip(reason)


# What is waited for off the clock.


def stocked(host: coldframe.Host) -> Callable[[], None]:
    """Return a wait until `host` has made ahead what it makes, and what was used up has ended."""
    ended = gone(host)

    def wait() -> None:
        ended()
        if not host._live().wait_for_stock(PATIENCE_S):
            pytest.fail(f"waited {PATIENCE_S:g} s in vain until everything is made ahead")

    return wait


def parked(host: coldframe.Host) -> Callable[[], None]:
    """Return the same for a host that parks environments."""
    ready = stocked(host)

    def wait() -> None:
        ready()
        assert host.parked

    return wait


def frozen(host: coldframe.Host) -> Callable[[], None]:
    """Return a wait until every environment of `host` is frozen."""

    def all_are_frozen() -> bool:
        """every environment is frozen"""
        return all(environment.state == "frozen" for environment in host.environments())

    return lambda: until(all_are_frozen)


def gone(host: coldframe.Host) -> Callable[[], None]:
    """Return a wait until `host` has no environment."""

    def none_is_left() -> bool:
        """no environment is left"""
        return not host.environments()

    return lambda: until(none_is_left)


def own_cgroup() -> Path:
    """Return this process's cgroup in the version 2 hierarchy."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    hierarchy = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    if hierarchy is None:
        pytest.fail("there is no version 2 cgroup hierarchy, whose freezer is the floor")
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(line.removeprefix("0::/") for line in groups if line.startswith("0::"))
    return Path(hierarchy, own)


def traces() -> dict[str, object]:
    """Return what environments could leave: processes, descriptors, cgroups, mounts, directories."""
    cgroups = [path for path in Path("/sys/fs/cgroup").rglob(f"coldframe-{os.getpid()}-*") if path.is_dir()]
    owners = Path(os.environ.get("COLDFRAME_STATE_DIR", "/var/lib/coldframe"), "owners")
    return {
        "processes": len(psutil.Process().children(recursive=True)),
        "descriptors": psutil.Process().num_fds(),
        "cgroups": sorted(map(str, cgroups)),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "directories": sorted(str(path) for path in owners.glob(f"coldframe-{os.getpid()}-*")),
    }


class Floor:
    """A C program of `benches/floor` that does rounds of something when it is asked to."""

    def __init__(self, program: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [program, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def rounds(self, count: int) -> list[float]:
        """Return the seconds that each of `count` rounds took, one right after the other."""
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        lines = [self.process.stdout.readline() for _ in range(count)]
        if not all(lines):
            pytest.fail(f"{self.process.args} ended with status {self.process.wait(PATIENCE_S)}")
        return [int(line) / 1e9 for line in lines]

    def round(self) -> float:
        """Return the seconds that one round took."""
        return self.rounds(1)[0]

    def close(self) -> None:
        """End it, which cleans up behind itself."""
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()


# What the machine has.


def taken_mb() -> float:
    """Return the memory that the machine has given away: all that is neither free nor a copy of a file, in MiB.

    Only this counts everything: page tables, kernel stacks, slabs and per-CPU memory have lines of their own in
    /proc/meminfo, but tables that the kernel takes by the page, as a network namespace does, have none, and
    MemAvailable counts half of the slabs as available although the dentries of a mounted tmpfs are pinned.
    """
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kb = {fields[0].rstrip(":"): int(fields[1]) for fields in lines}
    return (kb["MemTotal"] - kb["MemFree"] - kb["Buffers"] - kb["Cached"] + kb["Shmem"]) / 1024


def allow_descriptors() -> None:
    """Raise the limit of open files as far as the hard one allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
