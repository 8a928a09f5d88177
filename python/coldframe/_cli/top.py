"""`coldframe top`: the environments of the programs that run now, from another terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coldframe._cli.frame import SORTS, frame
from coldframe._cli.owners import ask_all
from coldframe._cli.parser import Parser, add_command
from coldframe._cli.screen import Screen
from coldframe._cli.terminal import Style, own_size

if TYPE_CHECKING:
    import argparse

    from coldframe._cli.owners import Host

_DESCRIPTION = """\
Show the execution environments of your programs that run now: for root those of root's programs, and for everybody
those in the directory that COLDFRAME_STATE_DIR names. A program needs to do nothing for it.

Above are the programs, each with how many invocations are in flight and were ever begun, and how many environments are
parked, that is made ahead of need. Below are their environments: the state, the memory in use and its limit, what was
used of one processor since the last look, how many events it has answered, how old it is, and for how long it has been
idle. Nothing is slowed down by it: a program looks up what there is to say when it is asked.
"""
_EPILOG = """\
keys:
  q leaves, as Ctrl-C does; s sorts by another column; arrows, j, k, page up and page down scroll

examples:
  coldframe top
  coldframe top --once
  coldframe top --once --json | jq '.hosts[].environments[] | select(.state == "busy")'
  COLDFRAME_STATE_DIR=/home/ada/.cache/coldframe coldframe top       as root: the programs of another user

exit codes: 0 shown; 2 the arguments are off; 130 after Ctrl-C.
"""
_FIRST_LOOK_S = 0.25
"""How long `--once` waits between two looks, to have something to say about the processor."""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "top [options]", "watch the environments of running programs", _DESCRIPTION, _EPILOG)
    parser.add_argument("--once", action="store_true", help="print one table, and exit")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    parser.add_argument("--sort", choices=SORTS, default=SORTS[0], help=f"what comes first (default: {SORTS[0]})")
    parser.add_argument("--json", action="store_true", help="print one JSON object a look, for other programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show what there is, once or until somebody has seen enough."""
    if not 0.1 <= arguments.interval <= 3600:  # noqa: PLR2004 - what is said in the message
        arguments.parser.error("argument --interval: seconds from 0.1 to 3600")
    if arguments.once:
        hosts = look([])
        if any(host.environments for host in hosts):
            time.sleep(_FIRST_LOOK_S)
            hosts = look(hosts)
        _print(hosts, arguments)
    elif arguments.json or not sys.stdout.isatty():
        _print_all(arguments)
    else:
        _watch(arguments)
    return 0


def look(before: list[Host]) -> list[Host]:
    """Return what every program says now, compared with what it said `before`."""
    from coldframe import _core  # noqa: PLC0415 - not for --help

    hosts = ask_all(_core.owners())
    known = {host.owner: host for host in before}
    for host in hosts:
        if host.owner in known:
            host.compare(known[host.owner])
    return hosts


def as_dict(hosts: list[Host]) -> dict[str, Any]:
    """Return everything, for JSON."""
    return {"time": time.time(), "hosts": [host.as_dict() for host in hosts]}


def _print(hosts: list[Host], arguments: argparse.Namespace) -> None:
    """Print one look."""
    if arguments.json:
        print(json.dumps(as_dict(hosts)), flush=True)
    else:
        print("\n".join(frame(hosts, Style.of(sys.stdout), arguments.sort).lines), flush=True)


def _print_all(arguments: argparse.Namespace) -> None:
    """Print one look after the other, for whoever reads them."""
    hosts: list[Host] = []
    while True:
        began = time.monotonic()
        hosts = look(hosts)
        _print(hosts, arguments)
        if not arguments.json:
            print()
        time.sleep(max(began + arguments.interval - time.monotonic(), 0.0))


def _watch(arguments: argparse.Namespace) -> None:
    """Show one look after the other on the whole terminal."""
    hosts: list[Host] = []
    style = Style.of(sys.stdout)
    sort, top, next_look = arguments.sort, 0, 0.0
    with Screen() as screen:
        while True:
            now = time.monotonic()
            if now >= next_look:
                hosts, next_look = look(hosts), now + arguments.interval
            columns, lines = own_size(sys.stdout)
            shown = frame(hosts, replace(style, width=columns), sort, lines, top)
            top = shown.top
            screen.draw(shown.lines)
            key = screen.key(next_look)
            if key == "q":
                return
            if key == "s":
                sort = SORTS[(SORTS.index(sort) + 1) % len(SORTS)]
            page = max(shown.rows - 1, 1)
            moves = {"up": -1, "down": 1, "page up": -page, "page down": page, "home": -math.inf, "end": math.inf}
            top = int(min(max(top + moves.get(key or "", 0), 0), shown.total))
