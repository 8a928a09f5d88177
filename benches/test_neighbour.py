"""SPECIFICATION: an attack in one environment makes the warm p99 of its neighbour at most 3 times as long.

The attacker has the default settings, the neighbour one vCPU. Calm and attacked calls are taken in turn, a block of
each at a time. Beside them a thread of the embedding process wakes every 5 ms; its longest delay is told.
"""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from measuring import EVENT, PATIENCE_S, Times, p99, timed

import coldframe

BLOCKS = 4
CALLS = 150
PAUSE_S = 0.002
"""Between two calls, so that the environment is frozen in between and nobody's quota is used up."""
BEAT_S = 0.005
HEAD_START_S = 0.3
"""For how long an attack goes on before it is looked at."""

ATTACKS = {
    "a fork bomb": """
import os

def handler(event, context):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "spinning threads": """
import threading

def spin():
    while True:
        pass

def handler(event, context):
    while True:
        try:
            threading.Thread(target=spin).start()
        except RuntimeError:
            pass
""",
    "spinning processes": """
import os

def handler(event, context):
    for _ in range(8):
        if os.fork() == 0:
            break
    while True:
        pass
""",
    "memory over the cap, again and again": """
def handler(event, context):
    eaten = []
    while True:
        eaten.append(bytes([1]) * (1 << 20))
""",
    "a flood of output": """
import os

def handler(event, context):
    while True:
        os.write(1, bytes(65536))
""",
}


@contextmanager
def attack(fn: coldframe.Function) -> Iterator[None]:
    """Keep an attack going for as long as the block lasts."""
    over = threading.Event()

    def keep_on() -> None:
        while not over.is_set():
            future = fn.submit()
            ended = threading.Event()
            future.add_done_callback(lambda _, ended=ended: ended.set())
            while not ended.wait(0.01) and not over.is_set():
                pass
            future.cancel()

    thread = threading.Thread(target=keep_on)
    thread.start()
    try:
        time.sleep(HEAD_START_S)  # the attack is the load: it gives no signal
        yield
    finally:
        over.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


@contextmanager
def heartbeat(late: list[float]) -> Iterator[None]:
    """Note by how much a thread that wakes every few milliseconds wakes late."""
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            late.append(timed(lambda: over.wait(BEAT_S)) - BEAT_S)

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    over.set()
    thread.join(PATIENCE_S)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("code", ATTACKS.values(), ids=ATTACKS)
def test_a_neighbour_under_attack(request, benchmark, promise, function, code):
    host = request.getfixturevalue("host")
    neighbour, attacker = function(host), function(host, code, memory_mb=128, timeout_s=60, log_kb=64)
    times: Times = {"calm": [], "attacked": []}
    late: dict[str, list[float]] = {"calm": [], "attacked": []}

    def block(kind: str) -> None:
        with heartbeat(late[kind]):
            for _ in range(CALLS):
                times[kind].append(timed(lambda: neighbour(EVENT)))
                time.sleep(PAUSE_S)  # the rate of the calls is what is promised

    def turn() -> None:
        block("calm")
        with attack(attacker):
            block("attacked")

    neighbour(EVENT)
    block("calm")
    times["calm"].clear()
    late["calm"].clear()
    benchmark.pedantic(turn, rounds=BLOCKS)
    what = request.node.callspec.id
    promise(
        f"warm p99 of a neighbour of {what} / calm",
        p99(times["attacked"]) / p99(times["calm"]),
        at_most=3.0,
        until_then=10.0,
        times=times,
        ratio_of_medians=statistics.median(times["attacked"]) / statistics.median(times["calm"]),
        longest_delay_calm_ms=max(late["calm"]) * 1e3,
        longest_delay_ms=max(late["attacked"]) * 1e3,
    )
