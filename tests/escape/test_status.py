"""The socket on which a host tells other programs what it does: nobody inside gets to it, or gets an answer."""

import json
import os
import socket
from contextlib import ExitStack

import pytest

import coldframe
from coldframe import _core

ASKS = """
import errno, os, socket
def handler(event, context):
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        try:
            os.chdir(event)
            asking.connect("status")
            return asking.recv(1000).decode()
        except OSError as error:
            return errno.errorcode[error.errno]
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """Have a state directory in which nobody else is."""
    monkeypatch.setenv("COLDFRAME_STATE_DIR", str(tmp_path / "state"))


def answer(directory):
    """Return what a program beside the host is told."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        place = os.open(directory, os.O_PATH)
        try:
            asking.connect(f"/proc/self/fd/{place}/status")  # the path itself may be too long
        finally:
            os.close(place)
        return json.loads(asking.makefile("rb").read())


def test_no_environment_finds_the_socket_of_its_host(make):
    with coldframe.Host() as host:
        fn = make(ASKS, host=host)
        fn("/")
        (owner,) = _core.owners()
        assert answer(owner["directory"])["invocations"] == 1
        assert fn(owner["directory"]) == "ENOENT"
        with pytest.raises(coldframe.ConfigurationError, match="where coldframe keeps the code"):
            make(ASKS, host=host, mounts={"/mnt/host": owner["directory"]})


def test_an_environment_that_is_shown_the_socket_of_another_host_is_not_answered(make, tmp_path, monkeypatch):
    """As nobody should: its directory is mounted, for writing, so that the socket's owner is the user inside."""
    with ExitStack() as stack:
        host = stack.enter_context(coldframe.Host())
        monkeypatch.setenv("COLDFRAME_STATE_DIR", str(tmp_path / "other"))
        other = stack.enter_context(coldframe.Host())
        make(ASKS, host=other)("/")
        (shown,) = _core.owners()
        fn = make(ASKS, host=host, mounts={"/mnt/other": (shown["directory"], "rw")})
        assert fn("/mnt/other") == ""
        assert answer(shown["directory"])["invocations"] == 1
