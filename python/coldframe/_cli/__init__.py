"""The command line: one module a command.

Exit codes: 0 for success, 1 when the invocation failed or the host cannot do it, 2 when the arguments are off, and 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NoReturn

from coldframe._cli import bench, completion, doctor, gc, invoke, top
from coldframe._cli.parser import WRONG_ARGUMENTS, Parser, summaries
from coldframe._cli.terminal import Style
from coldframe.errors import ColdframeError, ConfigurationError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FAILED = 1
INTERRUPTED = 130
COMMANDS = (invoke, bench, top, doctor, gc, completion)

_DESCRIPTION = """\
Run AWS Lambda handlers in isolated Linux processes.

commands:
"""
_EPILOG = """\
examples:
  coldframe doctor                                     can this host do it?
  coldframe invoke app.handler --code src --event '{"name": "Ada"}'
  coldframe bench app.handler --code src               cold and warm starts, side by side
  coldframe top                                        what running programs have

`coldframe COMMAND --help` has the options, examples and exit codes of a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name, `sys.argv` by default, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a log may hold what this terminal cannot show
    try:
        with _in_order():
            try:
                return _run(arguments)
            finally:
                sys.stdout.flush()
    except KeyboardInterrupt:
        _end_what_runs()
        return INTERRUPTED
    except BrokenPipeError:
        _write_no_more()  # whoever read the output went away
        return FAILED
    except (ConfigurationError, PayloadError) as error:
        return _complain(str(error), WRONG_ARGUMENTS)
    except ColdframeError as error:
        return _complain(str(error), FAILED)
    except OSError as error:  # what the core meets is one of ours: this is the output, on a full disk perhaps
        _write_no_more()
        return _complain(f"the output cannot be written: {error}", FAILED)


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(prog="coldframe", usage="coldframe COMMAND [options]", epilog=_EPILOG)
    parser.add_argument("--version", action="store_true", help="print the version, and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, help=argparse.SUPPRESS)
    for command in COMMANDS:
        command.add_to(commands)
    listed = [f"  {name:<12}{summary}" for name, summary in summaries(commands).items()]
    parser.description = _DESCRIPTION + "\n".join(listed)
    return parser


def _run(arguments: Sequence[str] | None) -> int:
    """Run the command that is named."""
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        getattr(options, "parser", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.version:
        from coldframe import __version__  # noqa: PLC0415 - not for --help

        print(f"coldframe {__version__}")
        return 0
    if options.command is None:
        parser.print_help(sys.stderr)
        return WRONG_ARGUMENTS
    code: int = options.run(options)
    return code


def _write_no_more() -> None:
    """Have nothing be written to standard output any more, not even when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, code: int) -> int:
    """Say on standard error what went wrong, and return `code`."""
    print(f"{Style.of(sys.stderr).paint('red', 'coldframe:')} {message}", file=sys.stderr)
    return code


@contextmanager
def _in_order() -> Iterator[None]:
    """Have the end of the terminal, and whoever ends programs politely, be an exit that cleans up."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    with ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Whoever ignores one, as nohup does, wants that.
            if _is_main_thread() and signal.getsignal(number) is signal.SIG_DFL:
                stack.callback(signal.signal, number, signal.signal(number, leave))
        yield


def _end_what_runs() -> None:
    """End the environments, whatever else is pressed: an impatient second Ctrl-C would leave them to the next start."""
    hosts = sys.modules.get("coldframe._host")
    host = None if hosts is None else hosts._default  # noqa: SLF001 - the one that every command uses
    if host is None:
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if _is_main_thread() else None
    try:
        host.close()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _is_main_thread() -> bool:
    """Return whether this thread is the one that may say what signals do."""
    return threading.current_thread() is threading.main_thread()
