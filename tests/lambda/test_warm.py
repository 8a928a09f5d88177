"""What stays between invocations, and what stands still."""

import time

import pytest

from coldframe import Host

COUNTER = "calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return calls\n"


def test_module_state_is_kept_while_warm(make):
    fn = make(COUNTER)
    invocations = [fn.invoke() for _ in range(3)]
    assert [invocation.payload for invocation in invocations] == [1, 2, 3]
    assert [invocation.report.start for invocation in invocations] == ["cold", "warm", "warm"]
    assert len({invocation.report.environment_id for invocation in invocations}) == 1
    assert invocations[0].report.init_duration_ms > 0
    assert invocations[1].report.init_duration_ms is None
    assert {invocation.report.restore_duration_ms for invocation in invocations} == {None}


def test_two_functions_share_nothing(make):
    first, second = make(COUNTER), make(COUNTER)
    assert [first(), first(), second()] == [1, 2, 1]


def test_without_reuse_every_event_gets_a_fresh_environment(make):
    fn = make(COUNTER, reuse=False)
    invocations = [fn.invoke() for _ in range(3)]
    assert [invocation.payload for invocation in invocations] == [1, 1, 1]
    assert {invocation.report.start for invocation in invocations} == {"cold"}
    assert len({invocation.report.environment_id for invocation in invocations}) == 3


def test_a_handler_that_raises_keeps_its_environment(make):
    fn = make(
        "calls = []\ndef handler(event, context):\n    calls.append(1)\n    return len(calls) if event else 1 / 0\n"
    )
    assert fn(1) == 1
    assert not fn.invoke(0).ok
    assert fn(1) == 3


@pytest.mark.parametrize("body", ["os._exit(0)", "time.sleep(30)", "bytearray(500 << 20)"])
def test_an_environment_that_was_killed_is_never_used_again(make, body):
    fn = make(
        f"import os, time\ncalls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n"
        f"    if event:\n        {body}\n    return calls\n",
        timeout_s=0.5,
        memory_mb=64,
    )
    first = fn.invoke()
    failed = fn.invoke(1)
    after = fn.invoke()
    assert first.payload == after.payload == 1
    assert failed.report.environment_id == first.report.environment_id != after.report.environment_id
    assert (failed.report.start, after.report.start) == ("warm", "cold")


def test_what_lies_in_tmp_and_in_the_environment_is_kept_while_warm(make):
    fn = make(
        "import os\n"
        "def handler(event, context):\n"
        "    before = sorted(os.listdir('/tmp')), os.environ.get('MINE'), os.getcwd()\n"
        "    open('/tmp/seen', 'a').close()\n"
        "    os.environ['MINE'] = 'kept'\n"
        "    os.chdir('/tmp')\n"
        "    return before\n",
        packages="none",  # a virtual environment under /tmp is shown there, at its own path
    )
    assert fn() == [[], None, "/var/task"]
    assert fn() == [["seen"], "kept", "/tmp"]


def test_background_threads_stand_still_between_invocations(make):
    fn = make(
        "import threading, time\n"
        "ticks = 0\n"
        "def tick():\n"
        "    global ticks\n"
        "    while True:\n"
        "        time.sleep(0.001)\n"
        "        ticks += 1\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "def handler(event, context):\n"
        "    start = ticks\n"
        "    while ticks < start + event:\n"
        "        time.sleep(0.001)\n"
        "    return [start, ticks]\n",
        memory_mb=1769,
    )
    _, before = fn(5)
    time.sleep(0.5)  # what is tested is that nothing happens meanwhile
    after, _ = fn(5)  # it runs on
    assert after - before < 100, "over 200 ticks fit into half a second"


def test_background_processes_stand_still_between_invocations(make):
    fn = make(
        "import subprocess, os\n"
        "def handler(event, context):\n"
        "    if event:\n"
        "        subprocess.Popen('while :; do echo >> /tmp/ticks; done', shell=True)\n"
        "        while not os.path.exists('/tmp/ticks'):\n"
        "            pass\n"
        "    return os.path.getsize('/tmp/ticks')\n",
        memory_mb=1769,
    )
    before = fn(1)
    time.sleep(0.5)
    invocation = fn.invoke(0)
    assert invocation.payload - before < 20_000
    assert invocation.report.cpu_ms < 250


def test_a_host_that_does_not_freeze_lets_threads_run(make):
    with Host(freeze=False) as host:
        fn = make(
            "import threading, time\n"
            "done = threading.Event()\n"
            "def later():\n"
            "    time.sleep(0.05)\n"
            "    done.set()\n"
            "def handler(event, context):\n"
            "    if event:\n"
            "        threading.Thread(target=later).start()\n"
            "        return None\n"
            "    return done.is_set()\n",
            host=host,
        )
        fn(1)
        deadline = time.monotonic() + 5
        while not fn(0):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_an_environment_that_ends_while_it_is_idle_costs_no_invocation(make):
    with Host(freeze=False) as host:
        fn = make(
            "import os, threading, time\n"
            "def handler(event, context):\n"
            "    if event:\n"
            "        threading.Timer(0.05, os._exit, (3,)).start()\n"
            "    return 'ok'\n",
            host=host,
        )
        assert fn(1) == "ok"
        deadline = time.monotonic() + 5
        while host.environments():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        after = fn.invoke(0)
        assert (after.payload, after.report.start) == ("ok", "cold")


def test_what_is_made_ahead_serves_one_event_where_environments_are_not_used_again(make):
    fn = make(COUNTER, reuse=False)
    fn.host.prewarm(fn, 2)
    invocations = [fn.invoke() for _ in range(3)]
    assert [each.report.start for each in invocations] == ["warm", "warm", "cold"]
    assert len({each.report.environment_id for each in invocations}) == 3
    assert len({str(each.payload) for each in invocations}) == 1, "each is the first event of its environment"


def test_prewarmed_environments_serve_warm(make):
    fn = make(COUNTER, name="prewarmed")
    fn.host.prewarm(fn, 2)
    mine = [each for each in fn.host.environments() if each.function == fn.name]
    assert len(mine) == 2
    invocations = list(fn.map([None, None]))
    assert {invocation.report.start for invocation in invocations} == {"warm"}
    assert {invocation.report.environment_id for invocation in invocations} <= {each.id for each in mine}


def test_idle_environments_are_retired_after_the_idle_timeout(make):
    with Host(idle_timeout_s=0.2) as host:
        fn = make(COUNTER, host=host)
        assert fn() == 1
        deadline = time.monotonic() + 5
        while host.environments():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert fn() == 1


def test_random_state_is_fresh_in_every_environment(make):
    source = (
        "import random, uuid, tempfile\n"
        "def handler(event, context):\n"
        "    return [random.random(), str(uuid.uuid4()), tempfile.mktemp()]\n"
    )
    fn = make(source, reuse=False)
    seen = [fn() for _ in range(4)]
    for column in zip(*seen, strict=True):
        assert len(set(column)) == 4
