"""Tests of every kind, which a marker is not to make different; the line numbers of their reports are compared."""

import asyncio
import logging
import subprocess
import sys
import unittest
import warnings
from pathlib import Path

import pytest


@pytest.fixture
def number():
    return 41


@pytest.fixture(params=["left", "right"])
def side(request):
    return request.param


@pytest.fixture
def broken():
    raise RuntimeError("nothing can be set up")


@pytest.fixture
def leaky():
    yield
    raise ValueError("nothing can be taken down")


def test_passes(of_conftest):
    assert of_conftest == "conftest"


def test_compares(number):
    assert {"a": number, "b": [1, 2, 3]} == {"a": 42, "b": [1, 2, 4]}


def test_prints(capsys):
    print("kept by the test")
    assert capsys.readouterr().out == "kept by the test\n"
    print("on stdout")
    print("on stderr", file=sys.stderr)
    subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)
    logging.getLogger("theirs").warning("logged %d", 1)
    raise KeyError("an exception") from ZeroDivisionError("its cause")


def test_skips():
    pytest.skip("not today")


@pytest.mark.skipif(sys.version_info > (3,), reason="never here")
def test_is_skipped():
    raise AssertionError


def test_lacks_a_package():
    pytest.importorskip("nothing_of_this_name")


@pytest.mark.xfail(reason="known")
def test_is_known():
    raise AssertionError


@pytest.mark.xfail(reason="mended")
def test_is_mended():
    pass


@pytest.mark.xfail(strict=True, reason="never mended")
def test_is_mended_against_its_word():
    pass


@pytest.mark.parametrize("value", [1, "a::b[c]", "ü", None], ids=str)
def test_parameters(value, side):
    assert value != 1 or side == "left"


def test_sets_up(broken):
    raise AssertionError


def test_takes_down(leaky, tmp_path):
    tmp_path.joinpath("file").write_text("text")


def test_leaves():
    sys.exit(3)


def test_warns():
    warnings.warn("take care", DeprecationWarning, stacklevel=1)


def test_records(record_property):
    record_property("answer", 42)


def test_reads_its_project():
    assert Path("data.txt").read_text() == "data\n"


def test_colours():
    raise AssertionError("\x1b[31mred\x1b[0m")


@pytest.mark.asyncio
async def test_awaits():
    assert await asyncio.sleep(0, "slept") == "slept"


class TestClass:
    @pytest.fixture(autouse=True)
    def prepare(self):
        self.value = 1

    def test_method(self):
        assert self.value == 2


class TestOldStyle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = [1]

    def test_equal(self):
        self.assertEqual(self.shared, [1])

    def test_not_equal(self):
        self.assertEqual(self.shared, [2])
