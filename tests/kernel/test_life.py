"""The life of environments: warm, frozen, retired, evicted, refused, cancelled."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from conftest import SLOWNESS, beside_environments, descendants, living, no_stock, until

import coldframe

COUNT = """
    import os
    count = 0
    def handler(event, context):
        global count
        count += 1
        return count
"""
SLEEP = """
    import time
    def handler(event, context):
        time.sleep(event)
        return event
"""
TICK = """
    import threading, time
    ticks = 0
    def tick():
        global ticks
        while True:
            ticks += 1
            time.sleep(0.001)
    threading.Thread(target=tick, daemon=True).start()
    def handler(event, context):
        time.sleep(event)
        return ticks
"""


@pytest.fixture
def new_host():
    """Make hosts that are closed when the test ends."""
    with contextlib.ExitStack() as made:
        yield lambda **options: made.enter_context(coldframe.Host(**options))


def frozen(environment):
    """Return whether the kernel says that everything in the environment is stopped."""
    if unified := environment.cgroups.get("unified"):
        return "frozen 1" in Path(unified, "cgroup.events").read_text()
    return Path(environment.cgroups["freezer"], "freezer.state").read_text() == "FROZEN\n"


def deserted(cgroup):
    """Whether a cgroup is gone or, where another environment is to have it, empty and without a limit."""
    path = Path(cgroup)
    limit = path / "memory.limit_in_bytes"
    try:
        return not (path / "cgroup.procs").read_text() and (not limit.exists() or int(limit.read_text()) > 1 << 60)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENODEV)


def processor_ticks(pid):
    """Return the processor time of a process in hundredths of a second."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


# Warm


def test_a_warm_environment_has_the_state_of_its_module(make):
    fn = make(COUNT)
    first, *others = [fn.invoke() for _ in range(4)]
    assert [first.payload, *(other.payload for other in others)] == [1, 2, 3, 4]
    assert first.report.start == "cold"
    assert first.report.init_duration_ms > 0
    assert {other.report.start for other in others} == {"warm"}
    assert {other.report.init_duration_ms for other in others} == {None}
    assert {other.report.environment_id for other in others} == {first.report.environment_id}


def test_without_reuse_every_event_is_the_first(make, host):
    fn = make(COUNT, reuse=False)
    invocations = [fn.invoke() for _ in range(3)]
    assert [one.payload for one in invocations] == [1, 1, 1]
    assert {one.report.start for one in invocations} == {"cold"}
    assert len({one.report.environment_id for one in invocations}) == 3
    assert until(lambda: not host.environments())


def test_a_failed_handler_stays_warm(make):
    fn = make(
        "count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return 1 // event + count\n"
    )
    assert not fn.invoke(0).ok
    assert fn(1) == 3


def test_two_functions_share_nothing(make, host):
    one, other = make(COUNT, name="one"), make(COUNT, name="other")
    assert [one(), one(), other(), one()] == [1, 2, 1, 3]
    assert sorted(environment.function for environment in living(host, 2)) == ["one", "other"]


def test_a_closed_function_has_no_environments_and_takes_no_events(make, host):
    # Nothing is made ahead that could be given the cgroups of those that end.
    host._native.park_at_most(0, 0)
    with make(COUNT) as fn:
        fn()
        (environment,) = living(host)
        inits = {environment.pid, *descendants(environment.pid)}
    assert until(lambda: not inits & set(descendants()))
    assert until(lambda: not host.environments())
    assert until(lambda: all(deserted(path) for path in environment.cgroups.values()))
    with pytest.raises(coldframe.ColdframeError, match="closed"):
        fn()


# Frozen


@pytest.mark.needs("cgroup.freeze")
def test_between_events_everything_stands_still(make, host):
    fn = make(TICK, memory_mb=1769)
    fn(0.05)
    (environment,) = living(host)
    assert environment.state == "frozen"
    assert until(lambda: frozen(environment))
    pids = [environment.pid, *descendants(environment.pid)]
    before = {pid: (processor_ticks(pid), switches(pid)) for pid in pids}
    time.sleep(0.3)  # in which nothing is to happen
    assert {pid: (processor_ticks(pid), switches(pid)) for pid in pids} == before
    assert fn(0) > 0, "it goes on"


def switches(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if "ctxt_switches" in line]


@pytest.mark.needs("cgroup.freeze")
def test_a_host_need_not_freeze(make, new_host):
    host = new_host(freeze=False)
    fn = make(TICK, memory_mb=1769, host=host)
    first = fn(0)
    (environment,) = living(host)
    assert environment.state == "ready"
    assert not frozen(environment)
    time.sleep(0.3)  # in which it is to go on
    assert fn(0) - first > 50
    assert not frozen(environment)


