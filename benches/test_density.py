"""SPECIFICATION: 2,000 frozen environments on one machine, beside which cold and warm cost at most 1.5 times as much.

Making, evicting and shutting down is linear: what one environment costs grows by at most half from few to many.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import psutil
import pytest
from measuring import EVENT, PATIENCE_S, allow_descriptors, frozen, taken_mb, timed

import coldframe

MANY, FEW = 2000, 200
RUNS, WARM_UP = 200, 20
GROWTH = 1.5


def touch_memory() -> None:
    """Have the machine own what the environments will take: a virtual one gets a page when that is first touched."""
    touch = f"held = bytearray({3 * MANY} << 20)\nfor at in range(0, len(held), 4096): held[at] = 1"
    subprocess.run([sys.executable, "-I", "-S", "-c", touch], check=True)


def calls(fn: coldframe.Function, ready: Callable[[], object] = lambda: None) -> list[float]:
    """Return what calls take one by one, after some that warm up; each waits for `ready`, off the clock."""
    taken = []
    for _ in range(RUNS + WARM_UP):
        ready()
        taken.append(timed(lambda: fn(EVENT)))
    return taken[WARM_UP:]


def populate(function, host: coldframe.Host, count: int) -> list[float]:
    """Make `count` environments, each of a function of its own; return what the first calls took.

    Nothing is parked meanwhile: what a call that finds something parked takes says little of what making it took.
    """
    host._live().park_at_most(0)
    made = [timed(partial(function(host, name=f"app{n}"), EVENT)) for n in range(count)]
    host._live().park_at_most(None)
    return made


@pytest.mark.timeout(240)
def test_two_thousand_environments(benchmark, promise, function):
    allow_descriptors()
    touch_memory()
    with coldframe.Host() as host:
        populate(function, host, FEW)
        frozen(host)()
        closed_few = timed(host.close)
    with coldframe.Host() as host:
        cold, warm = function(host, reuse=False), function(host)
        warm(EVENT)
        stocked = lambda: host._live().wait_for_stock(PATIENCE_S)  # noqa: E731 - those that live do not end

        def starts() -> dict[str, list[float]]:
            return {"cold": calls(cold, stocked), "cold, one after another,": calls(cold), "warm": calls(warm)}

        alone = starts()
        us = psutil.Process()
        threads, descriptors, before = us.num_threads(), us.num_fds(), taken_mb()
        made = benchmark.pedantic(lambda: populate(function, host, MANY), rounds=1)
        frozen(host)()
        alive = host.environments()
        assert len(alive) == MANY + 1
        assert {environment.state for environment in alive} == {"frozen"}
        more = {"mb": taken_mb() - before, "descriptors": us.num_fds() - descriptors}
        more_threads = us.num_threads() - threads
        beside = starts()
        closed_many = timed(host.close)
    promise(f"threads more with {MANY} environments", more_threads, at_most=0, **more)
    for kind, times in beside.items():
        grown = statistics.median(times) / statistics.median(alone[kind])
        what = f"{kind} start beside {MANY} environments / beside one"
        promise(what, grown, at_most=GROWTH, times={"alone": alone[kind], "beside": times})
    first, last = made[:RUNS], made[-RUNS:]
    promise(
        f"making the last {RUNS} of {MANY} / the first",
        statistics.median(last) / statistics.median(first),
        at_most=GROWTH,
        times={"first": first, "last": last},
    )
    promise(
        f"shutdown of {MANY} / of {FEW}, for each environment",
        (closed_many / MANY) / (closed_few / FEW),
        at_most=GROWTH,
        seconds_of_many=closed_many,
        seconds_of_few=closed_few,
    )


@pytest.mark.timeout(240)
def test_eviction(benchmark, promise, function):
    allow_descriptors()
    evicting, alive = {}, {}

    def both() -> None:
        for name, budget_mb in (("few", 200), ("many", 2000)):
            with coldframe.Host(max_memory_mb=budget_mb) as host:
                evicting[name], alive[name] = evict(function, host), len(host.environments())

    benchmark.pedantic(both, rounds=1)
    promise(
        "a cold start that evicts, many alive / few alive",
        statistics.median(evicting["many"]) / statistics.median(evicting["few"]),
        at_most=GROWTH,
        times=evicting,
        **{f"{name}_alive": count for name, count in alive.items()},
    )


def evict(function, host: coldframe.Host) -> list[float]:
    """Fill `host` until it evicts; return what the next cold starts take, each of which has to make room."""
    for made in range(1, 3 * MANY):
        populate(function, host, 1)
        if made % 20 == 0 and len(host.environments()) < made:
            return populate(function, host, RUNS)
    pytest.fail("nothing was evicted")
    return []
