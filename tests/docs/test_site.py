"""The documents are a site: it builds without a warning, and its pictures are what their script draws."""

import runpy
import subprocess
import sys

import pytest
from documents import ROOT


@pytest.mark.timeout(120)
def test_it_builds(tmp_path):
    pytest.importorskip("sphinx", reason="the site's tools are not installed: `make docs`")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            "-c",
            "docs",
            "-d",
            tmp_path / "trees",
            ".",
            tmp_path,
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "docs" / "index.html").exists()


@pytest.mark.parametrize("name", ["life", "states"])
def test_pictures_are_as_they_are_drawn(name):
    drawn = runpy.run_path(str(ROOT / "docs/pictures/draw.py"))[name]()
    assert ROOT.joinpath("docs/pictures", drawn.name).read_text(encoding="utf-8") == drawn.svg()
