"""A stand-in for the native module, for tests of the Python side alone; and that it has the real one's interface."""

import ast
import contextlib
import importlib
import json
import sys
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from coldframe import _core

REPORT = {
    "start": "warm",
    "duration_ms": 1.5,
    "billed_duration_ms": 2,
    "init_duration_ms": None,
    "restore_duration_ms": None,
    "memory_mb": 128,
    "max_memory_mb": 30,
    "cpu_ms": 1.0,
    "throttled_ms": 0.0,
    "log_dropped_bytes": 0,
    "environment_id": "e1",
}
PHASES = {"queue": 0.1, "invoke": 1.5}


def outcome(payload=b"null", *, kind="ok", error=None, **changes):
    """An outcome as the core makes it."""
    values = {"kind": kind, "payload": payload if kind == "ok" else None, "error": error, "request_id": "r", "log": ""}
    return SimpleNamespace(**{**values, **REPORT, "phases": PHASES, **changes})


def failure(kind, error_type, message="went wrong", stack_trace=()):
    body = {"errorMessage": message, "errorType": error_type, "requestId": "r", "stackTrace": list(stack_trace)}
    return outcome(kind=kind, error=json.dumps(body).encode())


class Ticket:
    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


class Function:
    def __init__(self, host, spec):
        self.host, self.spec, self.closed = host, spec, 0
        self.code_key = core().code_key

    @property
    def in_flight(self):
        return 0

    def invoke(self, event, *, timeout_s, client_context, trace_id="", ticket, wait):
        host, fake = self.host, core()
        if host.is_closed or self.closed:
            raise errors().ColdframeError("closed")
        if not host.room.acquire(blocking=wait):
            raise errors().ThrottledError("no room; try again later")
        host.busy.append(self.spec["name"])
        try:
            call = SimpleNamespace(
                timeout_s=timeout_s, client_context=client_context, trace_id=trace_id, ticket=ticket, spec=self.spec
            )
            answer = fake.handler(event, call)
            if ticket is not None and ticket.cancelled.is_set():
                raise CancelledError
            return answer if isinstance(answer, SimpleNamespace) else outcome(answer)
        finally:
            host.busy.remove(self.spec["name"])
            host.room.release()

    def call(self, event, decode, timeout_s=None, client_context=None):
        answer = self.invoke(event, timeout_s=timeout_s, client_context=client_context, ticket=None, wait=False)
        if answer.kind == "ok":
            with contextlib.suppress(ValueError, RecursionError):
                return decode(answer.payload.decode())
        return answer

    def isolation(self):
        return {"network": "namespace"}

    def close(self):
        self.closed += 1


class Host:
    def __init__(self, *, max_concurrency, max_memory_mb, idle_timeout_s, freeze, freeze_after_ms, cgroup):
        if not isinstance(max_concurrency, int):
            raise TypeError("argument 'max_concurrency': not an integer")
        self.room = threading.Semaphore(max_concurrency)
        self.is_closed, self.forgotten = False, False
        self.functions, self.prewarmed, self.busy, self.freeze = [], [], [], freeze
        core().hosts.append(self)

    def function(self, **spec):
        if not isinstance(spec["memory_mb"], int):
            raise TypeError("argument 'memory_mb': not an integer")
        spec["code_exists"] = Path(spec["code"]).exists()
        spec["code_files"] = sorted(p.relative_to(spec["code"]).as_posix() for p in Path(spec["code"]).rglob("*"))
        self.functions.append(Function(self, spec))
        return self.functions[-1]

    def prewarm(self, function, n):
        self.prewarmed.append((function, n))

    def environments(self):
        about = {"id": "e1", "pid": 7, "cgroups": {"unified": "/x"}, "memory_mb": 1.5, "created": 1.0, "last_used": 2.0}
        states = [*core().idle(self), *((name, core().busy_state) for name in list(self.busy))]
        return [SimpleNamespace(function=name, state=state, **about) for name, state in states]

    parked = 3

    @property
    def closed(self):
        return self.is_closed

    def close(self):
        self.is_closed = True

    def forget(self):
        self.forgotten = True


def check(**options):
    """The real one's rules, with the errors of the package on top of the stand-in."""
    try:
        _core.check(**options)
    except ValueError as error:
        raise getattr(errors(), type(error).__name__)(str(error)) from None


def core():
    return sys.modules["coldframe._core"]


def errors():
    return importlib.import_module("coldframe.errors")


def make_core():
    """The stand-in as a module; `handler(event_bytes, call)` returns the payload, or an outcome, or raises."""
    module = ModuleType("coldframe._core")
    module.__file__ = "fake"
    module.Ticket, module.Function, module.Host = Ticket, Function, Host
    module.EnvironmentInfo = module.Outcome = SimpleNamespace
    module.hosts, module.code_key, module.profile, module.busy_state = [], "key", "release", "busy"
    module.build_info = lambda: {"version": "0.1.0", "profile": module.profile, "target": "x86_64-unknown-linux-gnu"}
    module.doctor = lambda: [{"protection": "seccomp", "in_force": True, "detail": "allow-list", "remedy": None}]
    module.leftovers = list
    module.check, module.name_of = check, _core.name_of
    module.handler = lambda event, call: event
    module.idle = lambda host: [("idle", "frozen")]
    return module


@pytest.fixture
def fake(monkeypatch):
    """The stand-in, in place of the native module, under a newly imported coldframe."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "coldframe"]:
        monkeypatch.delitem(sys.modules, name)
    module = make_core()
    monkeypatch.setitem(sys.modules, "coldframe._core", module)
    yield module
    host = sys.modules.get("coldframe._host")
    if host is not None and host._default is not None:
        host._default.close()
    for name in [name for name in sys.modules if name.partition(".")[0] == "coldframe"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def coldframe(fake):
    """The package on top of the stand-in."""
    return importlib.import_module("coldframe")


@pytest.fixture
def code(tmp_path):
    """A file with a handler."""
    path = tmp_path / "app.py"
    path.write_text("def handler(event, context):\n    return event\n")
    return path


def parameters(arguments):
    """The parameters that a call may have, without self."""
    names = [
        argument.arg for argument in (*arguments.posonlyargs, *arguments.args) if argument.arg not in ("self", "cls")
    ]
    return names, sorted(argument.arg for argument in arguments.kwonlyargs)


def test_the_stand_in_has_the_interface_of_the_stub():
    folder = Path(importlib.util.find_spec("coldframe").origin).parent
    stub = {node.name: node for node in ast.parse((folder / "_core.pyi").read_text()).body if hasattr(node, "name")}
    here = {node.name: node for node in ast.parse(Path(__file__).read_text()).body if isinstance(node, ast.ClassDef)}
    for name in ("Ticket", "Function", "Host"):
        wanted = {node.name.replace("__new__", "__init__"): node for node in stub[name].body if hasattr(node, "name")}
        given = {node.name: node for node in here[name].body if hasattr(node, "name")}
        for method in wanted.keys() & given.keys():
            if method == "function":
                continue  # it takes its specification as a dict
            if not (name == "Function" and method == "__init__"):
                assert parameters(wanted[method].args) == parameters(given[method].args), (name, method)
        own = {"parked", "park_at_most", "wait_for_stock", "reclaim_after", "code_key", "stream", "max_memory_mb"}
        assert wanted.keys() - given.keys() <= own, name
