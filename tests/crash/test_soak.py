"""Thousands of invocations beside random faults: none is lost, hung or answered wrongly, and nothing is left.

COLDFRAME_SOAK says how many (first 1,000; `make soak` runs 20,000), COLDFRAME_SOAK_SEED repeats one. Some handlers
end, exceed or stop themselves; meanwhile somebody kills and stops environments, their inits, zygotes and the zygotes'
inits, and closes functions and hosts under way. Every invocation has to end with its own answer, or with an error of
which the cause is known: its own doing, or one of the faults, which are counted.
"""

import gc
import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

import pytest
from conftest import cgroups_of, directories_of, inventory, parent, pids_of, until
from test_stock_death import left

import coldframe
from coldframe import _core

COUNT = int(os.environ.get("COLDFRAME_SOAK", "1000"))
SEED = int(os.environ.get("COLDFRAME_SOAK_SEED", "4"))
WORKERS = 4
TIMEOUT_S = 0.25
HUNG_S = 15.0
"""Initialisation may take ten seconds, then the timeout counts."""
BETWEEN_FAULTS_S = 0.05

SOURCE = """
    import os, signal, threading, time
    kept = []
    def handler(event, context):
        number, deed = event["number"], event["deed"]
        if deed == "exit":
            os._exit(number % 3)
        elif deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif deed == "crash":
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        elif deed == "raise":
            raise ValueError(number)
        elif deed == "memory":
            kept.append(b"x" * (256 << 20))
        elif deed == "sleep":
            time.sleep(60)
        elif deed == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif deed == "rubbish":
            for name in os.listdir("/proc/self/fd"):
                try:
                    os.write(int(name), b"rubbish")
                except OSError:
                    pass
        elif deed == "children":
            for _ in range(3):
                if os.fork() == 0:
                    os.kill(os.getpid(), signal.SIGSTOP)
                    os._exit(0)
        elif deed == "thread":
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        elif deed == "large":
            return {"number": number, "padding": "x" * 300_000}
        return {"number": number}
"""

EXIT, TIMEOUT = coldframe.EnvironmentExit, coldframe.InvocationTimeout
DEEDS = {
    "answer": (80, None),
    "large": (4, None),
    "children": (2, None),
    "thread": (2, None),
    "raise": (3, coldframe.HandlerError),
    "exit": (2, EXIT),
    "kill": (1, EXIT),
    "crash": (1, EXIT),
    "rubbish": (1, EXIT),
    "memory": (1, coldframe.OutOfMemoryError),
    "sleep": (0.5, TIMEOUT),
    "stop": (0.5, TIMEOUT),
}
"""How often in about a hundred a handler does what, and the error that this is."""


class Site:
    """A host with its functions, and what is replaced when one of them is closed under way."""

    def __init__(self, make):
        self.make, self.lock, self.open = make, threading.Lock(), {}
        self.host = coldframe.Host()
        self.host_of = {}
        for kind in ("warm", "cold", "small"):
            self.replace(kind)

    def replace(self, kind):
        options = {"warm": {}, "cold": {"reuse": False}, "small": {"memory_mb": 64}}[kind]
        with self.lock:
            self.open[kind] = self.make(SOURCE, host=self.host, name=kind, timeout_s=TIMEOUT_S, **options)

    def close_function(self, kind):
        before = self.open[kind]
        self.replace(kind)
        before.close()

    def close_host(self):
        before, self.host = self.host, coldframe.Host()
        for kind in self.open:
            self.replace(kind)
        before.close()

    def is_closed(self, fn):
        return fn.host.closed or fn not in self.open.values()


def children(pid):
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def strike(pid, above, number):
    """Send a signal to a process, unless its id has become another's; tells whether it was sent."""
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            if parent(pid) == above:
                signal.pidfd_send_signal(fd, number)
                return True
        finally:
            os.close(fd)
    return False


def fault(site, dice, told):
    """Do one thing to a part of the site that is alive."""
    kind = dice.choices(
        ["handler", "init", "stop", "zygote", "zygote's init", "pause", "function", "host"], [30, 30, 6, 4, 3, 6, 3, 1]
    )[0]
    if kind == "function":
        site.close_function(dice.choice(list(site.open)))
    elif kind == "host":
        site.close_host()
    else:
        # Also those of the stock, which are nobody's environments yet.
        zygotes_inits = {
            top for one in site.host.environments() if (top := parent(one.pid)) and parent(top) == os.getpid()
        }
        if not zygotes_inits:
            return
        top = dice.choice(sorted(zygotes_inits))
        below = children(top)
        zygotes = [pid for pid in below if pids_of(pid)[-1:] == ["3"]]
        inits = [pid for pid in below if pid not in zygotes]
        init = dice.choice(inits) if inits else None
        handlers = children(init) if init else []
        number = signal.SIGSTOP if kind in {"stop", "pause"} else signal.SIGKILL
        victims = {"handler": handlers, "stop": handlers, "init": inits, "zygote": zygotes}.get(kind, [top])
        if kind == "pause":
            victims = dice.choice([zygotes, [top], inits])
        if not victims:
            return
        victim = dice.choice(victims)
        above = parent(victim)
        if not strike(victim, above, number):
            return
        if kind == "pause":
            time.sleep(dice.random() * 0.05)
            strike(victim, above, signal.SIGCONT)
    told[kind] += 1


