"""Copies of an initialised function: as isolated as environments that were made in any other way.

The process that is copied has run user code, so that it is looked at from outside, and refused where its copies would
share something.
"""

import errno
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from conftest import descendants, living, parent, pids_of, until

import coldframe

from .test_bank_identity import expected, record
from .test_reach import EVALUATE

pytestmark = pytest.mark.needs("root", "seccomp", "landlock")

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
OPTIONS = {"snapstart": True, "memory_mb": 512, "timeout_s": 10}


@pytest.fixture
def restored(make):
    """Return a factory of functions that are copied: `fn(expression)` is the value inside, or the errno."""

    def restored(source="", **options):
        return make(source + EVALUATE, **OPTIONS | options)

    return restored


def serving(fn, count):
    """Have as many environments of a function at once; return the process ids of their inits and of their processes."""
    futures = [fn.submit("__import__('time').sleep(0.3)") for _ in range(count)]
    assert {future.result().report.start for future in futures} == {"restored"}
    inits = [environment.pid for environment in living(fn.host, count)]
    return {init: next(iter(descendants(init))) for init in inits}


def base_of(fn):
    """Return the process that is copied: of all that live, the one whose copies' inits are its own init's children."""
    init = parent(fn.host.environments()[0].pid)
    (base,) = [pid for pid in descendants(init) if parent(pid) == init and pids_of(pid)[-1] == "4"]
    return base


def namespaces(pid):
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


def test_a_copy_is_and_may_what_an_environment_has_to(make, restored):
    with coldframe.Host() as host:
        fn = restored(host=host)
        assert fn("os.getpid()") == "2"
        (copy,) = descendants(living(host)[0].pid)
        assert record(copy) == expected()["handler"]
        init = record(living(host)[0].pid)
        assert {name: value for name, value in init.items() if name != "limits"} == {
            name: value for name, value in expected()["init"].items() if name != "limits"
        }


