"""A submission that never comes back, and will not be told to."""

import signal


def handler(event: object, context: object) -> None:
    """Spin, deaf to the polite signals."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass
