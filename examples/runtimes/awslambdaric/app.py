"""Greets a guest, and counts them."""

import logging
import os
import sys
import time

logger = logging.getLogger()
logger.setLevel(logging.INFO)

guests = 0


class NobodyError(Exception):
    """There is no name in the event."""


def handler(event, context):
    """Greet `event["name"]`."""
    global guests
    if "exit" in event:
        sys.exit(event["exit"])
    time.sleep(event.get("sleep_ms", 0) / 1000)
    name = event.get("name")
    if not name:
        raise NobodyError("nobody to greet")
    guests += 1
    logger.info("greeting %s", name)
    return {
        "greeting": f"{os.environ.get('GREETING', 'Hello')}, {name}!",
        "guests": guests,
        "text": event.get("text", ""),
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "function": context.function_name,
        "remaining_ms": context.get_remaining_time_in_millis(),
    }
