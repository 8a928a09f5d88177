"""Nobody can tell an environment that was parked from one that was not; and no two of them share random state."""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from conftest import burst, no_stock, parks, seats
from test_cgroups import Group

import coldframe

PORTRAIT = '''
import asyncio, builtins, ctypes, gc, json, locale, logging, os, resource, signal, stat, sys, threading, time, warnings

VARYING = ("_X_AMZN_TRACE_ID", "AWS_LAMBDA_LOG_STREAM_NAME")
libc = ctypes.CDLL(None, use_errno=True)
handled = []

def prctl(option, *arguments):
    ctypes.set_errno(0)
    value = libc.prctl(option, *[ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]])
    return [value, ctypes.get_errno()]

def text(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return error.errno

def attempt(call, *arguments):
    try:
        return repr(call(*arguments))
    except BaseException as error:
        return repr(error)

def rseq():
    """0 were a thread whose area the kernel had forgotten; it says EBUSY where it knows it."""
    try:
        offset = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
    except ValueError:
        return "not in this C library"
    libc.pthread_self.restype = ctypes.c_void_p
    ctypes.set_errno(0)
    area = ctypes.c_void_p(libc.pthread_self() + offset)
    return [libc.syscall(334, area, 32, 0, 0x53053053), ctypes.get_errno()]

def robust():
    head, length = ctypes.c_void_p(), ctypes.c_size_t()
    ctypes.set_errno(0)
    done = libc.syscall(274, 0, ctypes.byref(head), ctypes.byref(length))
    return [done, ctypes.get_errno(), bool(head.value), length.value]

def to_itself():
    signal.signal(signal.SIGUSR1, lambda *_: handled.append(threading.get_native_id()))
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    return handled

def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            flags = text(f"/proc/self/fdinfo/{name}").split("flags:")[1].split()[0]
            target = os.readlink(f"/proc/self/fd/{name}")
            found[name] = [target.split(":")[0], flags, os.get_inheritable(int(name))]
        except (OSError, AttributeError):
            pass
    return found

def handler(event, context):
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    status = dict(line.split(":", 1) for line in text("/proc/self/status").splitlines())
    varying = ("Vm", "Rss", "voluntary", "nonvoluntary", "HugetlbPages")
    mask = os.umask(0)
    os.umask(mask)
    root = logging.getLogger()
    seen = {
        "ids": [os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0), os.getresuid(), os.getresgid(), os.getgroups()],
        "thread": [threading.get_native_id(), threading.active_count(), threading.current_thread().name],
        "status": {name: value.strip() for name, value in status.items() if not name.startswith(varying)},
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in names},
        "mounts": [line.split()[3:] for line in text("/proc/self/mountinfo").splitlines()],
        "cgroup": text("/proc/self/cgroup"),
        "maps": [text("/proc/self/uid_map").split()[::2], text("/proc/self/gid_map").split()[::2]],
        "groups": text("/proc/self/setgroups"),
        "oom": [text("/proc/self/oom_score_adj"), text("/proc/self/coredump_filter"), text("/proc/self/personality")],
        "sched": [os.sched_getscheduler(0), sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)],
        "prctl": {option: prctl(option) for option in (2, 3, 7, 27, 30, 37, 39, 42, 66)},
        "descriptors": descriptors(),
        "proc": sorted(name for name in os.listdir("/proc") if not name.isdigit()),
        "cwd": os.getcwd(),
        "umask": mask,
        "environ": {name: value for name, value in os.environ.items() if name not in VARYING},
        "signals": {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "pending": [sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), sorted(signal.sigpending())],
        "itself": to_itself(),
        "rseq": rseq(),
        "robust": robust(),
        "tmp": [os.listdir("/tmp"), os.listdir("/dev/shm"), text("/proc/self/timerslack_ns")],
        "sizes": [[s.f_blocks * s.f_frsize, s.f_files, s.f_flag] for s in map(os.statvfs, ("/tmp", "/dev/shm"))],
        "landlock": [attempt(os.listdir, path) for path in ("/etc/ssl", "/.store", "/opt", "/home")]
        + [attempt(open, path, "w") for path in ("/var/task/x", "/etc/x", "/opt/x")]
        + [attempt(os.mknod, "/tmp/block", 0o600 | stat.S_IFBLK, 1)],
        "refused": [attempt(os.unshare, 0x10000000) if hasattr(os, "unshare") else libc.unshare(0x10000000)]
        + [libc.ptrace(0, 0, 0, 0), libc.setns(3, 0), libc.mount(None, None, None, 0, None)],
        "modules": sorted(sys.modules),
        "sys": [sys.path, sys.argv, sys.orig_argv, sys.flags, sys.executable, sys.prefix, sys.dont_write_bytecode,
                sys.getrecursionlimit(), sys.getswitchinterval(), sys.meta_path, sys.path_hooks],
        "main": sorted(vars(sys.modules["__main__"])),
        "builtins": sorted(vars(builtins)),
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 0, gc.get_debug()],
        "logging": [root.level, [type(one) for one in root.handlers], sorted(root.manager.loggerDict)],
        "warnings": warnings.filters,
        "time": [time.tzname, time.timezone, locale.setlocale(locale.LC_ALL)],
        "streams": [[stream.fileno(), stream.encoding, stream.errors, stream.line_buffering]
                    for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "loop": type(asyncio.get_event_loop_policy()),
        "context": sorted(name for name in dir(context) if not name.startswith("__")),
    }
    return json.loads(json.dumps(seen, default=repr))
'''