@pytest.mark.needs("cgroup.freeze")
def test_freezing_can_wait(make, new_host):
    host = new_host(freeze_after_ms=300)
    fn = make(COUNT, host=host)
    begun = time.monotonic()
    fn()
    (environment,) = living(host)
    assert environment.state == "ready"
    assert not frozen(environment)
    assert until(lambda: frozen(environment))
    assert 0.25 < time.monotonic() - begun < SLOWNESS
    assert living(host)[0].state == "frozen"
    assert fn() == 2


@pytest.mark.needs("cgroup.freeze")
def test_a_frozen_environment_is_stopped_before_the_next_event(make, host):
    fn = make(COUNT)
    for expected in range(1, 100):
        assert fn() == expected


@pytest.mark.needs("cgroup.freeze")
def test_after_a_burst_everything_stands_still_too(make, host):
    fn = make(COUNT, memory_mb=1769)
    assert [fn() for _ in range(200)] == list(range(1, 201))
    assert until(lambda: living(host)[0].state == "frozen", 2)
    assert until(lambda: frozen(living(host)[0]))
    assert fn() == 201


@pytest.mark.needs("cgroup.freeze")
def test_a_report_says_what_the_time_went_into(make, host):
    fn = make(f"import time\ntime.sleep(0.1)\n{textwrap.dedent(SLEEP)}", memory_mb=1769)
    began = time.monotonic()
    cold = fn.invoke(0.05).report
    wall_ms = (time.monotonic() - began) * 1000
    assert {"queue", "import", "initialise", "invoke"} <= cold.phases.keys()
    assert not {"thaw", "freeze"} & cold.phases.keys()
    assert cold.phases["import"] >= 100
    assert 50 <= cold.phases["invoke"] <= cold.duration_ms
    assert sum(cold.phases.values()) < wall_ms
    warm = fn.invoke(0.05).report
    assert set(warm.phases) == {"queue", "freeze", "thaw", "invoke"}
    assert warm.phases["thaw"] + warm.phases["invoke"] <= warm.duration_ms + 0.001
    host.prewarm(fn, 1)
    fn.invoke(0)
    ready = fn.invoke(0).report
    assert "import" not in ready.phases, "nobody waited for it"


@pytest.mark.parametrize("said", ["b''", "bytes(8)", "b'\\xff' * 8", "bytes(100)"])
def test_what_an_environment_says_of_its_import_is_believed_as_far_as_it_was_seen(make, said):
    fn = make(f"""
        import sys
        sys.modules["coldframe_runtime.environment"]._IMPORT_TOOK = type("", (), {{"pack": lambda self, ns: {said}}})()
        def handler(event, context):
            return event
    """)
    invocation = fn.invoke(1)
    assert invocation.unwrap() == 1
    report = invocation.report
    assert 0 <= report.phases.get("import", 0) <= report.init_duration_ms


# Retired


def test_idle_environments_are_retired(make, new_host):
    host = new_host(idle_timeout_s=0.3)
    fn = make(COUNT, host=host)
    fn()
    begun = time.monotonic()
    (environment,) = living(host)
    assert until(lambda: not host.environments())
    assert 0.2 < time.monotonic() - begun < 1.5
    assert until(lambda: not Path(f"/proc/{environment.pid}").exists())
    assert until(lambda: all(deserted(path) for path in environment.cgroups.values()))
    assert fn() == 1, "a new one"


def test_used_environments_are_not_retired(make, new_host):
    fn = make(COUNT, host=new_host(idle_timeout_s=0.4))
    for expected in range(1, 9):
        assert fn() == expected
        time.sleep(0.1)  # less than the timeout, and together more


# Concurrency


def test_concurrency_makes_environments(make, host):
    fn = make(SLEEP)
    futures = [fn.submit(0.3) for _ in range(4)]
    invocations = [future.result() for future in futures]
    assert {one.payload for one in invocations} == {0.3}
    assert len({one.report.environment_id for one in invocations}) == 4
    assert len(living(host, 4)) == 4
    assert fn.invoke(0).report.start == "warm"


def test_over_the_limit_of_the_host_events_are_refused(make, new_host):
    host = new_host(max_concurrency=2)
    fn = make(SLEEP, host=host)
    running = [fn.submit(0.5) for _ in range(2)]
    assert until(lambda: [one.state for one in host.environments()].count("busy") == 2)
    with pytest.raises(coldframe.ThrottledError, match="max_concurrency"):
        fn(0)
    with pytest.raises(coldframe.ThrottledError, match="max_concurrency"):
        fn.submit(0).result()
    assert [future.result().payload for future in running] == [0.5, 0.5]
    assert fn(0) == 0, "there is room again"


