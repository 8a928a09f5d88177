"""The fixtures: functions on one host, in three scopes, with the defaults of the run."""

import re

import pytest

pytest_plugins = ["pytester", "projects"]

HANDLERS = """
import os
import time

def square(event, context):
    return event["n"] ** 2

def spin(event, context):
    print("before", event)
    time.sleep(60)

def fail(event, context):
    print("a line of the log")
    raise LookupError("nobody is there")

def limits(event, context):
    return [context.memory_limit_in_mb, context.get_remaining_time_in_millis()]
"""

SCOPES = """
import coldframe
import pytest
from coldframe.pytest_plugin import FunctionFactory

made = []

@pytest.fixture(scope="module")
def of_module(coldframe_module_function: FunctionFactory) -> coldframe.Function:
    return coldframe_module_function("handlers.square", "handlers.py")

@pytest.fixture(scope="session")
def of_session(coldframe_session_function):
    return coldframe_session_function("handlers.square", "handlers.py")

def test_all_scopes_share_one_host(coldframe_function, of_module, of_session, coldframe_host):
    functions = [coldframe_function("handlers.square", "handlers.py"), of_module, of_session]
    assert [fn({"n": 3}) for fn in functions] == [9, 9, 9]
    assert {fn.host for fn in functions} == {coldframe_host}
    assert len(coldframe_host.environments()) == 3
    made.extend(functions)

def test_each_lives_as_long_as_its_scope(of_module, of_session):
    with pytest.raises(coldframe.ColdframeError, match="closed"):
        made[0]({"n": 3})
    assert of_module({"n": 4}) == of_session({"n": 4}) == 16

def test_defaults_are_those_of_the_run(coldframe_function):
    memory_mb, left_ms = coldframe_function("handlers.limits", "handlers.py")()
    assert memory_mb == "96" and 1000 < int(left_ms) <= 2500

def test_what_is_given_wins(coldframe_function):
    memory_mb, left_ms = coldframe_function("handlers.limits", "handlers.py", memory_mb=80, timeout_s=9)()
    assert memory_mb == "80" and 2500 < int(left_ms) <= 9000

@pytest.mark.coldframe
def test_a_marked_test_has_them_too():
    with open("/proc/self/limits") as file:
        assert file.read()
    assert bytearray(64 << 20)
    with pytest.raises(MemoryError):
        raise MemoryError

@pytest.mark.asyncio
async def test_awaits(coldframe_function, coldframe_host):
    invocation = await coldframe_function("handlers.square", "handlers.py").ainvoke({"n": 5})
    assert invocation.payload == 25
"""

LATER = """
import coldframe, pytest
import test_scopes

def test_the_module_is_over():
    with pytest.raises(coldframe.ColdframeError, match="closed"):
        test_scopes.made[1]({"n": 3})
    assert test_scopes.made[2]({"n": 3}) == 9
"""


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_functions_share_a_host_and_live_as_long_as_their_scopes(project, mode):
    project.makepyfile(handlers=HANDLERS, test_scopes=SCOPES, test_scopes_later=LATER)
    with project.path.joinpath("tox.ini").open("a") as file:
        file.write("\ncoldframe_memory_mb = 64\ncoldframe_timeout_s = 2.5\n")
    result = project.runpytest_subprocess("--coldframe-memory", "96", f"--asyncio-mode={mode}")
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(["coldframe: memory_mb=96, timeout_s=2.5"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--coldframe-memory=lots"], "--coldframe-memory: 'lots' is not a number"),
        (["--coldframe-memory=31"], "--coldframe-memory: memory_mb is 31; it must be from 32 to 10240 MiB"),
        (["--coldframe-timeout=0"], "--coldframe-timeout: timeout_s is 0; it must be above 0 and at most 900 seconds"),
        (["--coldframe-isolation=some"], "--coldframe-isolation: isolation='some': use 'strict' or 'available'"),
        (["-o", "coldframe_timeout_s=soon"], "coldframe_timeout_s: "),
    ],
)
def test_wrong_options_are_errors_of_usage(pytester, arguments, why):
    result = pytester.runpytest_inprocess(*arguments, "-p", "no:asyncio", "-p", "no:hypothesispytest")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {why}" in result.stderr.str()


