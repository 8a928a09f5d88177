"""The arguments that `invoke` and `bench` share: which function, and which event."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldframe._options import FunctionOptions


def add_function(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe a function and its event."""
    parser.add_argument("handler", help="Lambda's notation, module.function")
    parser.add_argument("--code", required=True, metavar="PATH", help="a directory, a .py file or a .zip")
    parser.add_argument(
        "--event", default={}, type=parse_event, metavar="JSON", help="the event; @FILE reads a file, - standard input"
    )
    parser.add_argument("--memory", type=int, default=128, metavar="MB", help="memory in MiB (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="S", help="seconds (default: %(default)s)")
    parser.add_argument("--layer", action="append", default=[], metavar="PATH", help="a layer; may be given again")
    parser.add_argument(
        "--env", action="append", default=[], type=parse_variable, metavar="NAME=VALUE", help="may be given again"
    )
    parser.add_argument("--isolation", choices=("strict", "available"), default="strict", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def function_options(arguments: argparse.Namespace) -> FunctionOptions:
    """Return the options of the function that `arguments` describe."""
    return {
        "memory_mb": arguments.memory,
        "timeout_s": arguments.timeout,
        "layers": arguments.layer,
        "env": dict(arguments.env),
        "isolation": arguments.isolation,
    }


def parse_event(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the event that `text` is, or names the place of."""
    try:
        raw = sys.stdin.buffer.read() if text == "-" else Path(text[1:]).read_bytes() if text.startswith("@") else text
        return json.loads(raw)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[1:]}: {error.strerror}") from None
    except RecursionError:
        raise argparse.ArgumentTypeError("it is nested too deeply") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"it is not JSON: {error}") from None


def parse_variable(text: str) -> tuple[str, str]:
    """Return the name and the value of an environment variable."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
