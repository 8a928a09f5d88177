"""The package as a whole: what it exports, how light it is, and what it refuses to run on."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from test_python_fake import coldframe, fake  # noqa: F401

import coldframe as package

ROOT = Path(__file__).parents[2]

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


def test_there_is_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    crates = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    ours = {package["version"] for package in locked if package["name"].startswith("coldframe")}
    assert {project, crates, *ours} == {package.__version__} == {package.build_info()["version"]}


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## \[(.+)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    (version, date), *older = headings
    assert version in {"Unreleased", package.__version__}
    assert bool(date) == (version != "Unreleased")
    assert all(date for _, date in older)
    if os.environ.get("GITHUB_REF", "").startswith("refs/tags/"):  # what is about to be released
        assert (version, os.environ["GITHUB_REF"]) == (package.__version__, f"refs/tags/v{package.__version__}")


def test_all_is_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (everything,) = extras.pop("all")
    assert everything == f"coldframe[{','.join(extras)}]"


def test_nothing_heavy_is_loaded_before_it_is_used():
    done = python(
        "import coldframe, coldframe.pytest_plugin, coldframe.__main__\n"
        "heavy = {'coldframe._host', 'coldframe._function', 'asyncio', 'concurrent.futures.thread', 'subprocess'}\n"
        "import pytest\n"
        "print(sorted(name for name in sys.modules if name.startswith('coldframe._') and name in heavy))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("system", ["darwin", "win32", "freebsd14", "emscripten"])
@pytest.mark.parametrize("module", ["coldframe", "coldframe.errors", "coldframe.__main__"])
def test_other_systems_are_told_why(system, module):
    # There is no native module either, and nothing may be asked of it first.
    done = python(f"sys.platform = {system!r}\nsys.modules['coldframe._core'] = None\nimport {module}")
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: coldframe isolates handlers with features of the Linux kernel and cannot work on {system}; "
        "run it on Linux, in a virtual machine if need be"
    )


def test_a_checkout_that_was_not_built_says_so(tmp_path):
    shutil.copytree(
        Path(package.__file__).parent, tmp_path / "coldframe", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    done = python(f"sys.path.insert(0, {str(tmp_path)!r})\nimport coldframe")
    assert "ImportError: coldframe's native module cannot be loaded (cannot import name '_core'" in done.stderr
    assert done.stderr.endswith("or build it in a checkout: `pip install .`\n")


def test_an_old_kernel_is_named_with_the_one_it_takes():
    # As any program is told that asks for the kernel's version of old.
    old = "import ctypes, sys; ctypes.CDLL(None).personality(0x0020000)\n"
    done = python(f"{old}import coldframe\ncoldframe.Function('app.handler', '.', isolation='available')")
    assert "HostCapabilityError: " in done.stderr
    assert "missing: kernel (Linux 2.6; run Linux 5.14 or newer)" in done.stderr


def test_a_debug_build_warns(fake):
    fake.profile = "debug"
    with pytest.warns(RuntimeWarning, match="debug build"):
        importlib.import_module("coldframe")


def test_a_release_build_does_not_warn(fake):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("coldframe")


def test_the_package_says_that_it_is_typed():
    assert (Path(package.__file__).parent / "py.typed").exists()


def test_every_extra_is_in_the_page_about_installing():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    assert re.findall(r"^\| `coldframe\[(\w+)\]` \|", page, re.MULTILINE) == list(extras)
