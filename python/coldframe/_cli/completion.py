"""`coldframe completion`: the script by which a shell completes commands, options and their values.

It is made of the parser itself, so that it knows what the parser knows, and asks nobody when a key is pressed. Of the
libraries that do so, shtab has no fish and argcomplete starts Python for each key.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

from coldframe._cli.parser import Parser, add_command, summaries

if TYPE_CHECKING:
    from collections.abc import Iterable

_DESCRIPTION = """\
Print a script by which a shell completes the commands, their options, and what follows these.
"""
_EPILOG = """\
for this shell, and for all that come:
  eval "$(coldframe completion bash)"                       # and the same line in ~/.bashrc
  eval "$(coldframe completion zsh)"                        # and the same line in ~/.zshrc, below compinit
  coldframe completion fish | source
  coldframe completion fish > ~/.config/fish/completions/coldframe.fish

for all users, where a package puts it:
  coldframe completion bash > /usr/share/bash-completion/completions/coldframe
  coldframe completion zsh > /usr/share/zsh/vendor-completions/_coldframe

exit codes: 0 printed; 2 the arguments are off.
"""
_FILES = ("PATH", "FILE", "FILE.json", "PATH:/mnt/NAME[:rw]")
"""The values that are names of files, as help calls them."""


def add_to(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "completion SHELL", "print a shell's completion script", _DESCRIPTION, _EPILOG)
    parser.add_argument("shell", choices=tuple(_WRITERS), help="which shell it is for")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from coldframe._cli import make_parser  # noqa: PLC0415 - it has this module in it

    sys.stdout.write(_WRITERS[arguments.shell](_commands(make_parser())))
    return 0


class _Option(NamedTuple):
    """An option: its names, what it is for, what help calls its value if it takes one, and which values there are."""

    names: tuple[str, ...]
    help: str
    takes: str | None
    choices: tuple[str, ...]
    event: bool

    @property
    def files(self) -> bool:
        """Whether the value is the name of a file."""
        return self.takes in _FILES


class _Command(NamedTuple):
    """A command: its name, what it is for, its options, and the words that may stand alone."""

    name: str
    help: str
    options: list[_Option]
    words: tuple[str, ...]


def _commands(parser: Parser) -> list[_Command]:
    """Return what the parser knows: first itself, under no name."""
    actions = parser._actions  # noqa: SLF001 - argparse tells nobody what it knows
    (subcommands,) = (each for each in actions if isinstance(each, argparse._SubParsersAction))  # noqa: SLF001 - the same
    helps = summaries(subcommands)
    found = [_Command("", "", _options(actions), tuple(subcommands.choices))]
    for name, command in subcommands.choices.items():
        inner = command._actions  # noqa: SLF001 - the same
        words = tuple(str(word) for each in inner if not each.option_strings for word in each.choices or ())
        found.append(_Command(name, helps[name], _options(inner), words))
    return found


def _options(actions: Iterable[argparse.Action]) -> list[_Option]:
    """Return the options among what a parser takes."""
    found = []
    for each in actions:
        if each.option_strings:
            metavar = each.metavar if isinstance(each.metavar, str) else each.dest.upper()
            takes = None if each.nargs == 0 else metavar
            summary = (each.help or "").partition(" (default")[0].partition("; ")[0].replace("%%", "%")
            choices = tuple(map(str, each.choices or ()))
            found.append(_Option(tuple(each.option_strings), summary, takes, choices, each.dest == "event"))
    return found


def _bash(commands: list[_Command]) -> str:
    """Return the script for bash 4 or newer."""
    cases = []
    for command in commands:
        values = []
        for option in command.options:
            if option.takes:
                then = (
                    f"_coldframe_words '{' '.join(option.choices)}'"
                    if option.choices
                    else "_coldframe_event"
                    if option.event
                    else "_coldframe_files"
                    if option.files
                    else ":"
                )
                values.append(f"        {'|'.join(option.names)}) {then}; return ;;")
        words = " ".join([*(name for option in command.options for name in option.names), *command.words])
        body = "\n".join(["        case $previous in", *values, "        esac"] if values else [])
        pattern = command.name or "''"
        cases.append(f"    {pattern})\n{body}{chr(10) if body else ''}        _coldframe_words '{words}'\n        ;;")
    names = "|".join(command.name for command in commands if command.name)
    return f"""\
# Completion of coldframe for bash; `coldframe completion bash` prints it.
_coldframe_words() {{
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}}
_coldframe_files() {{
    compopt -o filenames 2> /dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
}}
_coldframe_event() {{
    if [[ $current == @* ]]; then
        compopt -o nospace 2> /dev/null
        mapfile -t COMPREPLY < <(compgen -P @ -f -- "${{current#@}}")
    fi
}}
_coldframe() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command= i
    COMPREPLY=()
    # --option=value comes as three words.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
        {names}) command=${{COMP_WORDS[i]}}; break ;;
        esac
    done
    case $command in
{chr(10).join(cases)}
    esac
}}
complete -F _coldframe coldframe
"""


def _zsh(commands: list[_Command]) -> str:
    """Return the script for zsh, which is one for its function path as well."""

    def quoted(text: str) -> str:
        for special in "\\[]:":
            text = text.replace(special, f"\\{special}")
        return text

    def spec(option: _Option, name: str) -> str:
        value = ""
        if option.takes:
            action = f"({' '.join(option.choices)})" if option.choices else "_files" if option.files else " "
            value = f"={':'}{quoted(option.takes)}:{action}"
            return shlex.quote(f"*{name}=[{quoted(option.help)}]:{quoted(option.takes)}:{action}")
        return shlex.quote(f"{name}[{quoted(option.help)}]{value}")

    cases = []
    for command in commands[1:]:
        specs = [spec(option, name) for option in command.options for name in option.names]
        if command.words:
            specs.append(shlex.quote(f"1:word:({' '.join(command.words)})"))
        elif command.name in {"invoke", "bench"}:
            specs.append(shlex.quote("1:handler (module.function): "))
        lines = " \\\n            ".join(specs)
        cases.append(f"    {command.name})\n        _arguments -s \\\n            {lines}\n        ;;")
    described = "\n".join(f"        {shlex.quote(f'{each.name}:{quoted(each.help)}')}" for each in commands[1:])
    own = " ".join(spec(option, name) for option in commands[0].options for name in option.names)
    return f"""\
#compdef coldframe
# Completion of coldframe for zsh; `coldframe completion zsh` prints it.
_coldframe() {{
    local curcontext=$curcontext state line
    local -a commands=(
{described}
    )
    _arguments -C {own} '1:command:->command' '*::argument:->argument' && return
    if [[ $state == command ]]; then
        _describe command commands
        return
    fi
    case $words[1] in
{chr(10).join(cases)}
    esac
}}
if [[ $funcstack[1] == _coldframe ]]; then
    _coldframe "$@"
else
    compdef _coldframe coldframe
fi
"""


def _fish(commands: list[_Command]) -> str:
    """Return the script for fish."""
    names = " ".join(command.name for command in commands[1:])
    lines = ["# Completion of coldframe for fish; `coldframe completion fish` prints it.", "complete -c coldframe -f"]
    for command in commands:
        inside = (
            f"__fish_seen_subcommand_from {command.name}"
            if command.name
            else f"not __fish_seen_subcommand_from {names}"
        )
        start = f"complete -c coldframe -n {shlex.quote(inside)}"
        for option in command.options:
            flags = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = ""
            if option.choices:
                value = f" -x -a {shlex.quote(' '.join(option.choices))}"
            elif option.takes:
                value = " -r -F" if option.files else " -x"
            lines.append(f"{start} {flags}{value} -d {shlex.quote(option.help)}")
        helps = {each.name: each.help for each in commands}
        said = {word: f" -d {shlex.quote(helps[word])}" if word in helps else "" for word in command.words}
        lines += [f"{start} -a {word}{summary}" for word, summary in said.items()]
    return "\n".join(lines) + "\n"


_WRITERS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
