"""O33 to O35: who a handler is, what it may do, and what it cannot become. The witness is the kernel, from outside."""

import errno
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import descendants, living, parent, parks, pids_of

import coldframe

from .syscalls import CALL, calls, outside

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
LIMITS = {
    "Max core file size": "1",  # which also stops what core_pattern pipes to a program
    "Max file size": str(512 << 20),
    "Max locked memory": str(64 << 10),
    "Max msgqueue size": "0",
    "Max nice priority": "0",
    "Max open files": "1024",
    "Max pending signals": "1024",
    "Max processes": "1026",
    "Max realtime priority": "0",
    "Max stack size": str(8 << 20),
}
THREADS = """
import threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
def handler(event, context):
    return threading.active_count()
"""


def status(path):
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text(path, "status"))}


def text(path, name):
    return Path(path, name).read_text().splitlines()


def hard(path):
    """Return the limits that are looked at, as they can never be raised."""
    found = (re.fullmatch(r"(Max .+?) {2,}(\S+) +(\S+).*", line) for line in text(path, "limits"))
    return {line[1]: line[3] for line in found if line and line[1] in LIMITS}


def may(facts):
    """Return what of a record every thread has by itself."""
    return {
        "capabilities": {name for name in ("Inh", "Prm", "Eff", "Bnd", "Amb") if int(facts[f"Cap{name}"], 16)},
        "no new privileges": facts["NoNewPrivs"],
        "filtered": facts["Seccomp"],
    }


def record(pid):
    """Return what a process is and may, as the kernel tells it outside."""
    path = Path(f"/proc/{pid}")
    facts = status(path)
    found = {
        **may(facts),
        "one user": len({*facts["Uid"].split(), *facts["Gid"].split()}) == 1,
        "the caller's": facts["Uid"].split()[0] == str(os.getuid()),
        "groups": facts["Groups"].split(),
        "ids": [line.split()[0::2] for line in text(path, "uid_map") if len(line.split()) == 3],
        "umask": facts["Umask"],
        "limits": hard(path),
        # Of root even where the process is not: nobody else of its user looks into it.
        "inspected by root alone": os.stat(path / "environ").st_uid == 0,
    }
    try:
        same = {name for name in NAMESPACES if os.readlink(path / "ns" / name) == os.readlink(f"/proc/self/ns/{name}")}
    except PermissionError:  # an ordinary user, who may not look at that either
        same = None
    return {**found, "the host's namespaces": same}


def expected():
    """Return the record of each kind of process."""
    # As root they have changed users on their way. Where they have not, others of the caller's user, who are trusted as
    # the caller is, may look into what has run no code of a function.
    root, own = os.getuid() == 0, hard("/proc/self")
    none = {"capabilities": set(), "no new privileges": "1"}
    everybody = {
        **none,
        "one user": True,
        "the caller's": not root,
        "groups": [] if root else status("/proc/self")["Groups"].split(),
        "umask": "0022",
        "inspected by root alone": True,
    }
    environment = {**everybody, "ids": [["993", "1"]]}
    # They start what is ours and nothing else, with the limits of the caller.
    trusted = {**everybody, "filtered": "0", "the host's namespaces": {"cgroup", "user"} if root else {"cgroup"}}
    zygote = {**trusted, "ids": [["0", str((1 << 32) - 1)]] if root else [[str(os.getuid()), "1"]]}
    return {
        "handler": {**environment, "filtered": "2", "limits": LIMITS, "the host's namespaces": set()},
        "init": {
            **environment,
            "filtered": "2",
            "limits": own | {"Max core file size": "1"},
            "the host's namespaces": {"cgroup"},
        },
        # It has run no code of anybody's, and has all of its own user namespace to become a function's.
        "parked": {
            **environment,
            "inspected by root alone": root,
            "capabilities": {"Prm", "Eff"},
            "filtered": "0",
            "limits": LIMITS | {name: own[name] for name in ("Max file size", "Max processes")},
            "the host's namespaces": set(),
        },
        "zygote": {**zygote, "inspected by root alone": False, "limits": own | {"Max core file size": "1"}},
        "zygote's init": {**zygote, "inspected by root alone": root, "limits": own},
    }


