"""Death at the wrong moment: of the embedding process, of a zygote, of an init, of a handler; and of a thousand."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import (
    beside_environments,
    cgroups_of,
    descendants,
    directories_of,
    inventory,
    living,
    no_stock,
    parent,
    pids_of,
    seats,
    until,
)

import coldframe

SLEEP = """
    import time
    def handler(event, context):
        time.sleep(event)
        return event
"""
DAEMONS = """
    import os, signal, time
    def handler(event, context):
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
                signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
                while True:
                    time.sleep(1)
        time.sleep(event)
"""


@contextlib.contextmanager
def embedding(folder, source, statement, **options):
    """Run a program that makes a function and says so before `statement`; it is killed at the end at the latest."""
    folder.joinpath("app.py").write_text(textwrap.dedent(source))
    program = textwrap.dedent(f"""
        import coldframe, threading
        host = coldframe.Host()
        fn = coldframe.Function("app.handler", {str(folder)!r}, host=host, timeout_s=60, **{options!r})
        fn(0)
        {statement}
        print("ready", flush=True)
        threading.Event().wait()
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def of(process):
    """Return the processes below another one, as they can be found again when it is gone."""
    found = {pid: started(pid) for pid in descendants(process.pid)}
    # One that ended while it was being looked at is none of them.
    return {pid: start for pid, start in found.items() if start is not None}


def started(pid):
    """Return when a process was started, which tells it from a later one of the same number; None if it is gone."""
    with contextlib.suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]


def alive(processes):
    return {pid for pid, start in processes.items() if started(pid) == start}


MOMENTS = {
    "busy": "future = fn.submit(60)\nwhile host.environments()[0].state != 'busy': pass",
    "frozen": "assert [one.state for one in host.environments()] == ['frozen']",
    "thawed": "host = coldframe.Host(freeze=False)\nfn = coldframe.Function('app.handler', fn.code, host=host)\nfn(0)",
    "many": "host.prewarm(fn, 20)\nfutures = [fn.submit(60) for _ in range(10)]",
}


