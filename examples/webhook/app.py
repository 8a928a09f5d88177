"""Receive GitHub's webhooks behind an HTTP endpoint, and believe only those that carry the right signature."""

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Any

# Read while the environment initialises: a function without its secret must not come up at all.
SECRET = os.environ["WEBHOOK_SECRET"].encode()
MAX_AGE_S = 300


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an HTTP event: 401 when the signature is wrong, 400 when the body is bad or stale, 200 otherwise."""
    headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
    try:
        body = raw_body(event)
    except ValueError:
        return reply(400, {"error": "the body is not what isBase64Encoded says"})
    # The signature first: nothing of a body is looked at before it is known whose it is.
    if not signed(body, headers.get("x-hub-signature-256", "")):
        return reply(401, {"error": "the signature does not match the body"})

    try:
        push = json.loads(body)
        if headers.get("x-github-event") == "ping":
            return reply(200, {"zen": push["zen"]})
        # The time must come from the signed body: a header could be changed by whoever sends an old delivery again.
        age_s = time.time() - float(push["repository"]["pushed_at"])
        pushed = {"repository": push["repository"]["full_name"], "ref": push["ref"], "commits": len(push["commits"])}
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        return reply(400, {"error": f"the body is not a push event: {type(error).__name__}"})
    if not abs(age_s) <= MAX_AGE_S:
        return reply(400, {"error": f"the push is more than {MAX_AGE_S} seconds away from now"})
    return reply(200, pushed)


def raw_body(event: dict[str, Any]) -> bytes:
    """Give the bytes that were sent, which are the ones that were signed."""
    body = event.get("body") or ""
    return base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()


def signed(body: bytes, signature: str) -> bool:
    """Tell whether the signature is ours, in a time that says nothing about how much of it was right."""
    expected = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))


def reply(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Make the response of an HTTP function."""
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
