"""SPECIFICATION: a cold start, its zygote resident and nothing parked, costs at most 2.0 times the C floor."""

from measuring import EVENT, ratio


def test_cold_start_against_the_floor(alternately, promise, function, unparked, floor):
    fn = function(unparked, reuse=False)
    times = alternately(lambda: fn(EVENT), floor=floor("cold").round)
    promise("cold start, nothing parked / C floor", ratio(times, "floor"), at_most=2.0, times=times)
