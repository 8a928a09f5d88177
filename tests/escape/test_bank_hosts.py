"""O55: hosts that lack something. Nothing is run bare: it is refused, or the caller has waived it and is told."""

import os
import subprocess
import sys

import pytest
from conftest import inventory

import coldframe

ECHO = "def handler(event, context):\n    return event\n"
FEATURES = {
    "seccomp": "seccomp",
    "landlock": "landlock",
    "cpu": "cgroup.cpu",
    "memory": "cgroup.memory",
    "pids": "cgroup.pids",
    "freezer": "cgroup.freeze",
}
WALLS = [
    "root", "devices", "read-only", "no-set-uid", "proc", "scratch", "store", "capabilities", "undumpable", "rlimits",
    "keyring", "user-limits", "users", "descriptors", "random", "cgroup-namespace",
]  # fmt: skip
TOGETHER = [["seccomp", "landlock", "no-new-privileges"], [*FEATURES], [*FEATURES, *WALLS]]


def lines(walls):
    """Return the lines of `doctor` that are missing without these."""
    return {FEATURES.get(wall, wall) for wall in walls}


def made():
    """Return what an environment, or a part of one, would add to."""
    return {what: there for what, there in inventory().items() if what in {"processes", "cgroups", "mounts"}}


@pytest.fixture
def refused(make):
    """Return the error by which a function is refused on a host; nothing is made for it, and nothing is started."""

    def refused(host, **options):
        before = made()
        with pytest.raises(coldframe.HostCapabilityError) as error:
            make(ECHO, host=host, **options)
        assert made() == before
        assert (host.environments(), host.parked) == ([], 0)
        return str(error.value)

    return refused


@pytest.mark.bank("O55")
@pytest.mark.parametrize("alone", [FEATURES, WALLS], ids=["a feature", "a wall"])
def test_what_a_host_lacks_is_an_error_and_nothing_is_started(refused, without, alone):
    for name in alone:
        missing = refused(without(name)).partition("missing: ")[2]
        assert missing.startswith(f"{FEATURES.get(name, name)} ("), name
        assert 'isolation="available"' in missing, "what to do about it"


@pytest.mark.bank("O55")
def test_all_that_it_lacks_is_named_at_once(refused, without):
    for walls in TOGETHER:
        missing = refused(without(*walls))
        assert {line for line in lines(walls) if f"{line} (" not in missing} == set()


@pytest.mark.bank("O55")
@pytest.mark.parametrize("isolation", ["strict", "available"])
def test_without_namespaces_nothing_runs_whatever_is_waived(refused, without, isolation):
    for others in ([], ["seccomp"], ["cgroup2", "seccomp", "landlock"]):
        assert "namespaces (" in refused(without("namespaces", *others), isolation=isolation)


@pytest.mark.bank("O55")
def test_the_doctor_says_so_too():
    done = subprocess.run(
        [sys.executable, "-m", "coldframe", "doctor"],
        env={**os.environ, "COLDFRAME_PRETEND": "-seccomp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "seccomp" in line.split()]
    assert "CONFIG_SECCOMP_FILTER" in done.stdout, line


@pytest.mark.bank("O55", twin=True)
@pytest.mark.parametrize("walls", [["seccomp"], ["landlock"], *TOGETHER], ids=len)
def test_with_isolation_available_it_runs_and_says_what_is_missing(make, without, walls):
    fn = make(ECHO, host=without(*walls), isolation="available")
    assert fn(1) == 1
    assert lines(walls) <= {name for name, what in fn.isolation.items() if what.startswith("missing")}
