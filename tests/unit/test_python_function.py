"""Every way to invoke a function, and the hosts behind them, over a stand-in for the core."""

import asyncio
import gc
import json
import os
import sys
import threading
import time
import traceback
from concurrent.futures import CancelledError, as_completed, wait

import pytest
from test_python_fake import code, coldframe, errors, failure, fake  # noqa: F401

# These names are the fixtures of the stand-in.
# ruff: noqa: F811

PATIENCE_S = 10


@pytest.fixture
def fn(coldframe, code):
    with coldframe.Function("app.handler", code, timeout_s=5) as function:
        yield function


@pytest.fixture
def gate(fake):
    """Makes every invocation wait for `open`, or for its ticket; `entered` counts them."""

    class Gate:
        entered = threading.Semaphore(0)
        open = threading.Event()
        tickets = ()

        def enter(self, count):
            for _ in range(count):
                assert self.entered.acquire(timeout=PATIENCE_S)

    gate = Gate()

    def handler(event, call):
        gate.tickets = (*gate.tickets, call.ticket)
        gate.entered.release()
        deadline = time.monotonic() + PATIENCE_S
        while not gate.open.is_set() and not (call.ticket and call.ticket.cancelled.wait(0.001)):
            assert time.monotonic() < deadline
        return event

    fake.handler = handler
    yield gate
    gate.open.set()


def fail(fake):
    fake.handler = lambda event, call: failure("handler", "ValueError", "boom")


def test_a_call_returns_the_payload(fn, fake):
    assert fn({"name": "Ada"}) == {"name": "Ada"}
    assert fn() is None


def test_a_call_raises_what_invoke_returns(fn, fake, coldframe):
    fail(fake)
    with pytest.raises(coldframe.HandlerError, match="ValueError: boom"):
        fn({})
    assert fn.invoke({}).error.error_type == "ValueError"
    assert fn.submit({}).result(PATIENCE_S).error.error_type == "ValueError"
    assert [each.ok for each in fn.map([1, 2])] == [False, False]


def test_options_of_one_call(fn, fake):
    fake.handler = lambda event, call: json.dumps([call.timeout_s, (call.client_context or b"").decode()]).encode()
    options = {"timeout_s": 1, "client_context": {"a": 1}}
    assert fn({}) == [None, ""]
    assert fn({}, **options) == [1.0, '{"a":1}']
    assert fn.submit({}, **options).result(PATIENCE_S).payload == [1.0, '{"a":1}']
    assert asyncio.run(fn.ainvoke({}, **options)).payload == [1.0, '{"a":1}']
    assert [each.payload for each in fn.map([{}], **options)] == [[1.0, '{"a":1}']]


def test_what_the_caller_got_wrong_is_raised_by_every_form(fn, coldframe):
    for form in (fn, fn.invoke, lambda event: list(fn.map([event])), lambda event: asyncio.run(fn.ainvoke(event))):
        with pytest.raises(coldframe.PayloadError):
            form({1, 2})
    future = fn.submit({1, 2})
    with pytest.raises(coldframe.PayloadError):
        future.result(PATIENCE_S)
    with pytest.raises(coldframe.ConfigurationError):
        fn.submit({}, timeout_s="1").result(PATIENCE_S)


