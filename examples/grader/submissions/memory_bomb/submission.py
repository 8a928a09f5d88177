"""A submission that takes all the memory it can get."""


def handler(event: object, context: object) -> None:
    """Hold on to another megabyte, again and again."""
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))