def processes(fn):
    """Return the processes of a function's one environment, and of what is parked beside it."""
    init = living(fn.host)[0].pid
    top = parent(init)
    (handler,) = descendants(init)
    (zygote,) = [pid for pid in descendants(top) if parent(pid) == top and pids_of(pid)[-1] == "3"]
    parked_init, parked = next(iter(parks(fn.host).items()))
    return {
        "handler": handler,
        "init": init,
        "parked": parked,
        "parked one's init": parked_init,
        "zygote": zygote,
        "zygote's init": top,
    }


@pytest.mark.bank("O33")
def test_every_process_is_and_may_what_it_has_to(make, without):
    fn = make(THREADS, host=without())
    assert fn() == 4
    records = {kind: record(pid) for kind, pid in processes(fn).items()}
    wanted = expected()
    wanted["parked one's init"] = wanted["init"]
    for kind, found in records.items():
        if found["the host's namespaces"] is None:
            del found["the host's namespaces"], wanted[kind]["the host's namespaces"]
        assert found == wanted[kind], kind


@pytest.mark.bank("O33")
def test_every_thread_of_a_handler_and_all_that_it_starts_are_as_confined(make, without):
    fn = make(
        THREADS.replace("return", "global child; child = subprocess.Popen(['sleep', '100']); return")
        + "\nimport subprocess",
        host=without(),
    )
    assert fn() == 4
    init = living(fn.host)[0].pid
    inside = descendants(init)
    threads = [path for pid in inside for path in Path(f"/proc/{pid}/task").iterdir()]
    assert (len(inside), len(threads)) == (2, 5)
    confined = {name: expected()["handler"][name] for name in ("capabilities", "no new privileges", "filtered")}
    assert [may(status(path)) for path in threads] == [confined] * len(threads)


CHANGES = {
    ("seccomp",): {"filtered"},
    ("capabilities",): {"capabilities"},
    ("rlimits",): {"limits"},
    ("cgroup-namespace",): {"the host's namespaces"},
    ("no-new-privileges", "seccomp", "landlock"): {"no new privileges", "filtered"},
    # As root it has changed users after the last execution, and the kernel does the same for that.
    ("undumpable",): set() if os.getuid() == 0 else {"inspected by root alone"},
}


@pytest.mark.bank("O33", twin=True)
@pytest.mark.parametrize("walls", CHANGES, ids="+".join)
def test_without_a_wall_its_own_line_is_another(make, without, walls):
    fn = make(THREADS, host=without(*walls), isolation="available")
    assert fn() == 4
    (handler,) = descendants(living(fn.host)[0].pid)
    found, wanted = record(handler), expected()["handler"]
    changed = {name for name, value in wanted.items() if found[name] not in (value, None)}
    if found["the host's namespaces"] is None and "cgroup-namespace" in walls:
        pytest.skip("an ordinary user may not look at the namespaces of what cannot be inspected")
    assert changed == CHANGES[walls]


INSIDE = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def handler(event, context):
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.syscall(*event, header, data) == 0
    return [sum(data), hex(libc.prctl(27)), libc.prctl(3)]
