"""The directive `pytest-options`: what a plugin for pytest adds to the command line and to the configuration file."""

from importlib import import_module

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Recorder:
    """Stands for pytest's parser, and remembers what it is told."""

    def __init__(self):
        self.said = []

    def getgroup(self, *_args, **_more):
        return self

    def addoption(self, *names, **more):
        self.said.append((f"{', '.join(names)} {more.get('metavar', '')}".strip(), more.get("help", "")))

    def addini(self, name, text, *_args, **_more):
        self.said.append((name, f"in the configuration file: {text}"))


class PytestOptions(SphinxDirective):
    """The options and settings of the plugin that is the module of this name."""

    required_arguments = 1

    def run(self):
        recorder = Recorder()
        getattr(import_module(self.arguments[0]), "pytest_addoption", lambda _parser: None)(recorder)
        items = [
            nodes.definition_list_item(
                "", nodes.term("", "", nodes.literal(text=name)), nodes.definition("", nodes.paragraph(text=text))
            )
            for name, text in recorder.said
        ]
        return [nodes.definition_list("", *items)] if items else []


def setup(app):
    app.add_directive("pytest-options", PytestOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
