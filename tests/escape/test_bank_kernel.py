"""O22 and O28 to O32: the kernel's own doors, which are system calls."""

import json
import os
import platform

import pytest

import coldframe

from .syscalls import CALL, calls, kernel, outside, sysctl

AT_FDCWD = -100
CHARACTERS, BLOCKS, PIPE = 0o20600, 0o60600, 0o10600
NULL, OVERLAY = 1 << 8 | 3, 0


def refused(table, answer):
    return dict.fromkeys(table, answer)


# Devices

DEVICES = {
    "a device": (259, 33, [AT_FDCWD, "/tmp/device", CHARACTERS, NULL]),
    "a disk": (259, 33, [AT_FDCWD, "/tmp/disk", BLOCKS, 8 << 8]),
    "a device, the old call": (133, None, ["/tmp/old", CHARACTERS, NULL]),
    "a white-out": (259, 33, [AT_FDCWD, "/tmp/white", CHARACTERS, OVERLAY]),
    "a pipe": (259, 33, [AT_FDCWD, "/tmp/pipe", PIPE, 0]),
}


@pytest.mark.bank("O22")
def test_no_device_can_be_made(attack):
    event = calls(DEVICES)
    assert attack(CALL, event).unwrap() == {name: "EPERM" for name, _, _ in event}


@pytest.mark.bank("O22", twin=True)
@pytest.mark.needs("landlock")
def test_without_filter_and_landlock_nodes_are_made_but_for_what_the_user_namespace_forbids(attack, without):
    for walls, refusal in ((["seccomp"], "EACCES"), (["seccomp", "landlock"], "EPERM")):
        answers = attack(CALL, calls(DEVICES), host=without(*walls)).unwrap()
        # A white-out is no device: Landlock lets it be made on some kernels (6.1), and on others not (6.18).
        white = answers.pop("a white-out")
        assert white in ({"done"} if "landlock" in walls else {"done", "EACCES"})
        assert {name for name, answer in answers.items() if answer == "done"} == {"a pipe"}, answers
        assert {answer for answer in answers.values() if answer != "done"} == {refusal}


@pytest.mark.bank("O22", twin=True)
@pytest.mark.needs("root")
def test_root_of_the_host_makes_devices(tmp_path):
    table = {
        name: (old, new, [str(tmp_path / name) if str(value).startswith("/tmp") else value for value in arguments])
        for name, (old, new, arguments) in DEVICES.items()
    }
    assert set(outside(calls(table)).values()) == {"done"}


# The large and young parts

# perf_event_attr: the software clock, 112 bytes of it; disabled, without the kernel and the hypervisor.
CLOCK = (bytes([1, 0, 0, 0, 112, 0, 0, 0]).ljust(40, b"\0") + bytes([0b110_0001])).ljust(112, b"\0").decode()
# bpf_attr: an array of one element, with keys and values of four bytes.
ARRAY = bytes([2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]).ljust(120, b"\0").decode()
PARTS = {
    "bpf": (321, 280, [0, ARRAY, 120]),
    "perf_event_open": (298, 241, [CLOCK, 0, -1, -1, 0]),
    "userfaultfd": (323, 282, [1]),  # of user mode alone, which needs no privilege since Linux 5.11
    "io_uring_setup": (425, 425, [1, "\0" * 120]),
}


@pytest.mark.bank("O28")
def test_the_large_and_young_parts_of_the_kernel_are_shut(attack):
    assert attack(CALL, calls(PARTS)).unwrap() == refused(PARTS, "EPERM")


@pytest.mark.bank("O28", twin=True)
def test_without_the_filter_they_are_as_open_as_to_anybody(attack, without):
    answers = attack(CALL, calls(PARTS), host=without("seccomp")).unwrap()
    assert answers == outside(calls(PARTS), user=65534 if os.getuid() == 0 else None)
    assert answers["userfaultfd"] == "done"
    if sysctl("kernel/io_uring_disabled") in (None, "0"):
        assert answers["io_uring_setup"] == "done"


# Keys

SESSION, PROCESS = -3, -2
KEYS = {
    "keyctl": (250, 219, [0, SESSION, 1]),
    "add_key": (248, 217, ["user", "coldframe-test", "sesame", 6, PROCESS]),
    "request_key": (249, 218, ["user", "coldframe-test", 0, 0]),
}


@pytest.mark.bank("O29")
def test_keys_cannot_be_had_made_or_looked_for(attack):
    assert attack(CALL, calls(KEYS)).unwrap() == refused(KEYS, "EPERM")


