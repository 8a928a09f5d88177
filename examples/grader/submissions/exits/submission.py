"""A submission that leaves the interpreter, hoping that exit status 0 counts as success."""

import os


def handler(event: object, context: object) -> None:
    """Leave at once, without a word."""
    os._exit(0)
