"""The context object, compared with what awslambdaric 4.2.2 makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_runtime_driver import (
    REQUEST_ID,
    Driver,
    every_python,  # noqa: F401 - the fixture "python"
)

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = {
    "aws_request_id": REQUEST_ID,
    "log_group_name": "/aws/lambda/fn",
    "log_stream_name": "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef",
    "function_name": "fn",
    "memory_limit_in_mb": "128",
    "function_version": "$LATEST",
    "invoked_function_arn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
    "tenant_id": None,
}
SOURCE = """
import time
def handler(event, context):
    if event == "sleep":
        first = context.get_remaining_time_in_millis()
        time.sleep(0.02)
        return [first, context.get_remaining_time_in_millis()]
    if event == "log":
        context.log("one"); context.log(2); context.log("three\\n")
        return
    return eval(event)
"""


def test_every_member_is_there(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, SOURCE, python=python).ready() as driver:
        assert driver.call("{k: v for k, v in vars(context).items() if type(v) in (str, type(None))}") == {
            **MEMBERS,
            "client_context": None,
        }
        assert (
            driver.call("[context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]")
            == [None] * 2
        )
        assert driver.call("context.w3c()") == {}
        assert driver.call("repr(context)") == (
            f"LambdaContext([aws_request_id={REQUEST_ID},log_group_name=/aws/lambda/fn,"
            f"log_stream_name={MEMBERS['log_stream_name']},function_name=fn,memory_limit_in_mb=128,"
            f"function_version=$LATEST,invoked_function_arn={MEMBERS['invoked_function_arn']},client_context=None,"
            "identity=CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None]),tenant_id=None])"
        )


def test_the_time_left_runs_down_to_zero(tmp_path: Path) -> None:
    with Driver(tmp_path, SOURCE).ready() as driver:
        first, second = driver.call("sleep", timeout_s=3)
        assert 2_000 < second <= first - 20
        assert first <= 3_000
        assert driver.call("context.get_remaining_time_in_millis()", timeout_s=0) == 0
        assert driver.call("type(context.get_remaining_time_in_millis()).__name__") == "int"


def test_the_client_context_is_parsed(tmp_path: Path, python: str) -> None:
    w3c = b'{"traceparent": "p", "baggage": 5, "other": "o"}'
    sent = b'{"custom": {"a": 1}, "client": {"app_title": "t"}, "x": 1, "w3c": ' + w3c + b"}"
    with Driver(tmp_path, SOURCE, python=python).ready() as driver:
        expression = (
            "[context.client_context.custom, context.client_context.env, context.client_context.client.app_title]"
        )
        assert driver.call(expression, client_context=sent) == [{"a": 1}, None, "t"]
        assert driver.call("context.w3c()", client_context=sent) == {"traceparent": "p"}
        assert driver.call("hasattr(context.client_context, 'x')", client_context=sent) is False
        assert driver.call("repr(context.client_context.client)", client_context=sent) == (
            "Client([installation_id=None,app_title=t,app_version_name=None,app_version_code=None,app_package_name=None])"
        )
        assert driver.call("context.client_context", client_context=b"null") is None
        assert driver.call("context.client_context.client", client_context=b"{}") is None
        assert driver.call("context.client_context") is None


@pytest.mark.parametrize("sent", [b"nope", b"[1]", b'{"client": "x"}', b'"\xff"', b"[" * 100_000])
def test_a_bad_client_context_is_an_error_by_name(tmp_path: Path, sent: bytes) -> None:
    with Driver(tmp_path, SOURCE).ready() as driver:
        error = driver.fail("1", client_context=sent)
        assert error["errorType"] == "Runtime.LambdaContextUnmarshalError"
        assert error["errorMessage"].startswith("Unable to parse Client Context JSON: ")
        assert error["stackTrace"] == []
        assert driver.call("1") == 1


def test_log_writes_text_as_it_is(tmp_path: Path) -> None:
    with Driver(tmp_path, SOURCE).ready() as driver:
        assert driver.call("log") is None
        assert driver.log() == "one2three\n"
