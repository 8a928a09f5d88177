"""Lambda's error payloads: a JSON object of errorMessage, errorType, requestId and stackTrace, in this order."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    Payload = dict[str, Any]

IMPORT_MODULE = "Runtime.ImportModuleError"
HANDLER_NOT_FOUND = "Runtime.HandlerNotFound"
MALFORMED_HANDLER_NAME = "Runtime.MalformedHandlerName"
USER_CODE_SYNTAX = "Runtime.UserCodeSyntaxError"
BUILT_IN_MODULE_CONFLICT = "Runtime.BuiltInModuleConflict"
MARSHAL = "Runtime.MarshalError"
UNMARSHAL = "Runtime.UnmarshalError"
BEFORE_SNAPSHOT = "Runtime.BeforeSnapshotError"
AFTER_RESTORE = "Runtime.AfterRestoreError"
CONTEXT_UNMARSHAL = "Runtime.LambdaContextUnmarshalError"

_HERE = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - no pathlib in here


class Fault(Exception):  # noqa: N818 - Lambda's word for what the runtime itself refuses
    """Something the runtime refuses by a name of Lambda's, with the trace to show, which is seldom Python's own."""

    def __init__(self, error_type: str, message: str, stack_trace: list[str] | None = None) -> None:
        """Remember what to report."""
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.stack_trace = stack_trace or []


def payload(error: BaseException, request_id: str = "") -> Payload:
    """Return the error payload of `error`, with `""` as the request id while the environment initialises."""
    if isinstance(error, Fault):
        message, error_type, stack_trace = error.message, error.error_type, error.stack_trace
    else:
        message, error_type, stack_trace = _message(error), type(error).__name__, _stack_trace(error.__traceback__)
    return {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": stack_trace}


def _message(error: BaseException) -> str:
    """Return the text of `error`, even when its `__str__` is broken."""
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001 - the user's own code runs here
        return f"<no message: str() of the exception raised {type(broken).__name__}>"


def _stack_trace(trace: TracebackType | None) -> list[str]:
    """Return the user's own frames, outermost first, each as Python prints it."""
    try:
        # Four-tuples have no columns, so that no line of carets is added: Lambda shows none.
        frames = [
            (frame.filename, frame.lineno, frame.name, frame.line)
            for frame in traceback.extract_tb(trace)
            if not frame.filename.startswith(_HERE)
        ]
        return traceback.format_list(frames)  # type: ignore[arg-type]  # typeshed has it that a line number is known
    except Exception:  # noqa: BLE001 - the source is read through loaders that the user may have replaced
        return []