@pytest.mark.parametrize("source", [SLEEP, DAEMONS], ids=["plain", "daemons"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_outlives_the_embedding_process(tmp_path, source, moment):
    statement = MOMENTS[moment].replace("\n", "\n        ")
    # With a whole processor each: a quota would make their deaths slow, and nobody is left to lift it.
    before = set(descendants())
    with embedding(tmp_path, source, statement, memory_mb=1769) as process:
        processes = of(process)
        assert len(processes) >= 4
        assert cgroups_of(process.pid)
        assert directories_of(process.pid)
        process.kill()
        assert process.wait(5) == -signal.SIGKILL
        # Also what was made after the first look: orphans become children of this process.
        assert until(lambda: not alive(processes) and not set(descendants()) - before, 2), "two seconds later"
    # The next host collects what only a living process can.
    coldframe.Host().close()
    # Or whoever else starts one on this machine just now, and is not done yet.
    assert until(lambda: not cgroups_of(process.pid)), cgroups_of(process.pid)
    assert until(lambda: not directories_of(process.pid))


def test_a_hosts_neighbours_are_left_alone(tmp_path, make):
    """What belongs to a living owner is nobody else's to collect."""
    with coldframe.Host() as host:
        source = "count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return count\n"
        fn = make(source, host=host)
        assert fn() == 1
        with embedding(tmp_path, SLEEP, "fn(0)") as process:
            coldframe.Host().close()
            assert cgroups_of(process.pid)
            assert directories_of(process.pid)
            assert until(lambda: len(beside_environments(process.pid)) == 2), "its zygote, and its zygote's init"
            assert len(seats(process.pid)) >= 1
        coldframe.Host().close()
        assert fn() == 2


def test_an_exit_without_closing_leaves_nothing(tmp_path):
    tmp_path.joinpath("app.py").write_text(textwrap.dedent(SLEEP))
    program = (
        f"import coldframe\nfn = coldframe.Function('app.handler', {str(tmp_path)!r})\nfn(0)\n"
        "import os\nprint(os.getpid())\n"
    )
    for ending, status in (("", 0), ("raise SystemExit(3)", 3), ("1 / 0", 1)):
        done = subprocess.run([sys.executable, "-c", program + ending], capture_output=True, text=True, check=False)
        assert done.returncode == status
        pid = int(done.stdout)
        assert until(lambda pid=pid: not cgroups_of(pid) and not directories_of(pid)), ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_embedding_process_leaves_no_process(tmp_path, number):
    with embedding(tmp_path, SLEEP, "future = fn.submit(60)") as process:
        processes = of(process)
        process.send_signal(number)
        process.wait(5)
        assert until(lambda: not alive(processes), 2)
    coldframe.Host().close()


# What dies inside


def parts(host):
    """Return the process ids of the one environment: its zygote's init, its zygote, its own init, its handler."""
    (environment,) = living(host)
    (handler,) = descendants(environment.pid)
    return parts_of(environment.pid, handler)


def parts_of(init, process):
    """Return the same of an environment that may be parked."""
    zygotes_init = parent(init)
    assert parent(zygotes_init) == os.getpid()
    # The inits of seats, its other children, are process 1 somewhere.
    below = [pid for pid in descendants(zygotes_init) if parent(pid) == zygotes_init]
    (zygote,) = [pid for pid in below if pids_of(pid)[-1:] == ["3"]]
    return {"zygote's init": zygotes_init, "zygote": zygote, "init": init, "handler": process}


PARTS = ["zygote's init", "zygote", "init", "handler"]


@pytest.mark.parametrize("part", PARTS)
def test_killed_while_busy_the_call_fails_and_the_next_works(make, part):
    with coldframe.Host() as host:
        fn = make(SLEEP, timeout_s=30, host=host)
        assert fn(0) == 0
        future = fn.submit(20)
        assert until(lambda: [one.state for one in host.environments()] == ["busy"])
        os.kill(parts(host)[part], signal.SIGKILL)
        invocation = future.result(5)
        assert isinstance(invocation.error, coldframe.EnvironmentExit)
        assert invocation.error.error_type == "Runtime.ExitError"
        assert "killed" in invocation.error.error_message
        assert fn(0) == 0
        assert fn.invoke(0).report.start == "warm"


@pytest.mark.parametrize("part", PARTS)
def test_killed_while_frozen_nobody_notices(make, part):
    with coldframe.Host() as host:
        fn = make(SLEEP, host=host)
        for _ in range(20):
            assert fn(0) == 0
            victims = parts(host)
            os.kill(victims[part], signal.SIGKILL)
            # The handler is no more; whether the library has seen it by now is nothing the caller could know.
            assert until(lambda pid=victims["handler"]: started(pid) is None)
            assert fn(0) == 0


def test_a_stopped_zygote_does_not_hold_the_caller_for_ever(make):
    with coldframe.Host() as host:
        fn = make(SLEEP, host=host)
        assert fn(0) == 0
        os.kill(parts(host)["zygote"], signal.SIGSTOP)
        assert fn(0) == 0, "a warm environment needs no zygote"


def test_a_handler_that_loses_its_environment_while_starting(make):
    """Kills what appears, as soon as it appears: the initialisation is tried again, as any that fails."""
    with coldframe.Host() as host:
        fn = make("import time\ntime.sleep(0.3)\ndef handler(event, context):\n    return 1\n", host=host)
        assert fn() == 1
        for environment in host.environments():
            os.kill(environment.pid, signal.SIGKILL)
        assert until(lambda: not host.environments())
        future = fn.submit()
        assert until(host.environments)
        os.kill(host.environments()[0].pid, signal.SIGKILL)
        invocation = future.result(5)
        assert invocation.payload == 1
        assert "Phase: init\tStatus: error\tError Type: Runtime.ExitError\n" in invocation.log
        assert fn() == 1


def test_a_cgroup_that_is_taken_away_is_an_error_or_a_new_environment(make):
    with coldframe.Host() as host:
        fn = make(SLEEP, host=host)
        fn(0)
        (environment,) = living(host)
        Path(environment.cgroups["unified"], "cgroup.kill").write_text("1")
        assert until(lambda: not host.environments())
        assert fn(0) == 0


# A thousand


@pytest.mark.timeout(180)
def test_a_thousand_environments_leave_nothing(tmp_path):
    tmp_path.joinpath("app.py").write_text("def handler(event, context):\n    return event\n")
    coldframe.Host().close()
    gc.collect()
    before = inventory()
    with coldframe.Host() as host, coldframe.Function("app.handler", tmp_path, host=host, reuse=False) as fn:
        fn(0)
        with no_stock():
            # The zygote stays, with its cgroups, and nothing else.
            assert until(lambda: not any(Path(path).name.startswith("e") for path in cgroups_of(os.getpid())))
            steady = inventory()
        ids = set()
        for number in range(1000):
            invocation = fn.invoke(number)
            assert invocation.payload == number
            ids.add(invocation.report.environment_id)
        assert len(ids) == 1000
        assert until(lambda: not host.environments())
        with no_stock():
            assert until(lambda: inventory() == steady), left(steady)
    assert until(lambda: inventory() == before), left(before)


def left(before):
    now = inventory()
    return {what: now[what] - before[what] for what in now}
