"""A marked test: from the item to its reports, by way of an environment of its own."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pytest

from coldframe import Function
from coldframe._pytest import failures, hosts, marker, preload
from coldframe._pytest.description import Description
from coldframe._pytest.reports import MalformedError, Reader
from coldframe.errors import ColdframeError, InvocationTimeout, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from coldframe import Invocation
    from coldframe._options import FunctionOptions

_STAGE = Path(__file__).with_name("stage") / "coldframe_tests.py"
_HANDLER = "coldframe_tests.run"
_NO_DEBUGGER = (
    "A debugger cannot go into an environment; take the marker coldframe off to look at this test with --pdb."
)
_LONGEST_WHY = 100_000
_ADVICE: dict[type, str] = {
    InvocationTimeout: "raise timeout_s of the marker, or --coldframe-timeout, if it needs longer",
    OutOfMemoryError: "raise memory_mb of the marker, or --coldframe-memory, if it needs more",
}
_OF_PYTEST = re.compile(r'  File "(?:[^"]*/(?:_pytest|pluggy|runtime|task)/|<string>)')
_REQUEST = re.compile(r"RequestId: \S+ Error: ")


def run(item: pytest.Item, nextitem: pytest.Item | None, defaults: Mapping[str, object]) -> bool:
    """Run a test in an environment, and report as if it had run here: what `pytest_runtest_protocol` does."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runner = Runner.of(item.config)
    for report in runner.run(item, defaults):
        hook.pytest_runtest_logreport(report=report)
    session = item.session
    # What tests before this one have set up is not wanted any longer than it would be if this one ran here.
    last = session.shouldfail or session.shouldstop
    try:
        session._setupstate.teardown_exact(None if last else nextitem)  # noqa: SLF001 - as other runners of tests do
    except (Exception, pytest.fail.Exception, pytest.skip.Exception):  # noqa: BLE001 - of somebody's fixture
        text = traceback.format_exc()
        headline = f"a fixture of tests before this one: {text.splitlines()[-1]}"
        reader = Reader(item, runner.description.project)
        hook.pytest_runtest_logreport(report=reader.failed("teardown", headline, text))
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class Runner:
    """Runs the marked tests of one run."""

    _STASH = pytest.StashKey["Runner"]()

    @classmethod
    def of(cls, config: pytest.Config) -> Runner:
        """Return the one of a run, made for its first marked test."""
        runner = config.stash.get(cls._STASH, None)
        if runner is None:
            runner = config.stash[cls._STASH] = cls(config)
        return runner

    def __init__(self, config: pytest.Config) -> None:
        """Look at the run."""
        self._config = config
        self.description = Description(config)
        self._preload: list[str] | None = None
        self._kept: tuple[object, Function] | None = None
        config.add_cleanup(self._let_go)

    def run(self, item: pytest.Item, defaults: Mapping[str, object]) -> list[pytest.TestReport]:
        """Return the reports of a test."""
        reader = Reader(item, self.description.project)
        try:
            options = marker.options(item, defaults)
            with self._function(item, options) as function:
                invocation = function.invoke({"nodeid": item.nodeid})
        except ColdframeError as error:
            # Here nothing was run: what is wrong is with the marker, or with the host.
            why = f"@pytest.mark.coldframe of {item.nodeid}: {error}\n"
            return [reader.failed("setup", str(error), why), reader.passed("teardown")]
        except pytest.fail.Exception as error:
            # Another plugin lost its patience, such as pytest-timeout; the environment has been killed.
            return _ended(reader, f"Failed: {error}", f"{error}\n")
        reports = self._reports(item, reader, invocation)
        if any(report.failed for report in reports) and self._config.getoption("usepdb", default=False):
            next(report for report in reports if report.failed).sections.append(("coldframe: --pdb", _NO_DEBUGGER))
        if self._config.getoption("capture", default="fd") in ("no", "tee-sys"):
            sys.stdout.write(failures.uncoloured("\n".join(self._output(invocation))))
        return reports

    def _reports(self, item: pytest.Item, reader: Reader, invocation: Invocation) -> list[pytest.TestReport]:
        """Return the reports that an environment gave, or those that say why it gave none."""
        if invocation.error is not None:
            advice = _ADVICE.get(type(invocation.error))
            message = _REQUEST.sub("", invocation.error.error_message[:1000], 1)
            said = failures.harmless(f"{invocation.error.error_type}: {message}")
            headline = f"{said}; {advice}" if advice else said
            seconds = invocation.report.duration_ms / 1000
            return _ended(reader, headline, self._epitaph(invocation, headline), seconds=seconds)
        try:
            answer = invocation.payload if isinstance(invocation.payload, dict) else {}
            if "trouble" in answer:
                return self._not_there(reader, answer["trouble"])
            if (why := answer.get("ended")) is not None:
                return _ended(
                    reader, *_both(f"the test ended pytest in its environment: {failures.harmless(str(why))}")
                )
            reports = reader.reports(answer.get("reports"))
            for warning, when in reader.warnings(answer.get("warnings")):
                if when == "runtest":  # those of the configuration and of collecting have come up out here as well
                    told = {"warning_message": warning, "when": when, "nodeid": item.nodeid, "location": None}
                    item.ihook.pytest_warning_recorded.call_historic(kwargs=told)
        except MalformedError as error:
            return _ended(reader, *_both(f"what came out of the environment is no report of pytest's: {error}"))
        return reports

    def _not_there(self, reader: Reader, trouble: object) -> list[pytest.TestReport]:
        """Return the reports of a test that could not be collected inside."""
        told = trouble if isinstance(trouble, dict) else {}
        why = self.description.project.in_text(failures.harmless(str(told.get("why"))[:_LONGEST_WHY])).strip()
        if told.get("outcome") == "skipped":
            return [reader.skipped(told.get("where"), why), reader.passed("teardown")]
        cause = why.splitlines()[-1].removeprefix("E   ") if why else "no reason"
        headline = f"{cause} (it cannot be collected in its environment)"
        text = f"The test cannot be collected in its environment:\n{why}\n"
        return [reader.failed("setup", headline, text), reader.passed("teardown")]

    @contextlib.contextmanager
    def _function(self, item: pytest.Item, options: dict[str, Any]) -> Iterator[Function]:
        """Yield the function that runs a test: one of its own, or the one of its file and its options."""
        reuse = options["reuse"]
        key = item.path, repr(options)
        if self._kept is not None and (not reuse or self._kept[0] != key):
            self._let_go()
        if self._kept is None:
            function = self._made(item, options)
            if reuse:
                self._kept = key, function
        else:
            function = self._kept[1]
        try:
            yield function
        finally:
            if not reuse:
                function.close()

    def _made(self, item: pytest.Item, options: dict[str, Any]) -> Function:
        """Return a new function."""
        description = self.description
        told = description.of(item, whole_file=options["reuse"])
        if self._preload is None:
            self._preload = preload.names(item.session, description)
        place = description.project.place
        mounts, env = options.pop("mounts", {}), options.pop("env", {})
        given: Any = {
            **options,
            "name": re.sub(r"[^A-Za-z0-9_-]+", "-", item.name).strip("-")[:64] or "test",
            "mounts": {**mounts, place: description.project.root},
            "env": {**env, "COLDFRAME_TESTS": json.dumps(told)},
            "preload": sorted({*self._preload, *options.get("preload", ())}),
            "host": hosts.shared(self._config),
        }
        return _TestFunction(_HANDLER, _STAGE, **given)

    def _let_go(self) -> None:
        """Close the function that was kept."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()

    def _output(self, invocation: Invocation) -> list[str]:
        """Return what a test wrote, line by line, with the paths of the host and without the frames of pytest.

        What was written before it began, while pytest started and collected, has been said out here as well; it is told
        when that has failed inside.
        """
        initialised = invocation.report.start == "warm" or invocation.report.init_duration_ms is not None
        _, began, ran = invocation.log.partition(f"START RequestId: {invocation.request_id} Version: $LATEST\n")
        lines = failures.output(ran if began and initialised else invocation.log)
        return [self.description.project.in_text(line) for line in lines if not _OF_PYTEST.match(line)]

    def _epitaph(self, invocation: Invocation, headline: str) -> str:
        """Return how an environment ended: verdict, REPORT line, and the end of its log."""
        return failures.describe(invocation, headline, self._output(invocation)) + "\n"


class _TestFunction(Function):
    """A function that runs a test: with one processor, whatever its memory, so that it takes as long as in place."""

    _lazy = True

    def __init__(self, handler: str, code: Path, **options: Unpack[FunctionOptions]) -> None:
        """Make the function, and read its code."""
        super().__init__(handler, code, **options)
        self._spec["least_vcpus"] = 1.0
        self._live()


def _ended(reader: Reader, headline: str, text: str, *, seconds: float = 0.0) -> list[pytest.TestReport]:
    """Return the reports of a test that began and had no end of its own."""
    failed = reader.failed("call", headline, text, seconds=seconds)
    return [reader.passed("setup"), failed, reader.passed("teardown")]


def _both(text: str) -> tuple[str, str]:
    """Return a text as a headline, and as all there is to say."""
    return text.splitlines()[0], f"{text}\n"
