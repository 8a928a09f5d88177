"""SPECIFICATION: a cold start, its zygote resident and nothing parked, costs at most 2.0 times the C floor."""

from measuring import EVENT, ratio, stocked


def test_cold_start_against_the_floor(alternately, promise, function, unparked, floor):
    fn = function(unparked, reuse=False)
    fn(EVENT)  # a seat is free for those to come
    times = alternately(lambda: fn(EVENT), ready=stocked(unparked), floor=floor("cold").round)
    promise("cold start, nothing parked / C floor", ratio(times, "floor"), at_most=2.0, times=times)
