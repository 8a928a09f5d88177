"""Two handlers that know no bounds: what happens at the limits of a function."""

import os
import signal


def hoard(event: object, context: object) -> None:
    """Take memory until there is no more."""
    hoarded = []
    while True:
        hoarded.append(bytearray(1 << 20))


def linger(event: object, context: object) -> None:
    """Work for ever, deaf to every signal that can be ignored, with a child that does the same."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.fork()
    while True:
        pass
