"""`coldframe doctor`: what this host gives, protection by protection, what would mend the rest, and leftovers."""

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

    from coldframe._core import Protection

_DESCRIPTION = """\
Say, protection by protection, what this host gives, what it lacks, and the command that would mend that; and what
programs have left that ended without closing their hosts.
"""
_EPILOG = """\
examples:
  coldframe doctor
  coldframe doctor --json | jq '.protections[] | select(.in_force | not)'

exit codes: 0 isolation="strict" can be had; 1 it cannot; 2 the arguments are off; 130 after Ctrl-C.
"""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "doctor [--json]", "say what this host gives, and what it lacks", _DESCRIPTION, _EPILOG
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for other programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report, and return 0 when every protection can be had and 1 otherwise."""
    from coldframe import _core, build_info  # noqa: PLC0415 - not for --help

    with Waiting("asking the kernel"):
        protections, leftovers = _core.doctor(), _core.leftovers()
    strict = all(each["in_force"] for each in protections)
    if arguments.json:
        report = {"strict": strict, "build": build_info(), "protections": protections, "leftovers": leftovers}
        print(json.dumps(report, indent=2))
    else:
        style = Style.of(sys.stdout)
        print("\n".join(table(protections, style)))
        print()
        verdict = 'isolation="strict" can be had.' if strict else 'isolation="strict" cannot be had here.'
        print(style.paint("bold", verdict))
        for each in leftovers:
            print("\n" + for_terminals("\n".join(leftover.described(each)), sys.stdout))
    return 0 if strict else 1


def table(protections: list[Protection], style: Style) -> list[str]:
    """Return a line for each protection, with the command that would mend it below the missing ones."""
    width = max((len(each["protection"]) for each in protections), default=0)
    lines = []
    for each in protections:
        verdict = style.paint("green", "yes") if each["in_force"] else style.paint("red", "NO ")
        lines.append(f"{verdict}  {each['protection']:<{width}}  {each['detail']}".rstrip())
        if not each["in_force"] and each["remedy"]:
            lines += [f"     {'':<{width}}  {line}" for line in f"to mend it: {each['remedy']}".splitlines()]
    return lines
