"""Death beside the stock: of what waits in it, of those who make it, of its owner, and of a host that is closed."""

import gc
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import (
    burst,
    cgroups_of,
    descendants,
    directories_of,
    inventory,
    no_stock,
    parked,
    parks,
    seats,
    stock,
    until,
)
from test_death import SLEEP, embedding, left, parts, parts_of, started

import coldframe

ECHO = "def handler(event, context):\n    return event\n"
PARTS = ["zygote's init", "zygote", "init", "handler"]
INIT_TIMEOUT_S = 10
"""Within which an environment has to be initialised."""


def victims(host):
    """Return the process ids of one environment that is parked, and of those that it hangs from."""
    init, process = next(iter(parks(host).items()))
    return parts_of(init, process)


@pytest.mark.parametrize("part", PARTS)
def test_killed_while_parked_nobody_notices(make, part):
    gc.collect()
    before = inventory()
    with coldframe.Host() as host:
        host._native.park_at_most(1, 1)
        fn = make(ECHO, host=host, reuse=False)
        fn(0)
        for number in range(10):
            victim = victims(host)
            os.kill(victim[part], signal.SIGKILL)
            assert until(lambda pid=victim["init"]: started(pid) is None)
            assert host.parked == 0, "the dead wait for nothing"
            assert fn(number) == number
            assert victim["init"] not in parks(host)
        with no_stock():
            assert until(lambda: not host.environments())
            # What has died is buried a little later.
            assert until(
                lambda: not [path for path in cgroups_of(os.getpid()) if os.path.basename(path).startswith("e")]
            )
    fn.close()
    assert until(lambda: inventory() == before), left(before)


@pytest.mark.parametrize("part", PARTS[:2])
def test_killed_while_the_stock_is_being_made(make, part):
    """Whenever a zygote ends, nobody waits for what it would have made."""
    with coldframe.Host() as host:
        fn = make(ECHO, host=host, timeout_s=10)
        fn(0)
        for number in range(10):
            victim = victims(host)
            with make(ECHO, host=host, reuse=False, timeout_s=10) as other:
                # The first takes what is parked; its replacement, and the seat of the second, are being made then.
                other(number)
                os.kill(victim[part], signal.SIGKILL)
                begun = time.monotonic()
                invocation = other.invoke(number)
                # One that was still alive when it was asked may have died with the event.
                assert invocation.ok or isinstance(invocation.error, coldframe.EnvironmentExit)
                assert other(number) == number
                assert time.monotonic() - begun < 3
        fn(0)
        parks(host)


def test_whoever_waits_for_a_seat_hears_of_the_end_of_its_zygote(make):
    with coldframe.Host() as host:
        host._native.park_at_most(0, 0)
        fn = make(SLEEP, host=host, timeout_s=10)
        fn(0)
        zygotes_init = parts(host)["zygote's init"]
        os.kill(zygotes_init, signal.SIGSTOP)
        before = cgroups_of(os.getpid())
        waiting = make(SLEEP, host=host, name="waiting", timeout_s=10).submit(0)
        assert until(lambda: cgroups_of(os.getpid()) != before), "it has begun, and is not answered"
        begun = time.monotonic()
        os.kill(zygotes_init, signal.SIGKILL)
        assert waiting.result(5).payload == 0, "another zygote has answered"
        assert time.monotonic() - begun < 3


def test_a_zygote_has_nothing_of_its_inits(make):
    """Packages that are imported there hear no request for a seat, and can put in no word of their own."""
    with coldframe.Host() as host:
        make(ECHO, host=host)(0)
        victim = victims(host)
        sockets = {
            part: {os.readlink(path) for path in Path(f"/proc/{victim[part]}/fd").iterdir()} - {"/null"}
            for part in ("zygote's init", "zygote")
        }
        assert not sockets["zygote"] & sockets["zygote's init"]
        assert len([name for name in sockets["zygote"] if name.startswith("socket:")]) == 1


@pytest.mark.parametrize("part", ["init", "handler"])
def test_stopped_while_parked_it_costs_time_or_nothing(make, part):
    with coldframe.Host() as host:
        host._native.park_at_most(1, 1)
        fn = make(ECHO, host=host)
        fn(0)
        victim = victims(host)
        os.kill(victim[part], signal.SIGSTOP)
        other = make(ECHO, host=host, name="other")
        begun = time.monotonic()
        invocation = other.invoke(1)
        if part == "init":
            assert invocation.payload == 1, "an init has nothing to do with an answer"
            assert victim["init"] in [environment.pid for environment in host.environments()]
        else:
            # Its initialisation never ended, and was tried again in another one.
            assert invocation.payload == 1
            assert "Status: timeout" in invocation.log
            assert INIT_TIMEOUT_S <= time.monotonic() - begun < INIT_TIMEOUT_S + 1
            assert until(lambda: started(victim["init"]) is None)
        assert other(2) == 2
        other.close()
        assert until(lambda: started(victim["init"]) is None), "stopped or not, it ends when it is told to"


