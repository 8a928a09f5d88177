"""SPECIFICATION: cold starts from parked environments have a p99 of at most 4 times their median while others fork.

An echo through two pipes stands beside it: what the kernel makes anybody wait meanwhile who sleeps until he is woken.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from measuring import EVENT, p99, parked, timed

FORKERS = 2
FORK_WITHOUT_END = """
import os
while True:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Makes and reaps processes until it is killed: each takes the kernel's lock of all control groups for reading."""


@contextmanager
def forkers(count: int) -> Iterator[None]:
    """Run so many processes that do nothing but fork.

    Small ones: how long a copy of this bench's own memory keeps a processor would be measured otherwise.
    """
    with ExitStack() as running:
        for _ in range(count):
            forker = running.enter_context(subprocess.Popen([sys.executable, "-I", "-S", "-c", FORK_WITHOUT_END]))
            running.callback(forker.kill)
        yield


@contextmanager
def echo_of_a_sleeper() -> Iterator[Callable[[], None]]:
    """Start a process that hands back each byte, and return what sends one and waits for it."""
    with subprocess.Popen(["cat"], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin
        assert cat.stdout
        there, back = cat.stdin.fileno(), cat.stdout.fileno()

        def echo() -> None:
            os.write(there, b".")
            os.read(back, 1)

        echo()
        yield echo


def test_tail_of_cold_starts_while_others_fork(alternately, promise, function, host):
    fn = function(host, reuse=False)
    fn(EVENT)  # parks for those to come
    with forkers(FORKERS), echo_of_a_sleeper() as echo:
        times = alternately(lambda: fn(EVENT), rounds=1000, ready=parked(host), echo=lambda: timed(echo))
    taken = times["ours"]
    promise(
        f"cold start from parked, {FORKERS} processes forking: p99 / p50",
        p99(taken) / statistics.median(taken),
        at_most=4.0,
        until_then=8.0,
        times=times,
    )
