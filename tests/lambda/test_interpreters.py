"""Functions on a CPython other than the one that embeds coldframe."""

import sys

import pytest
from interpreters import interpreters

import coldframe
from coldframe import ConfigurationError, Function

ECHO = "def handler(event, context):\n    return event\n"


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
    if version not in interpreters():
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
    fn = function("app.handler", code, runtime=interpreters()[version], timeout_s=20, memory_mb=256)
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
