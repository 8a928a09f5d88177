"""What a preloaded package leaves in its zygote must not be a way past the lock-down, nor a secret that is shared."""

import sys
from pathlib import Path

import pytest

import coldframe

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


@pytest.fixture
def installed():
    """Install a module for the length of a test."""
    site = Path(next(path for path in sys.path if path.endswith("site-packages")))
    made = []

    def install(name, source):
        path = site / f"{name}.py"
        path.write_text(source)
        made.append(path)
        return name

    yield install
    for path in made:
        path.unlink()


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
