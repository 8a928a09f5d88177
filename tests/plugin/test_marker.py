"""The marker: a test that runs in an environment reports what it would if it ran in place."""

import re
from pathlib import Path

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


STARTED = """
import os

def pytest_configure():
    os.write(2, b"pytest is configured\\n")
"""
ONCE = """
import os, warnings
import pytest

warnings.warn("an old module", DeprecationWarning)

@pytest.mark.coldframe
@pytest.mark.parametrize("n", [1, 2])
def test_exits_when_it_is_two(n):
    if n == 2:
        os.write(2, b"about to exit\\n")
        os._exit(3)
"""


def test_what_was_said_while_collecting_is_said_once(project):
    project.makeconftest(STARTED)
    project.makepyfile(test_once=ONCE)
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    text = result.stdout.str() + result.stderr.str()
    assert (text.count("about to exit"), text.count("pytest is configured")) == (1, 1)


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


LAYOUT = {
    "src/shop/prices.py": "def price(item):\n    raise KeyError(item)\n",
    "tests/conftest.py": """
import pytest

def pytest_addoption(parser):
    parser.addoption("--currency")

@pytest.fixture(scope="session")
def currency(request):
    return request.config.getoption("--currency")
""",
    "tests/unit/test_prices.py": """
import pytest
from shop.prices import price

pytestmark = pytest.mark.coldframe

def test_option(currency):
    assert currency == "CHF"

def test_price():
    price("tea")
""",
    "tests/unit/test_elsewhere.py": """
import os
import pytest

if os.path.exists("/var/task"):
    pytest.skip("nothing of this inside", allow_module_level=True)

@pytest.mark.coldframe
def test_skipped():
    pass
""",
    "tests/unit/test_nowhere.py": """
import os
import pytest

if os.path.exists("/var/task"):
    raise OSError("no such thing inside")

@pytest.mark.coldframe
def test_cannot_be():
    pass
""",
}


def test_a_project_is_found_inside_as_it_is_laid_out(project, monkeypatch):
    for name, text in LAYOUT.items():
        path = project.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with project.path.joinpath("tox.ini").open("a") as file:
        file.write("\npythonpath = src\n")
    monkeypatch.chdir(project.path / "tests/unit")
    result = project.runpytest_subprocess("--import-mode=importlib", "--tb=short", "-ra", "--currency=CHF")
    result.assert_outcomes(passed=1, failed=1, skipped=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_cannot_be*",
            "The test cannot be collected in its environment:",
            "test_nowhere.py:6: in <module>",
            "E   OSError: no such thing inside",
            "*test_price*",
            "test_prices.py:11: in test_price",
            "../../src/shop/prices.py:2: in price",
            "E   KeyError: 'tea'",
            "SKIPPED* test_elsewhere.py:6: nothing of this inside",
            "ERROR test_nowhere.py::test_cannot_be - OSError: no such thing inside*",
        ]
    )
    assert "/mnt/" not in result.stdout.str()
