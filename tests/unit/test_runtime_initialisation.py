"""How an environment becomes that of a function, or fails with Lambda's words."""

from __future__ import annotations

import struct
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from test_runtime_driver import (
    AFTER_READY,
    INIT_ERROR,
    REQUEST_ID,
    RUNTIME,
    WARNING,
    Driver,
    every_python,  # noqa: F401 - the fixture "python"
)

if TYPE_CHECKING:
    from pathlib import Path

ECHO = "def handler(event, context): return event"


def init_error(driver: Driver, handler: str = "app.handler") -> dict[str, Any]:
    """Initialise, which must fail; the environment then waits to be ended."""
    answer = driver.start(handler)
    assert answer.kind == INIT_ERROR
    driver.socket.close()
    assert driver.exit_status() in (0, 1)
    error: dict[str, Any] = answer.value
    assert list(error) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert error["requestId"] == ""
    return error


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        ("nomod.f", "Runtime.ImportModuleError", "Unable to import module 'nomod': No module named 'nomod'"),
        ("no/mod.f", "Runtime.ImportModuleError", "Unable to import module 'no/mod': No module named 'no'"),
        ("needs.f", "Runtime.ImportModuleError", "Unable to import module 'needs': No module named 'nope_x'"),
        ("app.nope", "Runtime.HandlerNotFound", "Handler 'nope' missing on module 'app'"),
        (
            "justname",
            "Runtime.MalformedHandlerName",
            "Bad handler 'justname': not enough values to unpack (expected 2, got 1)",
        ),
        ("sys.f", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    ],
)
def test_a_handler_that_cannot_be_found(
    tmp_path: Path, python: str, handler: str, error_type: str, message: str
) -> None:
    (tmp_path / "needs.py").write_text("import nope_x")
    with Driver(tmp_path, ECHO, python=python) as driver:
        assert init_error(driver, handler) == {
            "errorMessage": message,
            "errorType": error_type,
            "requestId": "",
            "stackTrace": [],
        }
        log = driver.log()
        assert WARNING.match(log)
        assert WARNING.sub("", log) == f"[ERROR] {error_type}: {message}\rTraceback (most recent call last):\n"


def test_a_syntax_error(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, "x = 1\ndef f(:\n", python=python) as driver:
        error = init_error(driver)
        assert error["errorMessage"] == "Syntax error in module 'app': invalid syntax (app.py, line 2)"
        assert error["errorType"] == "Runtime.UserCodeSyntaxError"
        assert error["stackTrace"] == [f'  File "{tmp_path}/app.py" Line 2\n    def f(:\n']


def test_an_exception_at_import_keeps_its_name(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, "def g():\n    raise KeyError('x')\ng()\n", python=python) as driver:
        error = init_error(driver)
        assert (error["errorMessage"], error["errorType"]) == ("'x'", "KeyError")
        # Lambda leaves the frames of the import system, and so does this; those of the runtime itself are gone.
        assert "importlib" in error["stackTrace"][0]
        assert not any(str(RUNTIME) in frame for frame in error["stackTrace"])
        assert error["stackTrace"][-2:] == [
            f'  File "{tmp_path}/app.py", line 3, in <module>\n    g()\n',
            f"  File \"{tmp_path}/app.py\", line 2, in g\n    raise KeyError('x')\n",
        ]


@pytest.mark.parametrize(
    ("statement", "error_type"), [("raise KeyboardInterrupt", "KeyboardInterrupt"), ("1/0", "ZeroDivisionError")]
)
def test_any_exception_at_import_is_an_answer(tmp_path: Path, statement: str, error_type: str) -> None:
    with Driver(tmp_path, statement) as driver:
        assert init_error(driver)["errorType"] == error_type


@pytest.mark.parametrize(
    ("statement", "status"), [("sys.exit()", 0), ("sys.exit(3)", 3), ("os._exit(4)", 4), ("os.closerange(0, 99)", 1)]
)
def test_leaving_at_import_ends_the_process(tmp_path: Path, statement: str, status: int) -> None:
    with Driver(tmp_path, f"import os, sys\nprint('so far', end='', flush=True)\n{statement}") as driver:
        assert driver.init("app.handler", {"LAMBDA_TASK_ROOT": str(tmp_path)}) is None
        assert driver.exit_status() == status
        assert driver.log() == "so far"


def test_a_child_forked_at_import_does_not_answer(tmp_path: Path) -> None:
    source = "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\ndef handler(event, context): return bool(pid)"
    with Driver(tmp_path, source).ready() as driver:
        assert driver.call() is True


@pytest.mark.parametrize("handler", ["pkg.mod.function", "pkg/mod.function"])
def test_both_notations_find_a_module_in_a_package(tmp_path: Path, python: str, handler: str) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "mod.py").write_text("def function(event, context): return [__name__, event]")
    with Driver(tmp_path, python=python).ready(handler) as driver:
        assert driver.call(1) == ["pkg.mod", 1]


