"""Container images that somebody has made on purpose: O07, and O56 for what an image is made of."""

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from images import configuration, digest, interpreter, layer, layout, saved, special
from programs import PYTHON, program

import coldframe

pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"the images here hold {PYTHON}")

LOOK = program("""
    def handle(event, request, headers):
        answers = []
        for expression in event:
            try:
                answers.append(eval(expression))
            except OSError as error:
                answers.append(os.strerror(error.errno))
        return answers
""")
PLACES = ["proc", "dev", "tmp", "mnt", "sys", "etc/hosts", ".store", ".cover", ".empty", ".merge", ".nothing"]


@pytest.fixture
def outside(tmp_path):
    """A folder of the host that nothing is to be written to, hidden or shown."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "canary").write_text("sesame")
    yield folder
    assert (folder / "canary").read_text() == "sesame"
    assert os.listdir(folder) == ["canary"]


# O07: a root whose /proc and /dev are links


@pytest.mark.bank("O07")
def test_places_of_ours_are_folders_whatever_the_image_has_there(unchanged, without, tmp_path, outside):
    links = [special(name, tarfile.SYMTYPE, str(outside)) for name in PLACES]
    code = layout(tmp_path / "image", [interpreter(), [("/entry", LOOK, 0o755)], links], Entrypoint=["/entry"])
    with coldframe.Function("", code, runtime="provided", host=without(), timeout_s=10) as fn:
        looks = [f"os.path.islink('/{name}')" for name in PLACES if name != "sys"]
        assert fn(looks) == [False] * len(looks)
        ours = ["os.readlink('/proc/self') == str(os.getpid())", "sorted(os.listdir('/dev'))[:2]"]
        assert fn(ours) == [True, ["fd", "full"]]
        missing = "No such file or directory"
        reads = [f"open({str(outside / 'canary')!r}).read()", "os.listdir('/sys/.')"]
        assert fn(reads) == [missing] * 2


@pytest.mark.bank("O07", twin=True)
@pytest.mark.needs("root")
def test_whoever_mounts_there_without_looking_mounts_elsewhere(tmp_path, outside):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/proc").symlink_to(outside)
    script = 'mount -t proc proc "$1/root/proc" && test -e "$1/outside/self" && ! test -e "$1/outside/canary"'
    subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", tmp_path], check=True)


# O56: layers that reach out of themselves

UP = "../" * 30
REACHING = {
    "parent": [("../reached", "x", 0o644)],
    "far up": [(UP + "{outside}/reached", "x", 0o644)],
    "through a link": [special("link", tarfile.SYMTYPE, "{outside}"), ("link/reached", "x", 0o644)],
    "through two links": [
        special("up", tarfile.SYMTYPE, UP + "{outside}"),
        special("again", tarfile.SYMTYPE, "up"),
        ("again/reached", "x", 0o644),
    ],
    "another name": [special("link", tarfile.LNKTYPE, UP + "{outside}/canary"), ("link", "changed", 0o644)],
    "a whiteout": [special("link", tarfile.SYMTYPE, "{outside}"), ("link/.wh.canary", "", 0o644)],
    "everything away": [special("link", tarfile.SYMTYPE, "{outside}"), ("link/.wh..wh..opq", "", 0o644)],
    "itself away": [("a/.wh...", "", 0o644)],
}


def aimed(entries, outside):
    """Return the layer with these entries, aimed at a folder of the host."""
    made = []
    for entry in entries:
        if isinstance(entry[0], tarfile.TarInfo):
            info = entry[0]
            link = info.linkname.format(outside=str(outside).lstrip("/") if info.linkname.startswith(".") else outside)
            made.append(special(info.name, info.type, link))
        else:
            name, content, mode = entry
            made.append((name.format(outside=str(outside).lstrip("/")), content, mode))
    return layer(made)


@pytest.mark.bank("O56")
def test_an_image_that_reaches_out_reaches_nothing(unchanged, without, tmp_path, outside):
    host = without()
    before = sorted(tmp_path.iterdir())
    for number, (name, entries) in enumerate(REACHING.items()):
        folder = tmp_path / f"image{number}"
        code = layout(folder, [[("/entry", LOOK, 0o755)], aimed(entries, outside)], Entrypoint=["/entry"])
        try:
            coldframe.Function("", code, runtime="provided", host=host).close()
        except coldframe.ConfigurationError as error:
            assert f"image{number}" in str(error), name  # noqa: PT017 - it may succeed
        assert sorted(tmp_path.iterdir()) == sorted([*before, *tmp_path.glob("image*")]), name
        assert os.listdir(outside) == ["canary"], name
    code = layout(tmp_path / "sound", [interpreter(), [("/entry", LOOK, 0o755)]], Entrypoint=["/entry"])
    with coldframe.Function("", code, runtime="provided", host=host, timeout_s=10) as fn:
        assert fn(["1 + 1"]) == [2]


@pytest.mark.bank("O56", twin=True)
@pytest.mark.parametrize("name", ["parent", "far up", "through a link", "through two links"])
def test_unpacked_by_somebody_who_trusts_it_an_image_reaches_out(tmp_path, name):
    outside = tmp_path / "outside"
    for folder in (outside, tmp_path / "root"):
        folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(aimed(REACHING[name], outside))) as archive:
        how = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        archive.extractall(tmp_path / "root", **how)
    assert (tmp_path / "reached").exists() or (outside / "reached").exists()


@pytest.mark.bank("O56")
def test_an_image_whose_files_are_not_what_it_says_is_refused(without, tmp_path):
    host = without()
    honest = layer([("entry", LOOK, 0o755)])
    other = layer([("entry", LOOK + "# and more", 0o755)])
    code = saved(tmp_path / "image.tar", [honest], Entrypoint=["/entry"])
    content = code.read_bytes()
    config = configuration([honest], Entrypoint=["/entry"])
    assert config in content
    lying = content.replace(digest(honest).encode(), digest(other).encode())
    code.write_bytes(lying)
    with pytest.raises(coldframe.ConfigurationError, match="should have the digest sha256:"):
        coldframe.Function("", code, runtime="provided", host=host)


@pytest.mark.bank("O56")
@pytest.mark.timeout(60)
def test_an_image_that_never_ends_is_bounded(without, tmp_path):
    host = without()
    bomb = layout(tmp_path / "bomb", [layer([("zeros", bytes(64 << 20), 0o644)])], compress=True, Entrypoint=["/x"])
    small = coldframe.Hardening(max_image_mb=16)
    with pytest.raises(coldframe.ConfigurationError, match="smaller than 16777216 bytes"):
        coldframe.Function("", bomb, runtime="provided", host=host, hardening=small)
    # A path that is long, over and over, and everything taken away again and again.
    names = [(f"{'d/' * 60}{number}", "", 0o644) for number in range(2000)]
    away = [(f"{'d/' * depth}.wh..wh..opq", "", 0o644) for depth in range(60)] * 20
    code = layout(tmp_path / "busy", [names, [*names, *away], [*away, ("entry", LOOK, 0o755)]], Entrypoint=["/entry"])
    coldframe.Function("", code, runtime="provided", host=host).close()
    # Links that lead to and fro, each through a folder that lies as deep as can be, and a name that leads through all.
    deep, there = "/".join(["d" * 120] * 31), "a/../" * 790
    links = [special("L1", tarfile.SYMTYPE, f"/{deep}/L2")]
    links += [special(f"{deep}/L{n}", tarfile.SYMTYPE, there + (f"L{n + 1}" if n < 40 else ".")) for n in range(2, 41)]
    content = [*links, *(special("L1/x", tarfile.FIFOTYPE) for _ in range(1000)), ("entry", LOOK, 0o755)]
    code = layout(tmp_path / "maze", [content], compress=True, Entrypoint=["/entry"])
    with pytest.raises(coldframe.ConfigurationError, match="leads to and fro"):
        coldframe.Function("", code, runtime="provided", host=host)


@pytest.mark.bank("O56")
def test_powers_in_an_image_are_none(unchanged, without, tmp_path):
    powers = [
        ("set-uid", Path("/bin/sh").read_bytes(), 0o6755),
        special("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        special("disk", tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666),
        special("pipe", tarfile.FIFOTYPE),
    ]
    code = layout(
        tmp_path / "image", [interpreter(), [("/entry", LOOK, 0o755), *powers]], Entrypoint=["/entry"], User="0"
    )
    with coldframe.Function("", code, runtime="provided", host=without(), timeout_s=10) as fn:
        assert fn(["os.stat('/set-uid').st_mode"])[0] & (stat.S_ISUID | stat.S_ISGID) == 0
        assert fn(["os.path.lexists('/null')", "os.path.lexists('/disk')", "os.path.lexists('/pipe')"]) == [False] * 3
        # Root inside is nobody special.
        refused = [
            "os.setuid(1)",
            "os.mknod('/tmp/null', 0o020666, 259)",
            "os.chroot('/tmp')",
            "os.chown('/tmp', 1, 1)",
        ]
        assert fn(refused) == ["Operation not permitted"] * 4
        status = fn(["open('/proc/self/status').read()"])[0]
    assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}


@pytest.mark.bank("O56", twin=True)
@pytest.mark.needs("root")
def test_unpacked_by_somebody_who_trusts_it_powers_are_kept(tmp_path):
    powers = [("set-uid", "x", 0o6755), special("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)]
    with tarfile.open(fileobj=io.BytesIO(layer(powers))) as archive:
        how = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        archive.extractall(tmp_path, **how)
    assert (tmp_path / "set-uid").stat().st_mode & 0o6000 == 0o6000
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
