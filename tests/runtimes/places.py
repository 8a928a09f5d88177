"""Where a runtime is tried: by itself beside the stand-in for the Runtime API, or in coldframe."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import until
from runtime_api import ARN, REQUEST_ID, Runtime, lambda_environment

import coldframe

BUILT = Path(__file__).parents[2] / "target" / "runtimes"
MEMORY_MB = 1769
"""One processor: what waits for its share of less proves nothing more."""
WANTED = os.environ.get("COLDFRAME_RUNTIMES", "").split()
"""What `make test-runtimes` has built: of these nothing may be missing."""


@dataclass(frozen=True)
class Kind:
    """One of AWS's runtimes, and how it shows what the function does."""

    name: str
    handler: str
    error_type: str
    line: str
    """What its log has of a greeting, as a regular expression."""
    streams: str = ""
    """The handler that streams."""
    prelude: bytes = b""
    """What it sends ahead of a streamed response."""

    @property
    def code(self):
        return built(self.name)


# What a function URL would make the head of its answer of; another caller gets it with the rest.
PRELUDE = b'{"statusCode":200,"headers":{"content-type":"application/octet-stream"},"cookies":[]}' + bytes(8)
KINDS = [
    Kind("bash", "function.handler", "Function.Nobody", r"^greeting Ada$"),
    Kind("awslambdaric", "app.handler", "NobodyError", r"^\[INFO\]\t\S+Z\t{id}\tgreeting Ada$"),
    Kind("go", "bootstrap", "Nobody", r"^\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d greeting Ada$"),
    Kind("rust", "greet", "Nobody", r"^greeting Ada$", streams="stream", prelude=PRELUDE),
    Kind("node", "index.handler", "Nobody", r"^\S+Z\t{id}\tINFO\tgreeting Ada$", streams="index.stream"),
    Kind("java", "example.Greeter::handleRequest", "example.Greeter$Nobody", r"^greeting Ada$"),
]


def built(name):
    """Return the folder that a `build.sh` has made; skip the test if there is none."""
    folder = BUILT / name
    if not folder.exists():
        (pytest.fail if name in WANTED else pytest.skip)(f"{folder} is not there: make test-runtimes RUNTIMES={name}")
    return folder


@dataclass(frozen=True)
class Result:
    """What came of an event."""

    ok: bool
    value: dict
    """The response, or the error as the runtime reported it."""
    request_id: str
    arn: str
    log: str
    status: int | None = None
    """Of the runtime's process, if it has ended."""


class Alone:
    """A runtime with the stand-in, and with nothing around it."""

    def __init__(self, kind, *, handler=None, timeout_s=20.0, env=None):
        self.timeout_s = timeout_s
        env = lambda_environment(handler or kind.handler, kind.code, **(env or {}))
        self.runtime = Runtime([kind.code / "bootstrap"], kind.code, env)

    def invoke(self, event):
        answer = self.runtime.invoke(json.dumps(event).encode(), timeout_s=self.timeout_s)
        value = json.loads(answer.body) if answer.body else None
        log = answer.log.decode()
        return Result(answer.kind == "response", value, REQUEST_ID, ARN, log, answer.status)

    def stream(self, event):
        """Return the pieces with the times at which they came, and the error that ended them."""
        answer = self.runtime.invoke(json.dumps(event).encode(), timeout_s=self.timeout_s)
        assert answer.headers["lambda-runtime-function-response-mode"] == "streaming"
        return answer.pieces, answer.headers.get("lambda-runtime-function-error-type")

    def close(self):
        self.runtime.__exit__()


class Inside:
    """A runtime in coldframe."""

    def __init__(self, kind, *, handler=None, timeout_s=20.0, env=None, **options):
        self.function = coldframe.Function(
            handler or kind.handler,
            kind.code,
            runtime="provided",
            name="app",
            memory_mb=MEMORY_MB,
            timeout_s=timeout_s,
            env=env or {},
            **options,
        )

    def invoke(self, event):
        invocation = self.call(event)
        error = invocation.error
        value = (
            invocation.payload
            if error is None
            else {"errorType": error.error_type, "errorMessage": error.error_message}
        )
        return Result(invocation.ok, value, invocation.request_id, ARN, invocation.log)

    def call(self, event):
        """Invoke once the runtime is done with the event before: until then another environment would be made."""
        assert until(lambda: all(each.state != "busy" for each in self.function.host.environments()), 10)
        return self.function.invoke(event)

    def stream(self, event):
        """Return the pieces with the times at which they came, and the error that ended them."""
        pieces = []
        try:
            for piece in self.function.stream(event):
                pieces.append((time.monotonic(), piece))  # noqa: PERF401 - those before an error are kept
        except coldframe.InvocationError as error:
            return pieces, error.error_type
        return pieces, None

    def close(self):
        self.function.close()
