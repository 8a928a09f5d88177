"""Every error of coldframe. Each message says what happened, to what, and what to do about it.

ColdframeError                          also itself: something went wrong in coldframe, or was closed
    ConfigurationError (ValueError)     the function cannot exist as it is described
    HostCapabilityError (OSError)       this host cannot give the isolation that was asked for
    ThrottledError                      concurrency or memory of the host is used up
    InvocationError                     one invocation failed
        HandlerError                    the handler raised
        InitError                       the handler could not be imported, or importing it failed
        InvocationTimeout (TimeoutError)  the deadline passed
        OutOfMemoryError (MemoryError)  the environment went over its memory
        EnvironmentExit                 the process ended, or was killed, before it answered
        PayloadError                    the event or the response is not JSON, or over the size limit

The native module raises these classes too, with the message alone.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coldframe._invocation import Invocation


class ColdframeError(Exception):
    """The base of every error of coldframe."""


class ConfigurationError(ColdframeError, ValueError):
    """The function, or the host, cannot exist as it is described."""


class HostCapabilityError(ColdframeError, OSError):
    """This host cannot give the isolation that was asked for; the message names what is missing and the remedy."""


class ThrottledError(ColdframeError):
    """Concurrency or memory of the host is used up, as Lambda's 429 says; try again later, or raise the limit."""


class InvocationError(ColdframeError):
    """One invocation failed.

    `error_type` and `error_message` are Lambda's `errorType` and `errorMessage`, `stack_trace` is a tuple of the
    handler's own frames, outermost first, each as Python prints it (empty when there are none), and `invocation` is
    the failed `Invocation` with its log and report (None when the event was refused before anything ran).
    """

    def __init__(
        self,
        message: str,
        *,
        error_type: str | None = None,
        error_message: str | None = None,
        stack_trace: Sequence[str] = (),
        invocation: Invocation | None = None,
    ) -> None:
        """Make an error that prints `message`; the other parts default to the class's name and the message."""
        super().__init__(message)
        self.error_type: str = type(self).__name__ if error_type is None else error_type
        self.error_message: str = message if error_message is None else error_message
        self.stack_trace: tuple[str, ...] = tuple(stack_trace)
        self.invocation = invocation
        if self.stack_trace:
            frames = "".join(self.stack_trace).rstrip("\n")
            self.add_note(f"In the environment (most recent call last):\n{frames[-_LONGEST_NOTE:]}")

    @staticmethod
    def from_outcome(kind: str, body: bytes | None) -> InvocationError:
        """Return the error of the class that fits `kind`, the core's word for how an invocation ended.

        `body` is Lambda's error JSON. It comes from the environment and may be anything: what it lacks is filled in,
        what it has too much of is left alone, and this never raises.
        """
        error_type, error_message, stack_trace = _read(body)
        cls = _BY_TYPE.get(error_type) or _BY_KIND.get(kind, EnvironmentExit)
        advice = _ADVICE.get(error_type)
        if error_type == "Runtime.ImportModuleError" and _NO_MODULE.fullmatch(error_message):
            advice = "check the handler's name: it begins with a module of the code, as app.handler does for app.py"
        message = f"{error_type}: {error_message}" if error_message else error_type
        return cls(
            f"{message}; {advice}" if advice else message,
            error_type=error_type,
            error_message=error_message,
            stack_trace=stack_trace,
        )


class HandlerError(InvocationError):
    """The handler raised; `error_type` is the name of the exception's own class."""


class InitError(InvocationError):
    """The environment could not be initialised, twice: the second time within the invocation.

    `error_type` is one of Lambda's names, such as Runtime.ImportModuleError, Runtime.HandlerNotFound and
    Runtime.UserCodeSyntaxError, or the name of the exception that the handler's module raised.
    """


class InvocationTimeout(InvocationError, TimeoutError):  # noqa: N818 - the name is part of the public interface
    """The deadline passed, and every process of the environment was killed; `error_type` is Sandbox.Timedout."""


class OutOfMemoryError(InvocationError, MemoryError):
    """The environment went over its memory and was killed; `error_type` is Runtime.OutOfMemory."""


class EnvironmentExit(InvocationError):  # noqa: N818 - the name is part of the public interface
    """The process ended, or was killed, before it answered; `error_type` is Runtime.ExitError."""


class PayloadError(InvocationError):
    """The event or the response is not JSON, or over the size limit of 6,291,556 bytes.

    For an event it is raised, with no `invocation`; for a response it is the error of a failed `Invocation`.
    """


_LONGEST_NOTE = 20_000

_BY_KIND: dict[str, type[InvocationError]] = {
    "handler": HandlerError,
    "init": InitError,
    "timeout": InvocationTimeout,
    "memory": OutOfMemoryError,
    "exit": EnvironmentExit,
    "payload": PayloadError,
}

# Inside an environment these are ordinary errors of the runtime; for the caller they are all about the payload.
_BY_TYPE: dict[str, type[InvocationError]] = {
    "Runtime.MarshalError": PayloadError,
    "Runtime.UnmarshalError": PayloadError,
    "Function.ResponseSizeTooLarge": PayloadError,
}

_NO_MODULE = re.compile(r"Unable to import module '([^'./]{1,255})(?:[./][^']{0,255})?': No module named '\1'")
_ADVICE = {
    "Runtime.ImportModuleError": "add what is missing to the code, python/ of a layer, or the installed packages",
    "Runtime.HandlerNotFound": "check the last part of the handler's name",
    "Runtime.BuiltInModuleConflict": "rename the module",
    "Sandbox.Timedout": "raise timeout_s, or watch context.get_remaining_time_in_millis() in the handler",
    "Runtime.OutOfMemory": "raise memory_mb, or hold less in memory and in /tmp at a time",
    "Runtime.ExitError": "its last output is in the invocation's log",
    "Function.ResponseSizeTooLarge": "store the result elsewhere and return its address",
    "Runtime.MarshalError": "return only dict, list, tuple, str, int, float, bool and None, not too deeply nested",
}


def _read(body: bytes | None) -> tuple[str, str, list[str]]:
    """Return the type, the message and the stack trace of an error payload."""
    text = (body or b"").decode("utf-8", "replace")
    try:
        payload: Any = json.loads(text)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        return "Runtime.Unknown", text[:1000], []
    error_type = payload.get("errorType")
    error_message = payload.get("errorMessage")
    stack_trace = payload.get("stackTrace")
    return (
        _whole(error_type) if isinstance(error_type, str) and error_type else "Runtime.Unknown",
        _whole(error_message) if isinstance(error_message, str) else json.dumps(error_message) if error_message else "",
        [_whole(frame) for frame in stack_trace if isinstance(frame, str)] if isinstance(stack_trace, list) else [],
    )


def _whole(text: str) -> str:
    """Return `text` as it can be written anywhere: half a character, which JSON can have, raises where it is shown."""
    return text.encode("utf-8", "replace").decode()
