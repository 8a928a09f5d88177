"""What a preloaded package leaves in its zygote must not be a way past the lock-down, nor a secret that is shared."""

import logging
import time

import pytest

import coldframe

SLOW_S = 1.5
HOOK = """
import os, threading, time
def tick():
    pass
def start():
    def run():
        while True:
            tick()
            time.sleep(0.005)
    threading.Thread(target=run, daemon=True).start()
os.register_at_fork(after_in_child=start)
"""
TAKE_OVER = """
import threading, time, {name}
found = threading.Event()
status = []
def look():
    if not status:
        status.append(open(f"/proc/thread-self/status").read())
        found.set()
{name}.tick = look
def handler(event, context):
    assert found.wait(2)
    lines = dict(line.split(":", 1) for line in status[0].splitlines())
    return [lines[name].strip() for name in ("CapEff", "NoNewPrivs", "Seccomp")]
"""
RANDOM = """
import ssl
def handler(event, context):
    return ssl.RAND_bytes(16).hex()
"""


def test_a_thread_that_a_package_starts_after_the_fork_is_confined_too(make, installed):
    name = installed("coldframe_test_hook", HOOK)
    fn = make(TAKE_OVER.format(name=name), preload=[name], memory_mb=1769, timeout_s=10)
    for _ in range(2):  # the second may come from an environment that was parked
        assert fn() == ["0000000000000000", "1", "2"]


def test_openssls_random_state_is_no_common_one(make, installed):
    name = installed("coldframe_test_ssl", "import ssl\nssl.create_default_context()\nssl.RAND_bytes(1)\n")
    with coldframe.Host() as host:
        fn = make(RANDOM, preload=[name], host=host, reuse=False, memory_mb=1769)
        drawn = [fn() for _ in range(6)]
    assert len(set(drawn)) == 6


SHARED = "import mmap\nboard = mmap.mmap(-1, 4096)\n"
NOTE = """
import {name}
def handler(event, context):
    before = {name}.board[:5].decode("latin-1")
    {name}.board[:5] = event.encode()
    return before
"""


def test_memory_that_environments_would_share_keeps_a_package_out_of_the_zygote(make, installed, caplog):
    name = installed("coldframe_test_board", SHARED)
    with coldframe.Host() as host:
        with pytest.raises(coldframe.ConfigurationError, match=f"{name}: importing it left shared memory"):
            make(NOTE.format(name=name), preload=[name], host=host)("hello")
        with caplog.at_level(logging.INFO, "coldframe"):
            cold = coldframe.Hardening(on_unclean="cold")
            fns = [
                make(NOTE.format(name=name), host=host, preload=[name], hardening=cold),
                make(NOTE.format(name=name), host=host, reuse=False),  # what "auto" finds unfit is left out, too
            ]
            for fn in fns:
                assert [fn("hello")] == ["\0" * 5]
            assert fns[1]("again") == "\0" * 5
    assert sum(f"{name} is not preloaded" in record.getMessage() for record in caplog.records) >= 1


def test_a_package_that_takes_its_time_holds_up_nobody_else(make, installed):
    """A host has eight zygotes at most: with a ninth on its way, one has to go."""
    slow = [installed(f"coldframe_test_slow{number}", f"import time\ntime.sleep({SLOW_S})") for number in range(9)]
    handler = "def handler(event, context):\n    return event\n"
    with coldframe.Host() as host:
        quick = make(handler, host=host, reuse=False)
        assert quick(1) == 1
        futures = [make(handler, host=host, name=name, preload=[name], timeout_s=60).submit(2) for name in slow]
        longest = 0.0
        while not all(future.done() for future in futures):
            begun = time.monotonic()
            assert quick(1) == 1
            longest = max(longest, time.monotonic() - begun)
        assert [future.result().payload for future in futures] == [2] * 9
    assert longest < SLOW_S