def test_the_core_gets_the_description(fn, fake, code):
    spec = fake.hosts[0].functions[0].spec
    assert spec["handler"] == "app.handler"
    assert spec["code"] == str(code)
    assert spec["name"] == "app"
    assert spec["proc"] == "pid"
    assert spec["interpreter"]["version"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert os.path.isfile(os.path.join(spec["runtime_dir"], "__init__.py"))
    assert "host" not in spec
    assert fn.isolation == {"network": "namespace"}
    with pytest.raises(TypeError):
        fn.isolation["network"] = "none"


def test_wait_and_as_completed_see_cancelled_futures(fn, gate):
    futures = [fn.submit(number) for number in range(3)]
    gate.enter(3)
    assert futures[0].running()
    assert not futures[0].done()
    assert futures[0].cancel()
    assert futures[0].cancelled()
    assert futures[0].cancel()
    gate.open.set()
    assert {future.cancelled() for future in as_completed(futures, PATIENCE_S)} == {True, False}
    assert wait(futures, PATIENCE_S).not_done == set()
    assert [future.result().payload for future in futures[1:]] == [1, 2]
    assert not futures[1].cancel()
    assert not futures[1].running()
    assert [ticket.cancelled.is_set() for ticket in gate.tickets].count(True) == 1


def test_cancelling_kills_at_once_and_calls_back_once(fn, gate):
    calls = []
    future = fn.submit(1)
    future.add_done_callback(calls.append)
    gate.enter(1)
    threads = [threading.Thread(target=future.cancel) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gate.tickets[0].cancelled.is_set()
    assert calls == [future]
    with pytest.raises(CancelledError):
        future.result(PATIENCE_S)


def test_a_future_gets_the_errors_of_the_core(fn, fake):
    def handler(event, call):
        raise errors().HostCapabilityError("no user namespaces")

    fake.handler = handler
    with pytest.raises(OSError, match="no user namespaces"):
        fn.submit({}).result(PATIENCE_S)


def test_submitting_over_the_limit_is_throttled_and_not_queued(coldframe, code, gate):
    with coldframe.Host(max_concurrency=2) as host:
        fn = coldframe.Function("app.handler", code, host=host)
        running = [fn.submit(number) for number in range(2)]
        gate.enter(2)
        over = [fn.submit(number) for number in range(100)]
        for future in over:
            with pytest.raises(coldframe.ThrottledError):
                future.result(PATIENCE_S)
        with pytest.raises(coldframe.ThrottledError):
            fn(1)
        gate.open.set()
        assert [future.result(PATIENCE_S).payload for future in running] == [0, 1]


def test_a_thread_that_cannot_be_started_is_throttling(coldframe, fn, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(coldframe.ThrottledError, match="can't start new thread"):
        fn.submit(1).result(PATIENCE_S)


def test_map_keeps_the_order(fn, fake):
    def handler(event, call):
        time.sleep(0.02 if int(event) % 3 == 0 else 0)
        return event

    fake.handler = handler
    assert [each.payload for each in fn.map(range(50))] == list(range(50))
    assert list(fn.map([])) == []


def test_map_waits_at_the_limit_and_looks_no_further_ahead(coldframe, code, gate):
    read = []

    def events():
        for number in range(20):
            read.append(number)
            yield number

    with coldframe.Host(max_concurrency=3) as host, coldframe.Function("app.handler", code, host=host) as fn:
        results = fn.map(events())
        assert read == []
        thread = threading.Thread(target=gate.enter, args=(3,))
        thread.start()
        opener = threading.Timer(0.2, gate.open.set)
        opener.start()
        assert next(results).payload == 0
        thread.join()
        assert len(read) <= 4
        assert [each.payload for each in results] == list(range(1, 20))


def test_map_serves_quick_handlers_with_few_and_slow_ones_with_many(coldframe, code, fake):
    lock = threading.Lock()
    running, most = 0, 0

    def handler(event, call):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(json.loads(event))
        with lock:
            running -= 1
        return event

    fake.handler = handler
    with coldframe.Host() as host, coldframe.Function("app.handler", code, host=host) as fn:
        assert len(list(fn.map([0] * 200))) == 200
        few = most
        fake.busy_state = "init"
        assert len(list(fn.map([0.1] * 40))) == 40
        still_few = most
        fake.busy_state = "busy"
        assert len(list(fn.map([0.5] * 40))) == 40
    assert few <= still_few <= 2 * os.cpu_count() < 40 == most


def test_map_side_by_side_with_others_never_throttles(coldframe, code, fake):
    with coldframe.Host(max_concurrency=2) as host, coldframe.Function("app.handler", code, host=host) as fn:
        pairs = zip(fn.map(range(50)), fn.map(range(50)), strict=True)
        assert all(one.payload == other.payload for one, other in pairs)


def test_leaving_map_early_cancels_what_is_in_flight(fn, gate):
    def events():
        yield 0
        yield 1
        yield 2
        gate.enter(3)
        gate.tickets[0].cancelled.set()  # ends the first one, as a result that can be looked at
        raise KeyError("the source of the events broke")

    with pytest.raises(KeyError):
        list(fn.map(events()))
    deadline = time.monotonic() + PATIENCE_S
    while not all(ticket.cancelled.is_set() for ticket in gate.tickets):
        assert time.monotonic() < deadline


def test_closing_map_cancels_what_is_in_flight(fn, fake, gate):
    slow = fake.handler

    def handler(event, call):
        if event != b"0":
            return slow(event, call)
        gate.enter(2)  # the first ends when the others are under way
        return event

    fake.handler = handler
    results = fn.map([0, 1, 2])
    assert next(results).payload == 0
    results.close()
    assert len(gate.tickets) == 2
    assert all(ticket.cancelled.is_set() for ticket in gate.tickets)


def test_map_raises_a_bad_event_in_its_place(fn, coldframe):
    results = fn.map([1, {2}, 3])
    assert next(results).payload == 1
    with pytest.raises(coldframe.PayloadError):
        next(results)
    assert list(results) == []


def test_nothing_reserved_is_throttled_by_map_too(coldframe, code, fake):
    def handler(event, call):
        raise errors().ThrottledError("nothing reserved")

    fake.handler = handler
    fn = coldframe.Function("app.handler", code, reserved_concurrency=0)
    with pytest.raises(coldframe.ThrottledError):
        list(fn.map([1, 2]))


def test_asyncio_runs_side_by_side(fn, gate):
    async def several():
        tasks = [asyncio.ensure_future(fn.ainvoke(number)) for number in range(5)]
        await asyncio.to_thread(gate.enter, 5)
        gate.open.set()
        return [each.payload for each in await asyncio.gather(*tasks)]

    assert asyncio.run(several()) == list(range(5))


def test_cancelling_a_task_kills_the_environment(fn, gate):
    async def cancelled():
        task = asyncio.ensure_future(fn.ainvoke(1))
        await asyncio.to_thread(gate.enter, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert gate.tickets[0].cancelled.wait(PATIENCE_S)


def test_a_timeout_of_asyncio_kills_the_environment(fn, gate):
    async def limited():
        async with asyncio.timeout(0.05):
            await fn.ainvoke(1)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    gate.enter(1)
    assert gate.tickets[0].cancelled.wait(PATIENCE_S)


def test_a_closed_function_says_so(coldframe, code, fake):
    with coldframe.Function("app.handler", code) as fn:
        assert fn(1) == 1
    fn.close()
    assert fake.hosts[0].functions[0].closed == 1
    assert repr(fn) == "<closed Function app (app.handler), memory_mb=128, timeout_s=3>"
    for form in (fn, lambda event: fn.submit(event).result(PATIENCE_S), lambda event: list(fn.map([event]))):
        with pytest.raises(coldframe.ColdframeError, match="function 'app' is closed"):
            form(1)


def test_a_forgotten_function_is_retired(coldframe, code, fake):
    fn = coldframe.Function("app.handler", code)
    native = fake.hosts[0].functions[0]
    fn(1)
    del fn
    gc.collect()
    assert native.closed == 1


def test_a_closed_host_says_so(coldframe, code, fake):
    with coldframe.Host() as host:
        fn = coldframe.Function("app.handler", code, host=host)
        assert fn.submit(1).result(PATIENCE_S).payload == 1
        assert host.parked == 3
        assert [each.state for each in host.environments()] == ["frozen"]
        assert host.environments()[0].cgroups == {"unified": "/x"}
    host.close()
    assert host.closed
    assert fake.hosts[0].is_closed
    assert (host.environments(), host.parked) == ([], 0)
    assert repr(host).startswith("<closed Host(max_concurrency=1000, max_memory_mb=None, idle_timeout_s=600")
    with pytest.raises(coldframe.ColdframeError, match="closed"):
        fn(1)
    with pytest.raises(coldframe.ColdframeError, match="this Host is closed; make a new one"):
        fn.submit(1).result(PATIENCE_S)
    with pytest.raises(coldframe.ColdframeError, match="this Host is closed; make a new one"):
        coldframe.Function("app.handler", code, host=host)


def test_closing_a_host_ends_what_is_in_flight(coldframe, code, gate):
    before = set(threading.enumerate())
    with coldframe.Host(max_concurrency=1) as host:
        fn = coldframe.Function("app.handler", code, host=host)
        running = fn.submit(1)
        gate.enter(1)
        gate.open.set()
    assert running.done()
    assert set(threading.enumerate()) <= before


def test_a_callback_may_close_the_host(coldframe, code, fake):
    host = coldframe.Host()
    fn = coldframe.Function("app.handler", code, host=host)
    closed = threading.Event()

    def close(future):
        host.close()
        closed.set()

    fn.submit(1).add_done_callback(close)
    assert closed.wait(PATIENCE_S)


def test_a_forgotten_host_is_closed(coldframe, fake):
    host = coldframe.Host()
    del host
    gc.collect()
    assert fake.hosts[0].is_closed


def test_the_default_host_is_made_once_and_again_when_closed(coldframe, fake, code):
    assert fake.hosts == []
    first = coldframe.default_host()
    assert coldframe.default_host() is first
    assert coldframe.Function("app.handler", code).host is first
    first.close()
    assert coldframe.default_host() is not first


def test_hosts_are_checked(coldframe):
    with pytest.raises(coldframe.ConfigurationError, match="max_concurrency"):
        coldframe.Host(max_concurrency="many")
    with pytest.raises(coldframe.ConfigurationError, match="cgroup='/x': use 'take' or None"):
        coldframe.Host(cgroup="/x")


def test_prewarming(coldframe, code, fake):
    with coldframe.Host() as host, coldframe.Host() as other:
        fn = coldframe.Function("app.handler", code, host=host)
        host.prewarm(fn, 3)
        assert fake.hosts[0].prewarmed == [(fake.hosts[0].functions[0], 3)]
        with pytest.raises(coldframe.ConfigurationError, match="another host"):
            other.prewarm(fn, 1)


def in_a_fork(check):
    """Run `check` in a forked child, and fail as it fails."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:  # noqa: BLE001 - it may not leave the child
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("own", [True, False])
def test_a_fork_starts_anew_and_leaves_the_parents_alone(coldframe, code, fake, own):
    host = coldframe.Host() if own else None
    fn = coldframe.Function("app.handler", code, host=host)
    assert fn.submit(1).result(PATIENCE_S).payload == 1

    def check():
        assert fake.hosts[0].forgotten
        assert not fake.hosts[0].is_closed
        assert fn.host.environments() == []
        assert fn(2) == 2
        assert fn.submit(3).result(PATIENCE_S).payload == 3
        assert len(fake.hosts) == 2
        fn.close()
        fn.host.close()
        assert [each.is_closed for each in fake.hosts] == [False, True]
        assert [each.functions[0].closed for each in fake.hosts] == [0, 1]

    in_a_fork(check)
    assert not fake.hosts[0].forgotten
    assert fn(4) == 4
    fn.host.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_does_not_run_other_code_under_the_same_function(coldframe, code, fake):
    fn = coldframe.Function("app.handler", code)

    def check():
        fake.code_key = "another"
        with pytest.raises(coldframe.ConfigurationError, match="changed after the function was made"):
            fn(1)

    in_a_fork(check)
    assert fn(1) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_ends_closes_nothing_of_the_parents(coldframe, code, fake):
    host = coldframe.Host()
    fn = coldframe.Function("app.handler", code, host=host)
    native = fake.hosts[0].functions[0]
    holder = [host, fn]
    del host, fn

    def check():
        holder.clear()
        gc.collect()
        assert not fake.hosts[0].is_closed
        assert native.closed == 0

    in_a_fork(check)
    assert len(holder) == 2
