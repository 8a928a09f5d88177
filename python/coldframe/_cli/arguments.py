"""The arguments that `invoke` and `bench` share: which function, and which event."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    from coldframe._options import FunctionOptions, Mount

UNUSUAL = ("runtime", "packages", "snapstart", "tmp", "max_processes", "log", "network", "mount")
"""The options that most functions do without."""


def add_function(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe a function and its event."""
    parser.add_argument("handler", help="Lambda's notation: the module, a dot, the function, as in app.handler")
    add = parser.add_argument_group("the function").add_argument
    add("--code", required=True, metavar="PATH", help="a directory, a .py file or a .zip, as Lambda takes it")
    add("--layer", action="append", default=[], metavar="PATH", help="a layer, below /opt; may be given again")
    add(
        "--env",
        action="append",
        default=[],
        type=parse_variable,
        metavar="NAME=VALUE",
        help="an environment variable; may be given again",
    )
    add(
        "--runtime",
        default="python",
        metavar="PATH",
        help="another CPython, or `provided`: a bootstrap in the code; the default is the Python that runs coldframe",
    )
    add("--packages", choices=("inherit", "none"), default="inherit", help="this Python's packages (default: inherit)")
    add("--snapstart", action="store_true", help="initialise once, and make environments as copies of that")
    add("--name", metavar="NAME", help="what logs call it (default: the name of the code)")

    add = parser.add_argument_group("the event").add_argument
    add(
        "--event",
        default={},
        type=parse_event,
        metavar="JSON",
        help="the event; @FILE reads a file, - standard input (default: {})",
    )

    add = parser.add_argument_group("what it may use").add_argument
    add("--memory", type=int, default=128, metavar="MB", help="memory, 32 to 10240 MiB (default: %(default)s)")
    add("--timeout", type=float, default=3.0, metavar="S", help="seconds for one event (default: %(default)s)")
    add("--tmp", type=int, default=512, metavar="MB", help="size of /tmp in MiB (default: %(default)s)")
    add("--max-processes", type=int, default=1024, metavar="N", help="processes and threads (default: %(default)s)")
    add("--log", type=int, default=1024, metavar="KB", help="output kept of an event, in KiB (default: %(default)s)")
    add("--network", action="store_true", help="give it the host's network; without, it has loopback alone")
    add(
        "--mount",
        action="append",
        default=[],
        type=parse_mount,
        metavar="PATH:/mnt/NAME[:rw]",
        help="show it a directory of the host, read-only or :rw; may be given again",
    )
    add(
        "--isolation",
        choices=("strict", "available"),
        default="strict",
        help="every protection, or those that this host has (default: strict)",
    )

    parser.add_argument("--json", action="store_true", help="print one JSON object, for other programs")


def function_options(arguments: argparse.Namespace) -> FunctionOptions:
    """Return the options of the function that `arguments` describe.

    Raises:
        ConfigurationError: The handler is a file's name, where Lambda has a function's.
    """
    if arguments.runtime != "provided" and arguments.handler.endswith(".py"):
        stem = Path(arguments.handler).stem
        raise ConfigurationError(
            f"handler {arguments.handler!r} is a file's name, where Lambda has the module, a dot and the function's; "
            f"if the function is called handler, write: {stem}.handler --code {arguments.handler}"
        )
    return {
        "memory_mb": arguments.memory,
        "timeout_s": arguments.timeout,
        "layers": arguments.layer,
        "env": dict(arguments.env),
        "isolation": arguments.isolation,
        "runtime": arguments.runtime,
        "name": arguments.name,
        "tmp_mb": arguments.tmp,
        "max_processes": arguments.max_processes,
        "log_kb": arguments.log,
        "network": arguments.network,
        "packages": arguments.packages,
        "snapstart": arguments.snapstart,
        "mounts": dict(arguments.mount),
    }


def parse_event(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the event that `text` is, or names the place of."""
    try:
        raw = _typed() if text == "-" else Path(text[1:]).read_bytes() if text.startswith("@") else text
        return json.loads(raw)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[1:]}: {error.strerror}") from None
    except RecursionError:
        raise argparse.ArgumentTypeError("it is nested too deeply") from None
    except ValueError as error:
        hint = f"; to read a file write @{text}" if text != "-" and Path(text).is_file() else ""
        raise argparse.ArgumentTypeError(f"it is not JSON: {error}{hint}") from None


def parse_variable(text: str) -> tuple[str, str]:
    """Return the name and the value of an environment variable."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def parse_mount(text: str) -> tuple[str, Mount]:
    """Return the place inside, and the directory of the host."""
    path, _, target = text.removesuffix(":rw").removesuffix(":ro").rpartition(":")
    if not path or not target:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATH:/mnt/NAME or PATH:/mnt/NAME:rw")
    return target, ((path, "rw") if text.endswith(":rw") else path)


def _typed() -> bytes:
    """Return standard input, and tell whoever sits before a terminal that it is waited for."""
    if sys.stdin.isatty():
        print("coldframe: type the event as JSON, and Ctrl-D on a line of its own", file=sys.stderr)
    return sys.stdin.buffer.read()
