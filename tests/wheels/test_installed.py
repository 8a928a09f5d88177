"""The wheel on every CPython of this machine that can have it, each in a fresh virtual environment.

COLDFRAME_WHEELS_ON="3.12 3.13" takes some of them, and fails where one is missing; "newest" is the newest.
"""

import json
import os
import platform
import shutil
import subprocess
import sys

import pytest
from interpreters import embedding, interpreters
from released import ROOT, WHEELS, machine

HERE = sorted(embedding(), key=lambda version: int(version[2:]))
CHOSEN = [HERE[-1] if each == "newest" else each for each in os.environ.get("COLDFRAME_WHEELS_ON", "").split()] or HERE
TOOLS = ("pytest>=8", "pytest-asyncio>=0.24", "pytest-timeout>=2.3", "psutil>=6", "hypothesis>=6")
SUBSET = (
    "tests/docs/test_blocks.py::test_what_is_shown_works[README.md]",
    "tests/lambda/test_interpreters.py",
    "tests/crash/test_defects.py",
    "tests/escape/test_snapstart.py",
)
"""In these are all processes of the core (inits, zygotes of other interpreters, tracers), and a panic that unwinds."""


pytestmark = pytest.mark.timeout(900)


def run(*command, cwd=None, timeout=120):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def pip(programs, *command):
    """Run this environment's pip for another one, where it would take longer to install than all that is tried."""
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", programs / "python", *command)


@pytest.fixture(scope="module")
def wheel():
    (wheel,) = [wheel for wheel in WHEELS if machine(wheel) == platform.machine()]
    return wheel


@pytest.fixture(scope="module", params=CHOSEN)
def programs(request, wheel):
    """Return the `bin` of a virtual environment that has the wheel, and nothing else."""
    # Not below /tmp, which tests of what functions find in theirs would see.
    place = ROOT / "target" / "wheels-on" / f"python{request.param}"
    run(interpreters()[request.param], "-m", "venv", "--clear", "--without-pip", place)
    pip(place / "bin", "install", "--quiet", "--no-index", wheel)
    yield place / "bin"
    shutil.rmtree(place)


@pytest.fixture
def hello(tmp_path):
    """Return a directory with a handler in it, and nothing of this tree."""
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "app.py").write_text("def handler(event, context):\n    return f'Hello, {event}!'\n")
    return tmp_path


def test_it_is_alone_and_what_it_says(programs, hello):
    assert [each["name"] for each in json.loads(pip(programs, "list", "--format", "json"))] == ["coldframe"]
    told = run(
        programs / "python", "-c", "import coldframe; print(coldframe.__file__, coldframe.build_info())", cwd=hello
    )
    assert told.startswith(str(programs.parent))
    assert "'profile': 'release'" in told


def test_the_commands_work(programs, hello):
    doctor = json.loads(run(programs / "coldframe", "doctor", "--json", cwd=hello))
    assert doctor
    answer = run(programs / "coldframe", "invoke", "app.handler", "--code", "hello", "--event", '"Ada"', cwd=hello)
    assert json.loads(answer) == "Hello, Ada!"


def test_the_tests_pass(programs):
    pip(programs, "install", "--quiet", *TOOLS)
    for tests in SUBSET:
        print(run(programs / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=ROOT, timeout=240))


def test_nothing_stays_where_it_was_installed(programs):
    pip(programs, "uninstall", "--quiet", "--yes", "coldframe")
    assert not [path for path in programs.parent.rglob("*coldframe*") if path.suffix != ".pyc"]
