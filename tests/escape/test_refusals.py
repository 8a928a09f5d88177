"""System calls that no handler may make: the exact answer of the filter, and the kernel's own answer without it."""

import errno
import os
import platform
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest

import coldframe

CALL = """
import ctypes, mmap, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(number, arguments):
    # Every argument fills a register: the filter looks at the lower half of it, and has to ignore the upper one.
    arguments = [value.encode() if isinstance(value, str) else ctypes.c_long(value) for value in arguments]
    result = libc.syscall(ctypes.c_long(number), *arguments)
    return ctypes.get_errno() if result < 0 else 0

def in_a_child(attempt):
    # Whatever it does, it does to a process of its own.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(2)
        os.write(writer, str(attempt()).encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 20)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return int(said) if said else -os.WTERMSIG(status)

def foreign():
    # getpid by the 32-bit convention: mov eax, 20; int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return 0 if ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid() else 1

def handler(event, context):
    if event == "foreign":
        return in_a_child(foreign)
    if event == "foreign, in the handler itself":
        return foreign()
    number, arguments = event
    return in_a_child(lambda: call(number, arguments))
"""


class Attack(NamedTuple):
    """A system call by its numbers.

    `answer` is the filter's. `switch`: the kernel alone would answer otherwise; where it would not, another wall stands
    behind the filter, and `test_what_is_refused_works_outside` shows that there is something to refuse. `since`: the
    kernel that has the call, where the answer without it is the filter's.
    """

    name: str
    x86_64: int
    aarch64: int
    arguments: list
    answer: str
    switch: bool = True
    since: str = "5.14"


NEWUSER, NEWNET, SIGCHLD = 0x1000_0000, 0x4000_0000, 17
AT_FDCWD = -100

