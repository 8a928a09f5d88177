"""`coldframe gc`: removes what owners of environments have left that ended without closing their hosts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from coldframe._cli import leftover
from coldframe._cli.parser import Parser, add_command
from coldframe._cli.progress import Waiting
from coldframe._cli.terminal import Style, for_terminals

if TYPE_CHECKING:
    import argparse

    from coldframe._core import Collected

_DESCRIPTION = """\
Remove what programs have left that ended without closing their hosts, because they were killed: directories with the
code of functions, control groups, and processes that are still in these. Programs that live are not touched, and
whatever makes the next host does the same on its way.
"""
_EPILOG = """\
examples:
  coldframe gc --dry-run
  coldframe gc
  COLDFRAME_STATE_DIR=/srv/state coldframe gc          for programs that keep their state there

exit codes: 0 nothing is left; 1 something could not be removed, and standard error says why; 2 the arguments are off;
130 after Ctrl-C.
"""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "gc [--dry-run] [--json]", "remove what killed programs have left", _DESCRIPTION, _EPILOG
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for other programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Collect, say what became of it, and return 0 when nothing is left and 1 otherwise."""
    from coldframe import _core  # noqa: PLC0415 - not for --help

    with Waiting("collecting what was left"):
        found: list[Collected] = (
            [{**each, "failures": []} for each in _core.leftovers() if not each["alive"]]
            if arguments.dry_run
            else _core.gc()
        )
    failed = any(each["failures"] for each in found)
    if arguments.json:
        print(json.dumps({"dry_run": arguments.dry_run, "collected": found}, indent=2))
        return 1 if failed else 0
    for each in found:
        if not each["failures"]:
            verb = "would be removed" if arguments.dry_run else "removed"
            print(for_terminals("\n".join([f"{each['owner']}: {verb}", *leftover.things(each)]), sys.stdout))
    sys.stdout.flush()
    style = Style.of(sys.stderr)
    for each in found:
        for failure in each["failures"]:
            said = style.paint("red", "coldframe:")
            why = for_terminals(f"{each['owner']}: not all of it could be removed: {failure}", sys.stderr)
            print(said, why, file=sys.stderr)
    if not found:
        print("Nothing is left to collect.")
    return 1 if failed else 0
