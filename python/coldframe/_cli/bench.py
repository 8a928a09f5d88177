"""`coldframe bench`: first, cold, parked, frozen and warm starts of one function, side by side and phase by phase."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from coldframe._cli import plot, record, table
from coldframe._cli.arguments import add_function, function_options
from coldframe._cli.measure import FailedInvocationError, Subject, measure
from coldframe._cli.parser import Parser, add_command
from coldframe._cli.progress import Progress
from coldframe._cli.statistics import Difference, compare
from coldframe._cli.terminal import Style

if TYPE_CHECKING:
    import argparse

    from coldframe._cli.record import Record

_INTERRUPTED = 130

_DESCRIPTION = """\
Measure what a call of a function costs, by the way in which its environment comes about:

  first   nothing is there, even the interpreter has to start
  cold    a new environment, forked from a resident zygote while the caller waits
  parked  a new environment that was forked and isolated ahead of need
  frozen  an environment that is used again, frozen in between (the default)
  warm    an environment that is used again, not frozen: Host(freeze=False)

Times are wall clock around the call, in milliseconds. First starts are measured at the beginning (a tenth of the
runs, at least 5), all others in turns, each when the machine's environments are at rest. The second table says
where the time went: the median of each phase, and in "rest" what no phase accounts for.
"""
_EPILOG = """\
examples:
  coldframe bench app.handler --code src --event '{"name": "Ada"}' --memory 1769
  coldframe bench app.handler --code src --runs 200 --plot starts.svg
  coldframe bench app.handler --code src --runs 200 --json > before.json
  coldframe bench app.handler --code src --runs 200 --compare before.json

The processor's share follows --memory, as in Lambda: at 128 MB a handler has 7% of one processor, at 1769 MB all of
it.

A comparison is of medians. The machine, too, is faster at one time than at another; so each run also measures how
long /bin/true takes to start, and "adjusted" is the ratio by that. A start is called faster or slower when both the
ratio and the adjusted one moved by 8% or more, and the 99% bootstrap interval of neither has 1 in it.

exit codes: 0 measured, whatever a comparison says; 1 an invocation failed or the host cannot do it; 2 the arguments
are off; 130 after Ctrl-C, with what was measured so far printed.
"""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "bench HANDLER --code PATH [--event JSON | @FILE | -] [--runs N] [options]",
        "measure first, cold, frozen and warm starts",
        _DESCRIPTION,
        _EPILOG,
    )
    add_function(parser)
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="measurements of each (default: %(default)s)")
    parser.add_argument("--plot", metavar="FILE", help="draw the measurements into a .png or .svg file")
    parser.add_argument("--compare", metavar="FILE", help="compare with what an earlier run printed with --json")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print and draw what was found; return 0, 1 when an invocation failed, and 130 after Ctrl-C."""
    if arguments.runs < 1:
        arguments.parser.error("argument --runs: at least 1")
    if arguments.plot:
        plot.check(arguments.plot)
    earlier = record.read(arguments.compare) if arguments.compare else None
    found = record.Record(arguments.handler, record.machine(), record.options(arguments))
    try:
        _measure(arguments, found)
    except FailedInvocationError as failed:
        sys.stderr.write(failed.invocation.log)
        print(f"coldframe: an invocation failed: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        found.interrupted = True
        if not found.measured():
            print("coldframe: interrupted before anything was measured", file=sys.stderr)
            return _INTERRUPTED
    differences = _compare(found, earlier) if earlier else {}
    if arguments.json:
        print(json.dumps(as_dict(arguments, found, earlier, differences)))
    else:
        style = Style.of(sys.stdout)
        print("\n".join(table.report(found, style)))
        if earlier:
            print()
            print("\n".join(table.comparison(found, earlier, differences, style)))
    if arguments.plot and found.interrupted:
        print("coldframe: interrupted; no plot was drawn", file=sys.stderr)
    elif arguments.plot:
        plot.draw(arguments.plot, found, earlier, differences)
    return _INTERRUPTED if found.interrupted else 0


def as_dict(
    arguments: argparse.Namespace, found: Record, earlier: Record | None, differences: dict[str, Difference]
) -> dict[str, Any]:
    """Return everything for other programs, each measurement and the comparison included."""
    if earlier is None:
        return found.as_dict()
    comparison = {
        "file": arguments.compare,
        "unlike": found.unlike(earlier),
        "starts": {kind: dataclasses.asdict(difference) for kind, difference in differences.items()},
    }
    return {**found.as_dict(), "comparison": comparison}


def _measure(arguments: argparse.Namespace, found: Record) -> None:
    """Fill `found`, with a bar for those who wait."""
    subject = Subject(arguments.handler, arguments.code, function_options(arguments), arguments.event)
    progress = Progress()
    try:
        measure(subject, arguments.runs, found, progress)
    finally:
        progress.clear()


def _compare(found: Record, earlier: Record) -> dict[str, Difference]:
    """Return the differences between the kinds of start that both runs have."""
    before = earlier.measured()
    return {
        kind: compare(before[kind].samples, start.samples, (earlier.control, found.control))
        for kind, start in found.measured().items()
        if kind in before
    }
