"""The package as a whole: what it exports, how light it is, and what it refuses to run on."""

import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from test_python_fake import code, coldframe, fake  # noqa: F401

import coldframe as package

# These names are the fixtures of the stand-in.
# ruff: noqa: F811


def python(program, *options):
    """Run a program that finds coldframe and the stand-in as this process does."""
    path = [entry for entry in sys.path if entry]
    program = f"import sys; sys.path[:0] = {path}\n{program}"
    return subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=False)


def test_every_public_name_is_there(coldframe):
    for name in coldframe.__all__:
        assert getattr(coldframe, name) is not None
    assert set(coldframe.__all__) <= set(dir(coldframe))
    assert coldframe.__all__ == sorted(coldframe.__all__)
    with pytest.raises(AttributeError, match="module 'coldframe' has no attribute 'nonsense'"):
        _ = coldframe.nonsense


def test_every_error_is_public(coldframe):
    errors = importlib.import_module("coldframe.errors")
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes <= set(coldframe.__all__)


def test_the_version_is_that_of_the_package(coldframe):
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert re.search(r'^version = "(.*)"$', project.read_text(), re.MULTILINE)[1] == coldframe.__version__
    assert coldframe.build_info()["version"] == coldframe.__version__


def test_nothing_heavy_is_loaded_before_it_is_used():
    done = python(
        "import coldframe, coldframe.pytest_plugin, coldframe.__main__\n"
        "heavy = {'coldframe._host', 'coldframe._function', 'asyncio', 'concurrent.futures.thread', 'subprocess'}\n"
        "import pytest\n"
        "print(sorted(name for name in sys.modules if name.startswith('coldframe._') and name in heavy))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_other_systems_are_told_why():
    done = python("import sys; sys.platform = 'darwin'\nimport coldframe")
    assert "ImportError: coldframe isolates handlers with features of the Linux kernel" in done.stderr
    assert "darwin" in done.stderr


def test_a_debug_build_warns(fake):
    fake.profile = "debug"
    with pytest.warns(RuntimeWarning, match="debug build"):
        importlib.import_module("coldframe")


def test_a_release_build_does_not_warn(fake):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("coldframe")


def test_the_fixture_closes_what_it_made(coldframe, fake, code, pytestconfig):
    plugin = importlib.import_module("coldframe.pytest_plugin")
    fixture = plugin.coldframe_function.__wrapped__(pytestconfig, coldframe.default_host())
    make = next(fixture)
    first, second = make("app.handler", code, memory_mb=64), make("app.handler", code=code)
    assert first({"n": 3}) == {"n": 3}
    assert second.name == "app"
    fixture.close()
    assert [function.closed for function in fake.hosts[0].functions] == [1, 1]


def test_the_package_says_that_it_is_typed():
    assert (Path(package.__file__).parent / "py.typed").exists()