def test_map_waits_for_room(make, new_host):
    host = new_host(max_concurrency=2)
    fn = make(SLEEP, host=host)
    events = [0.05, 0.001, 0.03, 0.002, 0.04, 0.003, 0.02, 0.004]
    assert [one.payload for one in fn.map(events)] == events
    assert len(host.environments()) <= 2


def test_reserved_concurrency_is_the_functions_own_limit(make, host):
    fn, other = make(SLEEP, reserved_concurrency=1), make(COUNT, name="other")
    running = fn.submit(0.5)
    assert until(lambda: [one.state for one in host.environments()] == ["busy"])
    with pytest.raises(coldframe.ThrottledError, match="reserved_concurrency=1"):
        fn(0)
    assert other() == 1
    assert running.result().ok
    assert [one.payload for one in fn.map([0.01, 0.02, 0])] == [0.01, 0.02, 0]


def test_with_nothing_reserved_nothing_runs(make):
    with pytest.raises(coldframe.ThrottledError):
        make(COUNT, reserved_concurrency=0)()


def test_environments_can_be_made_ahead_of_need(make, host):
    fn = make(SLEEP)
    host.prewarm(fn, 3)
    assert {one.state for one in living(host, 3)} == {"frozen"}
    futures = [fn.submit(0.2) for _ in range(3)]
    assert {future.result().report.start for future in futures} == {"warm"}


# Memory of the host

HOLD = """
    held = None
    def handler(event, context):
        global held
        held = bytes([1]) * (event << 20)
        return len(held)
"""


@pytest.mark.needs("cgroup.memory")
def test_idle_environments_make_room(make, new_host):
    host = new_host(max_memory_mb=200)
    fns = [make(HOLD, name=f"f{index}", memory_mb=1024, host=host) for index in range(4)]
    for fn in fns:
        assert fn(120) == 120 << 20
    until(lambda: len(host.environments()) <= 2)
    names = {one.function for one in host.environments()}
    assert "f3" in names, "the last one stays"
    gone = next(fn for fn in fns if fn.name not in names)
    assert gone.invoke(1).report.start == "cold"


@pytest.mark.needs("cgroup.memory")
def test_what_is_dear_to_make_again_is_kept_and_the_log_says_why_another_went(make, new_host, caplog):
    host = new_host(max_memory_mb=200)
    dear = make("    import time\n    time.sleep(0.5)\n" + HOLD, name="dear", memory_mb=1024, host=host)
    cheap = [make(HOLD, name=f"cheap{index}", memory_mb=1024, host=host) for index in range(4)]
    with caplog.at_level("DEBUG", logger="coldframe"):
        dear(70)
        for fn in cheap:
            fn(70)
    assert dear.invoke(1).report.start == "warm", "it was idle longest, and is worth most"
    evicted = [record.getMessage() for record in caplog.records if record.getMessage().startswith("evicted")]
    assert evicted
    assert all("of cheap" in line for line in evicted), evicted
    assert "max_memory_mb is 200" in evicted[0]
    assert "MiB held" in evicted[0]
    assert host.environments()[0].id not in evicted[0]


@pytest.mark.needs("cgroup.memory")
def test_with_all_of_them_busy_events_are_refused(make, new_host):
    host = new_host(max_memory_mb=100)
    source = """
        import time
        def handler(event, context):
            held = bytes([1]) * (event << 20)
            print("held", flush=True)
            time.sleep(0.8)
    """
    fn = make(source, memory_mb=1024, host=host)
    running = fn.submit(150)
    assert until(lambda: any(one.memory_mb > 140 for one in host.environments()))
    with pytest.raises(coldframe.ThrottledError, match="max_memory_mb"):
        make(COUNT, host=host)()
    assert running.result().ok
    assert make(COUNT, host=host)() == 1


# Zygotes


def threads(pid):
    return int(Path(f"/proc/{pid}/status").read_text().partition("Threads:")[2].split()[0])


def test_numpy_is_preloaded_into_a_zygote_of_one_thread(make, new_host):
    pytest.importorskip("numpy")
    host = new_host()
    fn = make(
        """
        import sys
        preloaded = "numpy" in sys.modules
        import numpy as np
        def handler(event, context):
            matrix = np.array(event)
            return [preloaded, (matrix @ matrix).tolist(), len(list(np.linalg.eigvals(matrix)))]
        """,
        host=host,
        memory_mb=1769,
    )
    assert fn([[1.0, 2.0], [3.0, 4.0]]) == [True, [[7.0, 10.0], [15.0, 22.0]], 2]
    with no_stock():
        assert {threads(pid) for pid in beside_environments()} == {1}


