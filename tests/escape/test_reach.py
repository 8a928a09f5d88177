"""What a handler reaches for beyond its walls: files, processes, sockets and users of the host."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

import coldframe

EVALUATE = """
import ctypes, fcntl, glob, os, pwd, signal, socket, subprocess, sys
def handler(event, context):
    try:
        return repr(eval(event))
    except OSError as error:
        return error.errno
"""


@pytest.fixture
def attack(make):
    """Evaluate an expression inside: the representation of its value, or the errno that it raised."""
    return make(EVALUATE)


def test_a_link_in_the_code_leads_to_the_environments_own_files(tmp_path, host):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "app.py").write_text(EVALUATE)
    (tmp_path / "secret").write_text("sesame")
    (folder / "link").symlink_to("../secret")
    try:
        fn = coldframe.Function("app.handler", folder, host=host)
    except coldframe.ConfigurationError:
        return  # refused, as in an archive
    with fn:
        assert fn("open('/var/task/link').read()") == errno.ENOENT


MASKED = coldframe.Hardening(proc="masked")


@pytest.mark.parametrize(
    "path",
    ["kcore", "keys", "kallsyms", "kmsg", "timer_list", "interrupts", "modules", "cmdline", "partitions", "swaps"],
)
def test_a_masked_proc_hides_what_tells_of_the_host(make, path):
    if not Path("/proc", path).exists():
        pytest.skip(f"this kernel has no /proc/{path}")
    assert make(EVALUATE, hardening=MASKED)(f"open('/proc/{path}').read()") == "''"


def test_a_masked_proc_shows_the_machine_and_writes_nothing(make):
    fn = make(EVALUATE, hardening=MASKED)
    assert "processor" in fn("open('/proc/cpuinfo').read()") or "cpu" in fn("open('/proc/cpuinfo').read()").lower()
    assert "MemTotal" in fn("open('/proc/meminfo').read()")
    assert fn("os.listdir('/proc/sys')") == fn("os.listdir('/proc/irq')") == "[]"
    assert fn("open('/proc/sysrq-trigger', 'w')") in {errno.EROFS, errno.EACCES, errno.ENOENT}
    pids = fn("[name for name in os.listdir('/proc') if name.isdigit()]")
    assert set(eval(pids)) <= {"1", "2"}


@pytest.mark.parametrize(
    "name", ["oom_score_adj", "uid_map", "gid_map", "setgroups", "attr/current", "mem", "clear_refs"]
)
def test_the_files_of_the_own_process_cannot_be_written(attack, name):
    assert attack(f"open('/proc/self/{name}', 'r+b', 0).write(b'0')") in {
        errno.EACCES,
        errno.EROFS,
        errno.EPERM,
        errno.ENOENT,
    }


# Processes


def test_a_signal_to_everybody_reaches_nobody_else(make, host):
    neighbour = make("def handler(event, context):\n    return event\n", name="neighbour")
    assert neighbour(1) == 1
    before = {environment.id for environment in host.environments() if environment.function == "neighbour"}
    assert before
    killer = make(EVALUATE, name="killer")
    # There is nobody: it is not for its sender, and init takes none from inside.
    assert killer("os.kill(-1, signal.SIGKILL)") == errno.ESRCH
    invocation = neighbour.invoke(2)
    assert (invocation.payload, invocation.report.start) == (2, "warm")
    assert before <= {environment.id for environment in host.environments()}


@pytest.mark.parametrize("number", [1, 2, 9, 15, 19])
def test_init_takes_no_signal(attack, number):
    attack(f"os.kill(1, {number})")
    assert attack("os.getppid()") == "1"


def test_two_environments_are_strangers(make, host):
    leave = make(
        """
        import os, socket
        kept = socket.socket(socket.AF_UNIX)
        kept.bind("\\0coldframe-test")
        kept.listen()
        open("/tmp/here", "w").close()
        open("/dev/shm/here", "w").close()
        def handler(event, context):
            return os.getpid()
        """,
        name="one",
    )
    leave()
    # Without packages: a virtual environment under /tmp is shown there, at its own path.
    look = make(EVALUATE, name="other", packages="none")
    assert look("os.listdir('/tmp') + os.listdir('/dev/shm')") == "[]"
    assert look("socket.socket(socket.AF_UNIX).connect('\\0coldframe-test')") == errno.ECONNREFUSED


# Sockets


@pytest.fixture
def abstract():
    """A socket of the host that has a name, and no file."""
    name = f"coldframe-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        server.setblocking(False)
        yield name


def connect(name):
    return f"socket.socket(socket.AF_UNIX).connect('\\0{name}')"


def test_a_nameless_socket_of_the_host_is_in_another_network(attack, abstract):
    assert attack(connect(abstract)) == errno.ECONNREFUSED


@pytest.mark.needs("landlock:6")
def test_in_the_hosts_network_landlock_keeps_its_sockets_apart(make, abstract, monkeypatch):
    assert make(EVALUATE, network=True)(connect(abstract)) == errno.EPERM
    # The same attack with that protection off.
    monkeypatch.setenv("COLDFRAME_PRETEND", "-landlock")
    with coldframe.Host() as host:
        fn = make(EVALUATE, network=True, isolation="available", host=host)
        assert fn.isolation["landlock"].startswith("missing")
        assert fn(connect(abstract)) == "None"


@pytest.mark.parametrize("path", ["/run/docker.sock", "/var/run/docker.sock", "/run/systemd/private", "/run/dbus/x"])
def test_no_socket_of_a_service_is_there(attack, path):
    assert attack(f"socket.socket(socket.AF_UNIX).connect({path!r})") == errno.ENOENT


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_the_hosts_loopback_is_out_of_reach(attack, kind):
    with socket.socket(socket.AF_INET, getattr(socket, kind)) as server:
        server.bind(("127.0.0.1", 0))
        if kind == "SOCK_STREAM":
            server.listen()
        server.setblocking(False)
        port = server.getsockname()[1]
        sent = f"[s.connect(('127.0.0.1', {port})), s.send(b'x')]"
        answer = attack(f"[{sent} for s in [socket.socket(socket.AF_INET, socket.{kind})]]")
        if kind == "SOCK_STREAM":
            assert answer == errno.ECONNREFUSED
        with pytest.raises(BlockingIOError):
            server.recv(1) if kind == "SOCK_DGRAM" else server.accept()


# Users


@pytest.mark.needs("root")
def test_a_set_user_id_program_changes_nothing(tmp_path, host):
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        program = Path(place, "id")
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o4755)
        Path(place, "app.py").write_text(EVALUATE)
        # Outside it makes anybody root.
        command = [program, "-u"]
        nobody = subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, check=True)
        assert nobody.stdout == b"0\n"
        with coldframe.Function("app.handler", place, host=host) as fn:
            assert fn("subprocess.run(['/var/task/id', '-u'], capture_output=True).stdout") == "b'993\\n'"
            # Nor does one that it plants itself.
            plant = "[open('/tmp/id', 'wb').write(open('/usr/bin/id', 'rb').read()), os.chmod('/tmp/id', 0o4755)]"
            assert fn(plant).endswith("None]")
            assert fn("subprocess.run(['/tmp/id', '-u'], capture_output=True).stdout") == "b'993\\n'"
            assert fn("os.stat('/var/task/id').st_mode & 0o6000") == "0"


def test_su_gives_nothing(attack):
    if not stat.S_ISREG(os.stat("/usr/bin/su").st_mode):
        pytest.skip("this host has no su")
    answer = attack("subprocess.run(['/usr/bin/su', '-c', 'id -u'], capture_output=True, stdin=0).stdout")
    assert b"0" not in eval(answer).split()


@pytest.mark.parametrize(
    "call", ["os.setuid(0)", "os.setgid(0)", "os.setgroups([0])", "os.seteuid(0)", "os.chroot('/tmp')"]
)
def test_nobody_becomes_root(attack, call):
    assert attack(call) == errno.EPERM
