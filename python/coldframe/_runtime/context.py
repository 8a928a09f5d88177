"""The handler's second argument, with every member that Lambda's has."""

from __future__ import annotations

import json
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from .errors import CONTEXT_UNMARSHAL, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

_NS_PER_MS = 1_000_000
_W3C_FIELDS = ("traceparent", "tracestate", "baggage")


class _Record:
    """An object whose members are its slots, each None unless it is given."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        """Set the slots that `values` has."""
        for name in self.__slots__:
            setattr(self, name, values.get(name) if values else None)

    def __repr__(self) -> str:
        """Return the members as Lambda prints them."""
        return _show(self, self.__slots__)


class CognitoIdentity(_Record):
    """Who authorised the request; nobody does here, so both members are None."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        """Set both: every invocation makes one of these."""
        self.cognito_identity_id = self.cognito_identity_pool_id = None


class Client(_Record):
    """The mobile application that a client context describes."""

    __slots__ = (  # noqa: RUF023 - in the order in which Lambda prints them
        "installation_id",
        "app_title",
        "app_version_name",
        "app_version_code",
        "app_package_name",
    )


class ClientContext(_Record):
    """What the caller passed beside the event."""

    __slots__ = ("custom", "env", "client")  # noqa: RUF023 - in the order in which Lambda prints them

    client: Client | None
    custom: Any
    env: Any


class LambdaContext:
    """What a handler can learn about its invocation, its function and its environment."""

    def __init__(self, request_id: str, deadline_ns: int, function: Mapping[str, Any], client_context: bytes) -> None:
        """Make the context of one invocation, whose deadline is in nanoseconds of the monotonic clock."""
        self.aws_request_id = request_id
        self.log_group_name = function["log_group_name"]
        self.log_stream_name = function["log_stream_name"]
        self.function_name = function["function_name"]
        self.memory_limit_in_mb = function["memory_limit_in_mb"]
        self.function_version = function["function_version"]
        self.invoked_function_arn = function["invoked_function_arn"]
        self.tenant_id = None
        self._w3c_fields: dict[str, str] = {}
        self.client_context = self._parse(client_context) if client_context else None
        self.identity = CognitoIdentity()
        self._deadline_ns = deadline_ns

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds left before the environment is killed, at least 0."""
        return max(0, self._deadline_ns - monotonic_ns()) // _NS_PER_MS

    def log(self, msg: object) -> None:
        """Write `msg` to the log as it is, with no end of line."""
        sys.stdout.write(str(msg))

    def w3c(self) -> dict[str, str]:
        """Return the W3C trace context (traceparent, tracestate, baggage) that came with the client context."""
        return dict(self._w3c_fields)

    def __repr__(self) -> str:
        """Return the members as Lambda prints them."""
        return _show(
            self,
            (
                "aws_request_id",
                "log_group_name",
                "log_stream_name",
                "function_name",
                "memory_limit_in_mb",
                "function_version",
                "invoked_function_arn",
                "client_context",
                "identity",
                "tenant_id",
            ),
        )

    def _parse(self, text: bytes) -> ClientContext | None:
        """Return the client context in `text`, without the trace context, which is kept aside."""
        try:
            values = json.loads(text)
            if values is None:
                return None
            w3c = _mapping(values).pop("w3c", None)
            if isinstance(w3c, dict):
                self._w3c_fields = {name: w3c[name] for name in _W3C_FIELDS if isinstance(w3c.get(name), str)}
            context = ClientContext(values)
            client = values.get("client")
            if client is not None:
                context.client = Client(_mapping(client))
        except Exception as error:  # noqa: BLE001 - too deep, too many digits, not UTF-8
            message = f"Unable to parse Client Context JSON: {error}"
            raise Fault(CONTEXT_UNMARSHAL, message) from None
        return context


def _mapping(value: object) -> dict[str, Any]:
    """Return `value`, which must be a JSON object."""
    if not isinstance(value, dict):
        message = f"an object is expected, not {type(value).__name__}"
        raise TypeError(message)
    return value


def _show(value: object, names: tuple[str, ...]) -> str:
    """Return the class and members of `value` in Lambda's style."""
    members = ",".join(f"{name}={getattr(value, name)}" for name in names)
    return f"{type(value).__name__}([{members}])"
