"""SPECIFICATION: 2,000 frozen environments on one machine, beside which cold and warm cost at most 1.5 times as much.

Making, evicting and shutting down is linear: what one environment costs grows by at most half from few to many.
"""

import statistics
from functools import partial

import psutil
import pytest
from measuring import EVENT, allow_descriptors, frozen, taken_mb, timed

import coldframe

MANY, FEW = 2000, 200
RUNS, WARM_UP = 200, 20
GROWTH = 1.5
NOT_YET = 5.0  # see SPECIFICATION.md


def calls(fn: coldframe.Function) -> list[float]:
    """Return what calls take one by one, after some that warm up."""
    return [timed(lambda: fn(EVENT)) for _ in range(RUNS + WARM_UP)][WARM_UP:]


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
    with coldframe.Host() as host:
        populate(function, host, FEW)
        frozen(host)()
        closed_few = timed(host.close)
    with coldframe.Host() as host:
        cold, warm = function(host, reuse=False), function(host)
        warm(EVENT)
        alone = {"cold": calls(cold), "warm": calls(warm)}
        us = psutil.Process()
        threads, descriptors, before = us.num_threads(), us.num_fds(), taken_mb()
        made = benchmark.pedantic(lambda: populate(function, host, MANY), rounds=1)
        frozen(host)()
        alive = host.environments()
        assert len(alive) == MANY + 1
        assert {environment.state for environment in alive} == {"frozen"}
        more = {"mb": taken_mb() - before, "descriptors": us.num_fds() - descriptors}
        more_threads = us.num_threads() - threads
        beside = {"cold": calls(cold), "warm": calls(warm)}
        closed_many = timed(host.close)
    promise(f"threads more with {MANY} environments", more_threads, at_most=0, **more)
    for kind, times in beside.items():
        grown = statistics.median(times) / statistics.median(alone[kind])
        what = f"{kind} start beside {MANY} environments / beside one"
        later = NOT_YET if kind == "cold" else None
        promise(what, grown, at_most=GROWTH, until_then=later, times={"alone": alone[kind], "beside": times})
    first, last = made[:RUNS], made[-RUNS:]
    grown = statistics.median(last) / statistics.median(first)
    promise(
        f"making the last {RUNS} of {MANY} / the first", grown, at_most=GROWTH, times={"first": first, "last": last}
    )
    promise(
        f"shutdown of {MANY} / of {FEW}, for each environment",
        (closed_many / MANY) / (closed_few / FEW),
        at_most=GROWTH,
        until_then=NOT_YET,
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
