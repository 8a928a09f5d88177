"""Many invocations at once, from threads and from asyncio, and their cancellation."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError, as_completed

import pytest

from coldframe import Function, Host

ECHO = "def handler(event, context):\n    return event\n"
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"


def until(condition, within_s=10):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def busy(host):
    return [each for each in host.environments() if each.state == "busy"]


def test_cancelling_a_future_kills_the_environment_that_runs_it(make):
    with Host() as host:
        fn = make(SLEEP, host=host, timeout_s=60)
        future = fn.submit(50)
        until(lambda: busy(host))
        assert future.running()
        assert future.cancel()
        assert future.cancelled()
        assert future.done()
        with pytest.raises(CancelledError):
            future.result(1)
        until(lambda: not host.environments())
        assert list(as_completed([future], timeout=1)) == [future]
        assert fn(0) == 0


def test_a_finished_future_cannot_be_cancelled(make):
    fn = make(ECHO)
    future = fn.submit(1)
    assert future.result(10).payload == 1
    assert not future.cancel()
    seen = []
    future.add_done_callback(seen.append)
    assert seen == [future]
    again = fn.invoke(2)
    assert again.report.start == "warm", "a late cancellation hits nobody"


def test_cancelling_a_task_kills_the_environment(make):
    with Host() as host:
        fn = make(SLEEP, host=host, timeout_s=60)

        async def cancel():
            task = asyncio.create_task(fn.ainvoke(50))
            await asyncio.to_thread(until, lambda: busy(host))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(fn.ainvoke(50), 0.3)

        asyncio.run(cancel())
        until(lambda: not host.environments())
        assert fn(0) == 0


def test_asyncio_stays_responsive_while_handlers_run(make):
    fn = make(SLEEP, memory_mb=512)

    async def both():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        results = await asyncio.gather(*(fn.ainvoke(0.4) for _ in range(8)))
        took = time.monotonic() - began
        ticking.cancel()
        return results, took, ticks

    results, took, ticks = asyncio.run(both())
    assert [each.payload for each in results] == [0.4] * 8
    assert took < 2
    assert ticks > 20


def test_twenty_threads_at_once(make):
    functions = [make(f"def handler(event, context):\n    return [{i}, event]\n", name=f"fn{i}") for i in range(4)]
    failures, counts, lock = [], [], threading.Lock()

    def work(number):
        done = 0
        for step in range(25):
            fn = functions[(number + step) % 4]
            result = fn([number, step]) if step % 2 else fn.submit([number, step]).result(30).unwrap()
            if result == [(number + step) % 4, [number, step]]:
                done += 1
            else:
                failures.append(result)
        with lock:
            counts.append(done)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    assert failures == []
    assert counts == [25] * 20


def test_functions_are_made_and_closed_by_many_threads(make, host, tmp_path):
    (tmp_path / "app.py").write_text(ECHO)
    results, errors = [], []

    def work(number):
        try:
            for step in range(3):
                with Function("app.handler", tmp_path / "app.py", host=host) as fn:
                    results.append(fn([number, step]) == [number, step])
        except Exception as error:  # noqa: BLE001 - collected
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert errors == []
    assert results == [True] * 30


def test_the_gil_is_free_while_a_handler_runs(make):
    fn = make(SLEEP)
    fn(0)
    counted = 0
    future = fn.submit(0.3)
    while not future.done():
        counted += 1
    assert counted > 1_000
