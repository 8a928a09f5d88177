"""A supervisor for tests, and the control socket as it sees it.

The other `test_runtime_*` modules import `Driver` from here. It starts `_runtime` in a plain process, without a
sandbox, the way a zygote's child finds it: named `coldframe_runtime`, with the control socket at descriptor 3.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import ANY

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

RUNTIME = Path(__file__).parents[2] / "python" / "coldframe" / "_runtime"
REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
INIT, INVOKE, DESCRIBE, READY, INIT_ERROR, RESPONSE, ERROR, DESCRIBED = 1, 2, 3, 11, 12, 13, 14, 15
AFTER_READY = 2**63
"""Set in a deadline that counts from the moment at which the environment is ready."""
HEADER = struct.Struct("<BxHIQ")
HISTORY = struct.Struct("<4Q")
"""How the body of READY begins: when the process was forked and assigned, how long the import took, the end; ns."""
PACKET_BYTES = 65_536
PATIENCE_S = 20
WARNING = re.compile(r"\[WARNING\]\t[^\t]*Z\t\tLAMBDA_WARNING: Unhandled exception\. [^\r]*\r\n")
"""What Lambda's runtime logs ahead of the error that an initialisation failed with."""

IMPORT_RUNTIME = """
import importlib.util, json, os, sys
config = json.loads(sys.argv.pop())
spec = importlib.util.spec_from_file_location(
    "coldframe_runtime", config["runtime"] + "/__init__.py", submodule_search_locations=[config["runtime"]])
sys.modules["coldframe_runtime"] = importlib.util.module_from_spec(spec)
"""
RUN_ENVIRONMENT = f"""{IMPORT_RUNTIME}
os.dup2(config["control"], 3)
if config["control"] != 3:
    os.close(config["control"])
from coldframe_runtime import environment
environment.main()
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One message from the environment."""

    kind: int
    token: int
    body: bytes

    @property
    def value(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)

    @property
    def bytecode(self) -> bytes:
        """What READY passes on to other environments of the function."""
        assert self.kind == READY, self.body
        assert len(self.body) >= HISTORY.size
        return self.body[HISTORY.size :]


