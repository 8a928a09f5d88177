"""Processes, their users, variables and descriptors: O11 to O17, O36."""

import errno
import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import descendants, living

from .attacks import EVALUATE, plainly


@contextmanager
def victim():
    """Run a process of the host to be attacked."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def from_outside(read):
    """Return what `read` finds in the folder in /proc of each of our processes; most are closed to all but root."""
    passing = (FileNotFoundError, ProcessLookupError)  # on its way into a seat
    found = []
    for pid in descendants():
        with suppress(*passing, *([] if os.getuid() == 0 else [PermissionError])):
            found.append(read(Path(f"/proc/{pid}")))
    assert len(found) >= (4 if os.getuid() == 0 else 1)
    return found


# O11: what a debugger does

SLEEPER = "[call('ptrace', 16, process.pid, 0, 0) for process in [started('/bin/sleep', '1')]][0]"
TRACE = {
    "in_a_child(\"call('ptrace', 0, 0, 0, 0)\")": "EPERM",  # be traced
    "call('ptrace', 16, os.getppid(), 0, 0)": "EPERM",  # attach to init
    f"in_a_child({SLEEPER!r})": "EPERM",  # attach to a child of its own
}


@pytest.mark.bank("O11")
def test_nobody_is_traced(attack):
    assert attack(EVALUATE, list(TRACE)).payload == TRACE


@pytest.mark.bank("O11", twin=True)
def test_without_the_filter_its_own_processes_are_traced(attack, without):
    answers = attack(EVALUATE, list(TRACE), host=without("seccomp"), memory_mb=1769).payload
    assert list(answers.values()) == [0, "EPERM", 0]


# O12: other processes

LIST = "sorted(int(name) for name in os.listdir('/proc') if name.isdigit())"


def reach(pid):
    return [
        f"os.kill({pid}, 0)",
        f"os.pidfd_open({pid})",
        f"os.getpgid({pid})",
        f"os.sched_getaffinity({pid})",
        f"open('/proc/{pid}/status')",
    ]


@pytest.mark.bank("O12")
def test_processes_of_the_host_are_not_there(attack):
    with victim() as process:
        for pid in (process.pid, os.getpid(), os.getppid()):
            if pid > 2:  # the numbers of init and of the handler's own
                answers = attack(EVALUATE, reach(pid)).payload
                assert list(answers.values()) == ["ESRCH", "ESRCH", "ESRCH", "ESRCH", "ENOENT"]
        assert attack(EVALUATE, LIST).payload in ([1, 2], [2])
        assert attack(EVALUATE, "os.kill(-1, signal.SIGKILL)").payload == "ESRCH"
        assert process.poll() is None


@pytest.mark.bank("O12", twin=True)
def test_outside_they_are():
    with victim() as process:
        assert plainly(f"os.kill({process.pid}, 0)") is None
        assert process.pid in plainly(LIST)


# O13, O14: variables


@pytest.fixture
def secret(monkeypatch):
    """Set a variable of this process."""
    monkeypatch.setenv("COLDFRAME_TEST_SECRET", "sesame")


ENVIRON = {
    "open('/proc/1/environ', 'rb').read()": "ENOENT",
    "'sesame' in open('/proc/self/environ').read()": "EACCES",
    "[name for name in os.environ if 'sesame' in os.environ[name]]": [],
    "'sesame' in subprocess.run(['env'], capture_output=True, text=True).stdout": False,
}


@pytest.mark.bank("O13")
def test_no_process_has_the_hosts_variables(secret, attack):
    assert attack(EVALUATE, list(ENVIRON)).payload == ENVIRON
    variables = from_outside(lambda process: process.joinpath("environ").read_bytes())
    assert not [text for text in variables if b"sesame" in text]


@pytest.mark.bank("O13", twin=True)
def test_outside_a_process_has_them(secret):
    assert list(plainly(list(ENVIRON)[1:]).values()) == [True, ["COLDFRAME_TEST_SECRET"], True]


VARIABLES = {
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_REGION",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "LANG",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PATH",
    "PWD",
    "PYTHONPATH",
    "SHLVL",
    "TZ",
    "_HANDLER",
}
"""What every handler finds; the values are those of tests/kernel/test_isolation.py."""


@pytest.mark.bank("O14")
def test_the_variables_are_the_documented_ones(secret, attack):
    seen = set(attack(EVALUATE, "sorted(os.environ)", env={"STAGE": "test"}).payload)
    assert seen - {"_X_AMZN_TRACE_ID"} == VARIABLES | {"STAGE"}


@pytest.mark.bank("O14", twin=True)
def test_outside_they_are_the_parents(secret):
    assert "COLDFRAME_TEST_SECRET" in plainly("sorted(os.environ)")


# O15, O16: descriptors

OPEN = "sorted(map(int, os.listdir('/proc/self/fd')))"


@pytest.mark.bank("O15")
def test_four_descriptors_are_open(attack):
    table = {
        OPEN: [0, 1, 2, 3, 4],  # and the one that looks
        "os.readlink('/proc/self/fd/0')": "/dev/null",
        "[os.readlink(f'/proc/self/fd/{number}').partition(':')[0] for number in (1, 2, 3)]": [
            "pipe",
            "pipe",
            "socket",
        ],
        "os.listdir('/proc/self/fd/3')": "ENOTDIR",
        "os.fchdir(3)": "ENOTDIR",
        # 3: the folder that ls reads. The control socket does not reach programs.
        "subprocess.check_output(['ls', '/proc/self/fd'], text=True, close_fds=False)": "0\n1\n2\n3\n",
    }
    assert attack(EVALUATE, list(table)).payload == table


@pytest.mark.bank("O15", twin=True)
def test_without_closing_more_of_them_are_open(attack, without):
    assert len(attack(EVALUATE, OPEN, host=without("descriptors")).payload) > 5


@pytest.fixture
def inheritable(canary):
    """Have a secret file open many times in this process, for every program that it starts."""
    files = [os.open(canary, os.O_RDWR) for _ in range(40)]
    files.append(os.dup2(files[0], 200))
    for file in files:
        os.set_inheritable(file, True)
    yield
    for file in files:
        os.close(file)


READ = "[os.pread(number, 6, 0).decode() for number in range(5, 210) if os.path.isfile(f'/proc/self/fd/{number}')]"


@pytest.mark.bank("O16")
def test_inheritable_descriptors_do_not_enter(inheritable, canary, attack):
    assert attack(EVALUATE, [OPEN, READ]).payload == {OPEN: [0, 1, 2, 3, 4], READ: []}
    seen = from_outside(lambda process: [os.readlink(path) for path in process.joinpath("fd").iterdir()])
    assert not [opened for opened in seen if str(canary) in opened]


@pytest.mark.bank("O16", twin=True)
def test_a_plain_program_inherits_them(inheritable):
    assert plainly(READ, close_fds=False).count("sesame") >= 41


# O17: the running program

REWRITE = {
    "open('/proc/self/exe', 'wb')": "EROFS",
    "open('/proc/thread-self/exe', 'wb')": "EROFS",
    "open(os.path.realpath('/proc/self/exe'), 'wb')": "EROFS",
    "os.chmod('/proc/self/exe', 0o777)": "EROFS",
    "os.utime('/proc/self/exe')": "EROFS",
    "open('/proc/1/exe', 'wb')": "ENOENT",
}


@pytest.mark.bank("O17")
def test_the_running_program_cannot_be_rewritten(attack):
    assert attack(EVALUATE, list(REWRITE)).payload == REWRITE


SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.mark.bank("O17")
@pytest.mark.needs("root")
def test_the_program_of_init_is_sealed_even_for_root(host, make):
    make(EVALUATE)("1")
    (environment,) = living(host)
    with open(f"/proc/{environment.pid}/exe", "rb") as program:
        assert fcntl.fcntl(program, fcntl.F_GET_SEALS) & SEALS == SEALS
    # Kernels 6.11 and 6.12 let a running program be opened to be written: the seal is left.
    with pytest.raises(OSError, match=rf"Errno ({errno.ETXTBSY}|{errno.EPERM})\]"):
        with open(f"/proc/{environment.pid}/exe", "r+b", 0) as program:
            program.write(b"broken")


@pytest.fixture
def tool(granted):
    """Return a program of the host that everybody may write, by mistake, and that handlers may run."""
    path = granted / "tool"
    shutil.copy("/bin/sleep", path)
    path.chmod(0o777)
    return path


def rewrite(tool):
    """Return what writes a program through its process's exe once that has ended, as it once was done to runc."""
    open_program = "os.open(f'/proc/{process.pid}/exe', os.O_PATH)"
    write = "os.write(os.open(f'/proc/self/fd/{program}', os.O_WRONLY | os.O_TRUNC), b'broken')"
    over = f"[[process.kill(), process.wait(), {write}][2] for program in [{open_program}]][0]"
    return f"[{over} for process in [started({str(tool)!r}, '60')]][0]"


