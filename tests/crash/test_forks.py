"""A process that was forked off has a part in nothing of its parent's: it ends no invocation, and reads no answer."""

import os
import warnings

import pytest
from conftest import until

import coldframe

HANDLER = """
    import time

    def handler(event, context):
        time.sleep(event)
        return event

    def chunks(event, context):
        for number in range(event):
            yield f"{number} "
"""


def in_a_fork(work):
    """Return what `work()` returns in a forked process, by its exit status; 99 if it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from Python 3.12 on
        pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = work() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_work(host):
    return until(lambda: any(environment.state == "busy" for environment in host.environments()))


def test_a_future_that_a_fork_cancels_goes_on(make, host):
    future = make(HANDLER, timeout_s=10).submit(0.5)
    assert at_work(host)
    assert in_a_fork(lambda: not future.cancel() and 1) in (0, 1)
    assert future.result(10).payload == 0.5


def test_so_does_a_map_that_it_closes(make, host):
    results = make(HANDLER, timeout_s=10).map([0.2] * 4)
    assert next(results).payload == 0.2
    assert in_a_fork(results.close) == 0
    assert [result.payload for result in results] == [0.2] * 3


def test_a_stream_that_a_fork_closes_goes_on(make):
    with make(HANDLER, handler="app.chunks").stream(4) as stream:
        assert next(stream) == b"0 "
        assert in_a_fork(stream.close) == 0
        assert list(stream) == [b"1 ", b"2 ", b"3 "]


def test_a_fork_reads_nothing_of_it(make):
    def read():
        with pytest.raises(coldframe.ColdframeError, match="in a forked process the stream of its parent is closed"):
            next(stream)

    with make(HANDLER, handler="app.chunks").stream(4) as stream:
        assert next(stream) == b"0 "
        assert in_a_fork(read) == 0
        assert list(stream) == [b"1 ", b"2 ", b"3 "]


def test_here_they_end(make, host):
    fn = make(HANDLER, timeout_s=10)
    future = fn.submit(9)
    assert at_work(host)
    assert future.cancel()
    assert until(lambda: not host.environments())
    with make(HANDLER, name="chunks", handler="app.chunks").stream(4) as stream:
        assert next(stream) == b"0 "
        stream.close()
        assert list(stream) == []
