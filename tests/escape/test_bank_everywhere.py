"""What is refused is refused in every kind of environment, and what is left behind is seen."""

import ctypes
import os
import socket
import subprocess

import pytest
from conftest import parks, until

from .attacks import EVALUATE
from .conftest import canaries, outside
from .test_bank_devices import DOORS, LEAST, SYS
from .test_bank_files import MOUNT, SETNS, UNSHARE
from .test_bank_processes import ENVIRON, OPEN, REWRITE, TRACE
from .test_bank_terminals import TABLE

REFUSALS = {
    OPEN: [0, 1, 2, 3, 4],  # before the others open more
    **MOUNT,
    **SETNS,
    **UNSHARE,
    **TRACE,
    **ENVIRON,
    **REWRITE,
    **TABLE,
    **dict.fromkeys(DOORS, "ENOENT"),
    **{f"os.listdir({path!r})": "ENOENT" for path in SYS},
    "sorted(os.listdir('/dev'))": LEAST,
    "sorted({line.split(':', 2)[2] for line in open('/proc/self/cgroup').read().splitlines()})": ["/"],
    "open('/usr/x', 'w')": "EROFS",
    "open('/var/task/x', 'w')": "EROFS",
}


@pytest.mark.bank("O02", "O08", "O09", "O10", "O11", "O13", "O15", "O17", "O18", "O19", "O20", "O21", "O37")
@pytest.mark.parametrize("kind", ["new", "warm", "parked"])
def test_every_kind_of_environment_answers_the_same(attack, without, make, kind):
    host = without()
    if kind == "new":
        host._native.park_at_most(0, 0)
        assert until(lambda: host.parked == 0)
    if kind == "parked":
        host.prewarm(make(EVALUATE, name="primer", host=host), 1)
        ahead = parks(host)
    attacked = make(EVALUATE, name="attacked", host=host, memory_mb=1769)
    if kind == "warm":
        assert attacked("1") == 1
    invocation = attacked.invoke(list(REFUSALS))
    assert {text: answer for text, answer in invocation.payload.items() if answer != REFUSALS[text]} == {}
    assert invocation.report.start == ("warm" if kind == "warm" else "cold")
    (one,) = [one for one in host.environments() if one.function == "attacked"]
    assert kind != "parked" or one.pid in ahead


# The look afterwards sees what there is to see.


def a_process(_):
    with subprocess.Popen(["sleep", "60"]) as process:
        yield "processes"
        process.kill()


def a_descriptor(_):
    with open("/proc/version"):
        yield "descriptors"


def a_listener(_):
    with socket.create_server(("127.0.0.1", 0)):
        yield "listeners"


def an_abstract_listener(_):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0coldframe-test-{os.getpid()}")
        server.listen()
        yield "listeners"


def shared_memory(_):
    libc = ctypes.CDLL(None)
    number = libc.shmget(0, 4096, 0o1600)
    assert number >= 0
    yield "lasting"
    libc.shmctl(number, 0, None)  # IPC_RMID


def a_changed_file(canary):
    canary.write_text("broken")
    yield "canaries"


LEFT = [a_process, a_descriptor, a_listener, an_abstract_listener, shared_memory, a_changed_file]


@pytest.mark.parametrize("leave", LEFT, ids=lambda leave: leave.__name__)
def test_what_is_left_behind_is_seen(canary, leave):
    before = outside(canary.parent)
    leaving = leave(canary)
    what = next(leaving)
    now = outside(canary.parent)
    assert now[what] - before[what]
    assert next(leaving, None) is None


def test_a_file_that_is_gone_is_missed(canary):
    before = canaries(canary.parent)
    canary.unlink()
    assert before - canaries(canary.parent)
