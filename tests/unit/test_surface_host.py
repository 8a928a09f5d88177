"""Hosts: what they show, what bounds them, and what they leave behind."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import psutil
import pytest

import coldframe
from coldframe import ConfigurationError, Function, Hardening, Host, ThrottledError, _core

ECHO = "def handler(event, context):\n    return event\n"
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"
HOLD = (
    "kept = []\ndef handler(event, context):\n    kept.append(bytearray(b'x') * (event << 20))\n    return len(kept)\n"
)


def until(condition, within_s=10):
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return value


def in_state(host, state):
    return [each for each in host.environments() if each.state == state]


def script(tmp_path, text, **options):
    path = tmp_path / "program.py"
    path.write_text(text)
    return subprocess.Popen(
        [sys.executable, "-W", "error", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_the_fields_of_an_environment(make):
    with Host() as host:
        fn = make(SLEEP, host=host, name="orders", timeout_s=30)
        before = time.time()
        fn(0)
        (idle,) = host.environments()
        assert isinstance(idle, coldframe.Environment)
        assert {field.name for field in dataclasses.fields(idle)} == {
            "id",
            "function",
            "state",
            "pid",
            "cgroups",
            "memory_mb",
            "created",
            "last_used",
        }
        assert idle.function == "orders"
        assert before - 1 <= idle.created <= idle.last_used <= time.time()
        assert 0 < idle.memory_mb < 32
        assert psutil.pid_exists(idle.pid)
        assert all(os.path.isdir(path) for path in idle.cgroups.values())
        until(lambda: in_state(host, "frozen"))
        future = fn.submit(20)
        (busy,) = until(lambda: in_state(host, "busy"))
        assert (busy.id, busy.pid) == (idle.id, idle.pid)
        assert str(busy.state) == "busy"
        future.cancel()
        until(lambda: not host.environments())
        assert until(lambda: not psutil.pid_exists(idle.pid))
        assert until(lambda: not any(os.path.isdir(path) for path in idle.cgroups.values()))
        assert host.parked >= 0


def test_a_host_that_does_not_freeze_keeps_environments_ready(make):
    with Host(freeze=False) as host:
        make(ECHO, host=host)(1)
        assert [each.state for each in host.environments()] == ["ready"]


def test_a_host_freezes_after_the_time_it_was_told(make):
    with Host(freeze_after_ms=150) as host:
        fn = make(ECHO, host=host)
        fn(1)
        assert in_state(host, "ready")
        until(lambda: in_state(host, "frozen"))
        assert fn(2) == 2


def test_closing_a_host_destroys_everything_and_ends_what_is_in_flight(make):
    with Host() as host:
        fn = make(SLEEP, host=host, timeout_s=60)
        futures = [fn.submit(50) for _ in range(3)]
        pids = [each.pid for each in until(lambda: len(in_state(host, "busy")) == 3 and host.environments())]
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert host.closed
    assert host.environments() == []
    assert not any(psutil.pid_exists(pid) for pid in pids)
    for future in futures:
        assert future.done()
        assert future.cancelled() or future.exception() or not future.result().ok
    for call in (fn.invoke, lambda: fn.submit(0).result(10), lambda: host.prewarm(fn, 1)):
        with pytest.raises(coldframe.ColdframeError):
            call()
    host.close()
    assert "closed" in repr(host)
    with pytest.raises(coldframe.ColdframeError):
        make(ECHO, host=host)


def test_whoever_closes_a_host_that_is_being_closed_waits_for_the_same_end(make):
    with Host() as host:
        fn = make("import time\ndef handler(event, context):\n    time.sleep(60)\n", host=host, timeout_s=60)
        futures = [fn.submit() for _ in range(6)]
        assert until(lambda: [each.state for each in host.environments()] == ["busy"] * 6)
        left = []

        def close():
            host.close()
            left.append(sum(not future.done() for future in futures))

        threads = [threading.Thread(target=close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert left == [0, 0, 0]


def test_an_invocation_that_is_cancelled_waits_for_room_no_longer(make):
    with Host(max_concurrency=1) as host:
        fn = make("import time\ndef handler(event, context):\n    time.sleep(event)\n", host=host, timeout_s=60)
        long = fn.submit(60)
        assert until(lambda: [each.state for each in host.environments()] == ["busy"])
        ticket, told = _core.Ticket(), []

        def wait():
            try:
                fn._live().invoke(b"0", ticket=ticket, wait=True)
            except CancelledError as error:
                told.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        ticket.cancel()
        waiting.join(5)
        assert told
        assert not long.done()
        long.cancel()


def test_a_closed_host_holds_no_descriptors_even_if_its_functions_are_kept(tmp_path):
    (tmp_path / "app.py").write_text(ECHO)

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    kept = []
    before = descriptors()
    for _ in range(3):
        with Host() as host:
            fn = Function("app.handler", tmp_path / "app.py", host=host)
            assert fn(1) == 1
            kept.append(fn)
    until(lambda: not [child for child in psutil.Process().children() if child.status() != "zombie"])
    deadline = time.monotonic() + 3
    while descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descriptors() == before


def test_hosts_that_come_and_go_leave_no_cgroups(tmp_path):
    (tmp_path / "app.py").write_text(ECHO)

    def cgroups():
        own = (line.split(":", 2)[2].strip().lstrip("/") for line in Path("/proc/self/cgroup").read_text().splitlines())
        places = {top / path for top in Path("/sys/fs/cgroup").iterdir() if top.is_dir() for path in {"", *own}}
        places |= {Path("/sys/fs/cgroup"), *(Path("/sys/fs/cgroup") / path for path in own)}
        return {str(path) for place in places for path in place.glob(f"coldframe-{os.getpid()}-*")}

    before = cgroups()
    for _ in range(40):
        with Host() as host, Function("app.handler", tmp_path / "app.py", host=host) as fn:
            host.prewarm(fn, 12)
            made = cgroups()
        assert made > before
    assert cgroups() <= before


def test_concurrency_is_counted_in_flight_and_not_in_environments(make):
    with Host(max_concurrency=2) as host:
        functions = [make(SLEEP, host=host, name=f"fn{i}", timeout_s=30) for i in range(3)]
        for fn in functions:
            fn(0)
        assert len(host.environments()) == 3
        futures = [functions[0].submit(20), functions[1].submit(20)]
        until(lambda: len(in_state(host, "busy")) == 2)
        with pytest.raises(ThrottledError, match="max_concurrency"):
            functions[2](0)
        for future in futures:
            future.cancel()
        # The environments are dead at once; their invocations end when their threads have seen it: map waits for that.
        assert [each.payload for each in functions[2].map([0])] == [0]


def test_reserved_concurrency_is_the_functions_own(make):
    with Host() as host:
        reserved, other = make(SLEEP, host=host, reserved_concurrency=1, timeout_s=30), make(SLEEP, host=host)
        future = reserved.submit(20)
        until(lambda: in_state(host, "busy"))
        with pytest.raises(ThrottledError, match="reserved_concurrency"):
            reserved(0)
        assert other(0) == 0
        future.cancel()
        until(lambda: not in_state(host, "busy"))
        assert [each.payload for each in reserved.map([0, 0.05, 0])] == [0, 0.05, 0]
        none = make(ECHO, host=host, reserved_concurrency=0)
        with pytest.raises(ThrottledError):
            none(0)
        with pytest.raises(ThrottledError):
            list(none.map([0]))


def test_over_its_memory_a_host_evicts_idle_environments_first(make):
    with Host(max_memory_mb=160) as host:
        first = make(HOLD, host=host, name="first", memory_mb=256, timeout_s=20)
        second = make(HOLD, host=host, name="second", memory_mb=256, timeout_s=20)
        assert first(100) == 1
        assert [each.function for each in host.environments()] == ["first"]
        assert second(100) == 1
        third = make(HOLD, host=host, name="third", memory_mb=256, timeout_s=20)
        assert third(1) == 1
        assert sum(each.memory_mb for each in host.environments()) <= 160


def test_over_its_memory_with_nothing_idle_a_host_throttles(make):
    with Host(max_memory_mb=100) as host:
        fn = make(
            "import time\ndef handler(event, context):\n    x = bytearray(b'x') * (event << 20)\n"
            "    time.sleep(20 if event else 0)\n",
            host=host,
            memory_mb=256,
            timeout_s=30,
        )
        future = fn.submit(120)
        until(lambda: any(each.memory_mb > 110 for each in host.environments()))
        with pytest.raises(ThrottledError, match="memory"):
            fn(0)
        future.cancel()
        until(lambda: not host.environments())
        assert fn(0) is None


def test_prewarming_wants_the_functions_own_host(make, host):
    with Host() as other:
        fn = make(ECHO)
        with pytest.raises(ConfigurationError, match="host"):
            other.prewarm(fn, 1)
        assert other.environments() == []
    with pytest.raises(coldframe.InitError, match="nowhere"):
        host.prewarm(make("import nowhere\n"), 1)


def test_the_default_host_is_one_and_comes_back_after_it_was_closed(make):
    first = coldframe.default_host()
    assert coldframe.default_host() is first
    fn = make(ECHO, host=None)
    assert fn.host is first
    assert fn(1) == 1
    first.close()
    second = coldframe.default_host()
    assert second is not first
    assert make(ECHO, host=None)(1) == 1


def test_a_function_without_a_network_has_loopback_only(make):
    source = (
        "import socket\n"
        "def handler(event, context):\n"
        "    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        with socket.create_connection(server.getsockname()) as client:\n"
        "            client.sendall(b'x')\n"
        "            echo = server.accept()[0].recv(1).decode()\n"
        "    try:\n"
        "        socket.create_connection(('127.0.0.1', event), 1).close()\n"
        "        return [echo, 'reached']\n"
        "    except OSError as error:\n"
        "        return [echo, type(error).__name__]\n"
    )
    import socket  # noqa: PLC0415 - the same that the handler uses

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert make(source)(port) == ["x", "ConnectionRefusedError"]
        assert make(source, network=True)(port) == ["x", "reached"]


def test_processes_and_threads_are_limited_together(make):
    fn = make(
        "import threading\n"
        "stop = threading.Event()\n"
        "def handler(event, context):\n"
        "    made = []\n"
        "    try:\n"
        "        for _ in range(100):\n"
        "            made.append(threading.Thread(target=stop.wait, daemon=True))\n"
        "            made[-1].start()\n"
        "    except RuntimeError:\n"
        "        made.pop()\n"
        "    return len(made)\n",
        max_processes=20,
        memory_mb=256,
    )
    assert 15 <= fn() <= 20


def test_hardening_chooses_what_proc_shows_and_whether_tmp_runs_programs(make):
    source = (
        "import os, subprocess\n"
        "def handler(event, context):\n"
        "    open('/tmp/run', 'w').write('#!/bin/sh\\n')\n"
        "    os.chmod('/tmp/run', 0o755)\n"
        "    try:\n"
        "        ran = subprocess.run(['/tmp/run']).returncode == 0\n"
        "    except PermissionError:\n"
        "        ran = False\n"
        "    return [os.path.exists('/proc/cpuinfo'), ran]\n"
    )
    assert make(source)() == [False, True]
    assert make(source, hardening=Hardening(proc="masked"))() == [True, True]
    assert make(source, hardening=Hardening(proc="pid", noexec_tmp=True))() == [False, False]


PROGRAM = """
import os, signal, sys, time
import coldframe

