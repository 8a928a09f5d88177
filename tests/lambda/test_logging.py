"""What the library logs under `coldframe`: the table of docs/how-to/observe.md."""

import logging
import sys

import pytest
from conftest import until

import coldframe

ECHO = "def handler(event, context):\n    return event"
FAILS = """\
import os, time
def handler(event, context):
    if event == "raise":
        raise ValueError("no")
    if event == "exit":
        os._exit(3)
    if event == "late":
        time.sleep(9)
    return {1}
"""


def said(caplog, name):
    """Return the level and the text of what one of the loggers was told."""
    return [(each.levelname, each.getMessage()) for each in caplog.records if each.name == f"coldframe.{name}"]


def test_the_life_of_an_environment_is_told_at_debug(make, caplog):
    with coldframe.Host() as host, caplog.at_level(logging.DEBUG, "coldframe"):
        fn = make(ECHO, host=host, name="orders")
        invocation = fn.invoke(1)
        name = f"environment {invocation.report.environment_id} of orders"
        ((level, text),) = said(caplog, "environment")
        assert (level, text.startswith(f"made {name} in ")) == ("DEBUG", True)
        assert abs(float(text.split()[-2]) - invocation.report.init_duration_ms) < 0.1
        fn.invoke(2)
        assert len(said(caplog, "environment")) == 1
        fn.close()
        other = make(ECHO, host=host)
        assert until(lambda: other(1) and any("destroyed" in text for _, text in said(caplog, "environment")))
        (end,) = [each for each in said(caplog, "environment") if "destroyed" in each[1]]
        assert end == ("DEBUG", f"destroyed {name}: it was not needed any more, or not fit to be used again")
        assert said(caplog, "invocation") == []


def test_what_costs_an_environment_its_life_is_told_at_info(make, caplog):
    fn, broken = make(FAILS, name="f", timeout_s=0.3), make("import nothing_like_it", name="broken")
    with caplog.at_level(logging.INFO, "coldframe"):
        fn.invoke("raise")
        fn.invoke("set")
        assert said(caplog, "invocation") == [], "that is an answer"
        exited, late, failed = fn.invoke("exit"), fn.invoke("late"), broken.invoke()
        stream = fn.stream("late")
        with pytest.raises(coldframe.InvocationTimeout):
            next(stream)

        def line(invocation, name, why):
            where = f"environment {invocation.report.environment_id}"
            return "INFO", f"invocation {invocation.request_id} of {name} failed in {where}: {why}"

        assert said(caplog, "invocation") == [
            line(exited, "f", "Runtime.ExitError"),
            line(late, "f", "timed out after 0.30 s"),
            line(failed, "broken", "Runtime.ImportModuleError"),
            line(stream.invocation, "f", "timed out after 0.30 s"),
        ]
        assert said(caplog, "environment") == []


def test_a_cancellation_is_told(make, caplog):
    fn = make("import time\ndef handler(event, context):\n    time.sleep(event)", timeout_s=30, name="slow")
    with caplog.at_level(logging.DEBUG, "coldframe"):
        future = fn.submit(30)
        assert until(lambda: any(one.state == "busy" for one in fn.host.environments()))
        future.cancel()
        assert until(lambda: fn.invoke(0) and any("was cancelled" in text for _, text in said(caplog, "environment")))


def test_a_warm_call_asks_no_logger(make, monkeypatch):
    with coldframe.Host() as host:  # on which nothing else ends in the background
        fn, asked = make(ECHO, host=host), []
        fn(1)
        for name in ("environment", "host", "invocation", "preload"):
            logger = logging.getLogger(f"coldframe.{name}")
            monkeypatch.setattr(logger, "isEnabledFor", asked.append)
            monkeypatch.setattr(logger, "log", lambda *record: asked.append(record))
        for n in range(100):
            fn(n)
            fn.invoke(n)
        assert asked == []
        monkeypatch.undo()


def test_logging_that_raises_harms_nobody(make, monkeypatch):
    raised, loggers = [], [logging.getLogger(f"coldframe.{name}") for name in ("environment", "invocation")]
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: raised.append(str(unraisable.exc_value)))

    def refuse(record):
        raise OSError("the disk is full")

    fn = make(FAILS, timeout_s=0.3)
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.DEBUG)
        logger.addFilter(refuse)
        logger.manager._clear_cache()
    try:
        assert fn.invoke("exit").error.error_type == "Runtime.ExitError"
        assert fn.invoke("raise").error.error_type == "ValueError"
        assert until(lambda: fn.invoke("raise") and len(raised) >= 4), "made, failed, made and destroyed"
    finally:
        for logger in loggers:
            logger.removeFilter(refuse)
        monkeypatch.undo()
        logging.getLogger("coldframe").manager._clear_cache()
    assert set(raised) == {"the disk is full"}


def test_a_ctrl_c_that_comes_while_something_is_logged_is_the_programs(make, monkeypatch):
    logger = logging.getLogger("coldframe.environment")

    def interrupt(record):
        raise KeyboardInterrupt

    fn = make(FAILS)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.addFilter(interrupt)
    logger.manager._clear_cache()
    try:
        with pytest.raises(KeyboardInterrupt):
            fn.invoke("exit")  # of an environment that is made for it, which is a record
    finally:
        logger.removeFilter(interrupt)
        monkeypatch.undo()
        logger.manager._clear_cache()
    assert fn.invoke("raise").error.error_type == "ValueError"


def test_a_program_that_wants_no_log_hears_nothing():
    handlers = logging.getLogger("coldframe").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
