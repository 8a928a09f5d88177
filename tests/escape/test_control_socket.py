"""What a handler can send to the supervisor beside bytes, and what that would do there."""

import errno
import platform
import textwrap
import time

import pytest

import coldframe

# Sends the two ends of a connection whose close would linger over the control socket, if it is let.
SEND = """
import array, os, socket
def handler(event, context):
    said = {}
    listener = socket.create_server(("127.0.0.1", 0))
    one = socket.create_connection(listener.getsockname())
    two, _ = listener.accept()
    one.setblocking(False)
    try:
        while True:
            one.send(bytes(65536))
    except BlockingIOError:
        pass
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\x01\\0\\0\\0\\x01\\0\\0\\0")
        said["linger"] = 0
    except OSError as error:
        said["linger"] = error.errno
    control = socket.socket(fileno=os.dup(3))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [two.fileno(), one.fileno()]))]
    if event == "send":
        try:
            control.sendmsg([b"x"], rights)
            said["send"] = 0
        except OSError as error:
            said["send"] = error.errno
    return said
"""


def kernel():
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


def test_no_socket_lingers(make):
    assert make(textwrap.dedent(SEND), memory_mb=1769)("") == {"linger": errno.EPERM}


@pytest.mark.skipif(kernel() < (6, 16), reason="kernels before 6.16 cannot refuse descriptors: the filter is alone")
def test_no_descriptor_is_taken(make):
    assert make(textwrap.dedent(SEND), memory_mb=1769)("send")["send"] == errno.EPERM


def test_without_the_filter_a_socket_lingers(make, monkeypatch):
    """The twin: the attack's means are there, so that it is the filter that the test above sees."""
    monkeypatch.setenv("COLDFRAME_PRETEND", "-seccomp")
    with coldframe.Host() as host:
        assert make(textwrap.dedent(SEND), host=host, isolation="available", memory_mb=1769)("") == {"linger": 0}


def test_the_call_returns_on_time_whatever_was_sent(make):
    fn = make(textwrap.dedent(SEND) + "\n", memory_mb=1769, timeout_s=5)
    begun = time.monotonic()
    fn.invoke("send")
    assert time.monotonic() - begun < 2
