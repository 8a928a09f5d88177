"""Functions on a CPython other than the one that embeds coldframe."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import coldframe
from coldframe import ConfigurationError, Function

ECHO = "def handler(event, context):\n    return event\n"


def foreign_interpreters():
    """Return other CPythons of this machine, by version: on the path, and beside the one that runs the tests."""
    siblings = Path(sys.base_prefix).parent
    found = {}
    for minor in range(9, 15):
        if (3, minor) == sys.version_info[:2]:
            continue
        name = f"python3.{minor}"
        candidates = [*sorted(siblings.glob(f"*/bin/{name}")), *filter(None, [shutil.which(name)])]
        for candidate in candidates:
            check = "import sys; print(sys.version_info[1] if sys.implementation.name == 'cpython' else 0)"
            told = subprocess.run([candidate, "-I", "-S", "-c", check], capture_output=True, text=True, check=False)
            if told.stdout.strip() == str(minor):
                found[f"3.{minor}"] = str(candidate)
                break
    return found


INTERPRETERS = foreign_interpreters()


@pytest.fixture
def function(host):
    """Return a factory of functions on the module's host, all closed when the test ends."""
    made = []

    def function(handler, code, **options):
        made.append(Function(handler, code, host=host, **options))
        return made[-1]

    yield function
    for fn in made:
        fn.close()


@pytest.mark.parametrize("version", [f"3.{minor}" for minor in range(9, 15) if (3, minor) != sys.version_info[:2]])
def test_another_cpython_runs_the_function(function, tmp_path, version):
    if version not in INTERPRETERS:
        pytest.skip(f"there is no CPython {version} on this machine")
    code = tmp_path / "app.py"
    code.write_text(
        "import json, os, sys, decimal, sqlite3\n"
        "print('printed')\n"
        "def handler(event, context):\n"
        "    if event == 'raise':\n"
        "        raise ValueError('ü')\n"
        "    return [list(sys.version_info[:2]), event, os.environ['AWS_EXECUTION_ENV'], context.aws_request_id]\n"
    )
    fn = function("app.handler", code, runtime=INTERPRETERS[version], timeout_s=20, memory_mb=256)
    for start in ("cold", "warm"):
        invocation = fn.invoke({"a": ["ü", None]})
        assert invocation.unwrap() == [
            [3, int(version[2:])],
            {"a": ["ü", None]},
            f"AWS_Lambda_python{version}",
            invocation.request_id,
        ]
        assert invocation.report.start == start
        assert ("printed\n" in invocation.log) == (start == "cold")
    error = fn.invoke("raise").error
    assert (type(error), error.error_type, error.error_message) == (coldframe.HandlerError, "ValueError", "ü")
    assert error.stack_trace == ("  File \"/var/task/app.py\", line 5, in handler\n    raise ValueError('ü')\n",)


def test_a_runtime_that_is_no_cpython_is_refused(function, tmp_path):
    code = tmp_path / "app.py"
    code.write_text(ECHO)
    for runtime in ("/bin/true", "/bin/sh", tmp_path, code):
        with pytest.raises(ConfigurationError) as caught:
            function("app.handler", code, runtime=runtime)
        assert str(runtime) in str(caught.value)
