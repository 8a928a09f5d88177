"""Inside the limits of a container or another sandbox: either it works, or it says exactly what is missing.

The limits are those that containers and sandboxes set: capabilities that were dropped, system calls that a filter
refuses, read-only or absent cgroups, a /proc that is partly covered, a user namespace around everything.
"""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import coldframe
code, isolation = sys.argv[1:]
try:
    with coldframe.Host() as host, coldframe.Function("app.handler", code, host=host, isolation=isolation) as fn:
        missing = [name for name, what in fn.isolation.items() if what.startswith("missing")]
        print(json.dumps({"answer": fn("well"), "missing": missing}))
except coldframe.HostCapabilityError as error:
    print(json.dumps({"refused": str(error)}))
"""
# Becomes a process for which system calls end in an errno, as a container's default profile has it, and then a program.
FILTERED = """
import ctypes, os, platform, struct, sys
numbers = {"x86_64": dict(unshare=272, mount=165, umount2=166, pivot_root=155, clone=56, clone3=435, setns=308),
           "aarch64": dict(unshare=97, mount=40, umount2=39, pivot_root=41, clone=220, clone3=435, setns=268)}
numbers = numbers[platform.machine()]
names, program = sys.argv[1].split(","), sys.argv[2:]
EPERM, ENOSYS, NAMESPACES = 1, 38, 0x7E02_0000
code = [(0x20, 0, 0, 0)]  # the number
for name in names:
    answer = 0x0005_0000 | (ENOSYS if name == "clone3" else EPERM)
    if name == "clone":  # those that make a namespace
        code += [(0x15, 0, 4, numbers[name]), (0x20, 0, 0, 16), (0x45, 0, 1, NAMESPACES), (0x06, 0, 0, answer),
                 (0x20, 0, 0, 0)]
    else:
        code += [(0x15, 0, 1, numbers[name]), (0x06, 0, 0, answer)]
code.append((0x06, 0, 0, 0x7FFF_0000))
filter = b"".join(struct.pack("HBBI", *one) for one in code)
buffer = ctypes.create_string_buffer(filter)
class Prog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
prog = Prog(len(code), ctypes.addressof(buffer))
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, ctypes.byref(prog), 0, 0):
    raise OSError(ctypes.get_errno(), "no filter")
