"""SPECIFICATION: freezing and thawing add at most 40 µs to a warm call, alone or in a burst."""

import statistics

import pytest
from measuring import EVENT, frozen, timed

import coldframe


@pytest.mark.parametrize("burst", [1, 20])
def test_what_freezing_adds_to_a_warm_call(alternately, promise, function, host, burst):
    how = "found frozen" if burst == 1 else "back to back"
    with coldframe.Host(freeze=False) as warm:
        freezing, plain = function(host), function(warm)
        freezing(EVENT)
        times = alternately(
            lambda: freezing(EVENT),
            rounds=1000,
            warm_up=60,
            burst=burst,
            ready=frozen(host) if burst == 1 else lambda: None,
            never_frozen=lambda: timed(lambda: plain(EVENT)),
        )
    added = statistics.median(times["ours"]) - statistics.median(times["never_frozen"])
    promise(f"freeze and thaw, added to a warm call, {how} (µs)", added * 1e6, at_most=40, times=times)
