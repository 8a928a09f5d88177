"""Lambda's Runtime API in the shape of the control socket: what asks and answers there does the same over HTTP here."""

from __future__ import annotations

import json
import os
from http.client import HTTPConnection
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any

from . import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT = "/2018-06-01/runtime"
_NO_BYTECODE = b"\0"


class ApiChannel:
    """A `wire.Channel` to the Runtime API that `AWS_LAMBDA_RUNTIME_API` names."""

    def __init__(self, variables: Mapping[str, str], packages: Sequence[str], arn: str) -> None:
        """Make it; `variables` is the environment that the process was started with, `arn` the function's name."""
        self._variables = variables
        self._packages = packages
        self._arn = arn
        self._connection = HTTPConnection(variables["AWS_LAMBDA_RUNTIME_API"])
        self._described = False
        self._request_id = ""

    def receive(self) -> tuple[int, int, memoryview]:
        """Return what the function is, the first time, and the next event afterwards."""
        if not self._described:
            self._described = True
            description = json.dumps(self._description()).encode()
            return wire.INIT, 0, memoryview(_length(description, _NO_BYTECODE) + description + _NO_BYTECODE)
        headers, payload = self._ask("GET", "/invocation/next")
        self._request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        trace_id = headers.get("Lambda-Runtime-Trace-Id")
        if trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
        # The deadline is one of the wall clock, and the context counts by one that nobody sets.
        left_ns = int(headers["Lambda-Runtime-Deadline-Ms"]) * 1_000_000 - time_ns()
        context = headers.get("Lambda-Runtime-Client-Context", "").encode("latin-1")
        head = wire.EVENT.pack(self._request_id.encode(), max(0, monotonic_ns() + left_ns), len(context))
        return wire.INVOKE, 0, memoryview(head + context + payload)

    def send(self, kind: int, _token: int, body: bytes = b"") -> None:
        """Give an answer."""
        if kind == wire.RESPONSE:
            self._ask("POST", f"/invocation/{self._request_id}/response", body)
        elif kind == wire.ERROR:
            self._ask("POST", f"/invocation/{self._request_id}/error", body)
        elif kind == wire.INIT_ERROR:
            error_type = json.loads(body)["errorType"]
            self._ask("POST", "/init/error", body, {"Lambda-Runtime-Function-Error-Type": error_type})

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, bytes]:
        """Return the headers and the body of the answer."""
        self._connection.request(method, _ROOT + path, body, dict(headers or {}))
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 300:  # noqa: PLR2004
            message = f"{method} {path} was answered {response.status}: {content[:1000]!r}"
            raise wire.ProtocolError(message)
        return response.headers, content

    def _description(self) -> dict[str, Any]:
        """Return what the control socket tells of a function, out of its variables."""
        env = self._variables
        return {
            "handler": env["_HANDLER"],
            "env": {**env},
            "packages": [*self._packages],
            "layers": True,
            "function_name": env["AWS_LAMBDA_FUNCTION_NAME"],
            "function_version": env["AWS_LAMBDA_FUNCTION_VERSION"],
            "memory_limit_in_mb": env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
            "log_group_name": env["AWS_LAMBDA_LOG_GROUP_NAME"],
            "log_stream_name": env["AWS_LAMBDA_LOG_STREAM_NAME"],
            "invoked_function_arn": self._arn,
        }


def _length(*parts: bytes) -> bytes:
    """Return how long all parts are together, as it goes before them."""
    return sum(map(len, parts)).to_bytes(4, "little")
