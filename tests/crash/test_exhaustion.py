"""What the host has is used up: descriptors, processes, the disk. Each attempt works, or says what is missing.

Each test runs a program that lets itself have a little more at every step, until there is enough: `attempt` makes a
host, a function and an environment from nothing, beside a host with a warm environment that has all it needs.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import cgroups_of, descendants, directories_of, own_cgroups, until

DEADLINE_S = 5
"""Within which every attempt has ended, with a result or an error."""
OK = "ok"

PROGRAM = """
    import ctypes, gc, json, os, resource, sys, time
    from pathlib import Path
    import coldframe

    CODE, PLACE = sys.argv[1:]

    def attempt():
        with coldframe.Host() as host, coldframe.Function("app.handler", CODE, host=host) as fn:
            assert fn(1) == 1

    def outcome(work):
        try:
            work()
        except coldframe.ColdframeError as error:
            return f"{type(error).__name__}: {error}"
        return "ok"

    def steps(limit, free, own):
        "Attempt with `limit(step)` in force, until three in a row have worked."
        attempt()
        host = coldframe.Host()
        warm = coldframe.Function("app.handler", CODE, host=host)
        warm(0)
        host._native.park_at_most(0, 0)
        host._native.wait_for_stock(5)
        told, at = [], 0
        while not (len(told) > 3 and all(each["attempt"] == "ok" for each in told[-3:])) and at < 100:
            before = own()
            limit(at)
            began = time.monotonic()
            each = {"step": at, "attempt": outcome(attempt), "took_s": time.monotonic() - began}
            each["warm"] = outcome(lambda: warm(2))
            free()
            gc.collect()
            until = time.monotonic() + 2
            # A thread that was told to end does so in its own time.
            while (left := own() - before) > 0 and time.monotonic() < until:
                time.sleep(0.005)
            each["left"] = left
            told.append(each)
            at += 1
        attempt()
        assert warm(3) == 3
        host.close()
        print(json.dumps(told))

    def here():
        return len(os.listdir("/proc/self/fd"))
"""

DESCRIPTORS = """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = []
    def limit(at):
        first[:] = first or [here()]
        resource.setrlimit(resource.RLIMIT_NOFILE, (first[0] + 2 * at, hard))
    steps(limit, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)), here)
"""
PROCESSES = """
    group = Path(PLACE)
    (group / "cgroup.procs").write_text(str(os.getpid()))
    def limit(at):
        (group / "pids.max").write_text(str(int((group / "pids.current").read_text()) + at))
    steps(limit, lambda: (group / "pids.max").write_text("max"), here)
    (group.parent / "cgroup.procs").write_text(str(os.getpid()))
"""
DISK = """
    NEWNS, PRIVATE = 0x20000, 0x44000
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(NEWNS) == 0
    assert libc.mount(b"none", b"/", None, PRIVATE, None) == 0
    assert libc.mount(b"tmpfs", PLACE.encode(), b"tmpfs", 0, b"size=256k,nr_inodes=64,mode=700") == 0
    os.environ["COLDFRAME_STATE_DIR"] = PLACE + "/coldframe"
    Path(CODE, "data").write_bytes(b"x" * 12_000)
    filled = Path(PLACE, "filled")
    filled.mkdir()

    def bytes_free(at):
        free = os.statvfs(PLACE)
        # A page for the directory entry that is about to be made.
        (filled / "bytes").write_bytes(b"x" * max(0, free.f_bfree * free.f_frsize - at * 4096))
    def files_free(at):
        for number in range(os.statvfs(PLACE).f_ffree - at):
            (filled / str(number)).touch()
    def free():
        for path in filled.iterdir():
            path.unlink()
    def used():
        now = os.statvfs(PLACE)
        return now.f_files - now.f_ffree + now.f_blocks - now.f_bfree
    steps({"bytes": bytes_free, "files": files_free}[KIND], free, used)
"""


def run(tmp_path, program, place):
    """Run a program that tells of its attempts, and return what it tells."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("def handler(event, context):\n    return event\n")
    text = textwrap.dedent(PROGRAM) + textwrap.dedent(program)
    with subprocess.Popen(
        [sys.executable, "-c", text, str(tmp_path / "code"), str(place)], stdout=subprocess.PIPE, text=True
    ) as process:
        out, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    assert until(lambda: not cgroups_of(process.pid) and not directories_of(process.pid))
    assert not descendants(process.pid)
    return json.loads(out)


def check(told, reason):
    """Nothing waited, nothing was left, and every attempt that did not work says why in the kernel's words."""
    failed = [each["attempt"] for each in told if each["attempt"] != OK]
    assert failed, "it was used up"
    assert [each for each in failed if reason not in each] == []
    assert [each["attempt"] for each in told[-3:]] == [OK] * 3, "with enough it works"
    assert {each["warm"] for each in told} == {OK}, "what is warm needs nothing more"
    assert max(each["took_s"] for each in told) < DEADLINE_S
    # What the warm host does in the background may come to less.
    assert max(each["left"] for each in told) == 0
    return failed