FAILURES = """
import pytest

@pytest.fixture
def make(coldframe_function):
    return lambda name, **options: coldframe_function(f"handlers.{name}", "handlers.py", name=name, **options)

def test_raised(make):
    make("spin", timeout_s=0.2)({"n": 1})

def test_asserted(make):
    invocation = make("fail").invoke({"n": 1})
    assert invocation.ok

def test_caught_and_another_failure(make):
    fn = make("fail")
    for n in range(5):
        assert fn.submit({"n": n}).result().error
    assert fn.host is None

def test_passes(make):
    assert not make("fail").invoke({"n": 1}).ok

def test_fails_for_another_reason(make):
    assert make("square")({"n": 2}) == 5
"""


def test_a_failure_shows_verdict_report_and_log_of_the_invocation(project):
    project.makepyfile(handlers=HANDLERS, test_failures=FAILURES)
    result = project.runpytest_subprocess()
    result.assert_outcomes(failed=4, passed=1)
    result.stdout.fnmatch_lines(
        [
            "* test_raised *",
            "-* coldframe: invocation of spin -*",
            "Sandbox.Timedout: *timed out after 0.20 seconds*",
            "REPORT RequestId: *Status: timeout*",
            "Its log:",
            "before {'n': 1}",
            "* test_asserted *",
            "E*assert False",
            "-* coldframe: invocation of fail -*",
            "LookupError: nobody is there",
            "REPORT RequestId: *",
            "a line of the log",
            "* test_caught_and_another_failure *",
            "-* coldframe: invocation of fail -*",
            "* test_fails_for_another_reason *",
        ]
    )
    sections = re.findall(r"-+ coldframe: invocation of (\w+) -+", result.stdout.str())
    assert sections == ["spin", "fail", "fail", "fail", "fail"]


MISTAKES = """
def test_no_such_file(coldframe_function):
    coldframe_function("handlers.square", code="handler.py")

def test_no_such_function(coldframe_function):
    coldframe_function("handlers.sqare", code="handlers.py")({"n": 1})

def test_no_such_option(coldframe_function):
    coldframe_function("handlers.square", code="handlers.py", memory=64)
"""


def test_a_mistake_is_shown_where_it_was_made_without_the_inside_of_coldframe(project):
    project.makepyfile(handlers=HANDLERS, test_mistakes=MISTAKES)
    result = project.runpytest_subprocess()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            '>*coldframe_function("handlers.square", code="handler.py")',
            "E*ConfigurationError: there is no *handler.py*",
            '>*coldframe_function("handlers.sqare", code="handlers.py")({"n": 1})',
            "E*InitError: Runtime.HandlerNotFound: Handler 'sqare' missing on module 'handlers'; check *",
            '>*coldframe_function("handlers.square", code="handlers.py", memory=64)',
            "E*TypeError: *unexpected keyword argument 'memory'",
        ]
    )
    for inside in ("def unwrap", "_function.py", "functions.py", "LAMBDA_WARNING"):
        result.stdout.no_fnmatch_line(f"*{inside}*")


WORKERS = """
import os
import coldframe
import pytest

def test_one(coldframe_host, worker_id):
    assert worker_id.startswith("gw")
    with coldframe.Host() as alone:
        assert coldframe_host.max_memory_mb == alone.max_memory_mb // 2
    assert coldframe_host.environments() == []

@pytest.mark.coldframe
@pytest.mark.parametrize("n", range(3))
def test_marked(n, worker_id):
    assert worker_id.startswith("gw") and n != 1

def test_function(coldframe_function):
    assert coldframe_function("handlers.fail", "handlers.py").invoke().ok
"""


def test_each_worker_of_xdist_has_a_host_with_its_part_of_the_memory(project):
    project.makepyfile(handlers=HANDLERS, test_workers=WORKERS)
    result = project.runpytest_subprocess("-n", "2")
    result.assert_outcomes(failed=2, passed=3)
    result.stdout.fnmatch_lines_random(["-* coldframe: invocation of handlers -*", "E*assert (True and 1 != 1)"])