def in_an_interpreter_of_its_own(folder, package, *preloads):
    """Call a function that imports `extra`, which is installed in a virtual environment below `folder`."""
    venv, code = Path(folder, "venv"), Path(folder, "code")
    code.mkdir()
    (code / "app.py").write_text("import extra\ndef handler(event, context):\n    return 1\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "extra.py").write_text(package)
    (site / "coldframe.pth").write_text(f"{Path(coldframe.__file__).parents[1]}\n")
    program = textwrap.dedent(f"""
        import coldframe
        for preload in {preloads!r}:
            with coldframe.Function("app.handler", {str(code)!r}, preload=preload) as fn:
                try:
                    print(fn())
                except coldframe.ColdframeError as error:
                    print(type(error).__name__, error)
    """)
    done = subprocess.run([venv / "bin/python", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_package_that_starts_threads_is_refused():
    package = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        refused, worked = in_an_interpreter_of_its_own(folder, package, ["extra"], ())
    assert refused.startswith("ConfigurationError")
    assert "extra" in refused
    assert "2 threads" in refused
    assert worked == "1", "it may be imported in the environment"


@pytest.mark.parametrize("place", ["/tmp", "/opt"])
def test_packages_may_lie_where_environments_have_something_else(place):
    if not os.access(place, os.W_OK):
        pytest.skip(f"{place} is read-only here")
    with tempfile.TemporaryDirectory(dir=place) as folder:
        assert in_an_interpreter_of_its_own(folder, "", (), ["extra"]) == ["1", "1"]


# Cancelled


def test_a_cancelled_future_kills_what_it_ran(make, host):
    fn = make(SLEEP, timeout_s=60)
    future = fn.submit(60)
    assert until(lambda: [one.state for one in host.environments()] == ["busy"])
    (environment,) = living(host)
    pids = {environment.pid, *descendants(environment.pid)}
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(1)
    assert until(lambda: not pids & set(descendants()), 2)
    assert until(lambda: not host.environments())
    assert fn(0) == 0


def test_a_future_that_is_done_is_not_cancelled(make):
    fn = make(COUNT)
    future = fn.submit()
    assert future.result().payload == 1
    assert not future.cancel()
    assert fn() == 2


def test_a_cancelled_task_kills_what_it_ran(make, host):
    fn = make(SLEEP, timeout_s=60)

    async def main():
        task = asyncio.create_task(fn.ainvoke(60))
        await asyncio.to_thread(until, lambda: [one.state for one in host.environments()] == ["busy"])
        (environment,) = living(host)
        pids = {environment.pid, *descendants(environment.pid)}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pids

    pids = asyncio.run(main())
    assert until(lambda: not pids & set(descendants()), 2)
    assert fn(0) == 0


def test_leaving_a_map_kills_what_is_in_flight(make, host):
    fn = make(SLEEP, timeout_s=60)
    results = fn.map([0, 60, 60])
    assert next(results).payload == 0
    results.close()
    assert until(lambda: "busy" not in [one.state for one in host.environments()], 2)


def test_ctrl_c_kills_what_the_call_ran(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(SLEEP))
    program = textwrap.dedent(f"""
        import time, coldframe
        fn = coldframe.Function("app.handler", {str(tmp_path)!r}, timeout_s=60)
        fn(0)
        print("ready", flush=True)
        try:
            fn(60)
        except KeyboardInterrupt:
            deadline = time.monotonic() + 2
            while coldframe.default_host().environments() and time.monotonic() < deadline:
                time.sleep(0.005)
            print(coldframe.default_host().environments(), fn(0))
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        until(lambda: any("python" in what for what in descendants(process.pid).values()))
        time.sleep(0.1)  # the call itself cannot be seen from outside
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "[] 0\n"
        assert process.wait(10) == 0
        assert time.monotonic() - begun < 3
    assert not [pid for pid in descendants() if pid == process.pid]


def test_a_host_that_is_closed_ends_what_is_in_flight(make):
    host = coldframe.Host()
    fn = make(SLEEP, timeout_s=60, host=host)
    future = fn.submit(60)
    assert until(lambda: [one.state for one in host.environments()] == ["busy"])
    begun = time.monotonic()
    host.close()
    assert time.monotonic() - begun < 2
    assert not future.running()
    assert isinstance(future.exception(1), coldframe.ColdframeError) or not future.result().ok
    with pytest.raises(coldframe.ColdframeError, match="closed"):
        fn(0)
    host.close()


def test_a_forked_child_has_environments_of_its_own(make, host):
    fn = make(COUNT)
    assert fn() == 1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, f"{fn()} {len(host.environments())}".encode())
            host.close()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        assert file.read() == "1 1"
    assert os.waitpid(pid, 0)[1] == 0
    assert fn() == 2, "the parent's is untouched"
