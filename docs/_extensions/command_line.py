"""The directive `command-line`: the reference of a program's commands, made from its argparse parser."""

from sphinx.util.docutils import SphinxDirective


class CommandLine(SphinxDirective):
    """Every command of the parser that the argument names, as module:function."""

    required_arguments = 1

    def run(self):
        return []


def setup(app):
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
