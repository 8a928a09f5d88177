"""An ordinary user: with cgroups that were delegated to it, and without."""

import errno
import json
import os
import subprocess
import textwrap
from pathlib import Path

import ordinary
import pytest
from conftest import descendants, until
from ordinary import UID

pytestmark = [
    pytest.mark.needs("root"),  # to be able to become somebody else
    pytest.mark.timeout(120),
]

HANDLER = """
    import os
    count = 0
    def handler(event, context):
        global count
        count += 1
        if event == "spin":
            while True:
                pass
        if event == "eat":
            return len(bytes([1]) * (400 << 20))
        if event == "exit":
            os._exit(3)
        if isinstance(event, str):
            return repr(eval(event))
        return [event, count]
"""
# What the ordinary user's program begins with.
PROLOGUE = """
import json, os, pathlib, subprocess, sys, time
import coldframe
from concurrent.futures import CancelledError
def status(pid):
    return dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
def said(**what):
    print(json.dumps(what))
"""


@pytest.fixture(scope="module")
def place():
    """A folder that everybody can reach: a copy of the package, a handler, and the user's home."""
    if not ordinary.interpreter():
        pytest.skip("no Python 3.11 or newer can be run by another user")
    with ordinary.place() as place:
        (place / "code").mkdir()
        (place / "code/app.py").write_text(textwrap.dedent(HANDLER))
        yield place


@pytest.fixture
def delegated():
    """Cgroups below our own, one in every hierarchy, that belong to the user."""
    with ordinary.delegated() as groups:
        yield groups


