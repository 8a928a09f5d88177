"""SPECIFICATION: a warm invocation, frozen between calls, costs at most 3.0 times the C floor."""

import statistics

from measuring import EVENT, frozen, own_cgroup, ratio


def test_warm_invocation_against_the_floor(alternately, promise, function, host, floor):
    fn = function(host)
    fn(EVENT)
    # Compared with the floor as the kernel places its two ends, one round at a time as ours are. Pinned to one CPU, or
    # in a tight loop in which caches stay warm, it is reported beside it.
    plain, pinned = floor("warm", own_cgroup()), floor("warm", own_cgroup(), "pinned")
    times = alternately(
        lambda: fn(EVENT), rounds=1000, warm_up=50, ready=frozen(host), floor=plain.round, floor_pinned=pinned.round
    )
    promise(
        "warm, frozen between calls / C floor",
        ratio(times, "floor"),
        at_most=3.0,
        times=times,
        floor_in_a_loop_p50_ms=statistics.median(plain.rounds(1000)) * 1e3,
    )
