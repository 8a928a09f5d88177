"""The root logger's handler, and the error block, as text or as JSON (AWS_LAMBDA_LOG_FORMAT, AWS_LAMBDA_LOG_LEVEL)."""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

from .output import write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .errors import Payload

_TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_TEXT_TIME = "%Y-%m-%dT%H:%M:%S"
_JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NO_BREAK_SPACE = "\u00a0"
_ERROR_LINE_END = "\r"

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
            self._handler.setFormatter(_JsonFormatter())
        if level:
            level = "DEBUG" if level.upper() == "TRACE" else level.upper()
            if isinstance(logging.getLevelName(level), int):
                logging.getLogger().setLevel(level)

    def error(self, payload: Payload) -> None:
        """Write the error block of a failed initialisation or invocation."""
        if self._json:
            write(_to_json({"timestamp": _now(), "level": "ERROR", **payload}) + "\n")
        else:
            write(_error_text(payload))


class LambdaLoggerHandler(logging.Handler):
    """Writes records to whatever sys.stdout is at the time. Handlers look for this name on the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = self.format(record)
            # The format ends the line, but a traceback comes after it. Lambda frames its records; here are only lines.
            write(text if text.endswith("\n") else text + "\n")
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)


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


class _JsonFormatter(logging.Formatter):
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
        if record.exc_info and record.exc_info[0]:
            kind, error, trace = record.exc_info
            line["stackTrace"] = traceback.format_tb(trace)
            line["errorType"] = kind.__name__
            line["errorMessage"] = str(error)
        line["requestId"] = members.get("aws_request_id")
        if record.exc_info and record.exc_info[0]:
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
