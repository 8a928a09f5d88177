"""The library is a guest in somebody's process: what is the process's own stays as it was."""

import locale
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import coldframe

HANDLER = """
import os, signal, subprocess
def handler(event, context):
    if event == "end":
        os._exit(3)
    if event == "die":
        signal.raise_signal(signal.SIGKILL)
    return subprocess.run(["true"]).returncode
"""
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
STATUS = re.compile(r"^(?:Cap|NoNewPrivs|Seccomp).*$", re.MULTILINE)
SIGNALS = sorted(set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})


def own_state():
    """Return what a library could change in its process, and has no business to."""
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "umask": mask,
        "directory": os.getcwd(),
        "variables": dict(os.environ),
        "limits": [resource.getrlimit(limit) for limit in LIMITS],
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "wake-up": wakeup_descriptor(),
        # The timer of real time is the test runner's.
        "timers": [signal.getitimer(which) for which in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
        "locale": locale.setlocale(locale.LC_ALL),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": os.sched_getaffinity(0),
        "identity": (os.getresuid(), os.getresgid(), os.getgroups(), os.getpgid(0), os.getsid(0)),
        "switches": (sys.getswitchinterval(), sys.getrecursionlimit(), threading.stack_size()),
        "status": STATUS.findall(Path("/proc/self/status").read_text()),
        "namespaces": sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")),
    }


def wakeup_descriptor():
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return descriptor


def test_nothing_of_the_process_is_changed(make):
    before = own_state()
    with coldframe.Host() as host:
        during = own_state()
        fn = make(HANDLER, host=host, memory_mb=1769, timeout_s=10)
        assert fn("well") == 0
        assert isinstance(fn.invoke("end").error, coldframe.EnvironmentExit)
        assert isinstance(fn.invoke("die").error, coldframe.EnvironmentExit)
        assert fn("well") == 0
        after = own_state()
    assert before == during == after == own_state()


def test_children_of_the_process_are_its_own(make, host):
    # A library that waits for any child, or handles SIGCHLD, takes the exit status away from who started it.
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda *_: seen.append("SIGCHLD"))
    try:
        fn = make(HANDLER, host=host, memory_mb=1769, reuse=False, timeout_s=10)
        children = [subprocess.Popen([sys.executable, "-I", "-S", "-c", f"raise SystemExit({n})"]) for n in range(5)]
        assert [fn("well") for _ in range(5)] == [0] * 5
        assert [child.wait(10) for child in children] == list(range(5))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert seen, "the handler of the process's own children is still the process's"