def test_copies_have_namespaces_users_and_cgroups_of_their_own(restored):
    with coldframe.Host() as host:
        fn = restored(host=host)
        copies = list(serving(fn, 3).values())
        everybody = [*copies, base_of(fn), os.getpid()]
        seen = [namespaces(pid) for pid in everybody]
        for name in NAMESPACES:
            assert len({one[name] for one in seen}) == len(everybody), name
        users = {Path(f"/proc/{pid}/uid_map").read_text().split()[1] for pid in copies}
        assert len(users) == 3
        on_host = {
            re.search(r"^Uid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1] for pid in everybody
        }
        assert len(on_host) == 5
        groups = [Path(f"/proc/{pid}/cgroup").read_text() for pid in everybody]
        assert len(set(groups)) == 5


def test_copies_see_nothing_of_each_other(restored):
    with coldframe.Host() as host:
        fn = restored("NOTES = []\n", host=host, reuse=False)
        leave = "(NOTES.append(1), open('/tmp/x', 'w').write('x'), open('/dev/shm/y', 'w').write('y'), len(NOTES))[3]"
        for _ in range(3):
            assert fn(leave) == "1"
            assert fn("(os.listdir('/tmp'), os.listdir('/dev/shm'), NOTES)") == "([], [], [])"
            assert fn("sorted(name for name in os.listdir('/proc') if name.isdigit())") == "['2']"
        assert fn("os.kill(4, 0)") == errno.ESRCH


def test_a_copy_writes_its_own_tmp_and_nothing_else(restored):
    fn = restored()
    for path in ("/", "/var/task", "/usr", "/opt", "/etc", "/proc", "/dev", "/var/runtime"):
        assert fn(f"open('{path}/coldframe', 'w')") in {errno.EROFS, errno.EACCES, errno.ENOENT}, path
    assert fn("open('/tmp/x', 'w').write('abc')") == "3"
    assert fn("os.statvfs('/tmp').f_blocks * os.statvfs('/tmp').f_frsize") == str(512 << 20)
    assert fn("os.listdir('/.merge')") in {errno.EACCES, errno.EPERM}
    assert fn("os.listdir('/.store')") in {errno.EACCES, errno.EPERM}


def test_a_copy_is_filtered_and_gets_no_namespace(restored):
    fn = restored(
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(*args):\n    answer = libc.syscall(*args)\n    return ctypes.get_errno() if answer < 0 else answer\n"
    )
    if os.uname().machine == "x86_64":
        assert fn("call(272, 0x10000000)") == str(errno.EPERM)  # unshare
        assert fn("call(101, 0, 0, 0, 0)") == str(errno.EPERM)  # ptrace
        assert fn("call(165, 0, 0, 0, 0, 0)") == str(errno.EPERM)  # mount
        assert fn("call(9999)") == str(errno.ENOSYS)


@pytest.mark.needs("landlock:6")
def test_in_the_hosts_network_landlock_keeps_copies_apart(restored):
    with coldframe.Host() as host:
        fn = restored(
            "import socket\nkept = []\n"
            "def listen():\n"
            "    kept.append(socket.socket(socket.AF_UNIX)); kept[0].bind('\\0coldframe-copy'); kept[0].listen()\n"
            "def connect():\n    socket.socket(socket.AF_UNIX).connect('\\0coldframe-copy')\n",
            network=True,
            host=host,
        )
        assert fn("listen()") == "None"
        assert fn("connect()") == "None"  # its own
        first = fn.submit("__import__('time').sleep(0.5)")
        assert until(lambda: any(e.state == "busy" for e in host.environments()))
        second = fn.invoke("connect()")
        assert (second.payload, second.report.start) == (errno.EPERM, "restored")
        first.result()


def test_the_memory_of_a_copy_is_capped(restored):
    with coldframe.Host() as host:
        fn = restored("import ctypes\n", host=host, memory_mb=128)
        assert fn("1") == "1"
        invocation = fn.invoke("len(bytearray(256 << 20))")
        assert isinstance(invocation.error, coldframe.OutOfMemoryError)
        assert fn.invoke("2").payload == "2"


def test_a_copy_ends_at_its_deadline(restored):
    fn = restored(timeout_s=1)
    assert fn("1") == "1"
    invocation = fn.invoke("__import__('time').sleep(30)")
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    again = fn.invoke("3")
    assert (again.payload, again.report.start) == ("3", "restored")


def test_the_base_does_nothing_and_its_end_is_the_end_of_its_copies(restored):
    with coldframe.Host() as host:
        fn = restored("import threading, time\n", host=host)
        init, copy = next(iter(serving(fn, 1).items()))
        base = base_of(fn)
        before = Path(f"/proc/{base}/stat").read_text().rpartition(")")[2].split()[11:13]
        os.kill(base, signal.SIGUSR1)  # which would end it, or run its handler
        assert fn("1") == "1"
        assert Path(f"/proc/{base}").exists()
        assert Path(f"/proc/{base}/stat").read_text().rpartition(")")[2].split()[11:13] == before
        os.kill(base, signal.SIGKILL)
        # What the freezer of version 1 holds does not die before somebody looks for it.
        assert until(lambda: fn.invoke("2").report.start == "restored")
        assert until(lambda: not Path(f"/proc/{copy}").exists() and not Path(f"/proc/{init}").exists())


def test_a_function_that_is_closed_leaves_nobody(restored):
    with coldframe.Host() as host:
        fn = restored(host=host)
        serving(fn, 2)
        everybody = {pid for pid in descendants() if pids_of(pid)[-1:] in (["4"], ["2"])}
        assert everybody
        fn.close()
        assert until(lambda: not any(Path(f"/proc/{pid}/ns").exists() and pids_of(pid) for pid in everybody))


UNFIT = {
    "thread": ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n", "2 threads"),
    "child": ("import subprocess\nsubprocess.Popen(['sleep', '100'])\n", "other process"),
    "memory": ("import mmap\nboard = mmap.mmap(-1, 4096)\n", "shared memory"),
    "file": ("kept = open('/tmp/x', 'w')\n", r"descriptor 4 open \(/tmp/x\)"),
    "pipe": ("import os\nkept = os.pipe()\n", r"descriptor 4 open \(pipe"),
    "socket": ("import socket\nkept = socket.socket()\n", r"descriptor 4 open \(socket"),
    "output": ("import os\nos.dup2(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1)\n", "descriptor"),
    "control": ("import os, socket\na, b = socket.socketpair()\nkept = os.dup(3)\n", "descriptor"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_copies_would_share_is_refused_by_name(restored, what):
    source, reason = UNFIT[what]
    with coldframe.Host() as host:
        invocation = restored(source, host=host).invoke("1")
        assert isinstance(invocation.error, coldframe.InitError)
        assert invocation.error.error_type == "Runtime.SnapshotUnfit"
        assert re.search(reason, str(invocation.error)), invocation.error


def test_signals_and_timers_of_the_base_do_nothing_to_its_forks(restored):
    source = """
import os, signal, sys
count = []
signal.signal(signal.SIGALRM, lambda *args: (count.append(1), os.write(2, b"!"), os._exit(9)))
signal.setitimer(signal.ITIMER_REAL, 0.5, 0.001)
"""
    with coldframe.Host() as host:
        fn = restored(source, host=host, reuse=False)
        until(lambda: False, within_s=0.2)
        starts = [fn.invoke("len(count)") for _ in range(20)]
        assert [one.payload for one in starts] == ["0"] * 20


def test_a_listener_outside_is_as_far_as_ever(restored):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert restored()(f"socket.create_connection(('127.0.0.1', {port}), 2)") == errno.ECONNREFUSED


@pytest.mark.needs("cgroup.freeze")
def test_nobody_else_gets_to_the_cgroup_that_its_copies_are_born_in(restored):
    fn = restored()
    fn("1")
    (environment,) = fn.host.environments()
    group = Path(environment.cgroups["unified"]).parent
    assert group.stat().st_mode & 0o777 == 0o700
    assert (group / "cgroup.procs").stat().st_mode & 0o022, "or bases could have no children there"
