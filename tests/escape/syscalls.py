"""System calls as attacks: what runs inside, and the same in a plain process of the host."""

import json
import os
import platform
import subprocess
import sys

CALL = """
import ctypes, errno, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def argument(value):
    # A text is memory: its characters are the bytes, and the kernel may write to it.
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.create_string_buffer(value.encode("latin-1"))

def call(number, arguments):
    result = libc.syscall(ctypes.c_long(number), *map(argument, arguments))
    if result == 0 and number == 435:
        os._exit(0)  # the child of a clone3
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"

def in_a_child(attempt):
    # Whatever it does, it does to a process of its own.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(2)
        os.write(writer, attempt().encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 20)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return said.decode() or signal.Signals(os.WTERMSIG(status)).name

def handler(event, context):
    return {name: in_a_child(lambda: call(number, arguments)) for name, number, arguments in event}
"""


def calls(table):
    """Return an event for `CALL`: of this machine's numbers, those that it has.

    `table` is {name: (number on x86-64, on aarch64, arguments)}; the answers are names of errors, or of signals, or
    "done".
    """
    of_machine = {"x86_64": 0, "aarch64": 1}[platform.machine()]
    return [[name, row[of_machine], row[2]] for name, row in table.items() if row[of_machine] is not None]


def outside(event, *, source=CALL, user=None):
    """Return what a plain process of the host is answered, as another user if one is given."""
    become = f"os.setgroups([]), os.setresgid(*[{user}] * 3), os.setresuid(*[{user}] * 3)" if user else ""
    text = json.dumps(event)
    program = f"{source}\nimport json\n{become}\nprint(json.dumps(handler(json.loads({text!r}), None)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return json.loads(done.stdout)


def kernel():
    """Return the kernel's version: (6, 18)."""
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


def sysctl(name):
    """Return a setting of the kernel; None where it has none."""
    try:
        with open(os.path.join("/proc/sys", name)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return None