@pytest.mark.parametrize("part", ["zygote's init", "zygote"])
def test_a_host_whose_zygote_is_stopped_is_closed_at_once(make, part):
    with coldframe.Host() as host:
        host._native.park_at_most(1, 0)
        fn = make(ECHO, host=host)
        fn(0)
        victim = victims(host)
        os.kill(victim[part], signal.SIGSTOP)
        # It takes what is parked, and the keeper asks one who does not answer for more.
        assert make(ECHO, host=host, name="other")(1) == 1
        assert fn(1) == 1
        assert until(lambda: host.parked == 0)
        time.sleep(0.05)  # that it has asked shows nowhere: it does two milliseconds after a start
        begun = time.monotonic()
        host.close()
        assert time.monotonic() - begun < 2
    assert until(lambda: not cgroups_of(os.getpid()))
    assert not seats()


def test_an_owner_with_a_stock_takes_it_along(tmp_path):
    before = set(descendants())
    calls = "import time\n[one.result() for one in [fn.submit(0.2) for _ in range(6)]]\n"
    wait = "while host.parked < 4: time.sleep(0.005)"
    with embedding(tmp_path, SLEEP, (calls + wait).replace("\n", "\n        "), memory_mb=1769) as process:
        assert sum(bool(below) for below in seats(process.pid).values()) >= 4 + 6, "what is parked, and what is warm"
        process.kill()
        assert process.wait(5) == -signal.SIGKILL
        assert until(lambda: not set(descendants()) - before, 2), "two seconds later"
    coldframe.Host().close()
    # Or whoever else starts one on this machine just now, and is not done yet.
    assert until(lambda: not cgroups_of(process.pid)), cgroups_of(process.pid)
    assert until(lambda: not directories_of(process.pid))


@pytest.mark.parametrize("moment", range(12))
def test_an_owner_that_dies_while_its_stock_is_made_takes_it_along(tmp_path, moment):
    """At many moments of the making: two milliseconds apart from one another."""
    before = set(descendants())
    with embedding(tmp_path, SLEEP, "futures = [fn.submit(0) for _ in range(8)]", memory_mb=1769) as process:
        time.sleep(moment * 0.002)
        process.kill()
        process.wait(5)
        assert until(lambda: not set(descendants()) - before, 2)
    coldframe.Host().close()
    # Or whoever else starts one on this machine just now, and is not done yet.
    assert until(lambda: not cgroups_of(process.pid)), cgroups_of(process.pid)
    assert until(lambda: not directories_of(process.pid))


# The end of a host


def test_a_host_that_is_closed_takes_its_stock_along(make):
    gc.collect()
    before = inventory()
    with coldframe.Host() as host:
        fn = make(ECHO, host=host, timeout_s=10)
        burst(fn, 8)
        parks(host, 4)
        begun = time.monotonic()
        host.close()
        assert time.monotonic() - begun < 2
        assert (host.parked, seats()) == (0, {})
    fn.close()
    assert until(lambda: inventory() == before), left(before)


@pytest.mark.timeout(120)
def test_hosts_with_tiny_lives_leave_nothing(make):
    """Closed at another moment of the keeper's work each: it begins some milliseconds after a start."""
    gc.collect()
    before = inventory()
    for life in range(30):
        with coldframe.Host() as host:
            fn = make(ECHO, host=host, timeout_s=10)
            if life % 3:
                burst(fn, life % 3 * 2)
            else:
                fn(life)
            time.sleep(life * 0.0007)
            begun = time.monotonic()
        assert time.monotonic() - begun < 2
        fn.close()
        assert not seats(), life
    assert until(lambda: inventory() == before), left(before)


# A copy of the owner


def test_a_forked_child_leaves_the_parents_stock_alone(make):
    with coldframe.Host() as host:
        host._native.park_at_most(1, 1)
        fn = make(ECHO, host=host)
        fn(0)
        before = parks(host)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                # Its own zygote, and its own stock.
                answer = fn(7)
                filled = until(lambda: host.parked == 1 and len(parked()) == 1)
                own = set(parked())
                host.close()
                os.write(writer, f"{answer} {filled} {own.isdisjoint(before)} {seats()}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader) as file:
            assert file.read() == "7 True True {}"
        assert os.waitpid(pid, 0)[1] == 0
        assert parks(host) == before
        assert make(ECHO, host=host, name="other")(1) == 1
        assert set(before) <= {environment.pid for environment in host.environments()}


def test_a_forked_child_that_ends_by_itself_leaves_the_parents_stock_alone(make):
    with coldframe.Host() as host:
        host._native.park_at_most(1, 1)
        make(ECHO, host=host)(0)
        before = parks(host)
        for ending in (lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)):
            pid = os.fork()
            if pid == 0:
                ending()
            os.waitpid(pid, 0)
        assert parks(host) == before
        assert stock().keys() >= before.keys()
        assert make(ECHO, host=host, name="other")(1) == 1
        assert set(before) <= {environment.pid for environment in host.environments()}
