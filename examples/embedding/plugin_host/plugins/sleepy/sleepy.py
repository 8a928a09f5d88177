"""Takes far too long, and asks for ten minutes in its manifest. The application gives it half a second."""

import time


def handler(event, context):
    if event["hook"] == "comment":
        time.sleep(500)
    return {}
