"""The directive `command-line`: the reference of a program's commands, made from its argparse parser.

```{command-line} module:function
```

`function` returns the parser. Every command becomes a section with its description, usage, arguments and examples.
"""

import argparse
import os
from importlib import import_module

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

WIDTH = "88"


class CommandLine(SphinxDirective):
    """Every command of a parser."""

    required_arguments = 1

    def run(self):
        module, _, name = self.arguments[0].partition(":")
        # What a formatter asks for: the width of the page, and no colours.
        os.environ.update(COLUMNS=WIDTH, NO_COLOR="1")
        parser = getattr(import_module(module), name)()
        return [section(each, self.state) for each in commands(parser)]


def commands(parser):
    """Return the parsers of the commands, in order; the program's own if it has none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [parser, *dict.fromkeys(action.choices.values())]
    return [parser]


def section(parser, state):
    """Return the section of one command."""
    made = nodes.section(ids=[nodes.make_id(parser.prog)], names=[nodes.fully_normalize_name(parser.prog)])
    made += nodes.title("", "", nodes.literal(text=parser.prog))
    state.document.note_implicit_target(made)
    made += paragraphs(parser.description)
    made += literal(parser.format_usage().removeprefix("usage: "))
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help is not argparse.SUPPRESS]
        if actions:
            made += nodes.rubric(text=group.title.capitalize())
            made += nodes.definition_list("", *[item(parser, each) for one in actions for each in listed(one)])
    made += paragraphs(parser.epilog)
    return made


def listed(action):
    """Return what an action stands for in a list: the commands of a program, or itself."""
    return action._choices_actions if isinstance(action, argparse._SubParsersAction) else [action]


def item(parser, action):
    """Return a line of a list: how an argument is written, and what it does."""
    formatter = parser._get_formatter()
    term = nodes.term("", "", nodes.literal(text=formatter._format_action_invocation(action)))
    text = formatter._expand_help(action) if action.help else ""
    return nodes.definition_list_item("", term, nodes.definition("", paragraph(text)))


def paragraphs(text):
    """Return paragraphs; those that begin a list of lines, or are indented, as they stand."""
    parts = (text or "").strip("\n").split("\n\n")
    return [literal(part) if "\n " in part else paragraph(part) for part in parts if part.strip()]


def paragraph(text):
    """Return a paragraph, with what stands in backticks as code."""
    parts = [nodes.literal(text=part) if i % 2 else nodes.Text(part) for i, part in enumerate(text.split("`"))]
    return nodes.paragraph("", "", *parts)


def literal(text):
    """Return a block as it stands."""
    return nodes.literal_block(text.strip("\n"), text.strip("\n"), language="text")


def setup(app):
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
