"""What comes out of an environment is hostile: whatever it is, it becomes a sound report, or is refused."""

import copy
import io
import json
import warnings
from pathlib import Path

import pytest
from _pytest._io import TerminalWriter

from coldframe._pytest.project import Project
from coldframe._pytest.reports import MalformedError, Reader

pytest_plugins = ["pytester"]

SOURCE = """
import logging
import warnings

import pytest

def helper(argument):
    raise ValueError(argument)

def test_it(subtests, record_property):
    record_property("a", 1)
    print("printed")
    with subtests.test("which", i=1):
        assert False
    try:
        helper({"some": "thing"})
    except ValueError as error:
        raise KeyError from error
"""

JUNK = [
    None,
    True,
    -1,
    1 << 70,
    10**400,
    float("nan"),
    float("inf"),
    1.5,
    "",
    "TestReport",
    "\x1b[2J\x1b]0;title\x07\0\ud800",
    "x" * 600_000,
    [],
    {},
    [[[]]],
    [None] * 3,
    {"type": "ReprEntry", "data": {}},
    {"__class__": "os.system"},
    [0] * 30_000,
]


@pytest.fixture
def told(pytester):
    """Return a reader for a test, and what a pytest that runs it says, as JSON."""
    pytester.makeini("[pytest]\naddopts = -p no:asyncio -p no:hypothesispytest\n")
    item = pytester.getitem(SOURCE, "test_it")
    config = item.config
    config.option.showlocals = True
    told = []

    class Recorder:
        def pytest_runtest_logreport(self, report):
            data = config.hook.pytest_report_to_serializable(config=config, report=report)
            told.append(json.loads(json.dumps(data, default=str)))

    config.pluginmanager.register(Recorder())
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return Reader(item, Project(config)), told


def places(value, path=()):
    """Yield the way to each place of a value, such as `(0, "outcome")`."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(each, (*path, key))


def changed(value, path, junk):
    """Return a copy of a value with `junk` at a place."""
    value = copy.deepcopy(value)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = junk
    return value


def test_what_is_sound_comes_through_as_it_was_and_whole(told):
    reader, said = told
    first, middle, call, last = reader.reports(copy.deepcopy(said))
    assert [first.when, call.when, last.when] == ["setup", "call", "teardown"]
    assert (call.outcome, middle.outcome, middle.context.kwargs) == ("failed", "failed", {"i": "1"})
    assert "ValueError: {'some': 'thing'}" in call.longreprtext
    assert call.user_properties == [("a", 1)]
    assert ("Captured stdout call", "printed\n") in call.sections

    # A test has one of each, in their order: no pass can be made of a setup alone.
    for wrong in (
        [],
        said[:-1],
        said[1:],
        [said[0], said[-1]],
        [*said, said[-1]],
        said[::-1],
        {"reports": said},
        None,
    ):
        with pytest.raises(MalformedError):
            reader.reports(copy.deepcopy(wrong))

    # Warnings are of classes that Python has.
    (one, _), (other, when) = reader.warnings(
        [
            ["runtest", "DeprecationWarning", "old", "x.py", 1, "old()"],
            ["runtest", "exec", "new\x1b[2J", "/etc/passwd", 1, ""],
        ]
    )
    assert (one.category, str(one.message)) == (DeprecationWarning, "old")
    assert (other.category, str(other.message), when) == (UserWarning, "exec: new\\x1b[2J", "runtest")
    assert "old()" in warnings.formatwarning(one.message, one.category, one.filename, one.lineno, one.line)
    for junk in JUNK[:8]:
        with pytest.raises(MalformedError):
            reader.warnings([junk])

    # No file of this host is read for one.
    assert "root" in Path("/etc/passwd").read_text()
    assert "root" not in warnings.formatwarning(other.message, other.category, other.filename, 1, other.line)


def test_junk_anywhere_is_refused_or_harmless(told):
    reader, said = told
    config = reader._item.config
    refusals = []
    # Once for each place of a report that is not only another one of many.
    kinds = {tuple("*" if isinstance(key, int) else key for key in path[1:]): path for path in places(said)}
    for path in kinds.values():
        for junk in JUNK:
            try:
                reports = reader.reports(changed(said, path, junk))
            except MalformedError as error:
                refusals.append(str(error))
                continue
            for report in reports:
                # It can be shown, and pytest-xdist can send it.
                report.toterminal(TerminalWriter(io.StringIO()))
                text = report.longreprtext + str(report.sections) + str(getattr(report, "context", ""))
                assert not set(text) & set("\x07\0\ud800")
                assert "\x1b[2J" not in text
                assert (report.nodeid, report.location) == (reader._item.nodeid, reader._item.location)
                json.dumps(config.hook.pytest_report_to_serializable(config=config, report=report), allow_nan=False)
    assert len(refusals) > 300
    assert max(map(len, refusals)) < 300
