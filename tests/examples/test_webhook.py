"""The example ``webhook``: deliveries that are what they claim to be, and many that are not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coldframe

WEBHOOK = Path(__file__).resolve().parents[2] / "examples" / "webhook"
# GitHub's documentation gives this secret, this body and this signature, to test implementations with.
SECRET = "It's a Secret to Everybody"
KNOWN_BODY = "Hello, World!"
KNOWN_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


@pytest.fixture
def webhook() -> Iterator[coldframe.Function]:
    with coldframe.Function(
        "app.handler",
        code=WEBHOOK / "app.py",
        env={"WEBHOOK_SECRET": SECRET},
        memory_mb=512,
        timeout_s=30,
    ) as function:
        yield function


def push(pushed_at: float | None = None) -> str:
    """Give the body of a push event, pushed now unless told otherwise."""
    body = json.loads((WEBHOOK / "push.json").read_text(encoding="utf-8"))
    body["repository"]["pushed_at"] = int(time.time()) if pushed_at is None else pushed_at
    return json.dumps(body, ensure_ascii=False)


def sign(body: str, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()


def delivery(body: str, signature: str | None, kind: str = "push") -> dict[str, Any]:
    """Make the event that an HTTP endpoint hands to its function."""
    headers = {"content-type": "application/json", "x-github-event": kind}
    if signature is not None:
        headers["x-hub-signature-256"] = signature
    return {"version": "2.0", "rawPath": "/webhook", "headers": headers, "body": body, "isBase64Encoded": False}


def status_and_body(response: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return response["statusCode"], json.loads(response["body"])


def test_a_signed_push_is_accepted(webhook: coldframe.Function) -> None:
    body = push()
    status, answer = status_and_body(webhook(delivery(body, sign(body))))
    assert status == 200
    assert answer == {"repository": "ada/analytical-engine", "ref": "refs/heads/main", "commits": 2}


def test_a_body_in_base64_and_headers_in_capitals_are_accepted(webhook: coldframe.Function) -> None:
    body = push()
    event = delivery(base64.b64encode(body.encode()).decode(), None)
    event |= {"isBase64Encoded": True, "headers": {"X-GitHub-Event": "push", "X-Hub-Signature-256": sign(body)}}
    assert webhook(event)["statusCode"] == 200


def test_a_signed_ping_is_answered(webhook: coldframe.Function) -> None:
    body = '{"zen": "Keep it logically awesome.", "hook_id": 1}'
    status, answer = status_and_body(webhook(delivery(body, sign(body), kind="ping")))
    assert (status, answer) == (200, {"zen": "Keep it logically awesome."})


def test_wrong_signatures_are_refused(webhook: coldframe.Function) -> None:
    body = push()
    good = sign(body)
    wrong = {
        "with another secret": delivery(body, sign(body, "guessed")),
        "of another body": delivery(body.replace("refs/heads/main", "refs/heads/evil"), good),
        "none": delivery(body, None),
        "empty": delivery(body, ""),
        "without its prefix": delivery(body, good.removeprefix("sha256=")),
        "cut short": delivery(body, good[:-1]),
        "not in ASCII": delivery(body, "sha256=ﬀ"),
        "over no body": {"version": "2.0", "headers": {"x-hub-signature-256": good}},
    }
    assert {why: webhook(event)["statusCode"] for why, event in wrong.items()} == dict.fromkeys(wrong, 401)


@pytest.mark.parametrize("away_s", [-86_400, -400, 400])
def test_a_push_from_another_time_is_refused(webhook: coldframe.Function, away_s: int) -> None:
    body = push(time.time() + away_s)
    status, answer = status_and_body(webhook(delivery(body, sign(body))))
    assert status == 400
    assert "300 seconds" in answer["error"]


def test_the_signature_of_the_documentation_is_right_but_its_body_is_no_push(webhook: coldframe.Function) -> None:
    status, answer = status_and_body(webhook(delivery(KNOWN_BODY, KNOWN_SIGNATURE)))
    assert status == 400
    assert answer["error"] == "the body is not a push event: JSONDecodeError"


def test_bodies_that_are_no_push_are_refused(webhook: coldframe.Function) -> None:
    now = int(time.time())
    bodies = [
        "",
        "null",
        "[]",
        "{}",
        '{"repository": null}',
        json.dumps({"repository": {"pushed_at": now}}),
        json.dumps(
            {"repository": {"pushed_at": "2026-02-01T00:00:00Z", "full_name": "a/b"}, "ref": "x", "commits": []}
        ),
        json.dumps({"repository": {"pushed_at": float("nan"), "full_name": "a/b"}, "ref": "x", "commits": []}),
        "[" * 100_000,
    ]
    statuses = {body[:80]: webhook(delivery(body, sign(body)))["statusCode"] for body in bodies}
    assert statuses == dict.fromkeys(statuses, 400)

    broken = delivery("not base64!", KNOWN_SIGNATURE) | {"isBase64Encoded": True}
    assert webhook(broken)["statusCode"] == 400


def test_without_its_secret_the_function_does_not_come_up() -> None:
    with coldframe.Function("app.handler", code=WEBHOOK / "app.py", timeout_s=30) as function:
        invocation = function.invoke(delivery(KNOWN_BODY, KNOWN_SIGNATURE))
    assert isinstance(invocation.error, coldframe.InitError)
    assert invocation.error.error_type == "KeyError"
    assert "WEBHOOK_SECRET" in invocation.error.error_message
