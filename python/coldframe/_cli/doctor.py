"""`coldframe doctor`: what this host gives, protection by protection, what would mend the rest, and leftovers."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from coldframe._core import Leftover, Protection

_GREEN, _RED, _PLAIN = "\033[32m", "\033[31m", "\033[0m"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="say what this host gives",
        description="Say, protection by protection, what this host gives, and what dead owners have left on it. "
        "Exits 1 when a protection cannot be had.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report, and return 0 when every protection can be had and 1 otherwise."""
    from coldframe import _core, build_info  # noqa: PLC0415 - not for --help

    protections, leftovers = _core.doctor(), _core.leftovers()
    strict = all(each["in_force"] for each in protections)
    if arguments.json:
        report = {"strict": strict, "build": build_info(), "protections": protections, "leftovers": leftovers}
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(table(protections, colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ)))
        print()
        print('isolation="strict" can be had.' if strict else 'isolation="strict" cannot be had here.')
        for each in leftovers:
            print("\n" + "\n".join(left(each)))
    return 0 if strict else 1


def table(protections: list[Protection], *, colours: bool) -> list[str]:
    """Return a line for each protection, with the command that would mend it below the missing ones."""
    width = max((len(each["protection"]) for each in protections), default=0)
    lines = []
    for each in protections:
        verdict, colour = ("yes", _GREEN) if each["in_force"] else ("NO ", _RED)
        if colours:
            verdict = f"{colour}{verdict}{_PLAIN}"
        lines.append(f"{verdict}  {each['protection']:<{width}}  {each['detail']}".rstrip())
        if not each["in_force"] and each["remedy"]:
            lines += [f"     {'':<{width}}  {line}" for line in f"to mend it: {each['remedy']}".splitlines()]
    return lines


def left(leftover: Leftover) -> list[str]:
    """Return the lines that say what one owner has left."""
    if leftover["alive"]:
        head = f"{leftover['owner']} lives, and cannot end the following; it goes on trying:"
    else:
        head = f"{leftover['owner']} has ended without closing its host; the next host collects what it left:"
    things = [("directory", leftover["directory"])]
    things += [("cgroup", path) for path in leftover["cgroups"]]
    things += [("process", str(pid)) for pid in leftover["processes"]]
    return [head, *(f"     {what:<9}  {thing}" for what, thing in things)]
