"""Runs inside an environment: the real pytest, on the test or the module that it was told, with reports as JSON.

What takes pytest long (its configuration, conftest files, importing the module, collecting) happens while the
environment is initialised: at full speed, under the limit for that. An invocation runs one test: setup, call, teardown.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import linecache
import logging
import math
import os
import re
import signal
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import _pytest.assertion.rewrite
import pytest
from _pytest._io import TerminalWriter
from _pytest.config import get_config
from _pytest.main import Session

if TYPE_CHECKING:
    from collections.abc import Generator
    from warnings import WarningMessage

gc.disable()  # until everything is there
DESCRIPTION = json.loads(os.environ.pop("COLDFRAME_TESTS"))
LOG = os.dup(2)  # which pytest captures

MOST_TEXT = 256 << 10
MOST_WARNINGS = 50
MOST_BYTES = 5 << 20
OF_PYTEST = re.compile("/(?:_pytest|pluggy|importlib)/|^<frozen ")
SHARE = 0.1  # of the time that a test has, before the end of which it has to say where it stands
NO_HOST = (
    "a test with the marker coldframe runs in an environment itself, and an environment cannot make others; "
    "take off the marker, or have a test without it make the function"
)
NO_PLUGIN = (
    "the plugin {} cannot be imported in an environment ({}): there are the project and the installed packages, "
    "and no other directories of PYTHONPATH"
)
NO_DEBUGGER = "breakpoint(): a debugger cannot go into an environment; take the marker coldframe off to use one"


class Reporter:
    """Stands for the terminal's reporter, and hears of everything that happens."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tw = TerminalWriter(open(os.devnull, "w"))  # noqa: PTH123, SIM115 - for as long as the process
        self._tw.hasmarkup = DESCRIPTION["colours"]
        self.config: Any = None
        self.reports: list[Any] = []
        self.warnings: list[Any] = []
        self.trouble: dict[str, Any] | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Know every marker that is known outside, where more plugins are loaded."""
        self.config = config
        known = config.getini("markers")
        known.extend(line for line in DESCRIPTION["markers"] if line not in known)

    @pytest.hookimpl(trylast=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the first reason why a test cannot be collected."""
        if not report.passed and self.trouble is None:
            where = report.longrepr if isinstance(report.longrepr, tuple) else None
            self.trouble = {"outcome": report.outcome, "where": plainly(where), "why": plainly(report.longreprtext)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report as JSON."""
        self.reports.append(self.config.hook.pytest_report_to_serializable(config=self.config, report=report))

    def pytest_warning_recorded(self, warning_message: WarningMessage, when: str) -> None:
        """Keep a warning."""
        if len(self.warnings) < MOST_WARNINGS:
            told = warning_message
            line = told.line or linecache.getline(told.filename, told.lineno)
            self.warnings.append([when, told.category.__name__, str(told.message), told.filename, told.lineno, line])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Say at once that there is no debugger."""
        sys.breakpointhook = pytest.set_trace = no_debugger
        return (yield)


class Workers:
    """What tests ask of pytest-xdist."""

    @pytest.fixture(scope="session")
    def worker_id(self) -> str:
        """Return the name of the process outside that wanted this test."""
        return str(DESCRIPTION["worker"])

    @pytest.fixture(scope="session")
    def testrun_uid(self) -> str:
        """Return the name of the run."""
        return os.environ.get("PYTEST_XDIST_TESTRUNUID", "")


def no_debugger(*_args: object, **_options: object) -> NoReturn:
    """Fail instead of waiting for somebody who cannot come."""
    __tracebackhide__ = True
    pytest.fail(NO_DEBUGGER)


def restore_coldframe() -> None:
    """Put the real package in the place of the runtime's stand-in, which has the decorator alone.

    A test module may want the names of errors and types as well; the decorator stays plain, since nothing can be made.
    """
    with suppress(ImportError):
        from coldframe._pytest import warm  # noqa: PLC0415 - imported before the fork, or not to be had

        warm.coldframe.function = sys.modules["coldframe"].function  # type: ignore[attr-defined]
        sys.modules["coldframe"] = warm.coldframe
        warm.coldframe._core.Host = no_host  # noqa: SLF001 - our own


def no_host(**_settings: object) -> NoReturn:
    """Say why there are no environments here, before the host looks for what it lacks."""
    from coldframe.errors import HostCapabilityError  # noqa: PLC0415 - for a test that should not want it

    raise HostCapabilityError(NO_HOST)


def prepare(reporter: Reporter) -> Session:
    """Configure pytest as it is outside, collect, and return the session."""
    restore_coldframe()
    # The runtime logs what a handler logs; a test's own is pytest's.
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.update(DESCRIPTION["env"])
    sys.path[:] = [*DESCRIPTION["path"], *(folder for folder in sys.path if folder != "/var/task")]
    sys.dont_write_bytecode = True
    if not hasattr(_pytest.assertion.rewrite, "_fix_code_filename"):
        sys.pycache_prefix = "/nowhere"  # rewritten code has the paths of outside in it before pytest 9.2
    os.chdir(DESCRIPTION["folder"])
    config = get_config(DESCRIPTION["args"])
    config.pluginmanager.register(reporter, "terminalreporter")
    if DESCRIPTION["worker"]:
        config.pluginmanager.register(Workers(), "xdist")
    for name, module in DESCRIPTION["plugins"]:
        try:
            plugin = importlib.import_module(module)
        except ImportError as error:
            raise pytest.UsageError(NO_PLUGIN.format(name, error)) from None
        config.pluginmanager.register(plugin, name)
    config.option.__dict__.update(DESCRIPTION["options"])
    config.parse(DESCRIPTION["args"], addopts=False)
    session = Session.from_config(config)
    config._do_configure()  # noqa: SLF001 - as pytest's own main function does
    config.hook.pytest_sessionstart(session=session)
    config.hook.pytest_collection(session=session)
    return session


def plainly(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return `value` as JSON that pytest outside accepts, with texts of a bounded size."""
    if isinstance(value, str):
        cut = len(value) - MOST_TEXT
        return value if cut <= 0 else f"[... {cut:,} characters were cut here]\n{value[-MOST_TEXT:]}"
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, dict):
        return {str(key): plainly(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plainly(each) for each in value]
    return plainly(str(value))


def last_words(reporter: Reporter) -> None:
    """Write to the log what pytest has captured, and put it back."""
    with suppress(Exception):
        capture = reporter.config.pluginmanager.getplugin("capturemanager")
        for stream, text in zip((sys.stdout, sys.stderr), capture.read_global_capture(), strict=True):
            os.write(LOG, text[-8192:].encode(errors="backslashreplace"))
            stream.write(text)


def watch(reporter: Reporter, left_s: float) -> None:
    """Have the log say where the test stands when most of its time is over: then it is killed without a word."""
    signal.signal(signal.SIGALRM, lambda *_: last_words(reporter))
    # The trace comes from a handler in C, also where Python does not get to run one.
    faulthandler.register(signal.SIGALRM, file=LOG, all_threads=True, chain=True)
    signal.setitimer(signal.ITIMER_REAL, max(left_s * (1 - SHARE), 0.001))


def rest() -> None:
    """Take the alarm back."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.unregister(signal.SIGALRM)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def say_before_exit(reporter: Reporter) -> None:
    """Have `os._exit` of a test write what was captured; a child of the test has nothing to say."""
    leave, own = os._exit, os.getpid()

    def leaving(status: int) -> None:
        if os.getpid() == own:
            last_words(reporter)
        leave(status)

    os._exit = leaving  # type: ignore[assignment]


def explain(error: BaseException) -> str:
    """Return why pytest could not begin, with the frames of pytest left out."""
    if isinstance(error, pytest.UsageError):
        return "\n".join(map(str, error.args))
    cause = getattr(error, "cause", error)  # of a conftest file that cannot be imported
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not OF_PYTEST.search(frame.filename)]
    lines = [*traceback.format_list(frames), *traceback.format_exception_only(cause)]
    return "".join([f"{error}\n" if cause is not error else "", *lines])


def run(event: dict[str, str], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's
    """Run one test of the session."""
    reporter.reports.clear()
    item = next((item for item in session.items if item.nodeid == event["nodeid"]), None) if session else None
    if item is None:
        return {"trouble": reporter.trouble or {"outcome": "failed", "where": None, "why": "it is not there"}}
    why = None
    watch(reporter, context.get_remaining_time_in_millis() / 1000)
    try:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    except BaseException as error:  # noqa: BLE001 - pytest.exit and the like, which would end the run
        why = "".join(traceback.format_exception_only(error)).strip()
    finally:
        rest()
    answer = {"reports": plainly(reporter.reports), "warnings": plainly(reporter.warnings), "ended": plainly(why)}
    reporter.warnings.clear()
    if len(json.dumps(answer)) > MOST_BYTES:
        for report in answer["reports"]:
            report["sections"] = [[title, text[-(MOST_TEXT >> 4) :]] for title, text in report["sections"]]
    return answer


reporter = Reporter()
session = None
try:
    session = prepare(reporter)
    say_before_exit(reporter)
except BaseException as error:  # noqa: BLE001 - whatever a conftest file or a plugin raised is the answer
    if reporter.trouble is None:
        reporter.trouble = {"outcome": "failed", "where": None, "why": plainly(explain(error))}
gc.enable()
gc.freeze()
