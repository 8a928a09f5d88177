"""The handler's second argument: every member that Lambda's has, with its type, for every invocation anew."""

import re
import uuid

import pytest

from coldframe import HandlerError, PayloadError

MEMBERS = """
def handler(event, context):
    names = ("aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb",
             "function_version", "invoked_function_arn", "tenant_id", "client_context")
    return {name: getattr(context, name) for name in names}
"""

CLIENT = """
def handler(event, context):
    given = context.client_context
    if given is None:
        return None
    client = given.client and {name: getattr(given.client, name) for name in (
        "installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")}
    return {"custom": given.custom, "env": given.env, "client": client, "w3c": context.w3c()}
"""


def test_the_members_are_lambdas(make):
    fn = make(MEMBERS, name="orders", memory_mb=192)
    invocation = fn.invoke()
    context = invocation.unwrap()
    stream = context.pop("log_stream_name")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    assert context == {
        "aws_request_id": invocation.request_id,
        "log_group_name": "/aws/lambda/orders",
        "function_name": "orders",
        "memory_limit_in_mb": "192",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:orders",
        "tenant_id": None,
        "client_context": None,
    }


def test_every_invocation_has_a_request_id_of_its_own(make):
    fn = make(MEMBERS)
    invocations = [fn.invoke() for _ in range(3)]
    ids = {invocation.request_id for invocation in invocations}
    assert len(ids) == 3
    assert all(str(uuid.UUID(request_id)) == request_id for request_id in ids)
    assert [invocation.payload["aws_request_id"] for invocation in invocations] == [
        invocation.request_id for invocation in invocations
    ]


def test_the_identity_is_an_object_with_nothing_in_it(make):
    fn = make(
        "def handler(event, context):\n"
        "    return [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]\n"
    )
    assert fn() == [None, None]


def test_the_remaining_time_counts_down_from_the_timeout_and_starts_anew_when_warm(make):
    fn = make(
        "import time\n"
        "def handler(event, context):\n"
        "    before = context.get_remaining_time_in_millis()\n"
        "    time.sleep(0.05)\n"
        "    return [before, context.get_remaining_time_in_millis()]\n",
        timeout_s=5,
    )
    for _ in range(2):
        before, after = fn()
        assert isinstance(before, int)
        assert 4_000 < before <= 5_000
        assert 50 <= before - after < 1_000


def test_the_remaining_time_follows_the_timeout_of_one_call(make):
    fn = make("def handler(event, context):\n    return context.get_remaining_time_in_millis()\n", timeout_s=5)
    assert 60_000 < fn(timeout_s=90.5) <= 90_500
    assert fn() <= 5_000


def test_the_context_can_log_and_be_printed(make):
    fn = make(
        "def handler(event, context):\n    context.log('one')\n    context.log('two\\n')\n    return repr(context)\n",
        name="shown",
    )
    invocation = fn.invoke()
    assert "\nonetwo\n" in invocation.log
    assert invocation.payload.startswith(f"LambdaContext([aws_request_id={invocation.request_id},")
    assert "function_name=shown" in invocation.payload


def test_the_client_context_reaches_the_handler(make):
    fn = make(CLIENT)
    given = {
        "custom": {"a": [1, "ü"]},
        "env": {"locale": "de"},
        "client": {"installation_id": "i", "app_title": "t", "app_version_code": "3"},
        "w3c": {"traceparent": "00-1-2-01", "tracestate": "x=y", "other": "dropped"},
    }
    assert fn(client_context=given) == {
        "custom": {"a": [1, "ü"]},
        "env": {"locale": "de"},
        "client": {
            "installation_id": "i",
            "app_title": "t",
            "app_version_name": None,
            "app_version_code": "3",
            "app_package_name": None,
        },
        "w3c": {"traceparent": "00-1-2-01", "tracestate": "x=y"},
    }
    assert fn() is None, "a client context is of one invocation"


@pytest.mark.parametrize("given", [["a"], "text", 1])
def test_a_client_context_that_is_no_object_is_refused(make, given):
    fn = make(CLIENT)
    with pytest.raises(PayloadError):
        fn.invoke(client_context=given)
    assert fn() is None


def test_a_client_context_that_lambdas_runtime_cannot_read_is_an_error_by_its_name(make):
    fn = make(CLIENT)
    error = fn.invoke(client_context={"client": "not an object"}).error
    assert isinstance(error, HandlerError)
    assert error.error_type == "Runtime.LambdaContextUnmarshalError"
    assert fn() is None
