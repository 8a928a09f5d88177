"""What comes out of an environment, checked to the last text before any report is made of it.

Whoever writes there may be hostile: a report is made of what was asked for, by name, type and size, and of nothing
else; the name, the place and the keywords of the test are those that are known here. Paths are given back as the ones
of the host, and control characters are shown instead of sent to a terminal.
"""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING, Any, NoReturn
from warnings import WarningMessage

import pytest

from coldframe._pytest.failures import harmless

if TYPE_CHECKING:
    from collections.abc import Callable

    from coldframe._pytest.project import Project

_MOST_TEXT = 512 << 10
_MOST_ITEMS = 20_000
_MOST_WARNINGS = 50
_LONGEST_LINE = 500
_LONGEST_S = 1e6
_LATEST_S = 1e11
"""When a phase begins or ends at the latest, in the year 5138: dates can be made of it."""
_STYLES = ("long", "short", "line", "no", "native", "value", "auto")
_WHEN = ("config", "collect", "runtest")


class MalformedError(Exception):
    """What came out of an environment is no report; the message says of what kind it was instead."""


class Reader:
    """Makes reports for one test of what an environment said."""

    def __init__(self, item: pytest.Item, project: Project) -> None:
        """Take over what is known here."""
        self._item = item
        self._project = project

    def reports(self, said: object) -> list[pytest.TestReport]:
        """Return the reports of a test that ran to its end; raise MalformedError if they are not those of one."""
        reports = [self._report(each) for each in _list(said, "the reports")]
        whens = [report.when for report in reports if type(report) is pytest.TestReport]
        ran = bool(reports) and reports[0].passed and not self._item.config.getoption("setuponly", default=False)
        if whens != (["setup", "call", "teardown"] if ran else ["setup", "teardown"]):
            _refuse("the reports", f"of {', '.join(map(str, whens)) or 'nothing'}")
        if len(whens) != len(reports) and (reports[0].when, reports[-1].when) != ("setup", "teardown"):
            _refuse("the reports", "in another order")
        return reports

    def warnings(self, said: object) -> list[tuple[WarningMessage, str]]:
        """Return warnings, each with the moment it came in; their classes are Python's, or in their text."""
        return [self._warning(each) for each in _list(said, "the warnings")[:_MOST_WARNINGS]]

    def failed(self, when: str, headline: str, text: str, *, seconds: float = 0.0) -> pytest.TestReport:
        """Return a report of our own, of a failure that pytest inside could not tell of."""
        path, line, _ = self._item.location
        crash = {"path": str(self._project.root / path), "lineno": (line or 0) + 1, "message": headline}
        entry = {"type": "ReprEntryNative", "data": {"lines": [text]}}
        trace = {"reprentries": [entry], "extraline": None, "style": "native"}
        longrepr = {"reprcrash": crash, "reprtraceback": trace, "sections": [], "chain": None}
        return self._made({"outcome": "failed", "when": when, "longrepr": longrepr, "duration": seconds})

    def skipped(self, where: object, why: str) -> pytest.TestReport:
        """Return a report of a test that was skipped before there was one: by its module."""
        place = self._location(where) if where is not None else (*self._item.location[:2], why)
        return self._made({"outcome": "skipped", "when": "setup", "longrepr": place})

    def passed(self, when: str) -> pytest.TestReport:
        """Return a report of a phase that went well, since nothing happened in it."""
        return self._made({"outcome": "passed", "when": when, "longrepr": None})

    def _report(self, said: object) -> pytest.TestReport:
        """Return one report."""
        told = _dict(said, "a report")
        when = _choice(told.get("when"), ("setup", "call", "teardown"), "the phase")
        outcome = _choice(told.get("outcome"), ("passed", "failed", "skipped"), "the outcome")
        data: dict[str, Any] = {
            "outcome": outcome,
            "when": when,
            "longrepr": self._longrepr(told.get("longrepr")),
            "sections": [self._pair(each) for each in _list(told.get("sections"), "the sections")],
            "user_properties": [self._property(each) for each in _list(told.get("user_properties"), "the properties")],
            **{name: _number(told.get(name), name) for name in ("duration", "start", "stop")},
        }
        if "wasxfail" in told:
            data["wasxfail"] = _text(told["wasxfail"], "the reason of an xfail")
        if outcome == "skipped" and not (isinstance(data["longrepr"], tuple) or "wasxfail" in data):
            _refuse("a report", "of a skipped test without its reason")
        if outcome == "failed" and data["longrepr"] is None:
            data["longrepr"] = "it failed without a word"
        if outcome == "passed":
            data["longrepr"] = None
        if "_subtest.context" in told:
            data["_report_type"] = "SubTestReport"
            data["_subtest.context"] = _subtest(told["_subtest.context"])
        return self._made(data)

    def _made(self, data: dict[str, Any]) -> pytest.TestReport:
        """Return what pytest makes of data that was checked."""
        config = self._item.config
        complete = {
            **({} if "_report_type" in data else {"$report_type": "TestReport"}),
            "nodeid": self._item.nodeid,
            "location": self._item.location,
            "keywords": dict.fromkeys(self._item.keywords, 1),
            "sections": [],
            "user_properties": [],
            "duration": 0.0,
            "start": 0.0,
            "stop": 0.0,
            **data,
        }
        try:
            report = config.hook.pytest_report_from_serializable(config=config, data=complete)
        except Exception as error:  # noqa: BLE001 - another pytest's idea of a report; what came does not fit it
            raise MalformedError(f"it does not fit this pytest: {type(error).__name__}: {error}") from None
        if not isinstance(report, pytest.TestReport):
            raise MalformedError("this pytest does not know its kind")
        if "_subtest.context" in data:  # pytest quotes the values once more whenever it reads them
            object.__setattr__(report.context, "kwargs", data["_subtest.context"]["kwargs"])
        return report

    def _longrepr(self, said: object) -> Any:  # noqa: ANN401 - pytest has four types for it
        """Return what a report says of its outcome."""
        if said is None:
            return None
        if isinstance(said, str):
            return self._project.in_text(_text(said, "the failure"))
        if isinstance(said, list):
            return self._location(said)
        told = _dict(said, "the failure")
        chain = told.get("chain")
        links = [self._link(each) for each in _list(chain, "the chain")] if chain else None
        sections = [self._section(each) for each in _list(told.get("sections"), "the sections")]
        return {
            "reprcrash": self._crash(told.get("reprcrash")),
            "reprtraceback": self._traceback(told.get("reprtraceback")),
            "sections": sections,
            "chain": links,
        }

    def _section(self, said: object) -> tuple[str, str, str]:
        """Return what stands below a failure: its title, itself, and what the line of the title is filled with."""
        title, content, rule = (_text(each, "a section") for each in _items(said, 3, "a section of a failure"))
        return title, content, rule[:1] or "-"  # pytest divides by its length

    def _location(self, said: object) -> tuple[str, int, str]:
        """Return where something was skipped, and why."""
        path, line, why = _items(said, 3, "the place of a skip")
        return self._path(path), _line(line), _text(why, "the reason of a skip")

    def _link(self, said: object) -> tuple[Any, Any, str | None]:
        """Return one exception of a chain."""
        trace, crash, description = _items(said, 3, "a link of the chain")
        return self._traceback(trace), self._crash(crash), _maybe(_text, description, "a link of the chain")

    def _crash(self, said: object) -> dict[str, Any] | None:
        """Return a place in a file, with a message."""
        if said is None:
            return None
        told = _dict(said, "a place")
        return {
            "path": self._path(told.get("path")),
            "lineno": _line(told.get("lineno")),
            "message": _text(told.get("message"), "a message"),
        }

    def _traceback(self, said: object) -> dict[str, Any]:
        """Return a traceback."""
        told = _dict(said, "a traceback")
        return {
            "reprentries": [self._entry(each) for each in _list(told.get("reprentries"), "a traceback")],
            "extraline": _maybe(_text, told.get("extraline"), "a line"),
            "style": _choice(told.get("style"), _STYLES, "the style"),
        }

    def _entry(self, said: object) -> dict[str, Any]:
        """Return one entry of a traceback."""
        told = _dict(said, "an entry of a traceback")
        kind = _choice(told.get("type"), ("ReprEntry", "ReprEntryNative"), "the kind of an entry")
        data = _dict(told.get("data"), "an entry of a traceback")
        lines = _texts(data.get("lines"))
        if kind == "ReprEntryNative":
            return {"type": kind, "data": {"lines": [self._project.in_text(line) for line in lines]}}
        arguments, local = data.get("reprfuncargs"), data.get("reprlocals")
        return {
            "type": kind,
            "data": {
                "lines": lines,
                "reprfuncargs": arguments and {"args": self._arguments(_dict(arguments, "arguments").get("args"))},
                "reprlocals": local and {"lines": _texts(_dict(local, "local variables").get("lines"))},
                "reprfileloc": self._crash(data.get("reprfileloc")),
                "style": _choice(data.get("style"), _STYLES, "the style"),
            },
        }

    def _arguments(self, said: object) -> list[tuple[str, str]]:
        """Return the arguments of a function."""
        return [self._pair(each) for each in _list(said, "arguments")]

    def _pair(self, said: object) -> tuple[str, str]:
        """Return two texts, such as a title and what stands below it."""
        first, second = _items(said, 2, "a pair")
        return _text(first, "a title"), _text(second, "a section")

    def _property(self, said: object) -> tuple[str, object]:
        """Return a property of a test."""
        name, value = _items(said, 2, "a property")
        if isinstance(value, str):
            value = _text(value, "a property")
        elif not isinstance(value, bool | int | float | None) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            _refuse("a property", f"of type {type(value).__name__}")
        return _text(name, "a property"), value

    def _path(self, said: object) -> str:
        """Return a path as it is called here."""
        return self._project.outside(_text(said, "a path").replace("\0", ""))

    def _warning(self, said: object) -> tuple[WarningMessage, str]:
        """Return one warning, and when it came."""
        when, name, text, path, line, source = _items(said, 6, "a warning")
        category = getattr(builtins, _text(name, "a warning"), None)
        message = _text(text, "a warning")
        if not (isinstance(category, type) and issubclass(category, Warning)):
            category, message = UserWarning, f"{name}: {message}"
        # With the line of the source, which Python would else read out of any file of the host that the path names.
        shown = _text(source, "a line")[:_LONGEST_LINE]
        told = WarningMessage(category(message), category, self._path(path), _line(line), line=shown)
        return told, _choice(when, _WHEN, "a warning")


