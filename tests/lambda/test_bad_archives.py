"""What a zip gets that is broken, or that an attacker made."""

import stat
import zipfile

import pytest

from coldframe import ConfigurationError, Function

ECHO = "def handler(event, context):\n    return event\n"


def entry(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def archive_of(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in ((entry("app.py"), ECHO), *entries):
            archive.writestr(info, content)
    return path


ENTRIES = {
    "absolute": (entry("/etc/passwd"), "x"),
    "parent": (entry("../../outside"), "x"),
    "parent in the middle": (entry("a/../../outside"), "x"),
    "backslashes": (entry("..\\..\\outside"), "x"),
    "link out": (entry("link", stat.S_IFLNK | 0o777), "../../etc/passwd"),
    "absolute link": (entry("link", stat.S_IFLNK | 0o777), "/etc/passwd"),
    "device": (entry("device", stat.S_IFCHR | 0o666), ""),
    "block device": (entry("device", stat.S_IFBLK | 0o666), ""),
    "fifo": (entry("fifo", stat.S_IFIFO | 0o666), ""),
    "socket": (entry("socket", stat.S_IFSOCK | 0o666), ""),
    "twice": (entry("app.py/below"), "x"),
    "long": (entry("x" * 300), "x"),
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("place", ["code", "layer"])
def test_an_archive_that_reaches_out_of_itself(make, tmp_path, host, name, place):
    path = archive_of(tmp_path / "bad.zip", ENTRIES[name])
    refused = pytest.raises(ConfigurationError, match=r"bad\.zip")
    if place == "code":
        with refused:
            Function("app.handler", path, host=host)
    else:
        with refused:
            make(ECHO, layers=[path])
    assert make(ECHO)(1) == 1


def test_an_archive_with_the_same_name_twice(tmp_path, host):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("app.py", ECHO)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("app.py", "x = 1")
    with pytest.raises(ConfigurationError, match=r"bad\.zip"):
        Function("app.handler", path, host=host)


def test_links_through_links_of_an_archive(tmp_path, host):
    link = stat.S_IFLNK | 0o777
    path = archive_of(tmp_path / "bad.zip", (entry("a", link), "."), (entry("a/b", link), "../.."))
    with pytest.raises(ConfigurationError, match=r"bad\.zip"):
        Function("app.handler", path, host=host)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"PK\x05\x06" + bytes(18),
        lambda data: b"not a zip at all",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-30],
        lambda data: data.replace(b"return", b"rEturn"),
        lambda data: b"front" + data,
        lambda data: data[:14] + bytes(4) + data[18:],
        lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03"),
    ],
    ids=["empty", "no entries", "text", "half", "no end", "checksum", "in front", "header checksum", "directory"],
)
def test_a_broken_archive(make, tmp_path, host, spoil):
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("app.py", ECHO)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(spoil(good.read_bytes()))
    try:
        with Function("app.handler", bad, host=host) as fn:
            # What still has one meaning may be taken, and is no one's danger.
            assert fn.invoke(1).payload == 1 or fn.invoke(1).error.error_type.startswith("Runtime.")
    except ConfigurationError as error:
        assert "bad.zip" in str(error)  # noqa: PT017 - either is fine
    with Function("app.handler", good, host=host) as fn:
        assert fn(1) == 1


def test_an_archive_that_is_a_bomb(tmp_path, host):
    path = tmp_path / "bomb.zip"
    block = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("app.py", ECHO)
        with archive.open("zeros", "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(block)
    assert path.stat().st_size < 3 << 20
    with pytest.raises(ConfigurationError, match="262144000"):
        Function("app.handler", path, host=host)


def test_an_archive_that_lies_about_its_size(tmp_path, host):
    path = archive_of(tmp_path / "bad.zip", (entry("zeros"), bytes(10 << 20)))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"bad\.zip"):
        Function("app.handler", path, host=host)


def test_an_archive_with_more_entries_than_there_may_be(tmp_path, host):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100_001):
            archive.writestr(zipfile.ZipInfo(f"{number}/"), "")
    with pytest.raises(ConfigurationError, match=r"many\.zip"):
        Function("app.handler", path, host=host)
