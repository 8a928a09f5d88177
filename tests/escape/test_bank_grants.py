"""What of the host is shown inside, and where: O04 to O06. Granted are the folders that `.pth` files name."""

import ctypes
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import coldframe

from .attacks import EVALUATE, MOUNTS_OF_ITS_OWN, plainly
from .conftest import pth

# O04: a file system mounted below a granted folder

EMBED = """
evaluate = handler
def handler(event, context):
    import coldframe
    folder, isolation, expressions = event
    with coldframe.Host() as host, coldframe.Function("app.handler", folder, host=host, isolation=isolation) as fn:
        return fn(expressions)
"""


@pytest.fixture
def below(granted, tmp_path):
    """Evaluate expressions in an environment of a process that has a writable tmpfs below the granted folder."""
    (granted / "below").mkdir()
    (tmp_path / "app.py").write_text(EVALUATE)
    mount = f"""
call("mount", b"tmpfs", {str(granted / "below").encode()!r}, b"tmpfs", 0, b"mode=0777")
open({str(granted / "below/canary")!r}, "w").write("sesame")
os.chmod({str(granted / "below/canary")!r}, 0o666)
"""

    def below(expressions, isolation="strict"):
        event = [str(tmp_path), isolation, expressions]
        return plainly(event, EVALUATE + EMBED, prologue=MOUNTS_OF_ITS_OWN + mount)

    return below


def write_below(granted):
    return {
        f"open({str(granted / 'below/canary')!r}).read()": "sesame",  # it is that file system which is shown
        f"open({str(granted / 'below/canary')!r}, 'r+').write('broken')": "EROFS",
        f"open({str(granted / 'below/x')!r}, 'w').write('new')": "EROFS",
        f"os.chmod({str(granted / 'below')!r}, 0o700)": "EROFS",
    }


@pytest.mark.bank("O04")
@pytest.mark.needs("root")
def test_what_is_mounted_below_a_granted_folder_is_read_only_too(unchanged, granted, below):
    table = write_below(granted)
    assert below(list(table)) == table


@pytest.mark.bank("O04", twin=True)
@pytest.mark.needs("root")
def test_without_read_only_mounts_and_landlock_it_is_written(unchanged, granted, below, monkeypatch):
    monkeypatch.setenv("COLDFRAME_PRETEND", f"{os.environ.get('COLDFRAME_PRETEND', '')},-read-only,-landlock")
    answers = below(list(write_below(granted)), "available")
    assert list(answers.values())[:3] == ["sesame", len("broken"), len("new")]


# O05: a folder becomes a link on the way

RENAME_EXCHANGE = 2


@pytest.fixture
def swap(granted):
    """Exchange a granted folder and a symbolic link to one that is not granted; both hold a file `canary`."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="coldframe-elsewhere-", dir="/var/tmp") as elsewhere:
        os.chmod(elsewhere, 0o755)
        Path(elsewhere, "canary").write_text("elsewhere")
        link = granted.with_name(f"{granted.name}-link")
        link.symlink_to(elsewhere)

        def swap():
            assert libc.renameat2(-100, bytes(link), -100, bytes(granted), RENAME_EXCHANGE) == 0

        try:
            yield swap
        finally:
            if granted.is_symlink():
                swap()
            link.unlink()


@pytest.mark.bank("O05")
def test_a_folder_that_becomes_a_link_shows_nothing_else(granted, swap, make, without):
    fn = make(EVALUATE, host=without())
    read = f"open({str(granted / 'canary')!r}).read()"
    swap()
    with pytest.raises(coldframe.ColdframeError, match="Too many levels of symbolic links"):
        fn(read)
    swap()
    assert fn(read) == "sesame"


@pytest.mark.bank("O05")
@pytest.mark.timeout(120)
def test_nor_one_that_is_exchanged_all_the_time(granted, swap, make, without):
    read, answers, ended = f"open({str(granted / 'canary')!r}).read()", [], threading.Event()

    def exchange():
        while not ended.is_set():
            swap()
            swap()

    for _ in range(5):
        ended.clear()
        fn = make(EVALUATE, host=without())
        swapper = threading.Thread(target=exchange)
        swapper.start()
        try:
            answers.append(fn(read))
        except coldframe.ColdframeError as error:
            answers.append(type(error).__name__)
        finally:
            ended.set()
            swapper.join()
        fn.host.close()
    assert set(answers) <= {"sesame", "ConfigurationError", "ColdframeError"}


@pytest.mark.bank("O05", twin=True)
def test_whoever_follows_the_path_reads_something_else(granted, swap):
    read = f"open({str(granted / 'canary')!r}).read()"
    assert plainly(read) == "sesame"
    swap()
    assert plainly(read) == "elsewhere"


# O06: places inside that nothing of the host may have; what `mounts=` will accept goes the same way

DOORS = ["/proc", "/proc/self", "/sys/kernel", "/dev", "/dev/pts", "/dev/shm", "/etc", "/var", "/run", "/tmp"]


@pytest.mark.bank("O06")
def test_what_would_show_or_hide_something_else_is_refused(unchanged, make, without, tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    host = without()
    for place in [*DOORS, "../" * 20 + "etc", tmp_path / "link"]:
        with pth(place), pytest.raises(coldframe.ConfigurationError, match="cannot be shown inside because of /"):
            make(EVALUATE, host=host)
    with pth("/usr/share"):
        assert make(EVALUATE, host=host)("1") == 1


@pytest.mark.bank("O06")
def test_an_interpreter_in_the_kernels_files_is_refused(unchanged, make, without):
    folder = os.open(sys.prefix, os.O_PATH)
    try:
        runtime = f"/proc/{os.getpid()}/fd/{folder}/bin/python"
        with pytest.raises(coldframe.ConfigurationError, match="cannot be shown inside because of /proc"):
            make(EVALUATE, host=without(), runtime=runtime)
    finally:
        os.close(folder)