@pytest.mark.bank("O17")
def test_a_program_of_the_host_cannot_be_rewritten_once_it_has_ended(attack, tool):
    before = tool.read_bytes()
    assert attack(EVALUATE, rewrite(tool)).payload == "EROFS"
    assert tool.read_bytes() == before


@pytest.mark.bank("O17", twin=True)
def test_without_read_only_mounts_and_landlock_it_is(attack, without, tool):
    assert attack(EVALUATE, rewrite(tool), host=without("read-only", "landlock")).payload == len("broken")
    assert tool.read_bytes() == b"broken"


# O36: users of the host


def users(host):
    """Return the host users of the living environments, after a look at their maps."""
    found = []
    for one in host.environments():
        outside = set()
        for kind, number in (("uid", 993), ("gid", 990)):
            (inside, user, length), *more = map(str.split, Path(f"/proc/{one.pid}/{kind}_map").read_text().splitlines())
            assert (int(inside), int(length), more) == (number, 1, [])
            outside.add(int(user))
        found += outside
    return found


@pytest.mark.bank("O36")
@pytest.mark.needs("root")
def test_an_environment_is_one_user_of_the_host_and_no_other_is(attack, without):
    host = without()
    invocation = attack(EVALUATE, "open('/proc/self/uid_map').read().split()[2]", host=host)
    assert invocation.payload == "1"
    one, other = users(host)  # the neighbour's
    assert one != other
    assert {0x7000_0000 < user < 0x7800_0000 for user in (one, other)} == {True}


@pytest.mark.bank("O36", twin=True)
@pytest.mark.needs("root")
def test_without_that_they_share_a_user(attack, without):
    host = without("users")
    attack(EVALUATE, "1", host=host)
    one, other = users(host)
    assert one == other
