"""What people would use instead: each does the same work, the echo of a small event, in a fresh and in a kept place.

A peer is a generator that checks what it needs, raises `Missing` with the reason otherwise, and yields a `Peer`.
Entering what `cold` returns is on the clock, from nothing of its own to the answer; leaving it, to clean up, is not.
"""

import importlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver as forkserver_of_python
from pathlib import Path

import coldframe

EVENT = {"name": "Ada", "n": 1}
HANDLER = "def handler(event, context):\n    return event\n"
PATIENCE_S = 10.0
HERE = {"PYTHONPATH": str(Path(__file__).parent)}
"""For servers that import this module before they are told our sys.path."""
LOOP = """
import json, sys
for line in sys.stdin:
    print(json.dumps(handler(json.loads(line), None)), flush=True)
"""
BARE = [os.path.realpath(sys.executable), "-I", "-S", "-c"]
"""The interpreter itself: no shim, and no virtual environment, which may lie in what a sandbox hides."""
INTERPRETER = [*BARE, HANDLER + LOOP]


class Missing(Exception):  # noqa: N818 (not an error: the peer is skipped)
    """Why a peer cannot be measured here."""


@dataclass(frozen=True)
class Peer:
    """How to get an answer from a fresh place, and from one that is kept."""

    version: str
    cold: Callable[[], AbstractContextManager[object]]
    warm: Callable[[], object]


def handler(event: object) -> object:
    """Do what every peer does."""
    return event


def module(name: str, distribution: str | None = None):
    """Return a module and the version of what it came with."""
    try:
        return importlib.import_module(name), importlib.metadata.version(distribution or name)
    except ImportError as error:
        raise Missing(f"{distribution or name} is not installed ({error})") from None


def program(name: str) -> tuple[str, str]:
    """Return the path of a program and its version."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is not installed")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return path, version[0] if version else "unknown version"


# Processes that read events and write answers, a line each.


def ask(process: subprocess.Popen) -> object:
    """Return the answer of a process to the event."""
    process.stdin.write(json.dumps(EVENT).encode() + b"\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen]:
    """Run a process that ends when its input does."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.stdin.close()
        process.wait(PATIENCE_S)


@contextmanager
def answered(command: list[str]) -> Iterator[object]:
    """Give the answer of a new process."""
    with started(command) as process:
        yield ask(process)


@contextmanager
def by_command(version: str, command: Callable[[], list[str]]) -> Iterator[Peer]:
    """Measure a command that runs the interpreter."""
    with started(command()) as kept:
        yield Peer(version, lambda: answered(command()), lambda: ask(kept))


@contextmanager
def bare_process() -> Iterator[Peer]:
    """Run `python -I -S`."""
    with by_command(platform.python_version(), lambda: INTERPRETER) as peer:
        yield peer


def unshared(path: str) -> list[str]:
    """Return bubblewrap with all its namespaces, all files read-only, and a /proc, /dev and /tmp of its own."""
    options = ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"]
    return [path, *options, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]


@contextmanager
def bubblewrap() -> Iterator[Peer]:
    """Run the interpreter in every namespace that bubblewrap has."""
    path, version = program("bwrap")
    with by_command(version, lambda: [*unshared(path), *INTERPRETER]) as peer:
        yield peer


@contextmanager
def nsjail() -> Iterator[Peer]:
    """Run the interpreter in every namespace that nsjail has."""
    path, version = program("nsjail")
    options = ["--really_quiet", "--mode", "o", "--chroot", "/", "--rlimit_as", "max", "--"]
    with by_command(version, lambda: [path, *options, *INTERPRETER]) as peer:
        yield peer


@contextmanager
def runc() -> Iterator[Peer]:
    """Run the interpreter in a container of its own, which has the host's /usr and the interpreter, read-only."""
    path, version = program("runc")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([path, "spec"], cwd=folder, check=True)
        Path(folder, "rootfs").mkdir()
        file = Path(folder, "config.json")
        spec = json.loads(file.read_text())
        spec["process"] |= {"terminal": False, "args": INTERPRETER}
        # Where the host has more than one hierarchy it cannot mount them in a container without further settings.
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "cgroup"]
        shown = {"/usr", "/lib", "/lib64", sys.base_prefix}
        spec["mounts"] += [
            {"destination": place, "type": "bind", "source": place, "options": ["rbind", "ro"]}
            for place in sorted(filter(os.path.exists, shown))
        ]
        file.write_text(json.dumps(spec))
        numbers = iter(range(1_000_000))
        state = ["--root", f"{folder}/state"]

        def command() -> list[str]:
            return [path, *state, "run", "--bundle", folder, f"{Path(folder).name}-{next(numbers)}"]

        with by_command(version, command) as peer:
            yield peer


