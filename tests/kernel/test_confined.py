"""Inside the limits of a container or another sandbox: either it works, or it says exactly what is missing.

The limits are those that containers and sandboxes set: capabilities that were dropped, system calls that a filter
refuses, read-only or absent cgroups, a /proc that is partly covered, a user namespace around everything.
"""

import json
import shutil
import subprocess
import sys
import textwrap

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
CGROUPS = "$(grep -E ' cgroup2? ' /proc/mounts | cut -d' ' -f2)"


def filtered(*names):
    return [sys.executable, "-c", FILTERED, ",".join(names)]


def in_mounts_of_its_own(script, *options):
    return ["unshare", *(options or ["-m"]), "sh", "-c", f'{script} && exec "$0" "$@"']


@pytest.fixture
def confined(tmp_path, monkeypatch):
    """Run a program behind a command; return what it said."""
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return event\n")
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setenv("COLDFRAME_STATE_DIR", str(tmp_path / "state"))

    def confined(command, isolation="strict"):
        done = subprocess.run(
            [*command, sys.executable, "-c", PROGRAM, tmp_path, isolation],
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
    done = subprocess.run(
        [*command, sys.executable, "-m", "coldframe", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    facts = json.loads(done.stdout)
    facts = facts.get("protections", facts) if isinstance(facts, dict) else facts
    return done.returncode, {fact["protection"]: fact["remedy"] for fact in facts if not fact["in_force"]}
