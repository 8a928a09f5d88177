"""SPECIFICATION: a warm invocation, frozen between calls, costs at most what a ProcessPoolExecutor's call costs."""

from concurrent.futures import ProcessPoolExecutor

import coldframe

BOUND = 1.0


def echo_of_the_peer(event):
    return event


def test_warm_invocation_against_a_process_pool(alternately, echo, host):
    event = {"name": "Ada", "n": 1}
    with (
        coldframe.Function("app.handler", code=echo, memory_mb=1769, host=host) as fn,
        ProcessPoolExecutor(1) as pool,
    ):
        fn(event)
        assert [e.state for e in host.environments()] == ["frozen"]
        pair = alternately(
            lambda: fn(event), lambda: pool.submit(echo_of_the_peer, event).result(), rounds=1000, warm_up=50
        )
    assert pair.ratio <= BOUND, pair.describe()
