"""What every attack of the bank may use: an attack with the look afterwards, and hosts that lack a wall.

`@pytest.mark.bank("O17")` says which case a test is, `@pytest.mark.bank("O17", twin=True)` that it is the case's twin:
the same attack where one protection is away, which succeeds. `test_bank.py` sees that no case lacks either.
"""

import gc
import os
import re
import sys
import tempfile
import textwrap
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
from conftest import SLOWNESS, inventory, no_stock, reap_orphans, until

import coldframe

GRACE_S = 2.0 * SLOWNESS
"""How much longer than its timeout an invocation may take, whatever runs in it."""
GROWTH = 64 << 20
"""Bytes by which an attack and what comes after it may leave this process larger."""
CONTROLLERS = {
    "cpu": "cgroup.cpu",
    "memory": "cgroup.memory",
    "pids": "cgroup.pids",
    "freezer": "cgroup.freeze",
}
"""Protections that COLDFRAME_PRETEND calls by another name than `fn.isolation`."""
# Every handler under attack is able to answer this as well.
WELL = """

_attack = handler
def handler(event, context):
    return event if event == "well" else _attack(event, context)
"""
NEIGHBOUR = """
def handler(event, context):
    return event
"""


def pytest_configure(config):
    config.addinivalue_line("markers", "bank(*cases, twin=False): a case of the attack bank, or its twin")


# What is outside. The witness is the kernel, not the library.


@cache
def settings():
    """Return the paths of the kernel's settings, without what is statistics."""
    found = []
    for tree in ("kernel", "vm", "fs", "user", "dev", "net/core", "net/ipv4"):
        for folder, _, files in os.walk(f"/proc/sys/{tree}"):
            found += [Path(folder, name) for name in files]
    # The last process id, and what changes whenever somebody makes a network.
    passing = {"ns_last_pid", "inode-state", "dentry-state", "flush"}
    return [str(path) for path in found if path.name not in passing and path.stat().st_mode & 0o222]


def sysctls():
    """Return every setting of the kernel that can be read, with its value."""
    values = Counter()
    for path in settings():
        with suppress(OSError):
            values[f"{path}: {read(path)}"] += 1
    return values


def read(path):
    """Return what is in a small file of the kernel's. There are hundreds, and `read_text` makes twice as many calls."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def ours(inode):
    """Tell whether nobody else has a socket open."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(os.readlink(path) == f"socket:[{inode}]" for path in folder.iterdir()):
                # Of our own sockets and our children's, descriptors and processes are counted already.
                return False
    return True


