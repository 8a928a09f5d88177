"""The programs that have environments, and what each says of them.

Each answers on a Unix socket in its directory: one JSON object for whoever connects. What a program says is believed of
itself alone: which process it is, the kernel says.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldframe._cli.terminal import printable

if TYPE_CHECKING:
    from coldframe._core import Owner

STATES = ("busy", "init", "ready", "frozen", "dead")
"""The states of an environment, with those first that somebody waits for."""
_SCHEMA = 1
_WITHIN_S = 1.0
"""How long all of them together may take to answer."""
_MOST_BYTES = 16 << 20
_PART_BYTES = 1 << 18
_MOST_ENVIRONMENTS = 20_000
_LONGEST_NAME = 64
_LARGEST = 1e15
_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True)
class Environment:
    """An environment as its owner describes it; times are seconds, `None` is what was not said.

    `cpu_percent` is what it used of one processor since the owner was last asked.
    """

    id: str
    function: str
    state: str
    memory_mb: float | None
    memory_limit_mb: float | None
    cpu_s: float | None
    invocations: float | None
    created: float | None
    last_used: float | None
    cpu_percent: float | None = None


@dataclass(slots=True)
class Host:
    """A host of a program: `error` says why there is no more than its name."""

    owner: str
    pid: int | None = None
    program: str = ""
    version: str = ""
    time: float | None = None
    started: float | None = None
    in_flight: float | None = None
    max_concurrency: float | None = None
    invocations: float | None = None
    parked: float | None = None
    memory_mb: float | None = None
    error: str | None = None
    environments: list[Environment] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return asdict(self)

    def compare(self, before: Host) -> None:
        """Note what was used of the processor since `before`."""
        if self.time is None or before.time is None or self.time <= before.time:
            return
        known = {each.id: each.cpu_s for each in before.environments}
        for each in self.environments:
            # One that is new has used all of it since.
            used = known.get(each.id, 0.0)
            if each.cpu_s is not None and used is not None:
                each.cpu_percent = max(each.cpu_s - used, 0.0) / (self.time - before.time) * 100


def ask_all(owners: list[Owner], within_s: float = _WITHIN_S) -> list[Host]:
    """Return what each of `owners` says, all of them asked at once; who does not answer in time has an error."""
    deadline = time.monotonic() + within_s
    questions = [_Question(Host(printable(each["owner"], _LONGEST_NAME))) for each in owners]
    with selectors.DefaultSelector() as selector:
        for question, owner in zip(questions, owners, strict=True):
            try:
                question.connection = _connect(owner["directory"])
            except OSError as error:
                question.host.error = _why(error)
                continue
            question.host.pid = _peer(question.connection)
            question.host.program = _program(question.host.pid)
            selector.register(question.connection, selectors.EVENT_READ, question)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0.0))
            for key, _ in ready:
                if not key.data.go_on():
                    selector.unregister(key.fileobj)
            if not ready and time.monotonic() >= deadline:
                break
    for question in questions:
        question.end()
    return [question.host for question in questions]


@dataclass(slots=True)
class _Question:
    """What one owner is asked, and has said so far."""

    host: Host
    connection: socket.socket | None = None
    said: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def go_on(self) -> bool:
        """Read what there is; False when nothing more is to come."""
        assert self.connection is not None  # noqa: S101 - it is what was waited for
        try:
            part = self.connection.recv(_PART_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            self.host.error = _why(error)
            return False
        self.said += part
        self.whole = not part
        if len(self.said) > _MOST_BYTES:
            self.host.error = "it says more than anybody wants to know"
            return False
        return bool(part)

    def end(self) -> None:
        """Take what was said."""
        if self.connection is not None:
            self.connection.close()
        if self.host.error is None and not self.whole:
            self.host.error = "it does not answer; it may be stopped, or busy"
        if self.host.error is None:
            _take(self.host, bytes(self.said))


def _connect(directory: str) -> socket.socket:
    """Return a connection to the owner of a directory; the path of it may be longer than a socket's address can be."""
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        connection.connect(f"/proc/self/fd/{place}/status")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(place)
    return connection


def _why(error: OSError) -> str:
    """Return why somebody cannot be asked."""
    if isinstance(error, FileNotFoundError):
        return "it cannot be asked: it has no socket"
    if isinstance(error, ConnectionRefusedError):
        return "it is about to end"
    if isinstance(error, BlockingIOError):
        return "it does not answer: too many ask"
    return f"it cannot be asked: {error.strerror}"


def _peer(connection: socket.socket) -> int | None:
    """Return the process that listens, as this one sees it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(credentials)[0]
    return pid or None


def _program(pid: int | None) -> str:
    """Return how a process was called, without the directories."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()[:4096].decode("utf-8", "backslashreplace").split("\0")
    except OSError:
        return ""
    return printable(" ".join(word.rpartition("/")[2] if word.startswith("/") else word for word in words).strip(), 200)


def _take(host: Host, text: bytes) -> None:
    """Take what is well-formed of what a host says, and nothing else."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        host.error = "it does not answer" if not text else "its answer is not JSON"
        return
    if not isinstance(said, dict) or said.get("schema") != _SCHEMA:
        host.error = "another version of coldframe: its answer means something else"
        return
    host.version = _text(said, "version")
    for name in ("time", "started", "in_flight", "max_concurrency", "invocations", "parked", "memory_mb"):
        setattr(host, name, _number(said, name))
    environments = said.get("environments")
    for each in environments[:_MOST_ENVIRONMENTS] if isinstance(environments, list) else []:
        if isinstance(each, dict):
            numbers = ("memory_mb", "memory_limit_mb", "cpu_s", "invocations", "created", "last_used")
            host.environments.append(
                Environment(
                    id=_text(each, "id"),
                    function=_text(each, "function"),
                    state=state if (state := _text(each, "state")) in STATES else "?",
                    **{name: _number(each, name) for name in numbers},
                )
            )


def _text(said: dict[str, Any], name: str) -> str:
    """Return a text, such as can be shown."""
    value = said.get(name)
    return printable(value, _LONGEST_NAME) if isinstance(value, str) else ""


def _number(said: dict[str, Any], name: str) -> float | None:
    """Return a number, such as can be counted with."""
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _LARGEST else None  # not for what is no number, nor for the infinite