@pytest.mark.bank("O29", twin=True)
def test_without_the_filter_they_can(attack, without):
    answers = attack(CALL, calls(KEYS), host=without("seccomp")).unwrap()
    assert answers == {"keyctl": "done", "add_key": "done", "request_key": "ENOKEY"}


LEAVE_KEY = calls({"leave": (248, 217, ["user", "coldframe-test", "sesame", 6, SESSION])})
FIND_KEY = calls({"find": (249, 218, ["user", "coldframe-test", 0, 0])})


def left_for_another(make, host):
    """Return what an environment is answered that looks for a key which another one of its zygote has left."""
    one, other = (make(CALL, name=name, host=host, isolation="available") for name in ("one", "other"))
    assert one(LEAVE_KEY) == {"leave": "done"}
    assert one(FIND_KEY) == {"find": "done"}
    return other(FIND_KEY)["find"]


@pytest.mark.bank("O29")
def test_a_key_that_one_environment_leaves_is_not_found_by_another(make, without):
    assert left_for_another(make, without("seccomp")) == "ENOKEY", "the second wall"


@pytest.mark.bank("O29", twin=True)
def test_in_a_common_keyring_it_is(make, without):
    assert left_for_another(make, without("seccomp", "keyring")) == "done"


# Threads and processes

CLONE3 = {"clone3": (435, 435, [(bytes(32) + bytes([17]) + bytes(55)).decode(), 88])}
THREADS = """
import threading
def handler(event, context):
    done = []
    threads = [threading.Thread(target=done.append, args=(index,)) for index in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(done)
"""


@pytest.mark.bank("O30")
def test_clone3_is_unknown_and_threads_start_all_the_same(attack):
    # Its flags are in memory, where no filter looks; the C library falls back on clone.
    assert attack(CALL, calls(CLONE3)).unwrap() == {"clone3": "ENOSYS"}
    assert attack(THREADS).unwrap() == list(range(10))


@pytest.mark.bank("O30", twin=True)
def test_without_the_filter_clone3_makes_a_process(attack, without):
    assert attack(CALL, calls(CLONE3), host=without("seccomp")).unwrap() == {"clone3": "done"}


# Foreign calling conventions

FOREIGN = (
    CALL
    + """
import mmap
def foreign():
    # getpid by the 32-bit convention: mov eax, 20; int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return "done" if ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid() else "another answer"

def handler(event, context):
    return in_a_child(foreign) if event == "in a child" else foreign()
"""
)
x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 alone has other calling conventions")


@pytest.mark.bank("O31")
@x86_64
def test_the_32_bit_convention_ends_who_uses_it(attack):
    assert attack(FOREIGN, "in a child").unwrap() == "SIGSYS"
    error = attack(FOREIGN, "itself").error
    assert isinstance(error, coldframe.EnvironmentExit)
    assert "signal: bad system call" in error.error_message


@pytest.mark.bank("O31", twin=True)
@x86_64
def test_without_the_filter_it_works_as_far_as_the_kernel_has_it(attack, without):
    if (there := outside("in a child", source=FOREIGN)) != "done":
        pytest.skip(f"this kernel has no 32-bit system calls: {there}")
    assert attack(FOREIGN, "itself", host=without("seccomp")).unwrap() == "done"


# What nobody has invented, or had when the list was made

UNKNOWN = {f"number {number}": (number, number, [-1, 0, 0, 0, 0]) for number in (9999, *range(467, 476))}
LATER = {"number 467": (6, 15), "number 468": (6, 17), "number 469": (6, 17)}
"""Those of them that are calls, since this kernel: open_tree_attr, file_getattr, file_setattr."""


@pytest.mark.bank("O32")
def test_unknown_numbers_are_answered_as_by_a_kernel_without_them(attack):
    assert attack(CALL, calls(UNKNOWN)).unwrap() == refused(UNKNOWN, "ENOSYS")


@pytest.mark.bank("O32", twin=True)
def test_without_the_filter_those_that_this_kernel_has_are_reached(attack, without):
    known = {name for name, since in LATER.items() if kernel() >= since}
    if not known:
        pytest.skip("this kernel is older than the newest call that the filter does not know")
    answers = attack(CALL, calls(UNKNOWN), host=without("seccomp")).unwrap()
    assert {name for name, answer in answers.items() if answer != "ENOSYS"} == known, json.dumps(answers)
