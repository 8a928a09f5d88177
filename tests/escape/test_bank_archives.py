"""O56: archives that reach out of themselves, or bring along what no file of theirs may be."""

import os
import stat
import zipfile
from pathlib import Path

import pytest

import coldframe

ECHO = "def handler(event, context):\n    return event\n"
MODES = """
import os, stat
def handler(event, context):
    return [oct(stat.S_IMODE(os.stat(path).st_mode)) for path in event]
"""
LINK, FILE = stat.S_IFLNK | 0o777, stat.S_IFREG | 0o644
REACHING = {
    "parent": [("../reached", FILE, "x")],
    "parent in the middle": [("a/../../reached", FILE, "x")],
    "absolute": [("{outside}/reached", FILE, "x")],
    "a link": [("link", LINK, "{outside}/reached")],
    "through a link": [("link", LINK, "{outside}"), ("link/reached", FILE, "x")],
    "through two links": [("a", LINK, "."), ("a/b", LINK, ".."), ("b/reached", FILE, "x")],
}


def archive(path, entries, source=ECHO):
    """Make an archive of (name, mode, content) beside `app.py`, where `{outside}` is the folder that it lies in."""
    with zipfile.ZipFile(path, "w") as file:
        for name, mode, content in [("app.py", FILE, source), *entries]:
            info = zipfile.ZipInfo(name.format(outside=path.parent))
            info.create_system = 3  # the mode counts
            info.external_attr = mode << 16
            file.writestr(info, content if mode == FILE else content.format(outside=path.parent))
    return path


def unpack(path, folder):
    """Unpack as one would who trusts the archive: the twin."""
    folder.mkdir()
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            mode, target = info.external_attr >> 16, os.path.join(folder, info.filename)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if stat.S_ISLNK(mode):
                os.symlink(file.read(info), target)
            else:
                Path(target).write_bytes(file.read(info))
                os.chmod(target, stat.S_IMODE(mode))


@pytest.mark.bank("O56")
def test_an_archive_that_reaches_out_is_refused_and_reaches_nothing(make, without, tmp_path):
    host = without()
    for name, entries in REACHING.items():
        path = archive(tmp_path / "bad.zip", entries)
        before = sorted(tmp_path.iterdir())
        for code, layers in ((path, []), (__file__, [path])):
            with pytest.raises(coldframe.ConfigurationError, match=r"bad\.zip"):
                coldframe.Function("app.handler", code, layers=layers, host=host)
        assert sorted(tmp_path.iterdir()) == before, name
        assert not Path("/reached").exists()
    assert make(ECHO, host=host)("well") == "well"


@pytest.mark.bank("O56", twin=True)
@pytest.mark.parametrize("name", REACHING)
def test_unpacked_by_somebody_who_trusts_it_it_reaches_out(tmp_path, name):
    path = archive(tmp_path / "bad.zip", REACHING[name])
    unpack(path, tmp_path / "trusting")
    if name == "a link":
        (tmp_path / "trusting/link").write_text("x")  # by the handler, say
    assert (tmp_path / "reached").read_text() == "x"


SPECIAL = [("set-uid", stat.S_IFREG | 0o4755, "x"), ("both", stat.S_IFREG | 0o6777, "x"), ("sticky", 0o101777, "x")]


@pytest.mark.bank("O56")
def test_modes_that_give_a_file_powers_are_stripped(unchanged, without, tmp_path):
    path = archive(tmp_path / "special.zip", SPECIAL, MODES)
    names = [name for name, _, _ in SPECIAL]
    with coldframe.Function("app.handler", path, layers=[path], host=without()) as fn:
        modes = fn([f"{folder}/{name}" for folder in ("/var/task", "/opt") for name in names])
    assert {int(mode, 8) & 0o7000 for mode in modes} == {0}
    assert {int(mode, 8) & 0o555 for mode in modes} == {0o555}, "they stay programs"


@pytest.mark.bank("O56", twin=True)
def test_unpacked_by_somebody_who_trusts_it_they_are_not(tmp_path):
    unpack(archive(tmp_path / "special.zip", SPECIAL), tmp_path / "trusting")
    modes = [stat.S_IMODE((tmp_path / "trusting" / name).stat().st_mode) for name, _, _ in SPECIAL]
    assert modes == [0o4755, 0o6777, 0o1777]