def _refuse(what: str, how: str) -> NoReturn:
    """Raise a MalformedError."""
    raise MalformedError(f"{what} came {how}")


def _text(said: object, what: str) -> str:
    """Return a text that can be printed."""
    if not isinstance(said, str):
        _refuse(what, f"as {type(said).__name__}")
    if len(said) > _MOST_TEXT:
        _refuse(what, f"with {len(said):,} characters")
    return harmless(said)


def _maybe(check: Callable[[object, str], str], said: object, what: str) -> str | None:
    """Return what `check` returns, or None."""
    return None if said is None else check(said, what)


def _texts(said: object) -> list[str]:
    """Return lines."""
    return [_text(each, "a line") for each in _list(said, "the lines")]


def _list(said: object, what: str) -> list[Any]:
    """Return a list that is not for pages."""
    if not isinstance(said, list):
        _refuse(what, f"as {type(said).__name__}")
    if len(said) > _MOST_ITEMS:
        _refuse(what, f"with {len(said):,} entries")
    return said


def _items(said: object, count: int, what: str) -> list[Any]:
    """Return a list of so many."""
    found = _list(said, what)
    if len(found) != count:
        _refuse(what, f"with {len(found):,} entries")
    return found


def _dict(said: object, what: str) -> dict[str, Any]:
    """Return a dictionary, of which nothing is used but what is asked for."""
    if not isinstance(said, dict):
        _refuse(what, f"as {type(said).__name__}")
    return said


def _choice(said: object, choices: tuple[str, ...], what: str) -> str:
    """Return one of the words that there are."""
    if not isinstance(said, str) or said not in choices:
        _refuse(what, "as something else")
    return said


def _number(said: object, what: str) -> float:
    """Return seconds."""
    # Compared before anything else: a whole number may be too large for a float, which raises.
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= _LATEST_S:
        _refuse(what, "as no number of seconds")
    if what == "duration" and said > _LONGEST_S:
        _refuse(what, "as an age")
    return float(said)


def _line(said: object) -> int:
    """Return the number of a line."""
    if isinstance(said, bool) or not isinstance(said, int) or not -1 <= said < 1 << 31:
        _refuse("a line", "as no number of one")
    return said


def _subtest(said: object) -> dict[str, Any]:
    """Return which subtest a report is of."""
    told = _dict(said, "a subtest")
    values = _dict(told.get("kwargs"), "the values of a subtest")
    if len(values) > _MOST_ITEMS:
        _refuse("a subtest", f"with {len(values):,} values")
    return {
        "msg": _maybe(_text, told.get("msg"), "the message of a subtest"),
        "kwargs": {_text(name, "a name"): _text(value, "a value") for name, value in values.items()},
    }
