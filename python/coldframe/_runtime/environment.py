"""The life of one execution environment: initialise once, then answer one invocation after the other."""

from __future__ import annotations

import os
import struct
import sys
import time
import traceback
from time import monotonic_ns
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from . import errors, inside, snapshot, wire
from .context import LambdaContext
from .handler import forget_shadowed, load
from .logs import Logs
from .marshalling import MAX_RESPONSE_BYTES, TOO_LARGE, dumps, encode_chunk, marshal, unmarshal
from .output import Output, write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

CONTROL_FD = 3

_AFTER_READY = 2**63  # set in a deadline that counts from now on, since the event came before the environment was ready
_HISTORY = struct.Struct("<4Q")  # ns: when the process began to run and was locked down, the import's time, the end
_EVENT = wire.EVENT
_HEAD_BYTES = _EVENT.size
_TRACE_ID = "_X_AMZN_TRACE_ID"
_TIME_ZONE = ":UTC"
_TASK = "/var/task"
_RUNTIME = "/var/runtime"
_LAYERS = (f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages", "/opt/python")
_TRACE_ID_KEY = _TRACE_ID.encode() if hasattr(os.environ, "_data") else _TRACE_ID
_LONGEST_MESSAGE = 65_536

# Bound here, so that a handler that replaces them in `os` cannot keep the process from ending.
_exit = os._exit
_getpid = os.getpid


def main(environment: Environment | None = None) -> NoReturn:
    """Serve the control socket at descriptor 3 until the supervisor hangs up, then end the process."""
    status = 1
    try:
        (environment or Environment(sys.modules.keys(), sys.path)).run()
    except wire.HungUp:
        status = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process has to end
        if isinstance(error, OSError) and error.errno:
            write(f"The environment ends: descriptor {CONTROL_FD}, on which it answers, cannot be used: {error}\n")
        else:
            traceback.print_exc()  # a signal handler that the user left behind, or a bug of ours
        sys.stdout.flush()
    finally:
        _exit(status)


class Environment:
    """The state between invocations."""

    def __init__(
        self, settled: Collection[str], standard_library: Sequence[str], channel: wire.Channel | None = None
    ) -> None:
        """Make all that can be made before the function is known, and take over the streams.

        `settled` names the modules that stay loaded whatever the code provides, and `standard_library` the folders of
        the standard library. A zygote makes this before it forks: what exists already costs its children no pages.
        `channel` is where it asks and answers, if that is not the control socket.
        """
        self._settled = frozenset((*settled, inside.NAME))
        self._standard_library = list(standard_library)
        self._channel = channel or wire.Channel(CONTROL_FD)
        self._list = _names
        self._output = Output()
        self._logs = Logs()
        self._function: dict[str, Any] = {}
        self._handler: Any = None
        self._snapshot: snapshot.Snapshot | None = None
        self.in_copies: Callable[[], object] = list  # what packages want done after a fork: nothing
        self.forked_ns = self.assigned_ns = 0
        self._look_like_lambdas()

    def perform(self, channel: wire.Channel) -> None:
        """Initialise and answer one invocation on another channel: a rehearsal."""
        own, self._channel = self._channel, channel
        self._list = _sources
        try:
            self._pid = _getpid()
            self._invoke(self._initialise())
        finally:
            self._channel, self._function, self._handler = own, {}, None
            self._list = _names
            self._logs.request_id = ""

    def run(self) -> NoReturn:
        """Initialise, then answer invocations for ever."""
        self._pid = _getpid()
        self._invoke(self._initialise())
        while True:
            self._invoke()

    def _initialise(self) -> tuple[int, int, memoryview] | None:
        """Become a function's environment, at INIT or a DESCRIBE that comes ahead of it, and import its handler.

        Return the first event's message if that came with INIT.
        """
        kind, token, body = self._channel.receive()
        if kind == wire.DESCRIBE:
            task, entries = self._become(bytes(body))
            self._answer(wire.DESCRIBED, token, b"")
            kind, token, body = self._channel.receive()
        if kind != wire.INIT:
            message = f"message {kind} came before INIT"
            raise wire.ProtocolError(message)
        end = 4 + int.from_bytes(body[:4], "little")
        description, _, known = bytes(body[4:end]).partition(b"\0")
        try:
            if description:
                task, entries = self._become(description)
            if self._function.get("snapstart"):
                self._snapshot = snapshot.Snapshot(self.in_copies)
            begun_ns = monotonic_ns()
            self._handler, bytecode = load(self._function["handler"], task, entries, known)
            ready_ns = monotonic_ns()
            history = _HISTORY.pack(self.forked_ns, self.assigned_ns, ready_ns - begun_ns, ready_ns)
            if self._snapshot:
                self._snapshot.prepare()
        except SystemExit as leaving:
            self._leave(leaving)
        except BaseException as error:  # noqa: BLE001 - whatever the user's module raises is the answer
            self._logs.warn()
            self._answer(wire.INIT_ERROR, token, self._report(error, ""))
            self._channel.receive()  # the supervisor ends the environment now
            _exit(1)
        self._answer(wire.READY, token, history if known else history + bytecode)
        if self._snapshot:
            return self._restore(self._snapshot)
        if end < len(body):
            return wire.INVOKE, int.from_bytes(body[end : end + 8], "little"), body[end + 8 :]
        return None

    def _restore(self, prepared: snapshot.Snapshot) -> tuple[int, int, memoryview] | None:
        """Wait at the place where the function is copied, and become another environment in each copy.

        The process that came here never goes on: what returns from the wait is a copy of it.
        """
        kind, token, body = self._channel.receive()
        if kind != wire.RESTORE:
            message = f"message {kind} came where RESTORE was due"
            raise wire.ProtocolError(message)
        restored_ns = monotonic_ns()
        self._pid = _getpid()
        end = 4 + int.from_bytes(body[:4], "little")
        try:
            news = unmarshal(bytes(body[4:end]).partition(b"\0")[0])
            self._function["log_stream_name"] = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"] = news["log_stream_name"]
            prepared.renew()
            begun_ns = monotonic_ns()
            snapshot.after_restore()
            ready_ns = monotonic_ns()
        except SystemExit as leaving:
            self._leave(leaving)
        except BaseException as error:  # noqa: BLE001 - whatever a hook raises is the answer
            self._answer(wire.INIT_ERROR, token, self._report(error, ""))
            self._channel.receive()  # the supervisor ends the environment now
            _exit(1)
        self._answer(wire.READY, token, _HISTORY.pack(restored_ns, begun_ns, ready_ns - begun_ns, ready_ns))
        if end < len(body):
            return wire.INVOKE, int.from_bytes(body[end : end + 8], "little"), body[end + 8 :]
        return None

    def _look_like_lambdas(self) -> None:
        """Make the interpreter look as Lambda's does to a handler, as far as that is the same for every function."""
        os.environ.clear()
        os.environ["TZ"] = _TIME_ZONE
        time.tzset()
        sys.argv = [f"{_RUNTIME}/bootstrap.py"]
        if sys.version_info >= (3, 10):
            sys.orig_argv = [sys.executable, *sys.argv]
        sys.dont_write_bytecode = True  # the code is read-only; trying costs time
        sys.modules["__main__"] = ModuleType("__main__")
        inside.install()

    def _become(self, description: bytes) -> tuple[str, Sequence[str]]:
        """Have the interpreter look as Lambda's does to this handler; return the folder of the code, and its names.

        All of it in one go, and in few steps: each object that is touched in a new environment, a function that is
        called among them, costs a page fault and a page.
        """
        function = self._function = unmarshal(description)
        env = function["env"]
        putenv, data = os.putenv, os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - a call for each costs more
        for name, value in env.items():
            key, content = name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")
            putenv(key, content)
            data[key] = content
        # Where looking for one that is not there raises nothing.
        self._variables = data
        if env.get("TZ") != _TIME_ZONE:
            time.tzset()
        self._logs.configure(env)
        task, runtime = env.get("LAMBDA_TASK_ROOT", _TASK), env.get("LAMBDA_RUNTIME_DIR", _RUNTIME)
        sys.path[:] = [task, *_LAYERS, runtime, *self._standard_library]
        for site in function.get("packages", ()):
            if site not in sys.path:
                sys.path.append(site)
        entries = self._list(task)
        shadowing = [*entries]
        for folder in _LAYERS if function.get("layers") else ():
            shadowing += _names(folder)
        forget_shadowed(shadowing, self._settled)
        return task, entries

    def _invoke(self, message: tuple[int, int, memoryview] | None = None) -> None:
        """Wait for an event, unless its message has come, run the handler on it, and answer."""
        kind, token, body = message or self._channel.receive()
        finish = marshal if kind == wire.INVOKE else self._stream(kind, token)
        identity, deadline_ns, beside = _EVENT.unpack_from(body)
        self._logs.request_id = request_id = identity.decode()
        try:
            if deadline_ns >= _AFTER_READY:
                deadline_ns += monotonic_ns() - _AFTER_READY
            start, client_context = _HEAD_BYTES, b""
            if beside:
                trace_end = start + (beside >> 24)
                if trace_end > start:
                    os.environ[_TRACE_ID] = str(body[start:trace_end], "ascii")
                start = trace_end + (beside & 0xFFFFFF)
                client_context = bytes(body[trace_end:start])
            context = LambdaContext(request_id, deadline_ns, self._function, client_context)
            event = unmarshal(body[start:])
            del body  # six megabytes, perhaps, which the handler may want
            answer = finish(self._handler(event, context))
            kind = wire.RESPONSE
            if len(answer) > MAX_RESPONSE_BYTES:
                kind, answer = wire.ERROR, TOO_LARGE
        except SystemExit as leaving:
            self._leave(leaving)
        except BaseException as error:  # noqa: BLE001 - whatever the handler raises is the answer
            kind, answer = wire.ERROR, self._report(error, request_id)
        self._answer(kind, token, answer)
        # After the answer, so that no invocation waits for it: there is no trace id in the next one either.
        if _TRACE_ID_KEY in self._variables:
            del os.environ[_TRACE_ID]

    def _stream(self, kind: int, token: int) -> Callable[[Any], bytes]:
        """Return what makes an answer of a result that may go out in chunks: those of an iterator, as they come."""
        if kind != wire.STREAM:
            why = f"message {kind} came where INVOKE was due"
            raise wire.ProtocolError(why)

        def finish(result: Any) -> bytes:  # noqa: ANN401 - a handler returns what it likes
            if not hasattr(type(result), "__next__"):
                return marshal(result)
            for piece in result:
                chunk = encode_chunk(piece)
                for start in range(0, len(chunk), wire.MAX_CHUNK_BYTES):
                    self._answer(wire.CHUNK, token, chunk[start : start + wire.MAX_CHUNK_BYTES])
            return b""

        return finish

    def _answer(self, kind: int, token: int, body: bytes) -> None:
        """Send an answer, with all output before it."""
        self._output.flush()
        if _getpid() != self._pid:
            _exit(0)  # a child that the handler forked came back here: the answer is its parent's to give
        self._channel.send(kind, token, body)

    def _report(self, error: BaseException, request_id: str) -> bytes:
        """Log `error`, and return its payload."""
        payload = errors.payload(error, request_id)
        self._logs.error(payload)
        body = dumps(payload)
        if len(body) > MAX_RESPONSE_BYTES:
            payload["errorMessage"] = payload["errorMessage"][:_LONGEST_MESSAGE] + "… (cut: the message was too large)"
            payload["stackTrace"] = []
            body = dumps(payload)
        return body

    def _leave(self, leaving: SystemExit) -> NoReturn:
        """End the process as `sys.exit` would, but without the finalisation of the interpreter, which may never end."""
        code = 0 if leaving.code is None else leaving.code
        if not isinstance(code, int):
            write(f"{code}\n")
            code = 1
        self._output.flush()
        _exit(code & 0xFF)


def _names(folder: str) -> list[str]:
    """Return the names in `folder`; none if it cannot be listed, where an import then finds nothing either."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - no pathlib in here
    except OSError:
        return []


def _sources(folder: str) -> list[str]:
    """Return the same without bytecode that an installer may have put there: of a stage, not of a function's code."""
    return [name for name in _names(folder) if name != "__pycache__"]