os.execv(program[0], program)
"""
LOOP = "for each in $(grep -E ' cgroup2? ' /proc/mounts | cut -d' ' -f2); do {} $each; done"
NEEDED = "+chown,+setgid,+setuid,+setpcap,+sys_admin,+setfcap,+dac_override"
"""Privileges of root; the last one is for cgroups whose owner may not write to them, such as those at the top."""
CGROUPS = {"cgroup.cpu", "cgroup.memory", "cgroup.pids", "cgroup.freeze"}


def in_mounts_of_its_own(script, *options):
    """Return the command that runs another one where a script has changed the mounts, for nobody else."""
    return ["unshare", *(options or ["-m"]), "sh", "-c", f'{script} && exec "$0" "$@"']


def filtered(*names):
    """Return the command that runs another one for which these system calls are refused."""
    return [sys.executable, "-c", FILTERED, ",".join(names)]


@pytest.fixture
def confined(tmp_path, monkeypatch):
    """Run a program behind a command; return what it said."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/app.py").write_text("def handler(event, context):\n    return event\n")
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setenv("COLDFRAME_STATE_DIR", str(tmp_path / "state"))

    def confined(command, isolation="strict"):
        done = subprocess.run(
            [*command, sys.executable, "-c", PROGRAM, tmp_path / "code", isolation],
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return confined


def doctor(command):
    """Return the exit code of `coldframe doctor` behind a command, and what it says of what is missing."""
    asked = [*command, sys.executable, "-m", "coldframe", "doctor", "--json"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=50)
    assert done.stderr == ""
    facts = json.loads(done.stdout)["protections"]
    return done.returncode, {fact["protection"]: fact for fact in facts if not fact["in_force"]}


USER_NAMESPACE = ["unshare", "--user", "--map-root-user"]
# What it is, and what the answer has to name. None of it can be waived: without namespaces nothing is isolated.
WITHOUT_NAMESPACES = {
    "no privilege to make them": (
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
        ["root lacks CAP_SYS_ADMIN", "run as an ordinary user"],
    ),
    "no privilege at all": (
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        ["root lacks CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_ADMIN, CAP_SETFCAP"],
    ),
    "not the privilege to be root in a user namespace": (
        ["setpriv", "--bounding-set=-setfcap", "--inh-caps=-setfcap"],
        ["root lacks CAP_SETFCAP"],
    ),
    "a container's filter": (
        filtered("unshare", "clone", "clone3", "setns", "mount", "umount2", "pivot_root"),
        ["allow unshare, mount and pivot_root in its profile"],
    ),
    "a filter without clone3": (filtered("clone3"), ["Function not implemented"]),
    "a filter that refuses mounts": (
        filtered("mount", "umount2", "pivot_root"),
        ["mounting a file system failed", "Operation not permitted", "allow unshare, mount and pivot_root"],
    ),
    "a container's filter for whoever has CAP_SYS_ADMIN": (
        filtered("pivot_root"),
        ["changing the root failed", "Operation not permitted", "allow unshare, mount and pivot_root in its profile"],
    ),
    "no user namespaces": (
        [*USER_NAMESPACE, "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'],
        ["No space left on device", "user.max_user_namespaces"],
    ),
    "a user namespace with a /proc that is partly covered": (
        in_mounts_of_its_own("mount --bind /dev/null /proc/keys", "--user", "--map-root-user", "--mount"),
        ["mounting a file system failed for proc at /proc", "leave /proc uncovered"],
    ),
    "another sandbox": (
        ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-user", "--unshare-pid"],
        ["mounting a file system failed for proc at /proc", "leave /proc uncovered"],
    ),
}


@pytest.mark.needs("root")
@pytest.mark.parametrize("limits", WITHOUT_NAMESPACES)
def test_without_namespaces_nothing_runs_and_the_reason_is_named(confined, limits):
    command, named = WITHOUT_NAMESPACES[limits]
    for isolation in ("strict", "available"):
        refused = confined(command, isolation)["refused"]
        assert "missing: namespaces (cannot be made: " in refused
        assert [words for words in named if words not in refused] == []
    code, missing = doctor(command)
    assert code == 1
    said = f"{missing['namespaces']['detail']}; {missing['namespaces']['remedy']}"
    assert [words for words in named if words not in said] == []


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("script", "named"),
    [
        (LOOP.format("mount -o remount,bind,ro"), "cannot be written by this user"),
        ("umount -R /sys/fs/cgroup", "no cgroup hierarchy with the memory controller is mounted"),
    ],
    ids=["read-only", "none"],
)
def test_without_cgroups_that_can_be_written(confined, script, named):
    command = in_mounts_of_its_own(script)
    refused = confined(command)["refused"]
    assert named in refused
    assert "--cgroupns=private and a writable /sys/fs/cgroup" in refused
    assert 'isolation="available"' in refused
    said = confined(command, "available")
    assert said["answer"] == "well"
    assert set(said["missing"]) == CGROUPS
    code, missing = doctor(command)
    assert (code, set(missing)) == (1, CGROUPS)


@pytest.mark.needs("root", *CGROUPS)
@pytest.mark.parametrize(
    "command",
    [
        ["setpriv", f"--bounding-set=-all,{NEEDED}", f"--inh-caps=-all,{NEEDED}"],
        in_mounts_of_its_own("mount --bind /dev/null /proc/keys && mount --bind -o ro /proc/sys /proc/sys"),
        ["setpriv", "--no-new-privs"],
        USER_NAMESPACE,
        [*USER_NAMESPACE, "--mount", "--pid", "--fork", "--mount-proc"],
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--net", "--ipc", "--uts"],
    ],
    ids=[
        "what root needs and no more",
        "a /proc that is partly covered",
        "no new privileges",
        "root of a user namespace",
        "and more",
        "namespaces",
    ],
)
def test_within_other_limits_all_of_it_works(confined, command):
    assert confined(command) == {"answer": "well", "missing": []}
    assert doctor(command) == (0, {})
