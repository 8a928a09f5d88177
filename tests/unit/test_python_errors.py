"""The errors: their tree, their texts, and that they survive pickling."""

import json
import pickle
import traceback

import pytest

from coldframe import errors


def body(error_type="ValueError", message="boom", **more):
    return json.dumps({"errorMessage": message, "errorType": error_type, "requestId": "", **more}).encode()


@pytest.mark.parametrize(
    ("kind", "error_type", "cls", "builtin"),
    [
        ("handler", "ValueError", errors.HandlerError, Exception),
        ("handler", "Runtime.MarshalError", errors.PayloadError, Exception),
        ("handler", "Function.ResponseSizeTooLarge", errors.PayloadError, Exception),
        ("init", "Runtime.ImportModuleError", errors.InitError, Exception),
        ("timeout", "Sandbox.Timedout", errors.InvocationTimeout, TimeoutError),
        ("memory", "Runtime.OutOfMemory", errors.OutOfMemoryError, MemoryError),
        ("exit", "Runtime.ExitError", errors.EnvironmentExit, Exception),
        ("payload", "Function.ResponseSizeTooLarge", errors.PayloadError, Exception),
        ("something new", "X", errors.EnvironmentExit, Exception),
    ],
)
def test_every_verdict_has_its_class(kind, error_type, cls, builtin):
    error = errors.InvocationError.from_outcome(kind, body(error_type))
    assert type(error) is cls
    assert isinstance(error, builtin)
    assert isinstance(error, errors.ColdframeError)
    assert (error.error_type, error.error_message) == (error_type, "boom")
    assert str(error).startswith(f"{error_type}: boom")


def test_the_other_errors_are_what_python_calls_them():
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(errors.HostCapabilityError, OSError)
    assert str(errors.HostCapabilityError("no user namespaces")) == "no user namespaces"
    assert str(errors.InvocationTimeout("too late")) == "too late"


def test_a_message_says_what_to_do_where_that_is_known():
    error = errors.InvocationError.from_outcome("memory", body("Runtime.OutOfMemory", "killed"))
    assert "raise memory_mb" in str(error)
    assert error.error_message == "killed"


@pytest.mark.parametrize(
    ("module", "missing", "advice"),
    [
        ("ap", "ap", "check the handler's name"),
        ("src/app", "src", "check the handler's name"),
        ("src.app", "src", "check the handler's name"),
        ("app", "ap", "add what is missing"),
        ("app", "application", "add what is missing"),
    ],
)
def test_a_module_that_is_not_there_is_told_from_one_that_it_imports(module, missing, advice):
    message = f"Unable to import module '{module}': No module named '{missing}'"
    error = errors.InvocationError.from_outcome("init", body("Runtime.ImportModuleError", message))
    assert advice in str(error)
    assert error.error_message == message


def test_a_failure_shows_the_frames_of_the_handler():
    frame = '  File "/var/task/app.py", line 2, in handler\n    raise ValueError("boom")\n'
    error = errors.InvocationError.from_outcome("handler", body(stackTrace=[frame]))
    assert error.stack_trace == (frame,)
    assert 'raise ValueError("boom")' in "".join(traceback.format_exception(error))


def test_what_a_handler_says_can_be_written_anywhere():
    half = "\ud800"
    error = errors.InvocationError.from_outcome("handler", body(half, half, stackTrace=[half]))
    assert (error.error_type, error.error_message, error.stack_trace) == ("?", "?", ("?",))
    assert str(error).encode()


def test_the_core_raises_with_the_message_alone():
    error = errors.PayloadError("the event has 7 MB")
    assert (error.error_type, error.error_message) == ("PayloadError", "the event has 7 MB")
    assert error.invocation is None
    assert error.stack_trace == ()


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        b"",
        b"\xff\xfe",
        b"null",
        b"[1]",
        b"[" * 100_000,
        b"1" * 10_000,
        b'{"errorType": 5, "errorMessage": {"a": 1}, "stackTrace": {"a": 1}}',
        b'{"errorType": "", "errorMessage": null, "stackTrace": [1, null, ["x"]]}',
        b'{"errorMessage": "\\ud800"}',
    ],
)
def test_an_error_payload_may_be_anything(hostile):
    error = errors.InvocationError.from_outcome("handler", hostile)
    assert isinstance(error.error_type, str)
    assert isinstance(error.error_message, str)
    assert error.error_type
    assert error.stack_trace == ()
    assert len(str(error)) < 2000


@pytest.mark.parametrize("cls", [errors.HandlerError, errors.InvocationTimeout, errors.OutOfMemoryError])
def test_errors_can_be_pickled(cls):
    error = cls("E: boom", error_type="E", error_message="boom", stack_trace=["  File x\n"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == "E: boom"
    assert (again.error_type, again.error_message, again.stack_trace) == ("E", "boom", ("  File x\n",))
    assert again.__notes__ == error.__notes__


def test_errors_without_an_invocation_can_be_pickled():
    for cls in (errors.ColdframeError, errors.ConfigurationError, errors.HostCapabilityError, errors.ThrottledError):
        again = pickle.loads(pickle.dumps(cls("why")))
        assert (type(again), str(again)) == (cls, "why")
