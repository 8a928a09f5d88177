"""The clock on the wall may jump: no deadline, no rest and no retirement depends on it.

Nobody may set the clock of a machine for a test. What stands for it: a library that gives the embedding process another
time of day at every question, a look at the clocks that its timers use, and a time namespace, in which the clock that
does count began somewhere else.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

CLOCK_MONOTONIC = 1
NEWTIME = 0x80
TIMEOUT_S = 0.3

JUMPING = """
    #define _GNU_SOURCE
    #include <sys/syscall.h>
    #include <sys/time.h>
    #include <time.h>
    #include <unistd.h>

    /* Ten days to and fro, at every question. */
    static long jump(void) {
        static _Atomic long asked;
        return asked++ % 2 ? 864000 : -864000;
    }
    int clock_gettime(clockid_t clock, struct timespec *now) {
        int answer = syscall(SYS_clock_gettime, clock, now);
        if (answer == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
        return answer;
    }
    int gettimeofday(struct timeval *now, void *zone) {
        struct timespec precise;
        clock_gettime(CLOCK_REALTIME, &precise);
        now->tv_sec = precise.tv_sec;
        now->tv_usec = precise.tv_nsec / 1000;
        return 0;
    }
    time_t time(time_t *where) {
        struct timespec precise;
        clock_gettime(CLOCK_REALTIME, &precise);
        if (where) *where = precise.tv_sec;
        return precise.tv_sec;
    }
"""

SOURCE = """
    import time
    def handler(event, context):
        before = context.get_remaining_time_in_millis()
        if event:
            time.sleep(event)
        return [before, context.get_remaining_time_in_millis(), time.monotonic()]
"""
PROGRAM = """
    import json, os, re, sys, time
    import coldframe

    jumps = [time.time() for _ in range(3)]
    told = {"wall": max(jumps) - min(jumps), "late_ms": [], "monotonic": time.monotonic()}
    with coldframe.Host(idle_timeout_s=0.5, freeze_after_ms=50) as host:
        fn = coldframe.Function("app.handler", sys.argv[1], host=host, timeout_s=0.3)
        told["first"] = fn(0)
        told["inside"], told["outside"] = fn(0.05), time.monotonic()
        for _ in range(3):
            began = time.monotonic()
            error = fn.invoke(60).error
            assert isinstance(error, coldframe.InvocationTimeout), error
            told["late_ms"].append((time.monotonic() - began - 0.3) * 1000)
        fn(0)
        began = time.monotonic()
        seen = {}
        while host.environments() and time.monotonic() < began + 5:
            for each in host.environments():
                seen.setdefault(each.state, time.monotonic() - began)
        told["seen"], told["retired_s"] = seen, time.monotonic() - began
        told["clocks"] = []
        for name in os.listdir("/proc/self/fdinfo"):
            try:
                told["clocks"] += re.findall("^clockid: (.*)$", open(f"/proc/self/fdinfo/{name}").read(), re.M)
            except OSError:
                pass
    print(json.dumps(told))
"""


def run(tmp_path, before=None, **environment):
    (tmp_path / "app.py").write_text(textwrap.dedent(SOURCE))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)],
        env=os.environ | environment,
        preexec_fn=before,  # the namespace has to be entered by the child
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(told):
    assert all(0 <= late < 250 for late in told["late_ms"]), told
    before, after, _ = told["inside"]
    assert 0 < before <= TIMEOUT_S * 1000
    assert 50 <= before - after < 200, "the handler is told what remains"
    assert told["seen"]["ready"] < 0.05
    assert 0.03 < told["seen"]["frozen"] < 0.4, "frozen after its 50 ms"
    assert 0.4 < told["retired_s"] < 2, "and retired after its half second"
    # What is printed is what timerfd_create was given.
    assert set(map(int, told["clocks"])) == {CLOCK_MONOTONIC}


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler for the clock that jumps")
def test_a_wall_clock_that_jumps_moves_nothing(tmp_path):
    source, library = tmp_path / "jumping.c", tmp_path / "jumping.so"
    source.write_text(textwrap.dedent(JUMPING))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    told = run(tmp_path, LD_PRELOAD=str(library))
    assert told["wall"] > 864_000, "it does jump"
    check(told)


@pytest.mark.needs("root")
def test_in_a_time_namespace_everybody_has_the_same_clock(tmp_path):
    libc = ctypes.CDLL(None, use_errno=True)

    def enter():
        # For its children; a process that becomes another program is one (Linux 5.6).
        if libc.unshare(NEWTIME):
            os._exit(9)
        with open("/proc/self/timens_offsets", "w") as offsets:
            offsets.write("monotonic 8640000 0\nboottime 8640000 0\n")

    told = run(tmp_path, before=enter)
    assert told["monotonic"] > 8_640_000, "it is in there"
    assert abs(told["inside"][2] - told["outside"]) < 1, "and so is the handler"
    check(told)
