"""Every place in a version 2 tree where a caller may find itself; for a machine of its own (see machine.py).

The tests make cgroups at the root of the tree, and run a small program in them that says what it got.
"""

import json
import os
import subprocess
import sys
import textwrap
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ordinary
import pytest
from conftest import own_cgroups, until

TREE = Path("/sys/fs/cgroup")
ALL = {"cgroup.cpu", "cgroup.memory", "cgroup.pids", "cgroup.freeze"}
HANDLER = """
def handler(event, context):
    return [event, open("/proc/self/cgroup").read()]
"""
# Says what "strict" gives, or why it is refused and what "available" gives then.
PROGRAM = """
import json, os, pathlib, sys
import coldframe
code, options = sys.argv[1], json.loads(sys.argv[2])
def look(isolation):
    with coldframe.Host(**options) as host:
        with coldframe.Function("app.handler", code, host=host, memory_mb=64, timeout_s=60, isolation=isolation) as fn:
            (_, inside), second = fn(1), fn.invoke(2)
            (environment,) = host.environments()
            unified = environment.cgroups.get("unified")
            files = {}
            for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cgroup.freeze"):
                path = pathlib.Path(unified or "/nowhere", name)
                files[name] = path.read_text().strip() if path.exists() else None
            return dict(isolation=dict(fn.isolation), inside=inside, start=second.report.start, state=environment.state,
                        unified=unified, files=files, own=pathlib.Path("/proc/self/cgroup").read_text().strip())
try:
    said = dict(refused=None, **look("strict"))
except coldframe.HostCapabilityError as error:
    said = dict(refused=str(error), **look("available"))
print(json.dumps(said))
"""


@pytest.fixture(autouse=True)
def controllers():
    """See that the root of the tree gives its controllers to its children, as systemd has it."""
    assert own_cgroups() == [TREE], "these tests run at the root of a version 2 tree"
    ordinary.offer(TREE)


@pytest.fixture(scope="module")
def place():
    with ordinary.place() as place:
        (place / "code").mkdir()
        (place / "code/app.py").write_text(textwrap.dedent(HANDLER))
        yield place


@pytest.fixture
def group():
    """Make a cgroup at the root of the tree, or below another; all are removed at the end."""
    made = []

    def group(name, below=TREE, user=None):
        path = below / name
        path.mkdir()
        made.append(path)
        if user:
            for file in (path, path / "cgroup.procs", path / "cgroup.subtree_control", path / "cgroup.threads"):
                os.chown(file, user, user)
        return path

    yield group
    for path in reversed(made):
        for folder in sorted((folder for folder in path.rglob("*") if folder.is_dir()), reverse=True):
            # Nothing but the leaf may have stayed: whatever was an environment's is gone.
            assert folder.name == "coldframe-caller", folder
            until(lambda folder=folder: not folder.joinpath("cgroup.procs").read_text())
            folder.rmdir()
        until(lambda path=path: not path.joinpath("cgroup.procs").read_text())
        path.rmdir()


