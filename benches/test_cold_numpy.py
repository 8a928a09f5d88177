"""SPECIFICATION: a cold start of a handler that uses numpy costs at most 1.5 times one of an empty handler."""

from measuring import EVENT, ratio, timed

EMPTY = "def handler(event, context):\n    return None\n"
NUMPY = """
import numpy as np

def handler(event, context):
    return float(np.linalg.norm(np.arange(100.0)))
"""


def test_cold_start_of_a_numpy_handler(alternately, promise, function, host, unparked):
    numpy, empty = function(host, NUMPY, reuse=False), function(host, EMPTY, reuse=False)
    plain_numpy, plain_empty = function(unparked, NUMPY, reuse=False), function(unparked, EMPTY, reuse=False)
    assert numpy(EVENT) > 0
    times = alternately(
        lambda: numpy(EVENT),
        empty=lambda: timed(lambda: empty(EVENT)),
        nothing_parked=lambda: timed(lambda: plain_numpy(EVENT)),
        empty_nothing_parked=lambda: timed(lambda: plain_empty(EVENT)),
    )
    promise(
        "cold start of a numpy handler / of an empty one",
        ratio(times, "empty"),
        at_most=1.5,
        times=times,
        nothing_parked_ratio=ratio(times, "empty_nothing_parked", "nothing_parked"),
    )
