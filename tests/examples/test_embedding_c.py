"""The examples ``embedding/c``: programs in C, the largest of which grades other people's programs."""

import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
EXAMPLES = TOP / "examples/embedding/c"
INSTALLED = TOP / "target/capi"
SUBMISSIONS = TOP / "examples/grader/submissions"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs a program, and returns its exit status, its lines and its errors."""
    if not INSTALLED.is_dir() or not shutil.which("cc"):
        fail = pytest.fail if os.environ.get("COLDFRAME_REQUIRE") else pytest.skip
        fail("this takes `make capi` and a C compiler")
    folder = tmp_path_factory.mktemp("c")
    for path in [*EXAMPLES.glob("*.c"), EXAMPLES / "Makefile"]:
        shutil.copy(path, folder)
    subprocess.run(["make", "-s", "-C", folder, f"PREFIX={INSTALLED}"], check=True)

    def run(name, *arguments, events=()):
        text = "".join(f"{event}\n" for event in events)
        command = [folder / name, *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=50, check=False, cwd=TOP)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


@pytest.fixture
def grade(run):
    """Return a function that runs the largest of them."""
    return partial(run, "grade")


def test_the_smallest_program(run):
    status, (line,), stderr = run("hello")
    assert (status, line.partition(" in ")[0], stderr) == (0, '{"message": "Hello, Ada!"}', "")


def test_handlers_that_know_no_bounds(run):
    status, (late, missing), stderr = run("verdicts")
    assert (status, stderr) == (0, "")
    assert re.fullmatch(r"too slow: [5-9]\d\d ms", late)
    assert missing == "Runtime.HandlerNotFound: Handler 'nobody' missing on module 'app'"
    assert run("verdicts", "/nowhere")[0] == 1


def test_every_event_gets_its_verdict_in_order(grade):
    events = [f'{{"numbers": [{number}, 9, 1]}}' for number in range(1, 9)]
    verdicts = [f"OK  {number}" for number in range(1, 9)]
    events[3], verdicts[3] = "{}", "RE  KeyError"
    events[5], verdicts[5] = "no json", "RE  Runtime.UnmarshalError"
    assert grade("submission.handler", SUBMISSIONS / "right", events=events) == (1, verdicts, "")


def test_hostile_programs_are_verdicts(grade):
    for submission, verdict in {"endless_loop": "TLE Sandbox.Timedout", "exits": "RE  Runtime.ExitError"}.items():
        events = ['{"numbers": [1]}'] * 2
        assert grade("submission.handler", SUBMISSIONS / submission, events=events) == (1, [verdict] * 2, "")


def test_what_cannot_be_is_said(grade, tmp_path):
    for arguments, said in {
        ("handler", SUBMISSIONS / "right"): "is not in Lambda's notation",
        ("a.b", tmp_path / "nowhere"): "No such file or directory",
        (): "usage:",
    }.items():
        status, lines, stderr = grade(*arguments)
        assert (status, lines) == (2, [])
        assert said in stderr


def test_the_header_is_cpp_and_strict_c_as_well(tmp_path):
    program = (
        "#include <coldframe.h>\nint main() { coldframe_error_free(NULL); return coldframe_abi() != COLDFRAME_ABI; }\n"
    )
    library = INSTALLED / "lib"
    for name, compiler in {
        "main.c": ["cc", "-std=c11", "-pedantic", "-Wc++-compat"],
        "main.cpp": ["c++", "-std=c++11", "-pedantic"],
    }.items():
        if not shutil.which(compiler[0]):
            continue
        source, built = tmp_path / name, tmp_path / compiler[0]
        source.write_text(program)
        flags = ["-Wall", "-Wextra", "-Werror", f"-I{INSTALLED / 'include'}", f"-L{library}", f"-Wl,-rpath,{library}"]
        subprocess.run([*compiler, *flags, source, "-o", built, "-lcoldframe"], check=True)
        subprocess.run([built], check=True)


def test_pkg_config_finds_the_library():
    described = (INSTALLED / "lib/pkgconfig/coldframe.pc").read_text()
    assert f"prefix={INSTALLED}\n" in described
    if shutil.which("pkg-config"):
        done = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "coldframe"],
            env={**os.environ, "PKG_CONFIG_PATH": str(INSTALLED / "lib/pkgconfig")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [f"-I{INSTALLED}/include", f"-L{INSTALLED}/lib", "-lcoldframe"]
