"""A stand-in for Lambda's Runtime API, and for what starts a runtime: one process, one event at a time, no sandbox.

It serves what a runtime in good order asks for (lambda.md 1.1 and 1.2) and keeps what it is told. How misuse is
answered is none of its business: coldframe's own API is tested for that.
"""

import contextlib
import http.client
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:app"
STREAM = "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef"
PATIENCE_S = 20
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"

# awslambdaric sends the cause of an error, a stack of a thousand frames perhaps, in one header.
http.client._MAXLINE = 1 << 20


@dataclass
class Answer:
    """What a runtime came to: it asked for the first event (`next`), it answered, or its process ended."""

    kind: str
    """next, response, error, init or exit."""
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    """In lower case, with those that came after the body."""
    log: bytes = b""
    status: int | None = None
    """Of the process, if it has ended."""
    pieces: list = field(default_factory=list)
    """(when, bytes) of each chunk of a body that came in chunks."""


def lambda_environment(handler, task, **more):
    """Return the variables that Lambda's own processes start with (lambda.md 6), for code in the folder `task`."""
    return {
        "_HANDLER": handler,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "app",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/app",
        "AWS_LAMBDA_LOG_STREAM_NAME": STREAM,
        "LAMBDA_TASK_ROOT": str(task),
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "PWD": str(task),
        "SHLVL": "0",
        **more,
    }


class Runtime:
    """A process that speaks the Runtime API, and the API that it speaks to."""

    def __init__(self, command, task, env):
        self._told = queue.Queue()
        self._events = queue.Queue()
        self._server = _Server(self)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._read = 0
        self.current = None
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        port = self._server.server_address[1]
        self.process = subprocess.Popen(
            command,
            cwd=task,
            env={**env, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            process_group=0,
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def start(self):
        """Wait until the runtime has asked for its first event, or has failed."""
        return self._wait()

    def invoke(self, event, *, headers=None, timeout_s=3.0):
        """Hand out an event, bytes, and return the answer; `headers` are added to those of `next`."""
        deadline_ms = int((time.time() + timeout_s) * 1000)
        self.current = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": REQUEST_ID,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            **(headers or {}),
        }
        self._events.put((self.current, event))
        log = b""
        while (answer := self._wait()).kind == "next":  # which it asked after its last answer
            log += answer.log
        answer.log = log + answer.log
        return answer

    def log(self):
        """Return what has been written since the last answer."""
        end = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), end - self._read, self._read)
        self._read = end
        return text

    def tell(self, answer):
        """Take note of a request of the runtime's."""
        self._told.put(answer)

    def next(self):
        """Return the next event, with its headers; None when there will be no more."""
        self.tell(Answer("next"))
        return self._events.get()

    def _wait(self):
        try:
            answer = self._told.get(timeout=PATIENCE_S)
        except queue.Empty:
            message = f"the runtime has said nothing for {PATIENCE_S} s; its log: {self.log()!r}"
            raise TimeoutError(message) from None
        answer.log = self.log()
        return answer

    def _watch(self):
        status = self.process.wait()
        self.tell(Answer("exit", status=status))

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._log.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, runtime):
        self.runtime = runtime
        super().__init__(("127.0.0.1", 0), _Request)

    def handle_error(self, request, client_address):
        """Say nothing of a runtime that went in the middle of a request."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/2018-06-01/ping":
            self._send(200, {}, b"pong")
        elif self.path != "/2018-06-01/runtime/invocation/next":
            self._send(404, {}, b"")
        elif event := self.server.runtime.next():
            self._send(200, *event)

    def do_POST(self):
        runtime = self.server.runtime
        *_, of, kind = self.path.split("/")
        if of == "init":
            kind = "init"
        elif runtime.current is None or of != runtime.current["Lambda-Runtime-Aws-Request-Id"]:
            self._send(400, {}, b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}\n')
            return
        answer = Answer(kind, headers={name.lower(): value for name, value in self.headers.items()})
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            self._read_chunks(answer)
        else:
            answer.body = self.rfile.read(int(self.headers["Content-Length"]))
        # Told first: a runtime may end as soon as it has been heard.
        runtime.tell(answer)
        self._send(202, {"Content-Type": "application/json"}, b'{"status":"OK"}\n')

    def _read_chunks(self, answer):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            answer.pieces.append((time.monotonic(), self.rfile.read(size)))
            self.rfile.readline()
        answer.body = b"".join(piece for _, piece in answer.pieces)
        trailers = http.client.parse_headers(self.rfile)
        answer.headers.update((name.lower(), value) for name, value in trailers.items())

    def _send(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        """Keep the test's output to itself."""


def write_code(folder: Path, files):
    """Write `files`, a dictionary from names to texts or bytes, below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
