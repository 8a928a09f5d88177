"""What an observer of invocations is told, in every form of a call, and that it changes nothing."""

import asyncio
import gc
import logging
import os
import threading
from collections import deque
from concurrent.futures import CancelledError

import pytest
from conftest import living, until

import coldframe
from coldframe import _observers
from coldframe._pytest.functions import _TestedFunction

ECHO = "def handler(event, context):\n    return event"
SLOW = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event"
PIECES = "def handler(event, context):\n    for n in range(event):\n        yield str(n)"


class Recorder:
    """An observer that keeps everything, and where it was told."""

    def __init__(self):
        self.begun, self.ended = [], []

    def begin(self, function):
        self.begun.append((function.name, threading.current_thread()))
        return Recorded(self)

    def shown(self):
        return [
            ("ok" if outcome.ok else outcome.error.error_type)
            if isinstance(outcome, coldframe.Invocation)
            else type(outcome).__name__
            for outcome in self.ended
        ]


class Recorded:
    trace_id = ""

    def __init__(self, recorder):
        self._recorder = recorder

    def end(self, outcome):
        self._recorder.ended.append(outcome)


@pytest.fixture
def seen():
    recorder = Recorder()
    with _observers.Instrumentation(recorder, list):
        yield recorder
    assert not _observers.installed


def test_every_form_is_told_of_once(make, seen):
    fn, pieces = make(ECHO), make(PIECES)
    assert fn(1) == 1
    assert fn.invoke(2).payload == 2
    assert fn.submit(3).result().payload == 3
    assert asyncio.run(fn.ainvoke(4)).payload == 4
    assert [one.payload for one in fn.map([5, 6])] == [5, 6]
    assert list(pieces.stream(2)) == [b"0", b"1"]
    assert seen.shown() == ["ok"] * 7
    assert [name for name, _ in seen.begun] == ["app"] * 7
    assert {thread for _, thread in seen.begun} == {threading.current_thread()}, "where the caller's context is"
    reports = [outcome.report for outcome in seen.ended]
    assert all(report.cpu_ms > 0 and report.max_memory_mb > 0 for report in reports), "a plain call's is read, too"


def test_each_kind_of_end_is_told(make, seen):
    fn = make(
        "import os, time\ndef handler(event, context):\n"
        "    if event == 'raise':\n        raise ValueError('no')\n"
        "    if event == 'exit':\n        os._exit(3)\n"
        "    if event == 'late':\n        time.sleep(9)\n"
        "    return {1}",
        timeout_s=0.3,
    )
    for event in ("raise", "exit", "late", "set"):
        with pytest.raises(coldframe.InvocationError):
            fn(event)
    assert seen.shown() == ["ValueError", "Runtime.ExitError", "Sandbox.Timedout", "Runtime.MarshalError"]
    seen.ended.clear()
    for call in (fn, fn.invoke, fn.stream, lambda event: fn.submit(event).result()):
        with pytest.raises(coldframe.PayloadError):
            call({1})
    fn.close()
    for call in (fn, fn.invoke, lambda event: fn.submit(event).result(), fn.stream):
        with pytest.raises(coldframe.ColdframeError, match="closed"):
            call(1)
    assert seen.shown() == ["PayloadError"] * 4 + ["ColdframeError"] * 4
    assert len(seen.begun) == 12


def test_throttling_is_told(make, seen):
    fn = make(ECHO, reserved_concurrency=0)
    for call in (fn, fn.invoke, lambda event: fn.submit(event).result(), lambda event: next(fn.stream(event))):
        with pytest.raises(coldframe.ThrottledError):
            call(1)
    assert seen.shown() == ["ThrottledError"] * 4


def test_what_is_cancelled_is_told_once(make, seen):
    fn = make(SLOW, timeout_s=30)
    future = fn.submit(30)
    assert until(lambda: any(one.state == "busy" for one in fn.host.environments()))
    assert future.cancel()
    assert seen.shown() == ["CancelledError"], "at once, before its environment is gone"

    async def given_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fn.ainvoke(30), 0.1)

    asyncio.run(given_up())
    results = fn.map([0, 30, 30])
    assert next(results).payload == 0
    results.close()
    assert until(lambda: not any(one.state == "busy" for one in fn.host.environments()))
    assert seen.shown()[1] == "CancelledError"
    assert sorted(seen.shown()[2:]) == ["CancelledError", "CancelledError", "ok"]
    assert len(seen.begun) == 5


