"""The marker: a test that runs in an environment reports what it would if it ran in place."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

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
