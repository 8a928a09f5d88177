"""The kernel's files: /proc, control groups, /sys, /dev and terminals: O18 to O21, O37."""

import os
from pathlib import Path

import pytest

import coldframe

from .attacks import EVALUATE

# O18: doors in /proc

SETTINGS = ["sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/vm/drop_caches", "sys/user/max_user_namespaces"]
OTHER_DOORS = ["sysrq-trigger", "kcore", "kmsg", "keys", "kallsyms", "net/tcp", "1/mem", "1/root", "self/../1/environ"]
DOORS = [f"os.open('/proc/{door}', os.{way})" for door in SETTINGS + OTHER_DOORS for way in ("O_RDONLY", "O_WRONLY")]


@pytest.mark.bank("O18")
def test_the_kernels_doors_are_not_there(attack):
    table = dict.fromkeys(DOORS, "ENOENT")
    assert attack(EVALUATE, list(table)).payload == table


@pytest.mark.bank("O18")
def test_a_masked_proc_has_none_that_open(attack):
    table = {
        "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)": "ENOENT",
        "os.listdir('/proc/sys')": [],
        "open('/proc/sysrq-trigger', 'w')": "EROFS",
        "open('/proc/kcore').read()": "",
        "open('/proc/keys').read()": "",
    }
    # What this kernel lacks is not there to be masked.
    absent = [name for name in ("sysrq-trigger", "kcore", "keys") if not Path("/proc", name).exists()]
    table |= {text: "ENOENT" for text in table for name in absent if f"/{name}'" in text}
    assert attack(EVALUATE, list(table), hardening=coldframe.Hardening(proc="masked")).payload == table


@pytest.mark.bank("O18", twin=True)
def test_a_plain_proc_tells_of_the_host(attack, without):
    answer = attack(EVALUATE, "open('/proc/sys/kernel/core_pattern').read()", host=without("proc")).payload
    assert answer == Path("/proc/sys/kernel/core_pattern").read_text()


# O19: names of the host and of others

CGROUP = "sorted({line.split(':', 2)[2] for line in open('/proc/self/cgroup').read().splitlines()})"
MOUNTS = "open('/proc/self/mountinfo').read()"


@pytest.mark.bank("O19")
def test_cgroups_and_mounts_name_nobody(attack, tmp_path):
    answers = attack(EVALUATE, [CGROUP, MOUNTS], name="customer-name").payload
    assert answers[CGROUP] == ["/"]
    assert "customer-name" not in answers[MOUNTS]
    assert str(tmp_path) not in answers[MOUNTS]


@pytest.mark.bank("O19", twin=True)
def test_without_a_cgroup_namespace_the_owner_is_named(attack, without):
    paths = attack(EVALUATE, CGROUP, host=without("cgroup-namespace")).payload
    assert [path for path in paths if f"coldframe-{os.getpid()}-" in path]


# O20, O21: /sys and /dev

SYS = ["/sys", "/sys/fs/cgroup", "/sys/kernel", "/sys/class/net"]


@pytest.mark.bank("O20")
def test_there_is_no_sys(attack):
    table = {f"os.listdir({path!r})": "ENOENT" for path in SYS}
    assert attack(EVALUATE, list(table)).payload == table


@pytest.mark.bank("O20", twin=True)
def test_without_the_allow_list_there_is(attack, without):
    assert "kernel" in attack(EVALUATE, "os.listdir('/sys')", host=without("root")).payload


LEAST = ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
OTHERS = ["kmsg", "mem", "port", "kvm", "fuse", "tty", "ptmx", "pts", "console", "vda", "loop-control", "net/tun"]


@pytest.mark.bank("O21")
def test_devices_are_the_least(attack):
    table = {"sorted(os.listdir('/dev'))": LEAST}
    table |= {f"os.open('/dev/{name}', os.{way})": "ENOENT" for name in OTHERS for way in ("O_RDONLY", "O_WRONLY")}
    table |= {"open('/dev/null', 'w').write('x')": 1, "len(open('/dev/urandom', 'rb').read(16))": 16}
    # The files are the host's: another function would find what is changed in them.
    table |= {f"os.utime('/dev/{name}', (1, 1))": "EROFS" for name in ("null", "zero", "full", "random", "urandom")}
    assert attack(EVALUATE, list(table)).payload == table


@pytest.mark.bank("O21", twin=True)
def test_without_that_the_hosts_devices_are_there(attack, without):
    seen = attack(EVALUATE, "os.listdir('/dev')", host=without("devices")).payload
    assert {"tty", "ptmx"} & set(os.listdir("/dev")) <= set(seen)
    assert set(seen) > set(LEAST)
