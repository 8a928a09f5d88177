"""Coldframe itself is wrong: a panic in it is an error that says so, and no deadline is lost in silence.

The native module trusts the package with lengths of time. One that no clock has makes it panic, which these tests need.
"""

import logging
import time

import pytest
from conftest import cgroups_of, descendants, directories_of, os, until

import coldframe

ENDLESS_S = 1e19
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"


def test_no_panic_crosses_into_python(make, capfd):
    with coldframe.Host() as host:
        fn = make(SLEEP, host=host)
        with pytest.raises(coldframe.ColdframeError, match=r"defect of coldframe.*overflow"):
            host._native.wait_for_stock(ENDLESS_S)
        assert "panicked" in capfd.readouterr().err, "for those who mend it"
        assert fn(0) == 0, "a call that failed takes nothing else along"


def test_a_supervisor_that_panics_ends_its_host_and_says_so(make, monkeypatch, caplog, capfd):
    monkeypatch.setattr("coldframe._host.check_span", lambda *_: None)
    before = set(descendants())
    with coldframe.Host(idle_timeout_s=ENDLESS_S) as host, caplog.at_level(logging.WARNING, "coldframe"):
        fn = make(SLEEP, host=host, timeout_s=60)
        running = fn.submit(30)
        assert until(lambda: "busy" in [each.state for each in host.environments()], 10)
        began = time.monotonic()
        # Once something is idle, it looks at the clock.
        assert fn(0) == 0
        host._native.reclaim_after(0)
        with pytest.raises(coldframe.ColdframeError, match="defect of coldframe"):
            running.result(5)
        for call in (fn, fn.invoke, lambda: host.prewarm(fn, 1)):
            with pytest.raises(
                coldframe.ColdframeError, match=r"defect of coldframe.*this host has ended its environments"
            ):
                call()
        with pytest.raises(coldframe.ColdframeError, match="defect of coldframe"):
            make(SLEEP, host=host, name="other")
        assert time.monotonic() - began < 5
        assert until(lambda: not host.environments()), "without deadlines nothing goes on"
        (record,) = caplog.records
        assert (record.levelname, "defect of coldframe" in record.message) == ("ERROR", True)
        host.close()
        assert time.monotonic() - began < 10
    assert "panicked" in capfd.readouterr().err
    assert until(lambda: not set(descendants()) - before)
    assert not cgroups_of(os.getpid())
    assert not directories_of(os.getpid())