@pytest.fixture
def run(place):
    """Run a program as the ordinary user, in the given cgroups; return what it said."""

    def run(program, groups=(), **variables):
        done = subprocess.run(
            ordinary.command([ordinary.interpreter(), "-c", PROLOGUE + textwrap.dedent(program)], groups),
            cwd="/",
            env=ordinary.variables(place, **variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_with_delegated_cgroups_everything_is_in_force(run, delegated, place):
    said = run(
        f"""
        with coldframe.Host() as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host)
            first, second = fn.invoke(1), fn.invoke(2)
            (environment,) = host.environments()
            said(isolation=dict(fn.isolation), results=[first.payload, second.payload],
                 starts=[first.report.start, second.report.start], state=environment.state,
                 cgroups=environment.cgroups, cpu=first.report.cpu_ms, memory=first.report.max_memory_mb)
        """,
        delegated,
    )
    assert said["results"] == [[1, 1], [2, 2]]
    assert said["starts"] == ["cold", "warm"]
    assert said["state"] == "frozen"
    assert not [what for what in said["isolation"].values() if what.startswith("missing")]
    assert said["memory"] >= 1
    for path in said["cgroups"].values():
        assert any(Path(path).is_relative_to(group) for group in delegated)
    assert until(lambda: not [path for group in delegated for path in group.glob("coldframe-[0-9]*")])


def test_the_posture_is_that_of_root_but_for_the_user(run, delegated, place):
    said = run(
        f"""
        with coldframe.Host() as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host)
            inside = {{name: fn(text) for name, text in dict(
                ids="(os.getuid(), os.getgid(), os.getpid(), os.getppid(), os.getgroups())",
                status="open('/proc/self/status').read()",
                cgroup="open('/proc/self/cgroup').read()",
                mounts="open('/proc/self/mountinfo').read()",
                fds="sorted(os.listdir('/proc/self/fd'))",
                root="sorted(os.listdir('/'))",
                proc="sorted(os.listdir('/proc'))",
            ).items()}}
            (environment,) = host.environments()
            pid = environment.pid
            namespaces = {{name: [os.readlink(f"/proc/{{who}}/ns/{{name}}") for who in ("self", pid)]
                          for name in ("pid", "mnt", "net", "ipc", "uts", "cgroup", "user")
                          if os.access(f"/proc/{{pid}}/ns", os.R_OK)}}
            said(inside=inside, namespaces=namespaces, uid_map=pathlib.Path(f"/proc/{{pid}}/uid_map").read_text(),
                 status=status(pid))
        """,
        delegated,
    )
    inside = {name: eval(text) for name, text in said["inside"].items()}
    assert inside["ids"] == (993, 990, 2, 1, [])
    seen = dict(line.split(":", 1) for line in inside["status"].splitlines())
    assert {int(seen[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (seen["Seccomp"].strip(), seen["NoNewPrivs"].strip()) == ("2", "1")
    assert {line.split(":", 2)[2] for line in inside["cgroup"].splitlines()} == {"/"}
    assert inside["fds"] == ["0", "1", "2", "3", "4"]
    assert not {"home", "sys", "run", "boot"} & set(inside["root"])
    assert set(inside["proc"]) <= {"1", "2", "self", "thread-self"}
    for line in inside["mounts"].splitlines():
        assert line.partition(" - ")[0].split()[6:] == [], "it propagates"
    assert all(here != there for here, there in said["namespaces"].values())
    assert said["uid_map"].split()[0] == "993"
    assert said["uid_map"].split()[2] == "1"
    assert said["status"]["Uid"].split() == [str(UID)] * 4


def test_refusals_are_those_of_root(run, delegated, place):
    attacks = {
        "open('/x', 'w')": "EROFS",
        "open('/var/task/app.py', 'r+')": "EROFS",
        "open('/var/task/x', 'w')": "EROFS",
        "open('/etc/passwd', 'r+')": "EROFS",
        "os.chmod('/.store', 0o700)": "EROFS",
        "os.listdir('/.store')": "EACCES",
        "os.listdir('/sys')": "ENOENT",
        f"os.listdir({str(place / 'home')!r})": "ENOENT",
        "os.setuid(0)": "EPERM",
        f"os.kill({os.getpid()}, 0)": "ESRCH",
        "os.mknod('/tmp/d', 0o20600, 0x101)": "EPERM",
        "__import__('socket').socket(16, 3)": "EAFNOSUPPORT",
        "__import__('socket').create_connection(('8.8.8.8', 53))": "ENETUNREACH",
    }
    said = run(
        f"""
        import errno
        with coldframe.Host() as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host)
            numbers = {{}}
            for attack in {list(attacks)!r}:
                error = fn.invoke(attack).error
                numbers[attack] = error and error.error_message
            said(numbers=numbers)
        """,
        delegated,
    )
    wanted = {attack: f"[Errno {getattr(errno, name)}]" for attack, name in attacks.items()}
    assert {attack: (text or "").partition("]")[0] + "]" for attack, text in said["numbers"].items()} == wanted


def test_limits_hold(run, delegated, place):
    said = run(
        f"""
        with coldframe.Host() as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host, timeout_s=1, memory_mb=256)
            fn(0)
            begun = time.monotonic()
            errors = [type(fn.invoke("spin", timeout_s=0.2).error).__name__]
            took = time.monotonic() - begun
            errors += [type(fn.invoke(event, timeout_s=10).error).__name__ for event in ("eat", "exit")]
            future = fn.submit("spin", timeout_s=60)
            while not [one for one in host.environments() if one.state == "busy"]:
                time.sleep(0.005)
            errors.append(str(future.cancel()))
            said(errors=errors, took=took, then=fn(5))
        """,
        delegated,
    )
    assert said["errors"] == ["InvocationTimeout", "OutOfMemoryError", "EnvironmentExit", "True"]
    assert 0.2 <= said["took"] < 0.5
    assert said["then"][0] == 5


def test_many_live_side_by_side_and_leave_nothing(run, delegated, place):
    said = run(
        f"""
        def descriptors():
            return len(os.listdir("/proc/self/fd"))
        before = descriptors()
        with coldframe.Host(max_concurrency=8) as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host, reuse=False)
            payloads = [one.payload for one in fn.map(range(60))]
        del fn, host
        children = pathlib.Path(f"/proc/self/task/{{os.getpid()}}/children").read_text()
        owners = [str(path) for path in pathlib.Path.home().glob(".cache/coldframe/owners/*")]
        said(payloads=payloads, descriptors=descriptors() - before, children=children, owners=owners)
        """,
        delegated,
    )
    assert said["payloads"] == [[number, 1] for number in range(60)]
    assert (said["descriptors"], said["children"], said["owners"]) == (0, "", [])


def test_a_killed_owner_is_collected_by_the_next(run, delegated, place):
    def processes():
        return [pid for pid in descendants() if Path(f"/proc/{pid}").stat().st_uid == UID]

    said = run(
        f"""
        program = (
            "import coldframe, os, signal\\n"
            "fn = coldframe.Function('app.handler', '{place}/code')\\n"
            "fn(1)\\n"
            "os.kill(os.getpid(), signal.SIGKILL)\\n"
        )
        done = subprocess.run([sys.executable, "-c", program], check=False)
        owners = pathlib.Path.home() / ".cache/coldframe/owners"
        left = len(list(owners.iterdir()))
        coldframe.Host().close()
        said(status=done.returncode, left=left, then=len(list(owners.iterdir())))
        """,
        delegated,
    )
    assert said == {"status": -9, "left": 1, "then": 0}
    assert until(lambda: not processes())


def test_the_state_of_a_user_is_its_own(run, delegated, place):
    said = run(
        f"""
        with coldframe.Host() as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host)
            fn(1)
            state = pathlib.Path.home() / ".cache/coldframe"
            said(mode=oct((state / "owners").stat().st_mode & 0o777), owners=len(list((state / "owners").iterdir())))
        """,
        delegated,
    )
    assert said == {"mode": "0o700", "owners": 1}


def test_without_cgroups_strict_is_refused_with_a_remedy(run, place):
    said = run(
        f"""
        try:
            coldframe.Function("app.handler", {str(place / "code")!r})
        except coldframe.HostCapabilityError as error:
            said(message=str(error), is_os_error=isinstance(error, OSError))
        """
    )
    assert said["is_os_error"]
    for name in ("cgroup.memory", "cgroup.cpu", "cgroup.pids"):
        assert name in said["message"]
    assert "systemd-run" in said["message"] or f"chown -R {UID}" in said["message"]
    assert 'isolation="available"' in said["message"]


def test_without_cgroups_what_is_available_works_and_says_what_is_missing(run, place):
    said = run(
        f"""
        with coldframe.Host() as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host, isolation="available",
                                    timeout_s=1)
            payloads = [fn(1), fn(2)]
            error = fn.invoke("spin", timeout_s=0.2).error
            said(isolation=dict(fn.isolation), payloads=payloads, error=type(error).__name__, then=fn(3)[0],
                 seccomp=fn("open('/proc/self/status').read()"))
        """
    )
    assert said["payloads"] == [[1, 1], [2, 2]]
    assert said["error"] == "InvocationTimeout"
    assert said["then"] == 3
    missing = {name for name, what in said["isolation"].items() if what.startswith("missing")}
    assert missing == {"cgroup.memory", "cgroup.cpu", "cgroup.pids", "cgroup.freeze"}
    assert "Seccomp:\\t2" in said["seccomp"]


def test_own_directories_can_be_mounted_and_others_read(run, delegated, place, tmp_path):
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[: len(tmp_path.parents) - 2]:
        above.chmod(above.stat().st_mode | 0o055)
    (tmp_path / "file").write_text("of root")
    said = run(
        f"""
        own = pathlib.Path(os.environ["HOME"], "data")
        own.mkdir()
        mounts = {{"/mnt/own": (own, "rw"), "/mnt/others": {str(tmp_path)!r}}}
        with coldframe.Host() as host:
            fn = coldframe.Function("app.handler", {str(place / "code")!r}, host=host, mounts=mounts)
            answers = [fn("open('/mnt/own/new', 'w').write('x')"), fn("open('/mnt/others/file').read()"),
                       fn("os.stat('/mnt/own/new').st_uid"), fn("oct(os.statvfs('/mnt/others').f_flag & 7)")]
            try:
                coldframe.Function("app.handler", {str(place / "code")!r}, host=host,
                                   mounts={{"/mnt/others": ({str(tmp_path)!r}, "rw")}})
            except coldframe.HostCapabilityError as error:
                refused = str(error)
        said(answers=answers, owner=own.joinpath("new").stat().st_uid, refused=refused)
        """,
        delegated,
    )
    assert said["answers"] == ["1", "'of root'", "993", "'0o7'"]  # read-only, without set-uid and devices
    assert said["owner"] == UID
    assert "belongs to user 0" in said["refused"]


@pytest.mark.parametrize("with_groups", [True, False])
def test_doctor_says_the_same(place, delegated, with_groups):
    groups = delegated if with_groups else ()
    done = subprocess.run(
        ordinary.command([ordinary.interpreter(), "-m", "coldframe", "doctor", "--json"], groups),
        cwd="/",
        env=ordinary.variables(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if with_groups else 1), done.stderr
    text = done.stdout
    assert json.loads(text)
    assert ("chown" in text or "systemd-run" in text) != with_groups