class Link:
    """The supervisor's end of a control socket."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(PATIENCE_S)
        self.socket = end
        self.token = 0x0123456789ABCDEF

    def wait(self) -> None:
        """Do what must be done while the environment works."""

    def between(self) -> object:
        """Do something when the environment knows what its function is, and before it is ordered to initialise."""

    def send(self, kind: int, body: bytes) -> None:
        self.token += 1
        self.socket.send(HEADER.pack(kind, 0, len(body), self.token) + body[: PACKET_BYTES - HEADER.size])
        for start in range(PACKET_BYTES - HEADER.size, len(body), PACKET_BYTES):
            self.socket.send(body[start : start + PACKET_BYTES])

    def receive(self) -> Answer | None:
        """Return the next message, or None when the environment has gone."""
        self.wait()
        packet = self.socket.recv(PACKET_BYTES)
        if not packet:
            return None
        kind, reserved, length, token = HEADER.unpack_from(packet)
        assert reserved == 0
        body = packet[HEADER.size :]
        while len(body) < length:
            body += self.socket.recv(PACKET_BYTES)
        assert len(body) == length
        assert token == self.token
        return Answer(kind, token, body)

    def init(
        self,
        handler: str,
        env: dict[str, str],
        *,
        known: bytes = b"",
        described: bool = False,
        with_it: bytes = b"",
        **more: Any,
    ) -> Answer | None:
        function = {
            "handler": handler,
            "env": env,
            "packages": [],
            "layers": False,
            "function_name": "fn",
            "function_version": "$LATEST",
            "memory_limit_in_mb": "128",
            "log_group_name": "/aws/lambda/fn",
            "log_stream_name": "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef",
            "invoked_function_arn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
        }
        description = json.dumps({**function, **more}).encode()
        if described:
            self.send(DESCRIBE, description)
            assert self.receive() == Answer(DESCRIBED, self.token, b"")
            self.between()
            description = b""
        order = description + b"\0" + known
        self.send(INIT, struct.pack("<I", len(order)) + order + with_it)
        return self.receive()

    def invoke(
        self, event: Any = None, *, raw: bytes | None = None, client_context: bytes = b"", timeout_s: float = 3.0
    ) -> Answer | None:
        body = json.dumps(event).encode() if raw is None else raw
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        head = REQUEST_ID.encode() + struct.pack("<QI", deadline_ns, len(client_context)) + client_context
        self.send(INVOKE, head + body)
        return self.receive()


class Driver(Link):
    """An environment in a process of its own, with the function's code in `task`."""

    def __init__(self, task: Path, source: str = "", *, python: str = sys.executable) -> None:
        if source:
            (task / "app.py").write_text(source, encoding="utf-8")
        self.task = task
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            config = {"runtime": str(RUNTIME), "control": theirs.fileno()}
            self.process = subprocess.Popen(
                [python, "-I", "-S", "-B", "-c", RUN_ENVIRONMENT, json.dumps(config)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=task,
            )
        super().__init__(ours)
        assert self.process.stdout is not None
        self.pipe = self.process.stdout
        os.set_blocking(self.pipe.fileno(), False)
        self.chunks: list[bytes] = []
        self.bytecode = b""

    def start(self, handler: str = "app.handler", env: dict[str, str] | None = None, **more: Any) -> Answer:
        """Initialise, and return the answer."""
        answer = self.init(handler, {"LAMBDA_TASK_ROOT": str(self.task), "TZ": ":UTC", **(env or {})}, **more)
        assert answer is not None, self.log()
        return answer

    def ready(self, handler: str = "app.handler", env: dict[str, str] | None = None, **more: Any) -> Driver:
        """Initialise, which must succeed."""
        answer = self.start(handler, env, **more)
        assert answer.kind == READY, answer.body
        self.bytecode = answer.bytecode
        return self

    def call(self, event: Any = None, **more: Any) -> Any:
        """Invoke, which must succeed, and return the result."""
        answer = self.invoke(event, **more)
        assert answer is not None, self.log()
        assert answer.kind == RESPONSE, answer.body
        return answer.value

    def fail(self, event: Any = None, **more: Any) -> dict[str, Any]:
        """Invoke, which must fail, and return the error payload."""
        answer = self.invoke(event, **more)
        assert answer is not None, self.log()
        assert answer.kind == ERROR, answer.body
        error: dict[str, Any] = answer.value
        return error

    def log(self) -> str:
        """Return the output since the last call; all that was written before an answer is in the pipe by then."""
        self.drain()
        text = b"".join(self.chunks).decode()
        self.chunks.clear()
        return text

    def drain(self) -> None:
        """Take what is in the pipe, so that a flood does not stop the environment."""
        while chunk := self.pipe.read(PACKET_BYTES):
            self.chunks.append(chunk)

    def wait(self) -> None:
        """Drain the pipe until there is a message."""
        ends: list[Any] = [self.socket, self.pipe]
        while self.socket not in (ready := select.select(ends, [], [], PATIENCE_S)[0]):
            assert ready, f"no answer in {PATIENCE_S} s"
            self.drain()

    def exit_status(self) -> int:
        """Wait for the end of the process."""
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.pipe.close()


@functools.cache
def find_python(name: str) -> str | None:
    """Return the interpreter called `name`, on PATH or installed beside the running one, or None."""
    beside = [str(path) for path in sorted(Path(sys.base_prefix).parent.glob(f"*/bin/{name}"))]
    for found in filter(None, [shutil.which(name), *beside]):
        # What is on PATH may be a launcher that knows the name and has no such version.
        command = [found, "-I", "-S", "-c", "import sys; print(sys.executable)"]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return tried.stdout.strip()
    return None


@pytest.fixture(name="python", params=["running", "python3.9", "python3.13"])
def every_python(request: pytest.FixtureRequest) -> str:
    """The running interpreter, and the oldest and newest that the runtime supports."""
    if request.param == "running":
        return sys.executable
    path = find_python(request.param)
    if path is None:
        pytest.skip(f"{request.param} is neither on PATH nor installed beside the running interpreter")
    return path


@pytest.fixture
def driver(tmp_path: Path, python: str) -> Iterator[Driver]:
    """An environment that echoes, not yet initialised."""
    with Driver(tmp_path, "def handler(event, context): return event", python=python) as made:
        yield made


def test_ready_and_an_echo_carry_the_token_of_the_request(driver: Driver) -> None:
    assert driver.start() == Answer(READY, driver.token, ANY)
    assert driver.invoke({"a": 1}) == Answer(RESPONSE, driver.token, b'{"a": 1}')
    assert driver.invoke([2]) == Answer(RESPONSE, driver.token, b"[2]")


@pytest.mark.parametrize("size", [0, 1, 65_000, 65_520 - 48, 65_520, 65_521, 131_072 + 7, 6_000_000])
def test_bodies_of_any_size_arrive_whole(tmp_path: Path, size: int) -> None:
    with Driver(tmp_path, "def handler(event, context): return event[::-1]").ready() as made:
        text = "".join(chr(97 + index % 26) for index in range(size))
        assert made.call(text) == text[::-1]
        assert made.call("ab") == "ba"


def test_the_environment_ends_when_the_supervisor_hangs_up(driver: Driver) -> None:
    driver.ready()
    driver.socket.close()
    assert driver.exit_status() == 0


def test_hanging_up_before_init_ends_it_too(driver: Driver) -> None:
    driver.socket.close()
    assert driver.exit_status() == 0


@pytest.mark.parametrize("packet", [b"\x02", HEADER.pack(77, 0, 0, 0), HEADER.pack(INVOKE, 0, 0, 0)])
def test_a_message_out_of_place_ends_the_environment(tmp_path: Path, packet: bytes) -> None:
    with Driver(tmp_path, "def handler(event, context): return event") as made:
        made.socket.send(packet)
        assert made.receive() is None
        assert made.exit_status() == 1
        assert "ProtocolError" in made.log()
