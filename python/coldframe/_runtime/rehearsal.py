"""Runs what every environment runs, ahead of the function: in a zygote, and once more in an environment that is parked.

Code that has run before is adapted to what it met, and what it allocated lies there to be used again. In a zygote this
happens once for all its children, which then have fewer pages to copy; in a parked environment those pages are copied
while nobody waits. Nothing is done here that an environment would not do itself: that would cost it pages for nothing.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from . import wire

if TYPE_CHECKING:
    from .environment import Environment

_STAGE = os.path.dirname(__file__) + "/stage"  # noqa: PTH120 - no pathlib in here
_MODULE = "rehearsed"
_REQUEST_ID = b"00000000-0000-0000-0000-000000000000"
_DEADLINE = (2**63 + 10**9).to_bytes(8, "little")  # as when an event comes before the environment is ready
_EVENT = b'{"name": "Ada"}'
# About half of what a function has: those of the function come to lie in other places, and take pages of their own.
_MORE_VARIABLES = 8
_HISTORY_BYTES = 32


class Rehearsal:
    """A function that is initialised and invoked once in each run, and leaves no trace."""

    def __init__(self, environment: Environment) -> None:
        """Note how the process is now: how it will be after each run."""
        self._environment = environment
        self._script = _Script()
        function = _function()
        self._function = json.dumps(function).encode()
        self._invocation = _REQUEST_ID + _DEADLINE + bytes(4) + _EVENT
        self._variables = [name for name in function["env"] if name not in os.environ]
        self._path = list(sys.path)

    def run(self, times: int, *, compiled: bool) -> None:
        """Run `times` times, as in an environment that is given its module's bytecode, or has to compile it."""
        for _ in range(times):
            known = self._script.bytecode if compiled else b""
            order = self._function + b"\0" + known
            self._script.messages = [
                (wire.INIT, len(order).to_bytes(4, "little") + order + bytes(8) + self._invocation)
            ]
            try:
                self._environment.perform(self._script)
            finally:
                sys.modules.pop(_MODULE, None)
                for name in self._variables:
                    os.environ.pop(name, None)
                sys.path[:] = self._path


class _Script(wire.Channel):
    """A channel whose messages are known, and whose answers nobody reads."""

    def __init__(self) -> None:
        """Begin with nothing to be received."""
        super().__init__(-1)
        self.messages: list[tuple[int, bytes]] = []
        self.bytecode = b""

    def receive(self) -> tuple[int, int, memoryview]:
        """Return the next message as if it had come in a packet."""
        kind, body = self.messages.pop()
        packet = wire.HEADER.pack(kind, 0, len(body), 1) + body
        kind, _, length, token = wire.HEADER.unpack_from(packet)
        return kind, token, memoryview(packet)[wire.HEADER.size : wire.HEADER.size + length]

    def send(self, kind: int, token: int, body: bytes = b"") -> None:
        """Make the packet and throw it away, but for the bytecode; an error is one of the runtime's own."""
        if kind not in (wire.READY, wire.RESPONSE):
            message = f"the rehearsal failed: {body!r}"
            raise RuntimeError(message)
        wire.HEADER.pack(kind, 0, len(body), token) + body
        if kind == wire.READY and len(body) > _HISTORY_BYTES:
            self.bytecode = body[_HISTORY_BYTES:]


def _function() -> dict[str, Any]:
    """Return an INIT message like that of a small function."""
    names = ("FUNCTION_NAME", "FUNCTION_VERSION", "INITIALIZATION_TYPE", "LOG_GROUP_NAME", "LOG_STREAM_NAME")
    env = {f"AWS_LAMBDA_{name}": f"/aws/lambda/{name}/of/the/rehearsal" for name in names}
    env |= {f"REHEARSAL_{number}": "/usr/local/bin:/usr/bin:/bin" for number in range(_MORE_VARIABLES)}
    env |= {"_HANDLER": f"{_MODULE}.handler", "TZ": ":UTC", "LAMBDA_TASK_ROOT": _STAGE}
    return {
        "handler": f"{_MODULE}.handler",
        "env": env,
        "packages": [],
        "layers": False,
        "function_name": "rehearsal",
        "function_version": "$LATEST",
        "memory_limit_in_mb": "128",
        "log_group_name": "/aws/lambda/rehearsal",
        "log_stream_name": "rehearsal",
        "invoked_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:rehearsal",
    }