def listeners():
    """Return the sockets of the host's network that listen, or take datagrams from everybody."""
    found = Counter()
    for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        with suppress(OSError):
            for line in Path("/proc/self/net", name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] in {"0A", "07"}:
                    found[f"{name} {fields[1]} of {fields[7]} {fields[9]}"] += 1
    for line in Path("/proc/self/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 1 << 16:
            found[f"unix {' '.join(fields[7:])} {fields[6]}"] += 1
    return found


def lasting():
    """Return what the kernel keeps for nobody: System V objects, and the keys that this process sees."""
    found = Counter()
    for path in Path("/proc/sysvipc").iterdir():
        for line in path.read_text().splitlines()[1:]:
            found[f"{path.name} {' '.join(line.split()[:2])}"] += 1
    with suppress(OSError):
        for line in Path("/proc/keys").read_text().splitlines():
            # A session's keyring goes with its last process, and other people have sessions, too.
            if "keyring   _ses:" not in line:
                found[f"key {line.split()[0]} {line.split(maxsplit=7)[-1]}"] += 1
    return found


def canaries(folder):
    """Return files that no attack may change, with what would tell: beside `folder`'s own, some of the host."""
    found = Counter()
    for path in (
        *folder.iterdir(),
        *map(Path, ("/etc/passwd", "/etc/shadow", "/etc/hosts", sys.executable, "/bin/sh")),
    ):
        with suppress(OSError):
            facts = path.stat()
            text = hash(path.read_bytes()) if facts.st_size < 4096 else ""
            found[f"{path}: {facts.st_mode:o} {facts.st_uid} {facts.st_size} {facts.st_mtime_ns} {text}"] += 1
    return found


def outside(folder):
    """Return everything of the host that an attack could leave behind or change."""
    return inventory() | {
        "sysctls": sysctls(),
        "listeners": listeners(),
        "lasting": lasting(),
        "canaries": canaries(folder),
    }


def size():
    """Return how many bytes of memory are this process's own."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)[1]) << 10


# The fixtures, from the outermost to the attack


@pytest.fixture
def canary():
    """Yield a file of the host that everybody might write, if it could be reached; it says "sesame"."""
    with tempfile.TemporaryDirectory(prefix="coldframe-canary-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "canary")
        path.write_text("sesame")
        path.chmod(0o666)
        yield path


@contextmanager
def pth(text):
    """Have a `.pth` file with this text for a while: environments see the folders that it names, a line each."""
    site = Path(next(path for path in sys.path if path.endswith("site-packages")))
    path = site / f"coldframe-test-{os.getpid()}.pth"
    path.write_text(f"{text}\n")
    try:
        yield
    finally:
        path.unlink()


@pytest.fixture
def granted():
    """Yield a folder of the host that environments see at its own path, and that everybody outside may write."""
    with tempfile.TemporaryDirectory(prefix="coldframe-granted-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o777)
        canary = Path(folder, "canary")
        canary.write_text("sesame")
        canary.chmod(0o666)
        with pth(folder):
            yield Path(folder)


@pytest.fixture
def installed():
    """Install a module for the length of a test."""
    site = Path(next(path for path in sys.path if path.endswith("site-packages")))
    if not os.access(site, os.W_OK):
        pytest.skip(f"{site} is read-only here")
    made = []

    def install(name, source):
        path = site / f"{name}.py"
        path.write_text(source)
        made.append(path)
        return name

    yield install
    for path in made:
        path.unlink()


@pytest.fixture
def unchanged(canary):
    """See that everything outside is as before once all functions and hosts of a test are gone."""
    with no_stock():
        before, large = outside(canary.parent), size()
        yield

        def changed(now):
            found = {what: dict(now[what] - before[what]) for what in now if now[what] - before[what]}
            # Others who share this machine have sockets, too, and some that are gone again.
            sockets = {name: 1 for name in found.pop("listeners", ()) if ours(name.split()[-1])}
            if sockets := {name: 1 for name in sockets if name in listeners()}:
                found["listeners"] = sockets
            if gone := before["canaries"] - now.get("canaries", before["canaries"]):
                found["canaries that were"] = dict(gone)
            return found

        gc.collect()
        # What takes a moment to go: the kernel collects keys in its own time, too. The rest is looked at once.
        until(lambda: not changed(inventory() | {"lasting": lasting()}))
        reap_orphans()
        assert changed(outside(canary.parent)) == {}
        assert size() - large < GROWTH


@pytest.fixture
def without(unchanged, monkeypatch):
    """Return a factory of hosts that lack protections: `without("seccomp", "landlock")`; see COLDFRAME_PRETEND."""
    with ExitStack() as hosts:

        def without(*walls):
            already = os.environ.get("COLDFRAME_PRETEND", "")
            with monkeypatch.context() as patch:
                patch.setenv("COLDFRAME_PRETEND", ",".join([*filter(None, [already]), *(f"-{wall}" for wall in walls)]))
                host = hosts.enter_context(coldframe.Host())
            host.walls = walls
            return host

        yield without


@pytest.fixture
def attack(unchanged, make):
    """Return `attack(source, event=None, **options) -> Invocation`, which runs a handler and looks around afterwards.

    `options` are those of `make`. `host`: one of `without(...)`, which implies isolation="available"; None is one that
    lacks nothing. However the handler fares: the invocation ends on time, the function's next one works, and so does a
    neighbour's in the very environment that it had before. With `well=False` those two may suffer, as a twin's may.
    """
    with ExitStack() as hosts:
        whole, neighbours = [], {}

        def environments(host):
            return {one.id for one in host.environments() if one.function == "neighbour"}

        def attack(source, event=None, *, host=None, well=True, **options):
            if host is None:
                if not whole:
                    whole.append(hosts.enter_context(coldframe.Host()))
                (host,) = whole
            walls = getattr(host, "walls", ())
            if walls:
                options.setdefault("isolation", "available")
            if host not in neighbours:
                isolation = options.get("isolation", "strict")
                neighbours[host] = make(NEIGHBOUR, name="neighbour", host=host, isolation=isolation)
                assert neighbours[host]("well") == "well"
            if isinstance(source, str):
                source = {"app.py": source}
            source = {**source, "app.py": textwrap.dedent(source["app.py"]) + WELL}
            neighbour, warm = neighbours[host], environments(host)
            fn = make(source, host=host, **options)
            for wall in walls:
                assert fn.isolation.get(CONTROLLERS.get(wall, wall), "missing").startswith("missing"), wall
            begun = time.monotonic()
            invocation = fn.invoke(event)
            took = time.monotonic() - begun
            assert took < options.get("timeout_s", 3.0 * SLOWNESS) + GRACE_S
            assert invocation.error is None or isinstance(invocation.error, coldframe.ColdframeError)
            if well:
                assert fn("well") == "well"
                after = neighbour.invoke("well")
                assert (after.payload, after.report.start) == ("well", "warm")
                assert environments(host) == warm
            return invocation

        yield attack
