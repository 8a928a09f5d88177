"""SPECIFICATION: two environments serve at least 0.8 times the calls a second of one multiprocessing.Pipe echo."""

import multiprocessing
import statistics
from concurrent.futures import ThreadPoolExecutor

from measuring import EVENT, ratio, timed

CALLS = 50
"""Of each caller in one window."""


def echo_of_the_peer(connection):
    while (event := connection.recv()) is not None:
        connection.send(event)


def test_warm_calls_a_second(alternately, promise, function, host):
    fn = function(host)
    host.prewarm(fn, 2)
    ours, theirs = multiprocessing.Pipe()
    peer = multiprocessing.get_context("fork").Process(target=echo_of_the_peer, args=(theirs,))
    peer.start()

    def call_fn(_: int) -> None:
        for _ in range(CALLS):
            fn(EVENT)

    def call_peer() -> None:
        for _ in range(CALLS):
            ours.send(EVENT)
            ours.recv()

    with ThreadPoolExecutor(2) as callers:
        times = alternately(lambda: list(callers.map(call_fn, range(2))), pipe=lambda: timed(call_peer))
    ours.send(None)
    peer.join(10)
    promise(
        "warm calls a second, 2 environments / one Pipe echo",
        2 / ratio(times, "pipe"),  # a window has twice as many calls of ours
        at_least=0.8,
        times=times,
        ours_a_second=2 * CALLS / statistics.median(times["ours"]),
        pipe_a_second=CALLS / statistics.median(times["pipe"]),
    )
