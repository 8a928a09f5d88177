"""The errors as user code has them: caught by their own names, and by those that Python has for the same. Never run."""

from typing import assert_type

import coldframe
from coldframe import Function, Invocation, errors


def most_specific_first(fn: Function) -> None:
    try:
        fn({})
    except coldframe.InvocationTimeout as error:
        as_timeout: TimeoutError = error
        raise as_timeout from None
    except coldframe.OutOfMemoryError as error:
        as_memory: MemoryError = error
        raise as_memory from None
    except (coldframe.HandlerError, coldframe.InitError, coldframe.EnvironmentExit) as error:
        assert_type(error.stack_trace, tuple[str, ...])
    except coldframe.PayloadError as error:
        assert_type(error.invocation, Invocation | None)
    except coldframe.InvocationError as error:
        assert_type(error.error_type, str)
        assert_type(error.error_message, str)
        assert_type(error.stack_trace, tuple[str, ...])
        assert_type(error.invocation, Invocation | None)
    except coldframe.ThrottledError as error:
        assert_type(error, coldframe.ThrottledError)
    except coldframe.HostCapabilityError as error:
        as_os_error: OSError = error
        raise as_os_error from None
    except coldframe.ConfigurationError as error:
        as_value_error: ValueError = error
        raise as_value_error from None
    except coldframe.ColdframeError as error:
        as_exception: Exception = error
        raise as_exception from None


def by_match(invocation: Invocation) -> str:
    match invocation.error:
        case None:
            return "passed"
        case coldframe.InvocationTimeout():
            return "too slow"
        case coldframe.OutOfMemoryError():
            return "too large"
        case error:
            return error.error_message


def by_one_module() -> tuple[type[Exception], ...]:
    return (errors.ColdframeError, errors.InvocationError, errors.PayloadError)