ATTACKS = [
    # Mounts and namespaces
    Attack("mount", 165, 40, ["tmpfs", "/tmp", "tmpfs", 0, 0], "EPERM", False),
    Attack("umount2", 166, 39, ["/proc", 2], "EPERM", False),
    Attack("pivot_root", 155, 41, ["/tmp", "/tmp"], "EPERM", False),
    Attack("chroot", 161, 51, ["/tmp"], "EPERM", False),
    Attack("fsopen", 430, 430, ["tmpfs", 0], "EPERM", False),
    Attack("open_tree", 428, 428, [AT_FDCWD, "/", 1], "EPERM", False),
    Attack("statmount", 457, 457, [0, 0, 0, 0], "EPERM"),
    Attack("listmount", 458, 458, [0, 0, 0, 0], "EPERM"),
    Attack("unshare a user namespace", 272, 97, [NEWUSER], "EPERM"),
    Attack("unshare a network namespace", 272, 97, [NEWNET], "EPERM", False),
    Attack("clone into a user namespace", 56, 220, [NEWUSER | SIGCHLD, 0, 0, 0, 0], "EPERM"),
    Attack("clone, with rubbish in the upper half", 56, 220, [1 << 40 | NEWUSER | SIGCHLD, 0, 0, 0, 0], "EPERM"),
    Attack("clone3", 435, 435, [0, 0], "ENOSYS"),
    Attack("setns", 308, 268, [0, 0], "EPERM"),
    Attack("open_by_handle_at", 304, 265, [AT_FDCWD, 0, 0], "EPERM", since="6.11"),
    Attack("name_to_handle_at", 303, 264, [AT_FDCWD, "/", 0, 0, 0], "EPERM"),
    Attack("fanotify_init", 300, 262, [0, 0], "EPERM", False),
    # Other processes
    Attack("ptrace: be traced", 101, 117, [0, 0, 0, 0], "EPERM"),
    Attack("ptrace: trace init", 101, 117, [16, 1, 0, 0], "EPERM", False),
    Attack("process_vm_readv", 310, 270, [2, 0, 0, 0, 0, 0], "EPERM"),
    Attack("kcmp", 312, 272, [2, 2, 0, 0, 0], "EPERM", False),
    Attack("pidfd_getfd", 438, 438, [-1, 0, 0], "EPERM"),
    Attack("process_madvise", 440, 440, [-1, 0, 0, 0, 0], "EPERM"),
    # Devices, identities, privileges
    Attack("mknodat: a device", 259, 33, [AT_FDCWD, "/tmp/device", 0o20600, 0x101], "EPERM"),
    Attack("mknodat: a pipe", 259, 33, [AT_FDCWD, "/tmp/pipe", 0o10600, 0], "EPERM"),
    Attack("setuid", 105, 146, [0], "EPERM"),
    Attack("setgid", 106, 144, [0], "EPERM"),
    Attack("setresuid, to itself", 117, 147, [993, 993, 993], "EPERM"),
    Attack("setgroups", 116, 159, [0, 0], "EPERM", False),
    Attack("fchownat", 260, 54, [AT_FDCWD, "/tmp", 993, 990, 0], "EPERM"),
    Attack("setxattr", 188, 5, ["/tmp", "user.a", "x", 1, 0], "EOPNOTSUPP", since="6.6"),
    Attack("capset", 126, 91, [0, 0], "EPERM"),
    Attack("prctl: be dumpable", 157, 167, [4, 1], "EPERM"),
    Attack("prctl: ambient capabilities", 157, 167, [47, 2, 0, 0, 0], "EPERM", False),
    Attack("prctl: securebits", 157, 167, [28, 0], "EPERM", False),
    Attack("prctl: memory map", 157, 167, [35, 1, 0, 0, 0], "EPERM", False),
    Attack("prctl: seccomp", 157, 167, [22, 1, 0], "EPERM"),
    Attack("prctl: system call dispatch", 157, 167, [59, 0, 0, 0, 0], "EPERM"),
    Attack("seccomp", 317, 277, [0, 0, 0], "EPERM"),
    Attack("personality", 135, 92, [0x40000], "EPERM"),
    # Sockets
    Attack("socket: raw", 41, 198, [2, 3, 1], "EPROTONOSUPPORT"),
    Attack("socket: ICMP", 41, 198, [2, 2, 1], "EPROTONOSUPPORT"),
    Attack("socket: Multipath TCP", 41, 198, [2, 1, 262], "EPROTONOSUPPORT"),
    Attack("socket: packets", 41, 198, [17, 3, 0], "EAFNOSUPPORT"),
    Attack("socket: netlink", 41, 198, [16, 3, 0], "EAFNOSUPPORT"),
    Attack("socket: vsock", 41, 198, [40, 1, 0], "EAFNOSUPPORT", False),
    Attack("socket: crypto", 41, 198, [38, 5, 0], "EAFNOSUPPORT", False),
    Attack("socketpair: internet", 53, 199, [2, 1, 0, 0], "EAFNOSUPPORT"),
    Attack("sendto: out of band", 44, 206, [0, 0, 0, 1, 0, 0], "EOPNOTSUPP"),
    # The kernel's large and young parts
    Attack("bpf", 321, 280, [99, 0, 0], "EPERM"),
    Attack("perf_event_open", 298, 241, [0, 0, -1, -1, 0], "EPERM"),
    Attack("userfaultfd", 323, 282, [1], "EPERM"),
    Attack("io_uring_setup", 425, 425, [1, 0], "EPERM"),
    Attack("io_setup", 206, 0, [1, 0], "EPERM"),
    Attack("memfd_secret", 447, 447, [0], "EPERM"),
    Attack("memfd_create: huge pages", 319, 279, ["x", 4], "EINVAL"),
    Attack("splice", 275, 76, [0, 0, 1, 0, 1, 0], "EINVAL", False),
    Attack("vmsplice", 278, 75, [1, 0, 0, 0], "EINVAL"),
    Attack("remap_file_pages", 216, 234, [0, 0, 0, 0, 0], "EPERM"),
    Attack("mlockall", 151, 230, [4], "EPERM"),
    # What outlives its maker, or waits on others
    Attack("keyctl", 250, 219, [0, -3, 1], "EPERM"),
    Attack("add_key", 248, 217, [0, 0, 0, 0, 0], "EPERM"),
    Attack("request_key", 249, 218, [0, 0, 0, 0], "EPERM"),
    Attack("mq_open", 240, 180, ["x", 0o102, 0o600, 0], "EPERM"),
    Attack("shmget", 29, 194, [0, 4096, 0o1600], "EPERM"),
    Attack("msgget", 68, 186, [0, 0o1600], "EPERM"),
    Attack("semget", 64, 190, [0, 1, 0o1600], "EPERM"),
    Attack("fcntl: a lease", 72, 25, [0, 1024, 0], "EPERM"),
    Attack("fcntl: a watch", 72, 25, [0, 1026, 0], "EPERM"),
    # Terminals
    Attack("ioctl: type into a terminal", 16, 29, [0, 0x5412, 0], "ENOTTY", False),
    Attack("ioctl: the same, with rubbish in the upper half", 16, 29, [0, 1 << 40 | 0x5412, 0], "ENOTTY", False),
    # The host
    Attack("sethostname", 170, 161, ["x", 1], "EPERM", False),
    Attack("syslog", 103, 116, [10, 0, 0], "EPERM", False),
    Attack("reboot", 169, 142, [0, 0, 0, 0], "EPERM", False),
    Attack("swapon", 167, 224, ["/tmp/none", 0], "EPERM", False),
    Attack("init_module", 175, 105, [0, 0, 0], "EPERM", False),
    Attack("clock_settime", 227, 112, [0, 0], "EPERM"),
    Attack("adjtimex", 159, 171, [0], "EPERM"),
    Attack("sched_setscheduler", 144, 119, [0, 3, 0], "EPERM"),
    Attack("sync", 162, 81, [], "EPERM"),
    Attack("readahead", 187, 213, [0, 0, 0], "EPERM"),
    Attack("ioprio_set", 251, 30, [1, 0, 0], "EPERM"),
    # What nobody has invented, or had when the list was made
    Attack("number 9999", 9999, 9999, [], "ENOSYS", False),
    Attack("open_tree_attr", 467, 467, [-1, 0, 0, 0, 0], "ENOSYS", since="6.15"),
    Attack("file_getattr", 468, 468, [-1, 0, 0, 0, 0], "ENOSYS", since="6.17"),
    Attack("file_setattr", 469, 469, [-1, 0, 0, 0, 0], "ENOSYS", since="6.17"),
    *(Attack(f"number {number}", number, number, [], "ENOSYS", False) for number in range(470, 476)),
]
SWITCHED = [attack for attack in ATTACKS if attack.switch]


