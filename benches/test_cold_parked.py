"""SPECIFICATION: a cold start from a parked environment costs at most 0.6 times the C floor."""

from measuring import EVENT, parked, ratio


def test_cold_start_from_a_parked_environment_against_the_floor(alternately, promise, function, host, floor):
    fn = function(host, reuse=False)
    fn(EVENT)  # parks for those to come
    times = alternately(lambda: fn(EVENT), ready=parked(host), floor=floor("cold").round)
    promise("cold start, environments parked / C floor", ratio(times, "floor"), at_most=0.6, times=times)
