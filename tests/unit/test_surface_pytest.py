"""The pytest plugin: a fixture that makes functions and destroys them with the test."""

import sys

import psutil

pytest_plugins = ["pytester"]


def test_the_fixture_makes_functions_that_end_with_the_test(pytester):
    pytester.makepyfile(submission="def handler(event, context):\n    return event['n'] ** 2\n")
    pytester.makepyfile(
        """
        import time

        import coldframe
        import pytest

        made = []

        def test_submission(coldframe_function):
            fn = coldframe_function("submission.handler", code="submission.py", memory_mb=64, timeout_s=1)
            other = coldframe_function("submission.handler", "submission.py")
            assert isinstance(fn, coldframe.Function)
            assert fn({"n": 3}) == other({"n": 3}) == 9
            made.extend((fn, other))
            assert len(fn.host.environments()) == 2

        def test_they_are_gone():
            for fn in made:
                with pytest.raises(coldframe.ColdframeError, match="closed"):
                    fn({"n": 3})
            deadline = time.monotonic() + 10
            while coldframe.default_host().environments():
                assert time.monotonic() < deadline

        def test_that_fails(coldframe_function):
            fn = coldframe_function("submission.handler", code="submission.py")
            made.append(fn)
            assert fn({"n": 3}) == 8

        def test_it_is_gone_too():
            assert len(made) == 3
            with pytest.raises(coldframe.ColdframeError, match="closed"):
                made[-1]({"n": 3})
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*assert 9 == 8*"])


def test_the_fixture_is_listed_with_its_documentation(pytester):
    result = pytester.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["coldframe_function*", "*factory of functions*"])


def test_a_failure_of_a_handler_shows_its_own_trace(pytester):
    pytester.makepyfile(submission="def handler(event, context):\n    return 1 / event\n")
    pytester.makepyfile(
        """
        def test_submission(coldframe_function):
            coldframe_function("submission.handler", code="submission.py")(0)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: division by zero*", "*/var/task/submission.py*"])


def test_the_plugin_costs_a_run_that_does_not_use_it_nothing(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            assert "coldframe._host" not in sys.modules
        """
    )
    before = set(psutil.Process().children())
    pytester.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert set(psutil.Process().children()) <= before
