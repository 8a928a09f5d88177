"""The command line: `coldframe invoke`, `coldframe bench` and `coldframe doctor`.

Exit codes: 0 for success, 1 when the invocation failed or the host cannot do it, 2 when the arguments are off, and 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING

from coldframe._cli import bench, doctor, invoke
from coldframe.errors import ColdframeError, ConfigurationError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 1
WRONG_ARGUMENTS = 2
INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="coldframe", description="Run AWS Lambda handlers in isolated Linux processes.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in (invoke, bench, doctor):
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name, `sys.argv` by default, and return its exit code."""
    options = make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a log may hold what this terminal cannot show
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output went away; nothing more may be written when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ConfigurationError, PayloadError) as error:
        print(f"coldframe: {error}", file=sys.stderr)
        return WRONG_ARGUMENTS
    except ColdframeError as error:
        print(f"coldframe: {error}", file=sys.stderr)
        return FAILED
    return code
