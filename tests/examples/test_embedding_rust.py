"""The example of the crate ``coldframe``: a program in Rust, which `make test` has compiled already."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)  # it is compiled here if nobody has done that
@pytest.mark.skipif(not shutil.which("cargo"), reason="there is no cargo")
def test_the_program_says_what_it_should():
    command = ["cargo", "run", "--quiet", "--locked", "--package", "coldframe", "--example", "hello"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.sub(r"[\d.]+(ms|µs|s):", "T:", line) for line in done.stdout.splitlines()]
    assert lines[0] == 'cold T: {"message": "Hello, Ada!"}'
    assert lines[1] == 'warm T: {"message": "Hello, Ada!"}'
    assert lines[2].startswith("warm T: AttributeError: 'list' object has no attribute")
    assert lines[3].endswith("Error: Task timed out after 0.50 seconds")
    assert {line.partition(": ")[2] for line in lines[4:6]} == {
        '{"message": "Hello, Grace!"}',
        '{"message": "Hello, Zoë!"}',
    }
    assert lines[6:] == ["the invocation was cancelled and its environment destroyed"]
