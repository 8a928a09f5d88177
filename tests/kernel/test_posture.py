"""The walls one by one: each is listed, each can be taken away for a test, and then that one thing looks different."""

import pytest

import coldframe
from coldframe import _core

LOOK = """
import os, resource

def listed(folder):
    try:
        return len(os.listdir(folder))
    except OSError:
        return -1

def mounts():
    for line in open("/proc/self/mountinfo").read().splitlines():
        path, flags = line.split()[4:6]
        yield path, flags.split(",")

def handler(event, context):
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    options = dict(mounts())
    return {
        "root": listed("/sys") > 0,
        "devices": os.path.exists("/dev/ptmx"),
        "read-only": "rw" in options["/usr"],
        "no-set-uid": "nosuid" not in options["/usr"],
        "proc": os.path.exists("/proc/sys/kernel"),
        "scratch": os.statvfs("/tmp").f_files != 65_536,
        "store": listed("/.store") > 0,
        "capabilities": (status["CapEff"].strip(), status["CapBnd"].strip()) != ("0" * 16, "0" * 16),
        "no-new-privileges": status["NoNewPrivs"].strip() != "1",
        "rlimits": resource.getrlimit(resource.RLIMIT_MSGQUEUE) != (0, 0),
        "descriptors": listed("/proc/self/fd") > 5,
        "cgroup-namespace": "coldframe" in open("/proc/self/cgroup").read(),
    }
"""
SEEN = (
    "root",
    "devices",
    "read-only",
    "no-set-uid",
    "proc",
    "scratch",
    "store",
    "capabilities",
    "no-new-privileges",
    "rlimits",
    "descriptors",
    "cgroup-namespace",
)
UNSEEN = ("users", "undumpable", "user-limits", "keyring", "random")
"""Which one environment cannot see by itself: the attacks upon them are in tests/escape."""
WALLS = SEEN + UNSEEN
SUPPORTED_BY = {"no-new-privileges": ("seccomp", "landlock")}
"""What the kernel gives a process without capabilities only together with a wall."""


@pytest.fixture
def look(make, monkeypatch):
    """Return what an environment sees that lacks some walls, as a set of those that it finds missing."""

    def look(*names):
        monkeypatch.setenv("COLDFRAME_PRETEND", ",".join(f"-{name}" for name in names))
        with coldframe.Host() as host:
            fn = make(LOOK, host=host, isolation="available", timeout_s=10)
            assert {name for name in WALLS if fn.isolation[name].startswith("missing")} == {*names} & {*WALLS}
            return {name for name, seen in fn(None).items() if seen}

    return look


def test_every_wall_is_listed():
    listed = {each["protection"]: each["in_force"] for each in _core.doctor()}
    assert {name: listed[name] for name in WALLS} == dict.fromkeys(WALLS, True)


def test_all_stand_by_default(look):
    assert look() == set()


@pytest.mark.parametrize("wall", WALLS)
def test_one_that_is_taken_away_is_the_only_one_missing(look, wall):
    seen = look(wall, *SUPPORTED_BY.get(wall, ()))
    assert seen == {wall} & {*SEEN}


@pytest.mark.parametrize("wall", WALLS)
def test_without_one_a_strict_function_is_refused(make, monkeypatch, wall):
    monkeypatch.setenv("COLDFRAME_PRETEND", f"-{wall}")
    with coldframe.Host() as host, pytest.raises(coldframe.HostCapabilityError, match=rf"missing: {wall} \("):
        make(LOOK, host=host)


def test_a_name_that_nobody_knows_is_refused(monkeypatch):
    monkeypatch.setenv("COLDFRAME_PRETEND", "-landlok")
    with pytest.raises(coldframe.ConfigurationError, match="landlok"):
        coldframe.Host()._live()
