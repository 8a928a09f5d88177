"""The marker: a test that runs in an environment reports what it would if it ran in place."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester", "projects"]

CASES = Path(__file__).with_name("cases.py")


def plainly(text):
    """Return a text without what differs from one run to the next."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    return re.sub(r"in \d+\.\d+s", "in s", text)


def test_a_marked_test_reports_as_if_it_had_run_in_place(project, reports):
    project.path.joinpath("test_cases.py").write_text(CASES.read_text())
    project.path.joinpath("data.txt").write_text("data\n")
    here, in_place = reports("-rA", "--color=yes")
    inside, isolated = reports("-rA", "--color=yes", MARKED="1")
    assert len(isolated) > 80
    for one, other in zip(in_place, isolated, strict=True):
        assert {key: plainly(str(value)) for key, value in one.items()} == {
            key: plainly(str(value)) for key, value in other.items()
        }
    # And so does the terminal show, colours and summary of warnings included.
    assert plainly(inside.stdout.str()) == plainly(here.stdout.str())


DEATHS = """
import os, time
import pytest

pytestmark = pytest.mark.coldframe(memory_mb=64)

@pytest.mark.coldframe(timeout_s=0.5)
def test_never_ends():
    print("it begins")
    time.sleep(60)

def test_wants_too_much():
    assert len(bytearray(200 << 20))

def test_exits():
    print("it exits")
    os._exit(3)

def test_debugs():
    breakpoint()

def test_ends_the_run():
    pytest.exit("no more")

def test_lies():
    import coldframe_tests
    lie = [{"outcome": "passed", "when": "call", "$report_type": "TestReport"}]
    coldframe_tests.plainly = lambda value: value and lie

def test_says_too_much():
    print("x" * 7_000_000)
    print("the end")
    assert False

def test_is_still_run():
    pass
"""


def test_a_test_that_has_no_end_of_its_own_is_a_failure_that_says_how_it_ended(project):
    project.makepyfile(test_deaths=DEATHS)
    result = project.runpytest_subprocess("-v", "--pdb")
    result.assert_outcomes(failed=7, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_never_ends FAILED*",
            "Sandbox.Timedout: Task timed out after 0.50 seconds; raise timeout_s of the marker*",
            "REPORT RequestId: *Status: timeout*",
            '*File "*/test_deaths.py", line 9 in test_never_ends',
            "it begins",
            "*A debugger cannot go into an environment*",
            "Runtime.OutOfMemory: *; raise memory_mb of the marker*",
            "REPORT RequestId: *Runtime.OutOfMemory*",
            "Runtime.ExitError: *exit status 3",
            "it exits",
            "*breakpoint(): a debugger cannot go into an environment*",
            "the test ended pytest in its environment: *no more*",
            "what came out of the environment is no report of pytest's: *",
            "*characters were cut here*",
            "the end",
            "FAILED test_deaths.py::test_wants_too_much - Runtime.OutOfMemory*",
        ]
    )
    assert "Entering PDB" not in result.stdout.str()


WRONG = """
import pytest
import unittest

@pytest.mark.coldframe(memory=64)
def test_unknown(): pass

@pytest.mark.coldframe(64)
def test_position(): pass

@pytest.mark.coldframe(memory_mb=1)
def test_range(): pass

@pytest.mark.coldframe
def test_nests(coldframe_function): pass

@pytest.mark.coldframe(preload=["nothing_of_this_name"])
def test_preload(): pass
"""


def test_what_is_wrong_with_a_marker_is_told_with_the_name_of_the_test(project):
    project.makepyfile(test_wrong=WRONG)
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=5)
    for name, why in {
        "unknown": "the marker has no argument 'memory'; there are memory_mb, timeout_s, ",
        "position": "the marker takes no arguments by position, such as 64",
        "range": "memory_mb is 1; it must be from 32 to 10240 MiB",
        "nests": "there is no coldframe_function: an environment cannot make others",
        "preload": "'nothing_of_this_name' is not installed",
    }.items():
        assert re.search(rf"coldframe of test_wrong.py::test_{name}: .*{re.escape(why)}", result.stdout.str())


ORDER = """
import os
import coldframe
import pytest
from coldframe.pytest_plugin import FunctionFactory

PLACE = "/var/task"

@pytest.fixture(scope="module")
def shared():
    print("up in", os.path.exists(PLACE))
    yield os.getpid()
    print("down in", os.path.exists(PLACE))

def test_here(shared):
    assert not os.path.exists(PLACE)

@pytest.mark.coldframe
def test_inside(shared):
    print("the output of", shared)
    assert os.path.exists(PLACE)
    with pytest.raises(OSError):
        open("written", "w")

def test_here_again(shared, coldframe_function: FunctionFactory):
    assert not os.path.exists(PLACE)

@pytest.mark.coldframe(reuse=True)
class TestReuse:
    count = 0

    @pytest.mark.parametrize("n", [1, 2])
    def test_counts(self, n):
        TestReuse.count += 1
        assert TestReuse.count == n

    @pytest.mark.coldframe(reuse=False)
    def test_is_alone(self):
        assert TestReuse.count == 0
"""


def test_marked_tests_stand_among_others_and_share_nothing_with_them(project):
    project.makepyfile(test_order=ORDER, test_later="def test_here(): pass")
    result = project.runpytest_subprocess("-s", "-v", "test_order.py", "test_later.py")
    result.assert_outcomes(passed=7)
    # The fixture of the module was set up twice: once here, for the tests before and after, and once inside.
    assert [line for line in result.outlines if " in " in line and line.startswith(("test_order", "up", "down", "\nd"))]
    text = result.stdout.str()
    assert (text.count("up in False"), text.count("up in True")) == (1, 1)
    assert (text.count("down in False"), text.count("down in True")) == (1, 1)
    assert "the output of " in text
