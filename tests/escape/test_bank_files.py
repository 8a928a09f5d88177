"""Files, mounts and namespaces: O01 to O03, O08 to O10."""

import os
from pathlib import Path

import pytest

import coldframe

from .attacks import EVALUATE, MOUNTS_OF_ITS_OWN, plainly

# O01, O02, O03: what is there, and what can be written


@pytest.mark.bank("O01")
def test_files_of_the_host_are_absent(attack, canary):
    paths = ["/etc/shadow", "/etc/machine-id", "/root/.bashrc", "/home", str(canary)]
    ways = ["", "/proc/self/root", "/proc/self/cwd/../..", "/var/task/../..", "/proc/self/fd/0/.."]
    table = {f"open({way + path!r})": "ENOENT" for way in ways[:-1] for path in paths}
    table[f"open('/proc/self/fd/0/../..{canary}')"] = "ENOTDIR"
    assert attack(EVALUATE, list(table)).payload == table


@pytest.mark.bank("O01", twin=True)
def test_without_the_allow_list_files_of_the_host_are_read(attack, without):
    invocation = attack(EVALUATE, "open('/etc/passwd').read()", host=without("root"))
    assert invocation.payload == Path("/etc/passwd").read_text()


@pytest.mark.bank("O02")
def test_nothing_can_be_written_but_scratch(attack, granted):
    folders = ["/", "/usr", "/etc", "/dev", "/var", "/var/task", "/var/runtime", "/opt", str(granted)]
    table = {f"open({folder + '/x'!r}, 'w')": "EROFS" for folder in folders}
    files = ["/var/task/app.py", "/etc/passwd", "/bin/sh", os.__file__, str(granted / "canary")]
    table |= {f"os.utime({path!r})": "EROFS" for path in files}
    table |= {f"os.chmod({path!r}, 0o666)": "EROFS" for path in [*folders, *files]}
    table |= {f"os.open({path!r}, os.O_WRONLY | os.O_TRUNC)": "EROFS" for path in (files[0], files[-1])}
    table |= {
        "os.unlink('/var/task/app.py')": "EROFS",
        "os.rename('/var/task/app.py', '/var/task/b.py')": "EROFS",
        "os.symlink('/tmp', '/var/x')": "EROFS",
        "os.mkdir('/opt/x')": "EROFS",
        f"open({str(granted / 'canary')!r}, 'r+')": "EROFS",
    }
    assert attack(EVALUATE, list(table)).payload == table
    assert (granted / "canary").read_text() == "sesame"


@pytest.mark.bank("O02")
@pytest.mark.needs("landlock")
def test_landlock_is_a_second_wall_behind_read_only_mounts(attack, without, granted):
    write = f"open({str(granted / 'canary')!r}, 'r+')"
    assert attack(EVALUATE, write, host=without("read-only")).payload == "EACCES"


@pytest.mark.bank("O02", twin=True)
def test_without_both_walls_the_hosts_file_is_written(attack, without, granted):
    write = f"open({str(granted / 'canary')!r}, 'r+').write('broken')"
    assert attack(EVALUATE, write, host=without("read-only", "landlock")).payload == len("broken")
    assert (granted / "canary").read_text() == "broken"


LIBRARY = "next(path for path in glob.glob('/lib*/libm.so.6') + glob.glob('/lib/*/libm.so.6'))"
SCRATCH = {
    "open('/tmp/x', 'w').write('written')": 7,
    "open('/tmp/x').read()": "written",
    f"shutil.copy({LIBRARY}, '/tmp/library')": "/tmp/library",
    "ctypes.CDLL('/tmp/library') and '/tmp/library' in open('/proc/self/maps').read()": True,
    "shutil.copy('/bin/true', '/tmp/true')": "/tmp/true",
    "subprocess.run(['/tmp/true']).returncode": 0,
}


@pytest.mark.bank("O03")
def test_scratch_is_written_and_code_in_it_is_run(attack):
    assert attack(EVALUATE, list(SCRATCH)).payload == SCRATCH


@pytest.mark.bank("O03", twin=True)
def test_with_noexec_tmp_code_in_scratch_is_not_run(attack):
    answers = attack(EVALUATE, list(SCRATCH), hardening=coldframe.Hardening(noexec_tmp=True)).payload
    assert answers["open('/tmp/x').read()"] == "written"
    assert "failed to map" in answers[next(text for text in SCRATCH if "CDLL" in text)]
    assert answers["subprocess.run(['/tmp/true']).returncode"] == "EACCES"


# O08, O09, O10: mounts and namespaces

MOUNT = {
    "call('mount', b'tmpfs', b'/tmp', b'tmpfs', 0, None)": "EPERM",
    "call('mount', None, b'/var/task', None, 32 | 4096, None)": "EPERM",
    "call('umount2', b'/proc', 2)": "EPERM",
    "call('umount2', b'/var/task', 2)": "EPERM",
    "call('chroot', b'/tmp')": "EPERM",
    "call('pivot_root', b'/tmp', b'/tmp')": "EPERM",
}


@pytest.mark.bank("O08")
def test_mounts_cannot_be_changed(attack):
    assert attack(EVALUATE, list(MOUNT)).payload == MOUNT


@pytest.mark.bank("O08", twin=True)
@pytest.mark.needs("root")
def test_outside_mounts_can_be_changed():
    table = {
        "call('mount', b'tmpfs', b'/tmp', b'tmpfs', 0, None)": 0,
        "os.listdir('/tmp')": [],
        "call('umount2', b'/tmp', 2)": 0,
        "call('chroot', b'/usr')": 0,
    }
    assert plainly(list(table), prologue=MOUNTS_OF_ITS_OWN) == table


UNSHARE = {f"in_a_child(\"call('unshare', {flag:#x})\")": "EPERM" for flag in (0x1000_0000, 0x4000_0000, 0x0002_0000)}


@pytest.mark.bank("O09")
def test_there_are_no_namespaces_within(attack, without):
    assert attack(EVALUATE, list(UNSHARE)).payload == UNSHARE
    # A second wall behind the filter: there is no room for any.
    of_users = next(iter(UNSHARE))
    assert attack(EVALUATE, of_users, host=without("seccomp")).payload == "ENOSPC"


@pytest.mark.bank("O09", twin=True)
def test_without_both_walls_there_are_namespaces_within(attack, without):
    assert attack(EVALUATE, next(iter(UNSHARE)), host=without("seccomp", "user-limits")).payload == 0


SETNS = {
    "call('setns', os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)": "ENOENT",
    "call('setns', os.open('/proc/self/ns/mnt', os.O_RDONLY), 0)": "EPERM",
    "call('setns', os.open('/proc/self/ns/user', os.O_RDONLY), 0)": "EPERM",
    "call('setns', os.pidfd_open(os.getpid()), 0x20000000)": "EPERM",
}


@pytest.mark.bank("O10")
def test_no_namespace_is_entered(attack):
    assert attack(EVALUATE, list(SETNS)).payload == SETNS


@pytest.mark.bank("O10", twin=True)
@pytest.mark.needs("root")
def test_outside_a_namespace_is_entered():
    attempt = f"call('setns', os.open('/proc/{os.getpid()}/ns/mnt', os.O_RDONLY), 0)"
    assert plainly(attempt, prologue=MOUNTS_OF_ITS_OWN) == 0
