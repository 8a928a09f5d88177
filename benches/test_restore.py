"""SPECIFICATION: a restored start of a function whose imports take 300 ms is at most a fiftieth of its cold start."""

from measuring import EVENT, parked, ratio, timed

# Half of it is work that leaves memory behind: some 20 MB that every copy shares.
SLOW = """
import time

BEGUN = time.perf_counter()
TABLE = {str(number): [number] for number in range(120_000)}
while time.perf_counter() - BEGUN < 0.3:
    pass

def handler(event, context):
    return TABLE["7"]
"""
ROUNDS = 30
"""Each has a cold start."""


def test_restored_start(alternately, promise, function, host, unparked):
    restored, cold = function(host, SLOW, reuse=False, snapstart=True), function(unparked, SLOW, reuse=False)
    plain = function(unparked, SLOW, reuse=False, snapstart=True)
    assert restored.invoke(EVENT).report.start == plain.invoke(EVENT).report.start == "restored"
    times = alternately(
        lambda: restored(EVENT),
        rounds=ROUNDS,
        warm_up=2,
        ready=parked(host),
        cold=lambda: timed(lambda: cold(EVENT)),
        nothing_parked=lambda: timed(lambda: plain(EVENT)),
    )
    promise(
        "restored start of a function whose imports take 300 ms / its cold start",
        ratio(times, "cold"),
        at_most=0.02,
        times=times,
        nothing_parked_ratio=ratio(times, "cold", "nothing_parked"),
    )
