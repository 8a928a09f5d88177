"""SPECIFICATION: an idle environment has at most 1.5 MB to itself, and costs the machine at most 2.5 MB."""

import statistics

import psutil
import pytest
from measuring import EVENT, frozen, taken_mb

ENVIRONMENTS = 300


def private_mb(pid: int) -> float:
    """What an environment's processes share with nobody: the init's, and that of everything below it."""
    init = psutil.Process(pid)
    maps = [process.memory_full_info().uss for process in (init, *init.children(recursive=True))]
    return sum(maps) / 2**20


@pytest.mark.timeout(120)
def test_memory_of_idle_environments(benchmark, promise, function, host):
    # A function each, so that every environment has served and none has served more than another.
    functions = [function(host, name=f"app{n}") for n in range(ENVIRONMENTS)]
    one_more = function(host)
    one_more(EVENT)
    one_more(EVENT)
    frozen(host)()
    before = taken_mb()
    for fn in functions:
        fn(EVENT)
        fn(EVENT)
    frozen(host)()
    taken = (taken_mb() - before) / ENVIRONMENTS
    sizes = benchmark.pedantic(lambda: [private_mb(e.pid) for e in host.environments()], rounds=1)
    assert len(sizes) == ENVIRONMENTS + 1
    promise(
        "private memory of an idle environment (MB)",
        statistics.median(sizes),
        at_most=1.5,
        p99_mb=sorted(sizes)[int(len(sizes) * 0.99)],
    )
    promise(f"memory of the machine for each of {ENVIRONMENTS} idle environments (MB)", taken, at_most=2.5)
