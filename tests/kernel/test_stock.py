"""What is made ahead of need: how much, and that it serves."""

import time
from pathlib import Path

import pytest
from conftest import burst, living, parked, parks, seats, stock, until

import coldframe

MOST = 32
"""Environments that are parked for one zygote at most."""
PARKED_MB, PART = 3, 20
"""What a parked environment is counted as, in MiB, and the part of the memory that all of them may take."""

ECHO = "def handler(event, context):\n    return event\n"
WHO = """
def handler(event, context):
    with open("/proc/self/uid_map") as file:
        return [event, file.read().split()[1]]
"""


def locked_down(pid):
    """Return whether a process has the system call filter: the last step of becoming a function's environment."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return "\nSeccomp:\t2" in status


@pytest.fixture
def new_host():
    """Return a factory of hosts, all closed when the test ends."""
    hosts = []

    def new_host(**options):
        hosts.append(coldframe.Host(**options))
        return hosts[-1]

    yield new_host
    for host in hosts:
        host.close()


def test_nothing_is_made_before_the_first_call(make, new_host):
    host = new_host()
    make(ECHO, host=host)
    assert (host.parked, seats()) == (0, {})


def test_after_the_first_call_one_environment_is_parked(make, new_host):
    host = new_host()
    assert make(ECHO, host=host)(1) == 1
    (init,) = parks(host)
    (environment,) = living(host)
    assert init != environment.pid
    assert until(lambda: len(stock()) == 2), "and one seat is free"
    assert len(host.environments()) == 1


def test_what_is_parked_serves_the_next_cold_start(make, new_host):
    host = new_host()
    host._native.park_at_most(1, 1)
    fn = make(ECHO, host=host)
    fn(1)
    for number in range(1, 4):
        ((init, process),) = parks(host).items()
        others = {environment.pid for environment in host.environments()}
        other = make(ECHO, host=host, name=f"fn{number}")
        invocation = other.invoke(number)
        assert (invocation.payload, invocation.report.start) == (number, "cold")
        (new,) = {environment.pid for environment in host.environments()} - others
        assert new == init
        assert seats()[init] == {process}
        assert init not in parks(host), "and another is parked in its place"


def test_a_function_that_comes_back_has_one_parked_that_is_its_own(make, new_host):
    """It is the function's in everything but its code, of which nothing has run."""
    host = new_host()
    host._native.park_at_most(1, 1)
    fn = make(ECHO, host=host, reuse=False)
    fn(0)
    assert not any(map(locked_down, parks(host).values())), "a first start tells nothing of a second"
    fn(1)
    assert host._native.wait_for_stock(10)
    ((init, process),) = parks(host).items()
    assert locked_down(process)
    assert not [environment for environment in host.environments() if environment.pid == init], "it is nobody's yet"
    invocation = fn.invoke(2)
    assert (invocation.payload, invocation.report.start) == (2, "cold")
    assert invocation.report.phases["isolate"] == 0.0
    assert until(lambda: init not in seats())


def test_functions_that_come_back_leave_some_for_those_that_come_first(make, new_host):
    host = new_host()
    host._native.park_at_most(4, 1)
    for number in range(6):
        fn = make(ECHO, host=host, name=f"fn{number}", reuse=False)
        assert [fn(1), fn(2)] == [1, 2]
    assert host._native.wait_for_stock(10)
    own = [locked_down(process) for process in parks(host).values()]
    assert (own.count(True), own.count(False)) == (3, 1)


def test_what_is_parked_for_one_function_serves_no_other(make, new_host):
    host = new_host()
    host._native.park_at_most(1, 1)
    fn = make(WHO, host=host, reuse=False)
    fn(0)
    fn(1)
    assert host._native.wait_for_stock(10)
    ((init, _),) = parks(host).items()
    other = make(ECHO, host=host, name="other")
    assert other(1) == 1
    assert init not in {environment.pid for environment in host.environments()}
    assert init in parks(host)
    fn.close()
    assert until(lambda: init not in seats()), "and it ends with its function"


def test_a_function_that_fails_to_initialise_uses_one_up(make, new_host):
    host = new_host()
    host._native.park_at_most(1, 1)
    make(ECHO, host=host)(1)
    (init,) = parks(host)
    error = make("1 / 0", host=host).invoke().error
    assert error.error_type == "ZeroDivisionError"
    assert until(lambda: init not in seats())
    parks(host)


