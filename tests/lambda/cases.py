"""What the two Python runtimes are compared on: a handler as source, and the event that it gets."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A function and an event."""

    name: str
    files: dict
    handler: str = "app.handler"
    event: object = None
    env: dict = field(default_factory=dict)
    client_context: object = None
    ours: str = ""
    """Of a difference that is kept on purpose: what coldframe says and awslambdaric does not."""
    together: bool = False
    """Whether it can be one of many in an environment: it comes back, and leaves everything as it was."""


def body(name, text, before="", **more):
    """Return a case whose handler's body is `text`, in a module that begins with `before`."""
    indented = "\n".join(f"    {line}" if line else "" for line in text.splitlines())
    more.setdefault("together", "env" not in more)
    return Case(name, {"app.py": f"{before}\ndef handler(event, context):\n{indented}\n"}, **more)


def expression(name, text, before="", **more):
    """Return a case whose handler returns what `text` comes to."""
    return body(name, f"return {text}", before, **more)
