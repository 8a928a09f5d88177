"""The root logger's handler, and the error block, as text or as JSON (AWS_LAMBDA_LOG_FORMAT, AWS_LAMBDA_LOG_LEVEL)."""

from __future__ import annotations

import contextlib
import json
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

from .marshalling import dumps
from .output import write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .errors import Payload

_TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_TEXT_TIME = "%Y-%m-%dT%H:%M:%S"
_JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NO_BREAK_SPACE = "\u00a0"
_ERROR_LINE_END = "\r"

# What Lambda's runtime logs ahead of the error that an initialisation failed with.
_UNHANDLED = (
    "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code. However, in rare "
    "cases, a Lambda runtime update can cause unexpected function behavior. For functions using managed runtimes, "
    "runtime updates can be triggered by a function change, or can be applied automatically. To determine if the "
    "runtime has been updated, check the runtime version in the INIT_START log entry. If this error correlates with a "
    "change in the runtime version, you may be able to mitigate this error by temporarily rolling back to the previous "
    "runtime version. For more information, see "
    "https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
)

# What every record has. The rest came in with `extra` and belongs in the JSON, as does the name of an asyncio task.
_ADDED_MEMBERS = {"message", "asctime", "aws_request_id", "tenant_id"}
_RECORD_MEMBERS = vars(logging.makeLogRecord({})).keys() - {"taskName"} | _ADDED_MEMBERS


class Logs:
    """The logging of one environment. What is logged is marked with `request_id`, as it is then."""

    def __init__(self) -> None:
        """Put Lambda's handler on the root logger, for text."""
        self._json = False
        self.request_id = ""
        logging.Formatter.converter = time.gmtime
        self._handler = LambdaLoggerHandler()
        self._handler.setFormatter(logging.Formatter(_TEXT_FORMAT, _TEXT_TIME))
        self._handler.addFilter(_RequestFilter(self))
        logging.getLogger().addHandler(self._handler)

    def configure(self, environ: Mapping[str, str]) -> None:
        """Follow the function's variables, where they say anything of it."""
        form, level = environ.get("AWS_LAMBDA_LOG_FORMAT"), environ.get("AWS_LAMBDA_LOG_LEVEL")
        if form and form.upper() == "JSON":
            self._json = True
            self._handler.setFormatter(JsonFormatter())
        if level:
            level = "DEBUG" if level == "TRACE" else level.upper()
            if isinstance(logging.getLevelName(level), int):
                logging.getLogger().setLevel(level)
        if level or self._json:
            self._handler.__class__ = LambdaLoggerHandlerWithFrameType

    @staticmethod
    def warn() -> None:
        """Log what Lambda's runtime does when the initialisation fails."""
        with contextlib.suppress(Exception):  # the module may have left anything on the root logger
            logging.warning(_UNHANDLED)  # noqa: LOG015 - where Lambda's runtime logs it

    def error(self, payload: Payload) -> None:
        """Write the error block of a failed initialisation or invocation."""
        if self._json:
            write(dumps({"timestamp": _now(), "level": "ERROR", **payload}).decode() + "\n")
        else:
            write(_error_text(payload))


class LambdaLoggerHandler(logging.Handler):
    """Writes records to whatever sys.stdout is at the time. Handlers look for this name on the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. What cannot be formatted is the handler's error: Lambda's runtime lets that through."""
        text = self.format(record)
        # The format ends the line, but a traceback comes after it. Lambda frames its records; here are only lines.
        write(text if text.endswith("\n") else text + "\n")


class LambdaLoggerHandlerWithFrameType(LambdaLoggerHandler):
    """The same by the name that it has in Lambda where a format or a level is given."""


class _RequestFilter(logging.Filter):
    """Adds the request id to every record."""

    def __init__(self, logs: Logs) -> None:
        """Take the ids from `logs`."""
        super().__init__()
        self._logs = logs

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        record.aws_request_id = self._logs.request_id
        record.tenant_id = None
        return True


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        members = vars(record)
        structured = isinstance(record.msg, dict) and not record.args
        line = {
            "timestamp": self.formatTime(record, _JSON_TIME),
            "level": logging.getLevelName(min(logging.CRITICAL, max(0, record.levelno)) // 10 * 10),
            "message": record.msg if structured else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            kind, error, trace = record.exc_info
            line["stackTrace"] = traceback.format_tb(trace)
            line["errorType"] = kind.__name__  # type: ignore[union-attr]  # with no exception Lambda's fails like this
            line["errorMessage"] = str(error)
        line["requestId"] = members.get("aws_request_id")
        if record.exc_info:
            line["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
        for name, value in members.items():
            if name not in _RECORD_MEMBERS:
                line.setdefault(name, value)
        return _to_json({name: value for name, value in line.items() if value is not None}) + "\n"


def _to_json(value: dict[str, Any]) -> str:
    """Return `value` as one line of JSON, with str() of what JSON cannot hold."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _now() -> str:
    """Return the time in Lambda's JSON log format, in UTC."""
    return time.strftime(_JSON_TIME, time.gmtime())


def _error_text(payload: Payload) -> str:
    """Return the error block as one line, joined with carriage returns and indented with no-break spaces."""
    head = f"[ERROR] {payload['errorType']}"
    if payload["errorMessage"]:
        head += f": {payload['errorMessage']}"
    lines = [head, "Traceback (most recent call last):"]
    for line in "".join(payload["stackTrace"]).splitlines():
        text = line.lstrip(" ")
        lines.append(_NO_BREAK_SPACE * (len(line) - len(text)) + text)
    return _ERROR_LINE_END.join(lines) + "\n"
