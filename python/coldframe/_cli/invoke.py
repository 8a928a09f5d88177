"""`coldframe invoke`: one event through one function."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from coldframe._cli.arguments import add_function, function_options

if TYPE_CHECKING:
    import argparse

    from coldframe import Invocation, InvocationError


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "invoke",
        help="invoke a function once",
        description="Invoke a function once. The payload goes to standard output, the log to standard error.",
        allow_abbrev=False,
    )
    add_function(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Invoke the function, and return 0 when it succeeded and 1 when it failed."""
    from coldframe import Function  # noqa: PLC0415 - not for --help

    with Function(arguments.handler, arguments.code, **function_options(arguments)) as function:
        invocation = function.invoke(arguments.event)
    if arguments.json:
        print(to_json(as_dict(invocation)))
    else:
        sys.stderr.write(invocation.log)
        if invocation.error is None:
            print(to_json(invocation.payload))
        else:
            print(to_json(lambda_error(invocation.error)), file=sys.stderr)
    return 0 if invocation.ok else 1


def as_dict(invocation: Invocation) -> dict[str, Any]:
    """Return every field of an invocation and of its report."""
    error = invocation.error
    return {
        "ok": invocation.ok,
        "payload": invocation.payload,
        "error": None
        if error is None
        else {
            "class": type(error).__name__,
            "error_type": error.error_type,
            "error_message": error.error_message,
            "stack_trace": list(error.stack_trace),
        },
        "request_id": invocation.request_id,
        "log": invocation.log,
        "report": dataclasses.asdict(invocation.report),
    }


def lambda_error(error: InvocationError) -> dict[str, Any]:
    """Return `error` as Lambda's caller would get it."""
    return {
        "errorMessage": error.error_message,
        "errorType": error.error_type,
        "stackTrace": list(error.stack_trace),
    }


def to_json(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return `value` as JSON that any terminal and any parser can take, half surrogate pairs included."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