@pytest.fixture
def look(place):
    """Run the program in a cgroup, as root or as the ordinary user; return what it said."""

    def look(group=TREE, *, user=0, wrapped=(), pretend="", **options):
        python = ordinary.interpreter() if user else sys.executable
        arguments = [python, "-c", PROGRAM, place / "code", json.dumps(options)]
        done = subprocess.run(
            ordinary.command([*wrapped, *arguments], [group], user=user),
            cwd="/",
            env=ordinary.variables(place, COLDFRAME_PRETEND=pretend),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return look


@contextmanager
def others(group, count=2, user=0):
    """Have other processes in a cgroup."""
    with ExitStack() as running:
        for _ in range(count):
            sleeper = subprocess.Popen(ordinary.command(["/bin/sleep", "600"], [group], user=user))
            running.enter_context(sleeper)
            running.callback(sleeper.kill)
            # It has joined once it is no Python any more.
            assert until(lambda pid=sleeper.pid: "sleep" in Path(f"/proc/{pid}/comm").read_text(), 30)
        yield


def missing(said):
    return {name for name, what in said["isolation"].items() if what.startswith("missing")}


def contained(said, group):
    """Assert that everything is in force, and that the environment lived below `group`."""
    assert said["refused"] is None
    assert missing(said) == set()
    assert Path(said["unified"]).relative_to(group).parts[0].startswith("coldframe-")
    assert (said["start"], said["state"]) == ("warm", "frozen")
    assert said["inside"] == "0::/\n"
    assert said["files"] == {
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "1024",
        "cgroup.freeze": "1",
    }


def test_root_at_the_root_of_the_tree(look):
    said = look()
    contained(said, TREE)
    assert said["own"] == "0::/", "processes may stay beside cgroups there"
    assert said["isolation"]["cgroup.memory"] == "unified layout"


def test_root_in_a_cgroup_of_its_own_moves_to_a_leaf_where_the_next_one_can_start(look, group):
    own = group("own")
    said = look(own)
    contained(said, own)
    assert said["own"] == "0::/own/coldframe-caller"
    contained(look(own / "coldframe-caller"), own)


def test_beside_others_limits_are_refused_and_nobody_is_moved(look, group):
    crowded = group("crowded")
    with others(crowded):
        said = look(crowded)
        assert f"{crowded} holds other processes (2)" in said["refused"]
        assert "systemd-run --scope -p Delegate=yes" in said["refused"]
        assert 'Host(cgroup="take")' in said["refused"]
        assert missing(said) == {"cgroup.cpu", "cgroup.memory", "cgroup.pids"}
        assert said["state"] == "frozen", "which needs no controller"
        assert len(crowded.joinpath("cgroup.procs").read_text().split()) == 2


def test_others_are_moved_aside_when_the_caller_says_so(look, group):
    taken = group("taken")
    with others(taken):
        contained(look(taken, cgroup="take"), taken)
        assert taken.joinpath("cgroup.procs").read_text() == ""
        assert len((taken / "coldframe-caller/cgroup.procs").read_text().split()) == 2


# As in a container: a cgroup namespace, in which the own cgroup is called / and is no root.
CONTAINER = ["/usr/bin/unshare", "-C", "-m", "/bin/sh", "-c"]
MOUNT = f"umount {TREE} && mount -t cgroup2 cgroup2 {TREE} && "
EXEC = 'exec "$0" "$@"'


def test_in_a_cgroup_namespace_of_its_own(look, group):
    said = look(group("container"), wrapped=[*CONTAINER, MOUNT + EXEC])
    contained(said, TREE)
    assert said["own"] == "0::/coldframe-caller"


def test_in_a_cgroup_namespace_with_others(look, group):
    container = group("container")
    with others(container):
        said = look(container, wrapped=[*CONTAINER, MOUNT + EXEC])
        assert "holds other processes (2)" in said["refused"]
        contained(look(container, wrapped=[*CONTAINER, MOUNT + EXEC], cgroup="take"), TREE)


def test_in_a_pid_namespace_those_outside_cannot_be_moved(look, group):
    container = group("container")
    with others(container, 1):
        inside = ["/usr/bin/unshare", "-C", "-m", "-p", "-f", "--mount-proc", "/bin/sh", "-c", MOUNT + EXEC]
        said = look(container, wrapped=inside, cgroup="take")
        assert "holds other processes" in said["refused"]
        assert missing(said) == {"cgroup.cpu", "cgroup.memory", "cgroup.pids"}


def test_a_tree_that_is_mounted_read_only(look, group):
    said = look(group("container"), wrapped=[*CONTAINER, f"mount -o remount,ro,bind {TREE} && {EXEC}"])
    assert "cannot be written by this user" in said["refused"]
    assert "--cgroupns=private and a writable /sys/fs/cgroup" in said["refused"]
    assert missing(said) == ALL
    assert said["start"] == "warm"


def test_no_tree_at_all(look, group):
    said = look(group("container"), wrapped=[*CONTAINER, f"umount {TREE} && {EXEC}"])
    assert "no cgroup hierarchy with the memory controller is mounted" in said["refused"]
    assert missing(said) == ALL
    assert said["start"] == "warm"


def test_a_user_with_a_delegated_cgroup(look, group):
    own = group("user", user=ordinary.UID)
    said = look(own, user=ordinary.UID)
    contained(said, own)
    assert said["own"] == "0::/user/coldframe-caller"
    contained(look(own / "coldframe-caller", user=ordinary.UID), own)


def test_a_user_takes_its_own_cgroup(look, group):
    own = group("user", user=ordinary.UID)
    with others(own, user=ordinary.UID):
        assert 'Host(cgroup="take")' in look(own, user=ordinary.UID)["refused"]
        contained(look(own, user=ordinary.UID, cgroup="take"), own)


@pytest.mark.parametrize("owned", ["nothing", "the directory alone"])
def test_a_user_without_a_delegated_cgroup_is_told_what_to_do(look, group, owned):
    own = group("user")
    if owned != "nothing":
        os.chown(own, ordinary.UID, ordinary.UID)
    said = look(own, user=ordinary.UID)
    assert f"{own} cannot be written by this user" in said["refused"]
    assert "systemd-run --user --scope -p Delegate=yes <command>" in said["refused"]
    assert missing(said) == ALL
    assert said["start"] == "warm"


def test_a_controller_that_the_cgroup_above_keeps(look, group):
    above = group("above")
    above.joinpath("cgroup.subtree_control").write_text("+memory +pids")
    own = group("user", below=above, user=ordinary.UID)
    said = look(own, user=ordinary.UID)
    assert f"{own} does not offer the cpu controller" in said["refused"]
    assert "cgroup.subtree_control of the cgroup above has to name it" in said["refused"]
    assert missing(said) == {"cgroup.cpu"}
    assert said["files"]["memory.max"] == str(64 << 20)


def test_without_version_2_there_is_nothing_here(look):
    said = look(pretend="-cgroup2")
    assert "COLDFRAME_PRETEND says so" in said["refused"]
    assert missing(said) == ALL
    assert said["start"] == "warm"
