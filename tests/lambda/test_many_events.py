"""Two thousand events at once: some may be throttled, none is lost, none hangs."""

import threading
import time
from collections import Counter
from concurrent.futures import wait

import pytest

from coldframe import Host, ThrottledError

ECHO = "def handler(event, context):\n    return event\n"


def test_two_thousand_events_of_map_all_arrive_in_order(make):
    with Host(max_concurrency=16) as host:
        fn = make("def handler(event, context):\n    return event * 2\n", host=host, timeout_s=30)
        results = [invocation.unwrap() for invocation in fn.map(range(2_000))]
        assert results == [2 * number for number in range(2_000)]
        assert len(host.environments()) <= 16


@pytest.mark.timeout(120)
def test_two_thousand_submissions_none_lost_none_hung(make):
    with Host(max_concurrency=16) as host:
        fn = make(ECHO, host=host, timeout_s=30)
        futures = [fn.submit(number) for number in range(2_000)]
        done, pending = wait(futures, timeout=90)
        assert not pending
        assert len(done) == 2_000
        seen = Counter()
        for number, future in enumerate(futures):
            error = future.exception()
            seen[type(error)] += 1
            if error is None:
                assert future.result().unwrap() == number
        assert seen.keys() <= {type(None), ThrottledError}
        assert seen[type(None)] >= 16
        assert fn("well") == "well"


@pytest.mark.timeout(120)
def test_two_thousand_submissions_to_a_host_with_room_for_a_thousand(make):
    with Host() as host:
        fn = make(ECHO, host=host, memory_mb=1769, timeout_s=30)
        threads = threading.active_count()
        futures = [fn.submit(number) for number in range(2_000)]
        _, pending = wait(futures, timeout=100)
        assert not pending
        kinds = Counter(type(future.exception()) for future in futures)
        assert kinds.keys() <= {type(None), ThrottledError}
        assert kinds[type(None)] > 0
        assert fn("well") == "well"
    deadline = time.monotonic() + 10
    while threading.active_count() > threads:
        assert time.monotonic() < deadline


def test_over_the_limit_every_form_but_map_is_throttled(make):
    with Host(max_concurrency=1) as host:
        fn = make("import time\ndef handler(event, context):\n    time.sleep(event)\n", host=host, timeout_s=30)
        fn(0)
        busy = fn.submit(20)
        deadline = time.monotonic() + 10
        while not any(each.state == "busy" for each in host.environments()):
            assert time.monotonic() < deadline
        with pytest.raises(ThrottledError):
            fn(0)
        with pytest.raises(ThrottledError):
            fn.invoke(0)
        with pytest.raises(ThrottledError):
            fn.submit(0).result(10)
        assert busy.cancel()
        assert [each.ok for each in fn.map([0, 0])] == [True, True]
