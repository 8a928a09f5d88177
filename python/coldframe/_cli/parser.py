"""The parser of all commands: help with examples, and errors that say what was meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from coldframe._cli.terminal import size

if TYPE_CHECKING:
    from collections.abc import Iterable

WRONG_ARGUMENTS = 2
_WIDEST = 100
_MISTYPED = re.compile(r"invalid choice: '([^']*)'|unrecognized arguments: (\S+)")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help no wider than can be read, with descriptions and examples as they are written."""

    def __init__(self, prog: str, **given: Any) -> None:  # noqa: ANN401 - what argparse passes on differs by version
        """Take as many columns as the terminal has, within reason."""
        given.setdefault("width", min(size(sys.stdout).columns - 2, _WIDEST))
        given["max_help_position"] = 28
        super().__init__(prog, **given)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are short: what is wrong, what was probably meant, and where to read on."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - argparse's own
        """Take no abbreviations: what an option is called today may be short for two tomorrow."""
        given.setdefault("formatter_class", Formatter)
        super().__init__(allow_abbrev=False, **given)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, on standard error, and exit with 2."""
        mistyped = _MISTYPED.search(message)
        meant = self._like((mistyped[1] or mistyped[2] or "").partition("=")[0]) if mistyped else None
        hint = f"; did you mean {meant}?" if meant else ""
        self.exit(WRONG_ARGUMENTS, f"{self.prog}: {message}{hint}\nTry `{self.prog} --help`.\n")

    def names(self) -> Iterable[str]:
        """Return everything that can be named: options, commands and other choices."""
        for action in self._actions:
            yield from action.option_strings
            yield from map(str, action.choices or ())

    def _like(self, text: str) -> str | None:
        """Return the name that is most like `text`."""
        found = difflib.get_close_matches(text, list(self.names()), n=1)
        return found[0] if found else None


def add_command(
    commands: argparse._SubParsersAction[Parser], usage: str, summary: str, description: str, epilog: str
) -> Parser:
    """Return the parser of a new command: `usage` begins with its name, `epilog` has examples and exit codes."""
    name = usage.split(maxsplit=1)[0]
    parser = commands.add_parser(
        name, usage=f"coldframe {usage}", help=summary, description=description, epilog=epilog, prog=f"coldframe {name}"
    )
    parser.set_defaults(parser=parser)
    return parser


def summaries(commands: argparse._SubParsersAction[Parser]) -> dict[str, str]:
    """Return what each command is for."""
    return {each.dest: each.help or "" for each in commands._choices_actions}  # noqa: SLF001 - argparse tells nobody else