"""


@pytest.mark.bank("O33")
def test_the_handler_finds_itself_without_capabilities_and_with_its_bits_locked(attack):
    event = [number for _, number, _ in calls({"capget": (125, 90, [])})]
    assert attack(INSIDE, event).unwrap() == [0, "0xef", 0]


@pytest.mark.bank("O33", twin=True)
def test_without_the_wall_it_finds_them(attack, without):
    event = [number for _, number, _ in calls({"capget": (125, 90, [])})]
    capabilities, bits, _ = attack(INSIDE, event, host=without("capabilities")).unwrap()
    assert (capabilities > 0, bits) == (True, "0x0")


# Set-user-id programs

WHO = """
import os, subprocess
def handler(event, context):
    said = subprocess.run(event, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return [said.stdout.strip(), said.returncode]
"""
PLANT = """
import os, shutil, subprocess
def handler(event, context):
    shutil.copy("/usr/bin/id", "/tmp/id")
    os.chmod("/tmp/id", 0o6755)
    return subprocess.run(["/tmp/id", "-u"], capture_output=True, text=True).stdout.strip()
"""


@pytest.fixture
def set_uid():
    """Return a folder that everybody reaches, with a program `id` that is root's and set-user-id, and a handler."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        program = Path(place, "id")
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o6755)
        Path(place, "app.py").write_text(WHO)
        yield place


@pytest.mark.bank("O34")
@pytest.mark.needs("root")
def test_a_set_user_id_program_changes_nothing(unchanged, without, set_uid):
    with coldframe.Function("app.handler", set_uid, timeout_s=30, host=without()) as fn:
        assert fn(["/var/task/id", "-u"]) == ["993", 0]
        assert fn(["/var/task/id", "-g"]) == ["990", 0]


@pytest.mark.bank("O34")
def test_nor_do_those_that_it_plants_or_finds(attack):
    assert attack(PLANT).unwrap() == "993"
    assert attack(WHO, ["/usr/bin/su", "-c", "id -u"]).unwrap()[0] != "0"


@pytest.mark.bank("O34", twin=True)
@pytest.mark.needs("root")
def test_outside_it_makes_anybody_root(set_uid):
    command = [f"{set_uid}/id", "-u"]
    nobody = subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, check=True)
    assert nobody.stdout == b"0\n"


# Other users, and files with powers

XATTR = "\x01\0\0\x02" + "\xff\xff\xff\xff" + "\0" * 12  # security.capability, version 2: everything permitted
BECOME = {
    "setuid": (105, 146, [0]),
    "setuid, to itself": (105, 146, [993]),
    "setgid": (106, 144, [0]),
    "setresuid": (117, 147, [0, 0, 0]),
    "setgroups": (116, 159, [1, "\0\0\0\0"]),
    "capset": (126, 91, ["\x22\x05\x08\x20\0\0\0\0", "\xff" * 24]),
    "setxattr": (188, 5, ["/tmp/program", "security.capability", XATTR, 20, 0]),
    "setxattr, of users": (188, 5, ["/tmp/program", "user.a", "x", 1, 0]),
}
# The answer of a file system that has none of them: what copies files takes it for no failure.
NONE = errno.errorcode[errno.EOPNOTSUPP]
REFUSED = {name: NONE if "xattr" in name else "EPERM" for name in BECOME}
TOUCH = "open('/tmp/program', 'w').close()\n" + CALL


@pytest.mark.bank("O35")
def test_nobody_becomes_somebody_else(attack):
    assert attack(TOUCH, calls(BECOME)).unwrap() == REFUSED


@pytest.mark.bank("O35", twin=True)
def test_without_the_filter_the_user_namespace_still_knows_nobody_else(attack, without):
    answers = attack(TOUCH, calls(BECOME), host=without("seccomp")).unwrap()
    assert answers["setuid, to itself"] == "done"
    assert {answers[name] for name in ("setuid", "setgid", "setresuid")} == {"EINVAL"}, "there is no such user"
    assert {answers[name] for name in ("setgroups", "capset", "setxattr")} == {"EPERM"}


@pytest.mark.bank("O35", twin=True)
@pytest.mark.needs("root")
def test_root_of_the_host_becomes_whoever_it_likes(tmp_path):
    program = tmp_path / "program"
    program.touch()
    table = {name: BECOME[name] for name in ("setuid", "setgid", "setresuid", "setgroups", "setxattr")}
    event = [
        [name, number, [str(program) if value == "/tmp/program" else value for value in values]]
        for name, number, values in calls(table)
    ]
    assert outside(event) == dict.fromkeys(table, "done")
