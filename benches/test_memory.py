"""SPECIFICATION: an idle environment has at most 3 MB of memory that is its own."""

import statistics

import psutil

import coldframe

BOUND_MB = 3.0
ENVIRONMENTS = 20


def private_mb(pid: int) -> float:
    """What an environment's processes share with nobody: the init's, and that of everything below it."""
    init = psutil.Process(pid)
    maps = [process.memory_full_info().uss for process in (init, *init.children(recursive=True))]
    return sum(maps) / 2**20


def test_private_memory_of_an_idle_environment(benchmark, echo, host):
    with coldframe.Function("app.handler", code=echo, memory_mb=1769, host=host) as fn:
        host.prewarm(fn, ENVIRONMENTS)
        list(fn.map({"n": n} for n in range(ENVIRONMENTS * 5)))
        sizes = benchmark.pedantic(lambda: [private_mb(e.pid) for e in host.environments()], rounds=1)
    benchmark.extra_info.update(median_mb=statistics.median(sizes), most_mb=max(sizes), environments=len(sizes))
    print(f"median {statistics.median(sizes):.2f} MB, most {max(sizes):.2f} MB of {len(sizes)} environments")
    assert statistics.median(sizes) <= BOUND_MB
