"""A submission that floods its output."""


def handler(event: object, context: object) -> None:
    """Print without end."""
    while True:
        print("All work and no play makes Jack a dull boy. " * 100)