def test_descriptors_used_up(tmp_path):
    failed = check(run(tmp_path, DESCRIPTORS, tmp_path), "Too many open files")
    assert any(each.startswith("ThrottledError") and "ulimit -n" in each for each in failed)


@pytest.mark.needs("root", "cgroup.pids")
def test_processes_used_up(tmp_path):
    top = next(path for path in own_cgroups() if (path / "pids.max").exists() or "pids" in path.parts)
    group = top / f"coldframe-test-{os.getpid()}"
    group.mkdir()
    try:
        failed = check(run(tmp_path, PROCESSES, group), "Resource temporarily unavailable")
    finally:
        assert until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    assert any("thread" in each for each in failed), "the host's own threads"
    assert any(each.startswith("ThrottledError") and "ulimit" in each for each in failed)


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", ["bytes", "files"])
def test_the_disk_is_full(tmp_path, kind):
    place = tmp_path / "disk"
    place.mkdir()
    failed = check(run(tmp_path, f"\n    KIND = {kind!r}" + DISK, place), "No space left on device")
    assert [each for each in failed if "COLDFRAME_STATE_DIR" not in each and str(place) not in each] == []


def test_a_function_that_could_not_be_read_is_not_half_known(tmp_path):
    """The list of installed packages is read once: an attempt without descriptors must not stand for all later ones."""
    site = Path(tmp_path, "site")
    site.mkdir()
    (site / "more.pth").write_text(f"{tmp_path}\n")
    program = """
        import resource, sys
        from coldframe import _probe
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = open("/dev/null").fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            list(_probe._pth_lines(sys.argv[1]))
        except OSError as error:
            print(error.strerror)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(site / "more.pth")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "Too many open files\n"


# Once, and for a moment: what comes after it is as before.

NOTHING_LEFT = """
    import contextlib, threading

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    @contextlib.contextmanager
    def no_descriptor():
        "Also of those that others give back meanwhile."
        taken, none, over = [], threading.Event(), threading.Event()
        def take():
            while not over.is_set():
                try:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    none.set()
                    over.wait(0.0005)
        thread = threading.Thread(target=take)
        thread.start()
        none.wait()
        yield
        over.set()
        thread.join()
        for each in taken:
            os.close(each)

    def wait(condition):
        deadline = time.monotonic() + 5
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.005)

    def functions(host, count, source="", **options):
        Path(CODE, "other.py").write_text(source + "\\ndef handler(event, context):\\n    return event\\n")
        make = lambda number: coldframe.Function("other.handler", CODE, name=f"f{number}", host=host, **options)
        return [make(number) for number in range(count)]
"""
HALF_MADE = """
    host = coldframe.Host()
    (fn,) = functions(host, 1, reuse=False)
    host._native.park_at_most(0, 0)
    fn(1), fn(1)
    wait(lambda: not host.environments())
    with no_descriptor():
        refused = [outcome(lambda: fn(1)) for _ in range(20)]
    print(json.dumps({"refused": refused, "after": outcome(lambda: fn(1)), "close": outcome(host.close)}))
"""
UNCOUNTED = """
    host = coldframe.Host(max_memory_mb=60)
    fns = functions(host, 8, "held = bytes(1) * 10_000_000")
    with no_descriptor():
        outcome(lambda: fns[0](1))
    print(json.dumps({"answers": [outcome(lambda: fn(1)) for fn in fns], "alive": len(host.environments())}))
    host.close()
"""
UNFROZEN = """
    host = coldframe.Host(freeze_after_ms=400)
    host._native.park_at_most(0, 0)
    fns = functions(host, 12)
    for fn in fns * 2:
        fn(1)
    assert "frozen" not in {each.state for each in host.environments()}
    with no_descriptor():
        wait(lambda: len(host.environments()) < 12)
    wait(lambda: all(each.state == "frozen" for each in host.environments()))
    print(json.dumps({"states": [each.state for each in host.environments()], "after": [fn(1) for fn in fns]}))
    host.close()
"""


def test_of_a_cgroup_that_could_not_be_made_whole_nothing_stays(tmp_path):
    told = run(tmp_path, NOTHING_LEFT + HALF_MADE, tmp_path)
    assert [refusal for refusal in told["refused"] if "Too many open files" in refusal]
    assert (told["after"], told["close"]) == (OK, OK)


def test_the_hosts_memory_is_counted_after_it_as_before(tmp_path):
    told = run(tmp_path, NOTHING_LEFT + UNCOUNTED, tmp_path)
    assert set(told["answers"]) == {OK}
    assert told["alive"] < 8, "of eight that hold 10 MB each, with 60 MB for all"


def test_what_could_not_be_frozen_ends(tmp_path):
    told = run(tmp_path, NOTHING_LEFT + UNFROZEN, tmp_path)
    assert set(told["states"]) == {"frozen"}
    assert len(told["states"]) < 12
    assert told["after"] == [1] * 12
