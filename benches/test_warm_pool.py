"""SPECIFICATION: a warm invocation, back to back, costs at most 0.35 times a ProcessPoolExecutor's call."""

from concurrent.futures import ProcessPoolExecutor

from measuring import EVENT, ratio, timed


def echo_of_the_peer(event):
    return event


def test_warm_invocation_against_a_process_pool(alternately, promise, function, host):
    fn = function(host)
    with ProcessPoolExecutor(1) as pool:
        times = alternately(
            lambda: fn(EVENT),
            rounds=2000,
            warm_up=100,
            burst=20,
            pool=lambda: timed(lambda: pool.submit(echo_of_the_peer, EVENT).result()),
        )
    promise("warm, back to back / ProcessPoolExecutor", ratio(times, "pool"), at_most=0.35, times=times)
