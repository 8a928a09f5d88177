"""`coldframe invoke`: one event through one function."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from coldframe._cli.arguments import add_function, function_options
from coldframe._cli.parser import Parser, add_command
from coldframe._cli.progress import Waiting
from coldframe._cli.terminal import Style, for_terminals

if TYPE_CHECKING:
    import argparse

    from coldframe import Invocation, InvocationError

_DESCRIPTION = """\
Invoke a function once, in an environment of its own that ends with the command.

The payload goes to standard output as JSON, the log with Lambda's START, END and REPORT lines to standard error, where
the error follows if there is one. On a terminal control characters of the log are shown, not obeyed.
"""
_EPILOG = """\
examples:
  coldframe invoke app.handler --code src --event '{"name": "Ada"}'
  coldframe invoke app.handler --code app.py --event @event.json --memory 256 --timeout 10
  echo '[1, 2]' | coldframe invoke app.handler --code app.zip --event - | jq .total
  coldframe invoke app.handler --code src --mount data:/mnt/data --env STAGE=test --network
  coldframe invoke app.handler --code src --json | jq .report.duration_ms
  coldframe invoke - --code bin --runtime provided

exit codes: 0 it answered; 1 the invocation failed or the host cannot do it; 2 the arguments are off; 130 after Ctrl-C.
"""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "invoke HANDLER --code PATH [--event JSON | @FILE | -] [options]",
        "run one event through a function",
        _DESCRIPTION,
        _EPILOG,
    )
    add_function(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Invoke the function, and return 0 when it succeeded and 1 when it failed."""
    from coldframe import Function  # noqa: PLC0415 - not for --help

    with (
        Waiting(f"reading {arguments.code}") as waiting,
        Function(arguments.handler, arguments.code, **function_options(arguments)) as function,
    ):
        waiting.what = f"running {arguments.handler}"
        invocation = function.invoke(arguments.event)
    if arguments.json:
        print(for_terminals(to_json(as_dict(invocation)), sys.stdout))
        return 0 if invocation.ok else 1
    sys.stderr.write(for_terminals(invocation.log, sys.stderr))
    if invocation.error is None:
        sys.stderr.flush()  # the log before the payload, where both go to one place
        print(for_terminals(to_json(invocation.payload), sys.stdout))
    elif sys.stderr.isatty():
        said = f"the invocation failed: {invocation.error}"
        print(Style.of(sys.stderr).paint("red", "coldframe:"), for_terminals(said, sys.stderr), file=sys.stderr)
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