WORLD = """
import os, sys, time
early = dict(os.environ)
def handler(event, context):
    return {
        "environ": dict(os.environ), "early": early == dict(os.environ), "path": sys.path, "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", sys.argv)[-1:], "main": sorted(vars(sys.modules["__main__"])),
        "tz": [time.tzname[0], time.timezone],
        "encodings": [s.encoding + " " + s.errors for s in (sys.stdout, sys.stderr)],
        "names": [sys.stdout.name, sys.stderr.name, sys.stdout.mode], "stdin": sys.stdin.read(),
    }
"""


def test_the_world_is_the_one_that_init_describes(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, WORLD, python=python) as driver:
        env = {"TZ": "XYZ-3", "LANG": "en_US.UTF-8", "A": "é"}
        driver.ready(env=env, packages=["/site/one", "/site/two", "/site/one"])
        world = driver.call()
        assert world["environ"] == {"LAMBDA_TASK_ROOT": str(tmp_path), **env}
        assert world["early"] is True
        version = world["path"][1].split("/")[-2]
        assert world["path"][:4] == [
            str(tmp_path),
            f"/opt/python/lib/{version}/site-packages",
            "/opt/python",
            "/var/runtime",
        ]
        assert all(version.replace(".", "") in folder.replace(".", "") for folder in world["path"][4:-2])
        assert world["path"][-2:] == ["/site/one", "/site/two"]
        assert world["argv"] == world["orig_argv"] == ["/var/runtime/bootstrap.py"]
        assert all(name.startswith("__") for name in world["main"])
        assert world["tz"] == ["XYZ", -3 * 3600]
        assert world["encodings"] == ["utf-8 backslashreplace"] * 2
        assert world["names"] == ["<stdout>", "<stderr>", "w"]
        assert world["stdin"] == ""


def test_the_trace_id_of_an_invocation_does_not_stay(tmp_path: Path) -> None:
    source = """
    import os
    def handler(event, context):
        before = os.environ.get("_X_AMZN_TRACE_ID")
        os.environ["_X_AMZN_TRACE_ID"] = "Root=1"
        return before
    """
    with Driver(tmp_path, textwrap.dedent(source)).ready() as driver:
        assert [driver.call(), driver.call()] == [None, None]


def test_code_shadows_what_the_runtime_happens_to_have_loaded(tmp_path: Path) -> None:
    (tmp_path / "calendar.py").write_text("def handler(event, context): return 'mine'")
    with Driver(tmp_path) as driver:
        assert driver.ready("calendar.handler").call() == "mine"


DECORATED = """
import coldframe
@coldframe.function
def bare(event, context): return ["bare", event]
@coldframe.function(memory_mb=128, timeout_s=1)
def handler(event, context): return [type(handler).__name__, event]
def other(event, context): return coldframe.Host
"""


def test_the_decorator_is_nothing_inside(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, DECORATED, python=python).ready("app.bare") as driver:
        assert driver.call(1) == ["bare", 1]
    with Driver(tmp_path, python=python).ready("app.handler") as driver:
        assert driver.call(1) == ["function", 1]


def test_the_rest_of_coldframe_explains_its_absence(tmp_path: Path) -> None:
    with Driver(tmp_path, DECORATED).ready("app.other") as driver:
        error = driver.fail()
        assert error["errorType"] == "AttributeError"
        assert error["errorMessage"].startswith("coldframe.Host cannot be used inside an execution environment")


@pytest.mark.parametrize("described", [False, True])
def test_an_event_may_come_with_the_order_to_initialise(tmp_path: Path, python: str, *, described: bool) -> None:
    source = """
    def handler(event, context):
        return [event, context.aws_request_id, context.get_remaining_time_in_millis()]
    """
    with Driver(tmp_path, textwrap.dedent(source), python=python) as driver:
        event_token, timeout_ns = 77, 60 * 10**9
        head = REQUEST_ID.encode() + struct.pack("<QI", AFTER_READY | timeout_ns, 0)
        driver.ready(described=described, with_it=struct.pack("<Q", event_token) + head + b'{"n": 1}')
        driver.token = event_token
        answer = driver.receive()
        assert answer is not None
        event, request_id, remaining_ms = answer.value
        assert (event, request_id) == ({"n": 1}, REQUEST_ID)
        assert 50_000 < remaining_ms <= 60_000, "counted from when the environment was ready"
        assert driver.call(2)[0] == 2


def test_what_the_function_is_may_come_ahead_of_the_order(tmp_path: Path, python: str) -> None:
    """The handler is not imported before the order."""
    source = "import os\nSEEN = os.environ['A'], os.path.exists('late')\ndef handler(event, context): return SEEN"
    with Driver(tmp_path, source, python=python) as driver:
        driver.between = (tmp_path / "late").touch
        driver.ready(env={"A": "b"}, described=True)
        assert driver.call() == ["b", True]


def test_a_handler_that_fails_after_it_was_described_is_an_error(tmp_path: Path) -> None:
    with Driver(tmp_path, "1 / 0") as driver:
        answer = driver.start(described=True)
        assert (answer.kind, answer.value["errorType"]) == (INIT_ERROR, "ZeroDivisionError")
