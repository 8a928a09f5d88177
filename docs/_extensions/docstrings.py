"""What stands in single backticks in a docstring: a link if it is a name that is documented, code as it is if not.

And signatures as they are written: a default that is an empty mapping, or a value of ours, by its short name. What a
plugin defines for pytest to call is left out.
"""

import re

from docutils import nodes
from sphinx.domains.python import PyXRefRole
from sphinx.util.docutils import SphinxRole

NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
SHORTER = (
    (re.compile(r"mappingproxy\(\{\}\)"), "{}"),
    (re.compile(r"Hardening\([^)]*\)"), "Hardening()"),
    (re.compile(r"<prometheus_client\.registry\.CollectorRegistry object>"), "REGISTRY"),
)


class Backticks(SphinxRole):
    """A name or a piece of code."""

    def run(self):
        if NAME.fullmatch(self.text):
            return PyXRefRole()("py:obj", self.rawtext, self.text, self.lineno, self.inliner)
        return [nodes.literal(self.rawtext, self.text)], []


def shorten(_app, _what, name, _object, _options, signature, annotation):
    """Return a signature with short defaults; none for what nobody makes by hand."""
    if name == "coldframe.Stream" or signature == "(*args, **kwargs)":
        return "", annotation
    for long, short in SHORTER:
        signature = long.sub(short, signature or "")
    return signature or None, annotation


def skip(_app, what, name, _object, is_skipped, _options):
    """Leave out what pytest calls and nobody else."""
    return True if what == "module" and name.startswith("pytest_") else is_skipped


def setup(app):
    app.connect("autodoc-skip-member", skip)
    app.add_role("backticks", Backticks())
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
