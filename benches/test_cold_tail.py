"""SPECIFICATION: cold starts from parked environments have a p99 of at most 4 times their median while others fork."""

import os
import signal
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from measuring import EVENT, p99, parked

FORKERS = 2


def fork_without_end() -> None:
    """Make and reap processes until killed: each takes the kernel's lock of all control groups for reading."""
    while True:
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)


@contextmanager
def forkers(count: int) -> Iterator[None]:
    """Run so many processes that do nothing but fork."""
    running = []
    try:
        for _ in range(count):
            if (pid := os.fork()) == 0:
                fork_without_end()
            running.append(pid)
        yield
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_tail_of_cold_starts_while_others_fork(alternately, promise, function, host):
    fn = function(host, reuse=False)
    fn(EVENT)  # parks for those to come
    with forkers(FORKERS):
        times = alternately(lambda: fn(EVENT), rounds=400, ready=parked(host))
    taken = times["ours"]
    promise(
        f"cold start from parked, {FORKERS} processes forking: p99 / p50",
        p99(taken) / statistics.median(taken),
        at_most=4.0,
        until_then=8.0,
        times=times,
    )
