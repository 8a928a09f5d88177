"""The terminal of the embedding process: O37."""

import array
import fcntl
import os
import pty
import termios
import tty
from pathlib import Path

import pytest

from .attacks import EVALUATE, plainly

# Makes standard input, output and error the controlling terminal of a session of its own; answers go elsewhere.
ON_A_TERMINAL = """
os.setsid()
fcntl.ioctl(int(os.environ["TERMINAL"]), termios.TIOCSCTTY, 0)
said = os.dup(1)
for number in range(3):
    os.dup2(int(os.environ["TERMINAL"]), number)
assert os.isatty(0) and os.open("/dev/tty", os.O_RDWR)
sys.stdout = open(said, "w")
"""
EMBED = """
def handler(event, context):
    import coldframe
    with coldframe.Host() as host, coldframe.Function("app.handler", os.environ["CODE"], host=host) as fn:
        return fn(event)
"""


@pytest.fixture
def terminal():
    """Yield the two ends of a terminal that passes every byte on as it comes."""
    ends = pty.openpty()
    tty.setraw(ends[1])
    yield ends
    for end in ends:
        os.close(end)


def waiting(end):
    """Return how many bytes can be read there."""
    count = array.array("i", [0])
    fcntl.ioctl(end, termios.FIONREAD, count)
    return count[0]


def on(terminal, event, source, code=""):
    variables = {**os.environ, "TERMINAL": str(terminal[1]), "CODE": str(code)}
    return plainly(event, source, prologue=ON_A_TERMINAL, pass_fds=[terminal[1]], env=variables)


TYPE = "fcntl.ioctl(0, termios.TIOCSTI, b'x')"
TABLE = {
    "[number for number in range(1024) if os.isatty(number)]": [],
    "open('/dev/tty')": "ENOENT",
    "os.open('/proc/self/fd/0', os.O_RDWR) and os.isatty(0)": False,
    "os.ttyname(0)": "ENOTTY",
    "os.tcgetpgrp(0)": "ENOTTY",
    "subprocess.run(['sh', '-c', 'echo x > /dev/tty'], stderr=subprocess.DEVNULL).returncode == 0": False,
    "os.getsid(0) == os.getsid(os.getpid())": True,
    **{f"fcntl.ioctl({number}, termios.TIOCSTI, b'x')": "ENOTTY" for number in range(4)},
    **{f"fcntl.ioctl({number}, {0x541C:#x}, b'x')": "ENOTTY" for number in range(4)},  # TIOCLINUX
}


@pytest.mark.bank("O37")
def test_nothing_is_typed_into_the_embedding_processes_terminal(unchanged, terminal, tmp_path):
    (tmp_path / "app.py").write_text(EVALUATE)
    assert on(terminal, list(TABLE), EVALUATE + EMBED, tmp_path) == TABLE
    assert [waiting(end) for end in terminal] == [0, 0]


@pytest.mark.bank("O37", twin=True)
def test_outside_it_is(terminal):
    if Path("/proc/sys/dev/tty/legacy_tiocsti").read_text().strip() == "0":
        pytest.skip("this kernel lets nobody type into a terminal (dev.tty.legacy_tiocsti)")
    assert on(terminal, TYPE, EVALUATE) == repr(b"x")
    assert waiting(terminal[1]) == 1