def portrait(environment, seen):
    """Return what the handler has seen, and what the kernel says outside."""
    init = environment.pid
    (process,) = seats()[init]
    name_of_group = Path(next(iter(environment.cgroups.values()))).name
    outside = {}
    for name, pid in (("init", init), ("process", process)):
        facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        varying = ("Vm", "Rss", "voluntary", "nonvoluntary", "Hugetlb", "State", "SigQ")
        ids = ("Pid", "PPid", "Tgid", "Ngid", "NStgid", "NSpid", "NSpgid", "NSsid", "Uid", "Gid")
        outside[name] = {
            "status": {key: value for key, value in facts.items() if not key.startswith(varying) and key not in ids},
            "inside": [facts[key].split()[2:] for key in ("NSpid", "NSpgid", "NSsid")],
            "one user": len(set(facts["Uid"].split())),
            "limits": Path(f"/proc/{pid}/limits").read_text(),
            "cgroup": Path(f"/proc/{pid}/cgroup").read_text().replace(f"/{name_of_group}\n", "/e\n"),
            "oom": Path(f"/proc/{pid}/oom_score_adj").read_text(),
            "environ": Path(f"/proc/{pid}/environ").read_bytes(),
            "program": os.readlink(f"/proc/{pid}/exe"),
            "descriptors": {path.name: os.readlink(path).split(":")[0] for path in Path(f"/proc/{pid}/fd").iterdir()},
            # Root's, whoever it is: it can be neither traced nor dumped.
            "owner": os.stat(f"/proc/{pid}/environ").st_uid,
            "timer slack": Path(f"/proc/{pid}/timerslack_ns").read_text(),
        }
    # Its file systems belong to its own host user, and say so.
    own = Path(f"/proc/{init}/uid_map").read_text().split()[1]
    seen["mounts"] = json.loads(json.dumps(seen["mounts"]).replace(f"id={own}", "id=own"))
    group = Group(environment)
    outside["caps"] = [group.memory_cap, group.share, group.read("pids", "pids.max", "pids.max"), sorted(group.paths)]
    return {**seen, **outside}


OPTIONS = {"memory_mb": 200, "tmp_mb": 7, "max_processes": 20, "env": {"STAGE": "test"}, "timeout_s": 10}


def both_ways(make, source, **options):
    """Return the portraits of an environment that was parked, and of one that was not."""
    portraits = []
    with coldframe.Host() as host:
        host._native.park_at_most(1, 1)
        # Of the same zygote.
        make(source, host=host, network=options.get("network", False))()
        ((init, process),) = parks(host).items()
        for was_parked in (True, False):
            with nullcontext() if was_parked else no_stock():
                fn = make(source, host=host, name="portrait", **options)
                seen = fn()
            (environment,) = [one for one in host.environments() if one.function == "portrait"]
            assert (environment.pid == init) is was_parked
            assert (process in seats()[environment.pid]) is was_parked
            portraits.append(portrait(environment, seen))
            fn.close()
    return portraits


KINDS = {"plain": {}, "network": {"network": True}, "noexec": {"hardening": coldframe.Hardening(noexec_tmp=True)}}


@pytest.mark.needs("cgroup.memory", "cgroup.cpu", "cgroup.pids")
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_what_was_parked_is_like_what_was_not(make, options):
    was, was_not = both_ways(make, PORTRAIT, **OPTIONS, **options)
    assert was.keys() == was_not.keys()
    assert {key: (was[key], was_not[key]) for key in was if was[key] != was_not[key]} == {}
    # The limits and the room are the function's, both ways.
    memory, share, processes, _ = was["caps"]
    assert (memory, processes) == (200 << 20, "20")
    assert share == pytest.approx(200 / 1769, rel=0.02)
    assert [size for size, *_ in was["sizes"]] == [7 << 20, 200 << 20]
    assert was["limits"]["RLIMIT_NPROC"] == [22, 22]
    assert was["environ"]["STAGE"] == "test"
    # It has rehearsed, with other variables, another handler and another event.
    modules = [name for name in was.pop("modules") if "rehears" in name]
    assert modules == ["coldframe_runtime.rehearsal"], "the one that does it"
    assert "rehears" not in repr(was).lower()


# Random state

RANDOM = """
import os, random, secrets, uuid
def handler(event, context):
    state = [random.random(), random.SystemRandom().random(), uuid.uuid4().hex, uuid.uuid1().hex, os.urandom(8).hex()]
    return [*state, secrets.token_hex(8), random.randbytes(8).hex()]
"""
NUMPY = """
import numpy
def handler(event, context):
    return [float(numpy.random.rand()), numpy.random.bytes(8).hex(), float(numpy.random.default_rng().random())]
"""


@pytest.mark.parametrize("source", [RANDOM, NUMPY], ids=["random", "numpy"])
def test_those_that_were_parked_at_a_time_share_no_random_state(make, source):
    if source is NUMPY:
        pytest.importorskip("numpy")
    count = 5
    with coldframe.Host() as host:
        burst(make(source, host=host, timeout_s=20), count)
        were_parked = set(parks(host, count - 1))
        fn = make(source, host=host, timeout_s=20)
        host.prewarm(fn, count - 1)
        assert {one.pid for one in host.environments() if one.state == "frozen"} & were_parked
        drawn = [invocation.payload for invocation in burst(fn, count - 1)]
    assert len({invocation[0] for invocation in drawn}) == count - 1
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == len(column), column
