"""Handlers that several attacks share, and what they do outside."""

import json
import subprocess
import sys

EVALUATE = """
import array, ctypes, errno, fcntl, glob, json, mmap, os, pwd, resource, shutil, signal, socket, stat, subprocess, sys
import termios, threading, time

libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    # A function of the C library, by its result, or the error that it left.
    result = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result

def in_a_child(expression):
    # Whatever it does, it does to a process of its own.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(2)
        os.write(writer, json.dumps(answer(expression)).encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 65536)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return json.loads(said) if said else -os.WTERMSIG(status)

def started(program, *arguments):
    # A process that runs the program already, and lets itself be seen: it does so only when it has become another.
    process = subprocess.Popen([program, *arguments])
    while not os.path.exists(f"/proc/{process.pid}/exe"):
        time.sleep(0.001)
    return process

def answer(expression):
    try:
        value = eval(expression)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value

def handler(event, context):
    if isinstance(event, str):
        return answer(event)
    return {expression: answer(expression) for expression in event}
"""
"""Evaluates an expression, or each of a list; what raises an OSError answers with its name, such as "ENOENT"."""


def plainly(event, source=EVALUATE, *, prologue="", **options):
    """Return what the handler answers in a process that nothing confines; `prologue` is run before."""
    program = f"{source}\n{prologue}\nprint('answer:', json.dumps(handler(json.loads(sys.argv[1]), None)))\n"
    options.setdefault("timeout", 30)
    command = [sys.executable, "-c", program, json.dumps(event)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("answer:")[2])


MOUNTS_OF_ITS_OWN = f"""
call("unshare", {0x0002_0000})
call("mount", None, b"/", None, {1 << 18 | 1 << 14}, None)
"""
"""A prologue: what is mounted after it is seen by nobody else."""
