"""SPECIFICATION: 300 cold starts a second, made and destroyed, sustained for ten seconds; nothing is left of them."""

import time
from concurrent.futures import ThreadPoolExecutor

from measuring import EVENT, gone, timed, traces

import coldframe

CALLERS = 4
WINDOW_S = 10.0


def test_cold_starts_a_second(benchmark, promise, function):
    with coldframe.Host() as host:
        function(host, reuse=False)(EVENT)  # whatever the process opens once and keeps is there before the count
    before, times = traces(), {"each": []}

    def call_until(fn: coldframe.Function, end: float) -> None:
        while time.perf_counter() < end:
            times["each"].append(timed(lambda: fn(EVENT)))

    with coldframe.Host() as host, ThreadPoolExecutor(CALLERS) as callers:
        fn = function(host, reuse=False)
        fn(EVENT)

        def all_of_them() -> None:
            end = time.perf_counter() + WINDOW_S
            for caller in [callers.submit(call_until, fn, end) for _ in range(CALLERS)]:
                caller.result()
            gone(host)()  # the last ones have to be destroyed, too, before the clock stops

        took = timed(lambda: benchmark.pedantic(all_of_them, rounds=1))
    assert traces() == before
    promise("cold starts a second", len(times["each"]) / took, at_least=300, times=times, callers=CALLERS)