def test_without_a_stock_environments_are_made_when_they_are_needed(make, new_host):
    host = new_host()
    host._native.park_at_most(0, 0)
    fn = make(ECHO, host=host, reuse=False)
    assert [fn(number) for number in range(3)] == [0, 1, 2]
    assert until(lambda: not host.environments())
    assert (host.parked, until(lambda: not stock())) == (0, True)


@pytest.mark.parametrize("most", [1, 3])
def test_free_seats_alone_serve(make, new_host, most):
    host = new_host()
    host._native.park_at_most(0, most)
    make(ECHO, host=host)(0)
    # As many as the last start and what was near it took; all of them free.
    assert until(lambda: 1 <= len(stock()) <= most and not any(stock().values())), stock()
    free = set(stock())
    assert make(ECHO, host=host, name="other")(1) == 1
    (pid,) = [environment.pid for environment in host.environments() if environment.function == "other"]
    assert pid in free
    assert host.parked == 0


def test_the_stock_is_as_large_as_the_last_burst(make, new_host):
    host = new_host()
    fn = make(WHO, host=host, timeout_s=10, reuse=False)
    fn(0)
    parks(host)
    count, most = 8, 0
    invocations = burst(fn, count)
    assert sorted(invocation.payload[0] for invocation in invocations) == list(range(count))
    assert len({invocation.report.environment_id for invocation in invocations}) == count

    def grown():
        nonlocal most
        most = max(most, host.parked)
        # A seat more is free, and then there is nothing to do.
        return host.parked >= count // 2 and len(stock()) == host.parked + 1

    assert until(grown, 10), (host.parked, stock())
    assert most <= count + 1
    assert len(parked()) == host.parked


@pytest.mark.needs("root")
def test_those_of_a_burst_are_different_host_users(make, new_host):
    fn = make(WHO, host=new_host(), timeout_s=10, reuse=False)
    invocations = burst(fn, 12)
    assert len({invocation.payload[1] for invocation in invocations}) == 12


def test_a_burst_that_finds_nothing_ready_is_answered(make, new_host):
    fn = make(WHO, host=new_host(), timeout_s=10, reuse=False)
    invocations = burst(fn, 12)
    assert sorted(invocation.payload[0] for invocation in invocations) == list(range(12))
    assert len({invocation.report.environment_id for invocation in invocations}) == 12


@pytest.mark.timeout(120)
def test_the_stock_has_an_end(make, new_host):
    host = new_host()
    fn = make(ECHO, host=host, timeout_s=10)
    fn(0)
    parks(host)
    seen = []

    def full():
        if not seen or seen[-1] < MOST:
            burst(make(ECHO, host=host), MOST + 8)
        return until(lambda: seen.append(host.parked) or seen[-1] >= MOST, 5)

    assert until(full, 60), max(seen)
    # Full: a seat more is free, and then there is nothing to do.
    assert until(lambda: len(stock()) == MOST + 1), len(stock())
    assert (max(seen), host.parked) == (MOST, MOST)


@pytest.mark.parametrize("most", [0, 1, 4])
def test_what_is_parked_takes_a_small_part_of_the_memory(make, new_host, most):
    host = new_host(max_memory_mb=PARKED_MB * PART * most + 59)
    host._native.park_at_most(None, 2)
    fn = make(ECHO, host=host, timeout_s=10, memory_mb=64)
    seen, deadline = [], time.monotonic() + 20
    # Quiet is when the free seats are made: they come last.
    while time.monotonic() < deadline:
        invocations = burst(fn, most + 3)
        assert sorted(invocation.payload for invocation in invocations if invocation.ok)
        until(lambda: seen.append(host.parked) or (seen[-1] >= most and len(stock()) >= most + 2), 2)
        if seen[-1] >= most and len(stock()) >= most + 2:
            break
    assert (max(seen), len(parked()), len(stock())) == (most, most, most + 2)


def test_a_host_that_is_short_of_memory_gives_its_stock_up_first(make, new_host):
    host = new_host(max_memory_mb=200)
    fn = make("def handler(event, context):\n    return len(bytes([1]) * (event << 20))\n", host=host, memory_mb=512)
    fn(1)
    parks(host)
    future = fn.submit(230)
    assert future.result(10).ok
    assert fn.invoke(1).report.start == "warm", "an idle environment is worth more"
