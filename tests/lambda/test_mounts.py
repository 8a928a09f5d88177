"""Directories of the host under `/mnt`, in the place of EFS."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import living, state_directory, until

import coldframe
from coldframe import Host

EVALUATE = """
    import os
    def handler(event, context):
        answers = []
        for expression in [event] if isinstance(event, str) else event:
            try:
                answers.append(eval(expression))
            except OSError as error:
                answers.append(os.strerror(error.errno))
        return answers[0] if isinstance(event, str) else answers
"""
SOMEBODY = 64_322, 64_323
READ_ONLY, DENIED, NOT_PERMITTED, MISSING, UNMAPPED = (
    "Read-only file system",
    "Permission denied",
    "Operation not permitted",
    "No such file or directory",
    "Value too large for defined data type",
)
needs_root = pytest.mark.needs("root")


@pytest.fixture
def data():
    """A directory with a file in it, on a file system that keeps owners."""
    with tempfile.TemporaryDirectory(prefix="coldframe-data-", dir="/var/tmp") as name:
        Path(name, "file").write_text("sesame")
        yield Path(name)


def test_a_directory_can_be_read_and_not_written(make, data):
    fn = make(EVALUATE, mounts={"/mnt/data": data})
    assert fn("open('/mnt/data/file').read()") == "sesame"
    writes = ["open('/mnt/data/file', 'w')", "open('/mnt/data/new', 'w')", "os.unlink('/mnt/data/file')"]
    writes += ["os.chmod('/mnt/data/file', 0o777)", "os.utime('/mnt/data/file')", "os.mkdir('/mnt/data/new')"]
    assert fn(writes) == [READ_ONLY] * len(writes)
    (data / "later").write_text("seen at once")
    assert fn("open('/mnt/data/later').read()") == "seen at once"


def test_what_is_written_is_there_for_the_host_and_for_others(make, data):
    first, second = (make(EVALUATE, mounts={f"/mnt/{name}": (str(data), "rw")}) for name in "ab")
    assert first("open('/mnt/a/new', 'w').write('one')") == 3
    assert second("open('/mnt/b/new').read()") == "one"
    assert (data / "new").read_text() == "one"
    moves = ["os.mkdir('/mnt/a/d')", "os.rename('/mnt/a/new', '/mnt/a/d/x')", "os.link('/mnt/a/d/x', '/mnt/a/y')"]
    moves += ["os.symlink('d/x', '/mnt/a/z')", "os.truncate('/mnt/a/z', 1)", "os.unlink('/mnt/a/y')"]
    assert first(moves) == [None] * 6
    assert (data / "d/x").read_text() == "o"
    assert second("os.access('/mnt/a', os.F_OK)") is False


def test_programs_and_libraries_run_from_it(make, data):
    program = data / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")})
    assert fn("__import__('subprocess').check_output('/mnt/data/program', text=True)") == "ran\n"
    hard = make(EVALUATE, mounts={"/mnt/data": (data, "rw")}, hardening=coldframe.Hardening(noexec_tmp=True))
    assert hard("__import__('subprocess').check_output('/mnt/data/program', text=True)") == DENIED


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_written_files_belong_to_the_owner_of_the_directory(make, data, mode):
    os.chown(data, *SOMEBODY)
    os.chown(data / "file", *SOMEBODY)
    (data / "file").chmod(0o600)
    data.chmod(mode)
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")}, reuse=False)
    for number in range(3):  # each time by another host user
        assert fn("open('/mnt/data/file').read()") == "sesame"
        assert fn([f"open('/mnt/data/new{number}', 'w').write('x')", f"os.mkdir('/mnt/data/d{number}')"]) == [1, None]
        assert fn(f"(lambda s: (s.st_uid, s.st_gid))(os.stat('/mnt/data/new{number}'))") == [993, 990]
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in data.iterdir()}
    assert owners == {SOMEBODY}


@needs_root
def test_what_belongs_to_others_there_is_as_closed_as_ever(make, data):
    os.chown(data, *SOMEBODY)
    (data / "closed").write_text("x")
    (data / "closed").chmod(0o600)
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")})
    attempts = ["open('/mnt/data/closed').read()", "open('/mnt/data/file', 'a')", "os.chmod('/mnt/data/closed', 0o777)"]
    assert fn(["open('/mnt/data/file').read()", *attempts]) == ["sesame", DENIED, DENIED, UNMAPPED]


def test_nothing_there_makes_anybody_another(make, data):
    program = data / "program"
    program.write_bytes(Path("/bin/sh").read_bytes())
    program.chmod(0o4755)
    run = "__import__('subprocess').check_output(['/mnt/data/program', '-p', '-c', 'echo $EUID; id -u'], text=True)"
    for how in (data, (data, "rw")):
        fn = make(EVALUATE, mounts={"/mnt/data": how})
        assert fn(run).split()[-1] == "993"
        (line,) = fn("[line for line in open('/proc/self/mountinfo') if ' /mnt/data ' in line]")
        assert {"nosuid", "nodev"} <= set(line.split()[5].split(","))
        assert "shared" not in line
        assert "master" not in line


def test_no_program_that_makes_others_its_owner_is_left_there(make, data):
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")})
    attempts = ["os.chmod('/mnt/data/file', 0o4755)", "os.chmod('/mnt/data/file', 0o2755)"]
    attempts += [
        "os.open('/mnt/data/new', os.O_CREAT | os.O_WRONLY, 0o4755)",
        "os.fchmod(os.open('/mnt/data', 0), 0o2777)",
    ]
    attempts += ["os.open('/mnt/data', os.O_TMPFILE | os.O_RDWR, 0o6755)"]
    assert fn(attempts) == [NOT_PERMITTED] * len(attempts)
    assert fn("os.chmod('/mnt/data/file', 0o755), os.close(os.open('/mnt/data/made', os.O_CREAT, 0o755))") == [None] * 2
    assert not [path for path in data.iterdir() if path.stat().st_mode & 0o6000]
    assert stat.S_IMODE((data / "made").stat().st_mode) == 0o755


def test_links_lead_nowhere_but_inside(make, data, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    (data / "absolute").symlink_to(secret)
    (data / "etc").symlink_to("/etc")
    (data / "up").symlink_to(os.path.relpath(secret, data))
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")})
    assert fn([f"open('/mnt/data/{name}').read()" for name in ("absolute", "up", "etc/shadow")]) == [MISSING] * 3
    assert "sbx_user1051" in fn("open('/mnt/data/etc/passwd').read()"), "the environment's own"
    writes = [
        "open('/mnt/data/etc/passwd', 'a')",
        "open('/mnt/data/etc/new', 'w')",
        "os.rename('/etc', '/mnt/data/etc2')",
    ]
    assert all(isinstance(answer, str) for answer in fn(writes))
    assert fn("sorted(os.listdir('/mnt/data/..'))") == ["data"], "no way up"


def test_a_name_that_lies_above_is_not_reached_by_a_descriptor(make, data):
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")})
    here = "os.open('/mnt/data', os.O_RDONLY)"
    assert fn(f"os.listdir(os.open('../..', os.O_RDONLY, dir_fd={here}))") == fn("os.listdir('/')")


def test_nobody_else_has_it(make, data):
    with_it, without_it = make(EVALUATE, mounts={"/mnt/data": data}), make(EVALUATE)
    for _ in range(2):
        assert with_it("os.listdir('/mnt')") == ["data"]
        assert without_it("os.listdir('/mnt')") == []
        assert str(data) not in without_it("open('/proc/self/mountinfo').read()")
    assert with_it("sorted(os.listdir('/proc/self/fd'))[:4]") == without_it("sorted(os.listdir('/proc/self/fd'))[:4]")


def test_the_place_itself_stays_as_it_is(make, data):
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")})
    attempts = ["os.mkdir('/mnt/other')", "os.rmdir('/mnt/data')", "os.rename('/mnt/data', '/mnt/x')"]
    assert all(isinstance(answer, str) for answer in fn(attempts))
    assert fn("os.listdir('/mnt')") == ["data"]


def test_many_may_write_at_once(make, data):
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")}, reuse=False)
    append = "(lambda fd: os.write(fd, b'x' * 100))(os.open('/mnt/data/log', os.O_CREAT | os.O_APPEND | os.O_WRONLY))"
    assert [inv.unwrap() for inv in fn.map([append] * 24)] == [100] * 24
    assert (data / "log").stat().st_size == 2400


def test_what_lies_below_it_is_shown_when_it_appears_and_gone_when_it_goes(make, data):
    fn = make(EVALUATE, mounts={"/mnt/data": data})
    assert fn("os.path.exists('/mnt/data/later')") is False
    (data / "later").mkdir()
    assert fn("os.path.exists('/mnt/data/later')") is True


def test_one_file_is_bounded_as_everywhere(make, data):
    fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")}, memory_mb=64, tmp_mb=32)
    signals = "__import__('signal').signal(__import__('signal').SIGXFSZ, __import__('signal').SIG_IGN)"
    grow = "os.posix_fallocate(os.open('/mnt/data/big', os.O_CREAT | os.O_WRONLY), 0, {})"
    assert fn([signals, grow.format(64 << 20), grow.format((64 << 20) + 1)])[1:] == [None, "File too large"]


def test_an_environment_that_is_kept_goes_on_with_it(make, data):
    with Host() as host:
        fn = make(EVALUATE, mounts={"/mnt/data": (data, "rw")}, host=host)
        for number in range(3):
            assert fn(f"open('/mnt/data/n', 'w').write('{'x' * number}')") == number
        living(host)


def test_a_link_in_the_path_is_followed_when_the_function_is_made_and_not_later(make, data, tmp_path):
    link, other = tmp_path / "link", tmp_path / "other"
    other.mkdir()
    link.symlink_to(data)
    fn = make(EVALUATE, mounts={"/mnt/data": link}, reuse=False)
    link.unlink()
    link.symlink_to(other)
    assert fn("os.listdir('/mnt/data')") == ["file"]
    moved = data.with_name(f"{data.name}-moved")
    data.rename(moved)
    try:
        data.symlink_to("/etc")
        with pytest.raises(coldframe.ColdframeError, match="symbolic link"):
            fn("os.listdir('/mnt/data')")
    finally:
        data.unlink()
        moved.rename(data)
    assert fn("os.listdir('/mnt/data')") == ["file"]


def test_a_directory_that_is_gone_is_a_clear_error_and_one_that_is_back_is_well(make, data):
    (data / "sub").mkdir()
    fn = make(EVALUATE, mounts={"/mnt/sub": data / "sub"}, reuse=False)
    assert fn("os.listdir('/mnt/sub')") == []
    (data / "sub").rmdir()
    with pytest.raises(coldframe.ConfigurationError, match="cannot be mounted any more"):
        fn("1")
    (data / "sub").mkdir()
    assert fn("os.listdir('/mnt/sub')") == []


@pytest.mark.parametrize(
    ("mounts", "why"),
    [
        ({"/mnt/x": "/nowhere/at/all"}, "make the directory first"),
        ({"/mnt/x": __file__}, "is no directory"),
        ({"/mnt/x": "/proc"}, r"is the host kernel's \(proc\)|holds /proc"),
        ({"/mnt/x": "/proc/self/task"}, r"is the host kernel's \(proc\)"),
        ({"/mnt/x": "/sys/kernel"}, "the host kernel's"),
        ({"/mnt/x": "/dev"}, "the host kernel's"),
        ({"/mnt/x": "/"}, "holds"),
        ({f"/mnt/{number}": "/var/tmp" for number in range(9)}, "a function may have 8"),
        ({"/mnt/" + "x" * 160: "/var/tmp"}, "at most 160 characters"),
    ],
)
def test_what_cannot_be_mounted_is_refused_when_the_function_is_made(make, mounts, why):
    with pytest.raises(coldframe.ConfigurationError, match=why):
        make(EVALUATE, mounts=mounts)


def test_where_functions_are_kept_is_not_shown(make):
    make(EVALUATE)
    for place in (state_directory(), state_directory() / "owners", state_directory().parent):
        with pytest.raises(coldframe.ConfigurationError, match=r"where coldframe keeps|the host kernel's"):
            make(EVALUATE, mounts={"/mnt/x": place})


@needs_root
def test_a_file_system_that_cannot_show_other_owners_is_named(data, tmp_path):
    """In a mount namespace of its own: an overlay, which no kernel so far maps, and what everybody may read there."""
    (tmp_path / "app.py").write_text("import os\ndef handler(event, context):\n    return os.listdir(event)\n")
    script = f"""