# Pools and servers of processes.


@contextmanager
def pooled(make: Callable[[], object]) -> Iterator[object]:
    """Give the answer of a new pool of one process."""
    with make() as pool:
        yield pool.submit(handler, EVENT).result()


@contextmanager
def process_pool() -> Iterator[Peer]:
    """Submit to a `ProcessPoolExecutor`."""

    def make() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1)

    with make() as kept:
        kept.submit(handler, EVENT).result()  # forked now, before there are pipes of others that it would inherit
        yield Peer(platform.python_version(), lambda: pooled(make), lambda: kept.submit(handler, EVENT).result())


@contextmanager
def loky() -> Iterator[Peer]:
    """Submit to an executor of loky."""
    package, version = module("loky")

    def make() -> object:
        return package.ProcessPoolExecutor(1)

    with make() as kept:
        yield Peer(version, lambda: pooled(make), lambda: kept.submit(handler, EVENT).result())


def serve(connection) -> None:
    """Answer until the other end is closed."""
    try:
        while True:
            connection.send(handler(connection.recv()))
    except EOFError:
        pass


@contextmanager
def forkserver() -> Iterator[Peer]:
    """Talk over a pipe to a process of a forkserver that has imported what it needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    os.environ |= HERE
    forkserver_of_python.ensure_running()

    @contextmanager
    def connected() -> Iterator[object]:
        near, far = context.Pipe()
        process = context.Process(target=serve, args=(far,))
        process.start()
        far.close()
        yield near
        near.close()
        process.join()

    def ask_it(connection) -> object:
        connection.send(EVENT)
        return connection.recv()

    @contextmanager
    def cold() -> Iterator[object]:
        with connected() as connection:
            yield ask_it(connection)

    with connected() as kept:
        yield Peer(platform.python_version(), cold, lambda: ask_it(kept))


# Sandboxes for Python.


def answer_lines() -> None:
    """Be the main function of pyspawner's children."""
    for line in sys.stdin:
        print(json.dumps(handler(json.loads(line))), flush=True)


@contextmanager
def pyspawner() -> Iterator[Peer]:
    """Clone a sandboxed process."""
    package, version = module("pyspawner")
    with package.Client(child_main=f"{__name__}.answer_lines", environment=HERE) as client:

        @contextmanager
        def spawned() -> Iterator[object]:
            child = client.spawn_child(process_name="echo", sandbox_config=package.SandboxConfig())
            yield child
            child.stdin.close()
            child.kill()  # others may hold its standard input: it does not close what it opens when they start
            child.wait(0)
            child.stdout.close()
            child.stderr.close()

        @contextmanager
        def cold() -> Iterator[object]:
            with spawned() as child:
                yield ask(child)

        with spawned() as kept:
            yield Peer(version, cold, lambda: ask(kept))


@contextmanager
def monty() -> Iterator[Peer]:
    """Run the handler in a new session of Monty, an interpreter of a part of Python."""
    package, version = module("pydantic_monty", "pydantic-monty")
    call = "handler(event, None)"
    with package.Monty() as pool:

        @contextmanager
        def cold() -> Iterator[object]:
            with pool.checkout() as session:
                yield session.feed_run(HANDLER + call, inputs={"event": EVENT})

        with pool.checkout() as kept:
            kept.feed_run(HANDLER)
            yield Peer(version, cold, lambda: kept.feed_run(call, inputs={"event": EVENT}))


@contextmanager
def eryx() -> Iterator[Peer]:
    """Run the handler in a new WebAssembly sandbox, which talks by text."""
    package, version = module("eryx", "pyeryx")
    call = f"import json\nprint(json.dumps(handler(json.loads({json.dumps(EVENT)!r}), None)))\n"

    @contextmanager
    def cold() -> Iterator[object]:
        yield json.loads(package.Sandbox().execute(HANDLER + call).stdout)

    kept = package.Session()
    kept.execute(HANDLER)
    yield Peer(version, cold, lambda: json.loads(kept.execute(call).stdout))


# Ours.


@contextmanager
def ours() -> Iterator[Peer]:
    """Invoke a function, with default isolation."""
    with tempfile.TemporaryDirectory() as folder, coldframe.Host() as host:
        path = Path(folder, "app.py")
        path.write_text(HANDLER)
        options = {"code": path, "memory_mb": 1769, "host": host}
        fresh, kept = (coldframe.Function("app.handler", reuse=reuse, **options) for reuse in (False, True))

        @contextmanager
        def cold() -> Iterator[object]:
            yield fresh(EVENT)

        with fresh, kept:
            yield Peer(importlib.metadata.version("coldframe"), cold, lambda: kept(EVENT))