fn = coldframe.Function("app.handler", {code!r}, timeout_s=60)
host = fn.host
"""


@pytest.fixture
def program(tmp_path):
    """Return a function that starts a program which has a Function of a handler that sleeps."""
    (tmp_path / "app.py").write_text(SLEEP)
    started = []

    def program(text):
        started.append(script(tmp_path, PROGRAM.format(code=str(tmp_path / "app.py")) + text))
        return started[-1]

    yield program
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_in_a_call_kills_the_environment(program):
    running = program(
        "import threading\n"
        "def interrupt():\n"
        "    while not [e for e in host.environments() if e.state == 'busy']:\n"
        "        time.sleep(0.005)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "fn(0)\n"
        "threading.Thread(target=interrupt).start()\n"
        "try:\n"
        "    fn(50)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
        "end = time.monotonic() + 5\n"
        "while host.environments() and time.monotonic() < end:\n"
        "    pass\n"
        "print(len(host.environments()), fn(0), flush=True)\n"
    )
    out, err = running.communicate(timeout=20)
    assert (out, err) == ("interrupted\n0 0\n", "")


def test_a_signal_handler_of_the_caller_runs_and_the_call_goes_on(program):
    running = program(
        "seen = []\n"
        "signal.signal(signal.SIGALRM, lambda *_: seen.append(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.1, 0.05)\n"
        "print(fn(0.5), len(seen) > 2, flush=True)\n"
    )
    out, err = running.communicate(timeout=20)
    assert (out, err) == ("0.5 True\n", "")


def test_a_program_that_ends_takes_its_environments_along(program):
    running = program("fn(0)\nprint(host.environments()[0].pid, flush=True)\n")
    out, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (0, "")
    assert until(lambda: not psutil.pid_exists(int(out)))


def test_a_program_that_is_killed_takes_its_environments_along(program):
    running = program(
        "future = fn.submit(50)\n"
        "while not [e for e in host.environments() if e.state == 'busy']:\n"
        "    pass\n"
        "print(host.environments()[0].pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    pid = int(running.stdout.readline())
    assert psutil.pid_exists(pid)
    running.kill()
    running.wait()

    def gone():
        try:
            return psutil.Process(pid).status() == "zombie"
        except psutil.NoSuchProcess:
            return True

    assert until(gone)


def test_a_fork_has_its_own_environments_and_leaves_the_parents_alone(program):
    running = program(
        "assert fn.invoke(0).report.start == 'cold'\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    code = 9\n"
        "    try:\n"
        "        own = fn.invoke(0)\n"
        "        code = 0 if own.ok and own.report.start == 'cold' and len(host.environments()) == 1 else 1\n"
        "    finally:\n"
        "        host.close()\n"
        "        os._exit(code)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), fn.invoke(0).report.start, flush=True)\n"
    )
    out, err = running.communicate(timeout=30)
    assert (out, err) == ("0 warm\n", "")