import coldframe, os
place = {str(data)!r}
for mode in (0o755, 0o700):
    os.chmod(place, mode)
    for how in (place, (place, "rw")):
        try:
            with coldframe.Function("app.handler", {str(tmp_path)!r}, mounts={{"/mnt/data": how}}) as fn:
                print(fn("/mnt/data"))
        except coldframe.HostCapabilityError as error:
            print(error)
"""
    over = tmp_path / "work"
    over.mkdir()
    mount = (
        f"mount -t tmpfs none {over} && mkdir {over}/upper {over}/work && mount -t overlay overlay -o "
        f'lowerdir={data},upperdir={over}/upper,workdir={over}/work {data} && exec "$@"'
    )
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[0] == "['file']", done
    assert "chmod -R a+rX" in lines[2]
    for refused in lines[1:]:
        assert "(overlay)" in refused
        assert "idmapped" in refused
    assert len(lines) == 4


def test_an_environment_in_the_middle_of_writing_ends_with_its_deadline(make, data):
    fn = make(
        "def handler(event, context):\n    with open('/mnt/data/endless', 'wb', 0) as file:\n        while True:\n"
        "            file.write(b'x')\n",
        mounts={"/mnt/data": (data, "rw")},
        timeout_s=0.3,
    )
    assert fn.invoke().error.error_type == "Sandbox.Timedout"
    size = (data / "endless").stat().st_size
    assert not until(lambda: (data / "endless").stat().st_size != size, within_s=0.2), "nobody goes on"