def test_a_future_that_never_begins_is_told(make, seen):
    with coldframe.Host() as host:
        fn = make(SLOW, host=host, timeout_s=30)
        futures = [fn.submit(0) for _ in range(3)]
        for future in futures:
            future.cancel() or future.result()
        assert len(seen.ended) == 3
    failed = fn.submit(1)
    assert isinstance(failed.exception(), coldframe.ColdframeError)
    assert seen.shown()[3:] == ["ColdframeError"]


def test_a_stream_is_told_of_at_its_end_however_that_comes(make, seen):
    fn = make(PIECES)
    left, closed, dropped, unread = fn.stream(3), fn.stream(3), fn.stream(3), fn.stream(3)
    assert next(left) == b"0"
    assert seen.ended == []
    assert [next(closed), next(dropped)] == [b"0", b"0"]
    closed.close()
    del dropped, unread
    gc.collect()
    assert seen.shown() == ["CancelledError"] * 3
    assert list(left) == [b"1", b"2"]
    assert seen.shown()[3:] == ["ok"]
    left.close()
    assert len(seen.ended) == 4
    broken = make("def handler(event, context):\n    yield '1'\n    raise ValueError('no')").stream()
    with pytest.raises(coldframe.HandlerError):
        list(broken)
    assert seen.shown()[4:] == ["ValueError"]


def test_an_observer_that_raises_changes_nothing(make, caplog):
    class Broken:
        trace_id = ""

        def begin(self, function):
            if function.name == "early":
                raise OSError("at the beginning")
            return self

        def end(self, outcome):
            raise OSError("at the end")

    healthy = Recorder()
    early, late = make(ECHO, name="early"), make(ECHO, name="late")
    with _observers.Instrumentation(Broken(), list), _observers.Instrumentation(healthy, list):
        for fn in (early, late):
            assert fn(1) == 1
            assert fn.submit(2).result().payload == 2
            assert list(fn.stream(3)) == [b"3"]
    assert healthy.shown() == ["ok"] * 6
    told = [record for record in caplog.records if record.name == "coldframe.observers"]
    assert [record.levelno for record in told] == [logging.ERROR] * 6
    assert "at the end" in told[-1].exc_text


def test_a_fork_leaves_what_is_in_flight_to_its_parent(make, seen):
    stream = make(PIECES).stream(2)
    next(stream)
    child = os.fork()
    if not child:
        stream.close()
        os._exit(len(seen.ended))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(stream) == [b"1"]
    assert seen.shown() == ["ok"]


def test_uninstrument_ends_it_and_what_is_in_flight_is_told_of(make):
    seen, fn = Recorder(), make(PIECES)
    instrumentation = _observers.Instrumentation(seen, list)
    stream = fn.stream(2)
    next(stream)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    assert fn.invoke(1).ok is False
    assert list(stream) == [b"1"]
    assert (len(seen.begun), seen.shown()) == (1, ["ok"])


def test_how_many_are_in_flight_is_known(make):
    fn = make(PIECES)
    assert fn._in_flight() == 0
    streams = [fn.stream(2) for _ in range(3)]
    assert fn._in_flight() == 0, "they begin with their first chunk"
    assert [next(stream) for stream in streams] == [b"0"] * 3
    assert fn._in_flight() == 3
    assert list(streams[0]) == [b"1"]
    assert fn._in_flight() == 2
    for stream in streams:
        stream.close()
    assert fn._in_flight() == 0
    fn.close()
    assert fn._in_flight() == 0


def test_keyboard_interrupt_reaches_caller_and_observer(make, seen, monkeypatch):
    fn = make(ECHO)

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fn, "_call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fn(1)
    assert seen.shown() == ["KeyboardInterrupt"]
    assert isinstance(CancelledError(), Exception)
    assert living(fn.host, 0) == []


def test_the_pytest_plugin_remembers_a_failure_once(make, seen):
    plain, remembered = make("def handler(event, context):\n    raise ValueError('no')"), deque()
    with _TestedFunction(remembered, plain.handler, plain.code, host=plain.host) as fn:
        with pytest.raises(coldframe.HandlerError):
            fn(1)
        assert fn.invoke(2).ok is False
    assert [invocation for _, invocation in remembered] == seen.ended