def one(site, dice, number, told):
    """Run one invocation and note how it ended; whatever is not to be is noted as wrong."""
    deed = dice.choices(list(DEEDS), [weight for weight, _ in DEEDS.values()])[0]
    fn = site.open["small" if deed == "memory" else dice.choice(["warm", "warm", "cold", "small"])]
    event, expected = {"number": number, "deed": deed}, DEEDS[deed][1]
    cancelled = dice.random() < 0.02
    began = time.monotonic()
    try:
        if cancelled:
            future = fn.submit(event)
            time.sleep(dice.random() * 0.003)
            future.cancel()
            result = future.result(HUNG_S)
        else:
            result = fn.invoke(event)
        payload, error = result.payload, result.error
    except CancelledError as problem:
        payload, error = None, problem
    except coldframe.ColdframeError as problem:
        payload, error = None, problem
    took = time.monotonic() - began
    told["longest_ms"] = max(told["longest_ms"], int(took * 1000))
    told["hung"] += took > HUNG_S
    if error is None:
        told["answered"] += 1
        # A child or a thread that was left behind answers nothing, and a killer that came too late neither.
        told["wrong"] += expected is not None or payload.get("number") != number
    elif expected is not None and isinstance(error, expected):
        told["failed as it should"] += 1
    elif cancelled and isinstance(error, CancelledError):
        told["cancelled"] += 1
    elif site.is_closed(fn) and type(error) in {
        coldframe.ColdframeError,
        EXIT,
        coldframe.ConfigurationError,
        CancelledError,
    }:
        told["closed"] += 1
    elif type(error) in {coldframe.ColdframeError, EXIT, TIMEOUT}:
        told["struck"] += 1
    else:
        told["wrong"] += 1
        told[f"wrong: {deed} {type(error).__name__} {str(error)[:200]}"] += 1


@pytest.mark.timeout(60 + COUNT // 10)
def test_thousands_of_invocations_beside_random_faults(make):
    gc.collect()
    before = inventory()
    began = time.monotonic()
    site = Site(make)
    tolds, faults, numbers, done = [Counter() for _ in range(WORKERS)], Counter(), count(), threading.Event()

    def work(told, dice):
        while (number := next(numbers)) < COUNT:
            told["asked"] += 1
            one(site, dice, number, told)

    def sabotage(dice):
        while not done.wait(dice.random() * 2 * BETWEEN_FAULTS_S):
            fault(site, dice, faults)

    with ExitStack() as stack:
        workers = [
            threading.Thread(target=work, args=(told, random.Random(f"{SEED} {n}"))) for n, told in enumerate(tolds)
        ]
        saboteur = threading.Thread(target=sabotage, args=(random.Random(SEED),))
        stack.callback(saboteur.join)
        stack.callback(done.set)
        for thread in [saboteur, *workers]:
            thread.start()
        for thread in workers:
            thread.join()
    told = Counter()
    for each in tolds:
        longest = max(told.pop("longest_ms", 0), each.pop("longest_ms", 0))
        told += each
        told["longest_ms"] = longest
    took = time.monotonic() - began
    endings = ("answered", "failed as it should", "cancelled", "closed", "struck", "wrong")
    told["lost"] = COUNT - sum(told[ending] for ending in endings)
    for fn in site.open.values():
        # Of those that were stopped while they were idle, some may still wait for their first event.
        assert until(lambda fn=fn: fn.invoke({"number": 1, "deed": "answer"}, timeout_s=5).payload == {"number": 1}, 30)
    site.host.close()
    for fn in site.open.values():
        fn.close()
    gc.collect()
    clean = until(lambda: inventory() == before)
    print(f"\nsoak: {COUNT} invocations in {took:.0f} s, seed {SEED}: {dict(told)}")
    print(f"soak: {faults.total()} faults: {dict(faults)}; nothing is left: {clean}")
    assert (told["lost"], told["hung"], told["wrong"]) == (0, 0, 0), told
    # Whoever dies takes along at most what is in flight.
    assert told["struck"] <= faults.total() * WORKERS
    assert faults.total() >= COUNT / 100
    assert told["answered"] > COUNT / 2
    assert clean, left(before)
    assert not cgroups_of(os.getpid())
    assert not directories_of(os.getpid())
    assert [leftover for leftover in _core.leftovers() if f"-{os.getpid()}-" in leftover["owner"]] == []