def by_name(attacks):
    return pytest.mark.parametrize("attack", attacks, ids=lambda attack: attack.name)


def event(attack):
    return [getattr(attack, platform.machine()), attack.arguments]


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "app.py").write_text(CALL)
    return folder


@pytest.fixture(scope="module")
def confined(code, host):
    """Make a system call in an environment: 0, its errno, or the negative number of the signal that it ended with."""
    with coldframe.Function("app.handler", code, host=host, memory_mb=1769) as fn:
        yield fn


@pytest.fixture(scope="module")
def unfiltered(code):
    """Do the same in an environment that lacks the filter, and nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLDFRAME_PRETEND", "-seccomp")
        host = coldframe.Host()
    with host, coldframe.Function("app.handler", code, host=host, memory_mb=1769, isolation="available") as fn:
        assert fn.isolation["seccomp"].startswith("missing")
        assert fn.isolation["landlock"].startswith("version")
        yield fn


@by_name(ATTACKS)
def test_the_filter_refuses(confined, attack):
    assert errno.errorcode[confined(event(attack))] == errno.errorcode[getattr(errno, attack.answer)]


@pytest.mark.parametrize(
    "attack",
    [pytest.param(attack, id=attack.name, marks=pytest.mark.needs(f"kernel:{attack.since}")) for attack in SWITCHED],
)
def test_without_the_filter_the_answer_is_another(unfiltered, attack):
    assert unfiltered(event(attack)) != getattr(errno, attack.answer)


# What had no effect inside has one outside: the tables above attack something.
OUTSIDE = [
    "mount",
    "umount2",
    "chroot",
    "fsopen",
    "open_tree",
    "unshare a network namespace",
    "fanotify_init",
    "mknodat: a device",
    "setgroups",
    "sethostname",
    "syslog",
    "userfaultfd",
    "socket: raw",
    "socket: packets",
    "socket: netlink",
]


@pytest.mark.needs("root")
@by_name([attack for attack in ATTACKS if attack.name in OUTSIDE])
def test_what_is_refused_works_outside(attack, tmp_path):
    arguments = [str(tmp_path / "device") if value == "/tmp/device" else value for value in attack.arguments]
    program = CALL + (
        f"if libc.unshare({0x0402_0000}) or libc.mount(None, b'/', None, {1 << 18 | 16384}, None):  # mounts and name\n"
        "    raise SystemExit('the attack was not made')\n"
        f"raise SystemExit(call({getattr(attack, platform.machine())}, {arguments}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_namespace_within_is_refused_by_a_second_wall(unfiltered):
    attack = next(attack for attack in ATTACKS if attack.name == "unshare a user namespace")
    assert errno.errorcode[unfiltered(event(attack))] == "ENOSPC"


def test_what_the_filter_is_for_works_without_it(unfiltered):
    for name in ("socket: netlink", "userfaultfd", "keyctl", "shmget", "prctl: be dumpable"):
        attack = next(attack for attack in ATTACKS if attack.name == name)
        assert unfiltered(event(attack)) == 0, name


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 alone has other calling conventions")
class TestForeignConventions:
    def test_a_call_by_the_32_bit_convention_ends_the_process(self, confined, unfiltered):
        assert confined("foreign") == -signal.SIGSYS
        assert unfiltered("foreign") == 0

    def test_a_call_by_the_x32_convention_ends_the_process(self, confined, unfiltered):
        assert confined([0x4000_0000 + 39, []]) == -signal.SIGSYS
        assert unfiltered([0x4000_0000 + 39, []]) != -signal.SIGSYS

    def test_in_the_handler_it_ends_the_environment_and_the_next_one_works(self, confined):
        invocation = confined.invoke("foreign, in the handler itself")
        assert isinstance(invocation.error, coldframe.EnvironmentExit)
        assert invocation.error.error_type == "Runtime.ExitError"
        assert "bad system call" in invocation.error.error_message.lower()
        assert confined([9999, []]) == errno.ENOSYS


def test_threads_start_although_clone3_is_refused(make):
    fn = make("""
        import threading
        def handler(event, context):
            done = []
            threads = [threading.Thread(target=done.append, args=(index,)) for index in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sorted(done)
    """)
    assert fn() == list(range(10))


def test_the_host_is_as_it_was(confined):
    before = os.uname(), sorted(os.listdir("/")), os.getpriority(os.PRIO_PROCESS, 0)
    for attack in ATTACKS:
        confined(event(attack))
    assert (os.uname(), sorted(os.listdir("/")), os.getpriority(os.PRIO_PROCESS, 0)) == before


@pytest.mark.skipif(os.getuid() == 0, reason="root can have it")
def test_an_initialised_function_is_copied_for_root_alone(make):
    with pytest.raises(coldframe.HostCapabilityError, match=r"snapstart=True: .*root"):
        make("def handler(event, context):\n    return event\n", snapstart=True)
