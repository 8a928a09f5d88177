"""The description of an interpreter."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from coldframe import _interpreter
from coldframe._interpreter import describe
from coldframe.errors import ConfigurationError


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def answer_of(tmp_path, **changes):
    """What an interpreter with its prefix at tmp_path would say."""
    return {
        "implementation": "cpython",
        "version": [3, 11, 7],
        "executables": [sys.executable],
        "base_prefixes": [str(tmp_path)],
        "prefixes": [str(tmp_path)],
        "stdlib": [str(tmp_path / "lib" / "python3.11")],
        "site": [],
        **changes,
    }


def test_the_embedding_interpreter_can_be_run_as_described():
    found = describe("python")
    assert found.version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert found.executable == os.path.realpath(found.executable)
    program = "import sys, json, decimal, ctypes; print(sys.version_info[:2])"
    command = [found.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {list(found.stdlib)}; {program}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == str(
        sys.version_info[:2]
    )


def test_what_it_needs_is_covered():
    found = describe("python")
    needed = [found.executable, *found.stdlib]
    for path in map(os.path.realpath, needed):
        assert path.startswith(("/usr/", "/lib", "/bin", *(f"{prefix}/" for prefix in found.prefixes))), path
    assert all(os.path.isabs(path) and os.path.isdir(path) for path in (*found.prefixes, *found.stdlib, *found.site))
    assert not {"/", "/usr"} & set(found.prefixes)
    assert not any(path.startswith("/usr/") for path in found.prefixes)


def test_site_directories_hold_what_is_installed():
    origin = Path(pytest.__file__).parent.parent
    assert any(os.path.samefile(origin, site) for site in describe("python").site)


def test_a_virtual_environment_is_described_by_its_base_and_its_packages(tmp_path):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    found, bare = describe(python), describe(python, "none")
    packages = str(tmp_path / "env" / "lib" / f"python{found.version}" / "site-packages")
    assert found.executable == describe("python").executable
    assert packages in found.site
    assert str(tmp_path / "env") in found.prefixes
    assert str(tmp_path / "env") not in bare.prefixes
    assert set(bare.prefixes) < set(found.prefixes)
    assert bare.site == found.site


def test_editable_installs_are_found_through_pth_files(tmp_path):
    site, project, other = tmp_path / "site", tmp_path / "project", tmp_path / "other"
    for folder in (site, project, other):
        folder.mkdir()
    (tmp_path / "file.txt").touch()
    lines = [str(project), "../other", "import os; os.abort()", "# comment", "", "/nowhere", "../file.txt", "a\0b"]
    (site / "editable.pth").write_text("\n".join(lines))
    (site / "binary.pth").write_bytes(b"\xff\xfe\0")
    (site / "folder.pth").mkdir()
    found = _interpreter._describe("python", answer_of(tmp_path, site=[str(site)]), "inherit")
    assert found.site == (str(site), str(project), str(other))


def test_paths_that_others_cover_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prefix = tmp_path / "opt" / "python"
    (prefix / "lib" / "python3.11").mkdir(parents=True)
    (tmp_path / "link").symlink_to(prefix)
    roots = [str(prefix), str(prefix / "lib"), "/usr", "/usr/local", "/", str(tmp_path / "link"), str(prefix)]
    answer = answer_of(prefix, base_prefixes=roots, executables=["/usr/bin/env", sys.executable])
    found = _interpreter._describe("python", answer, "inherit")
    beside = os.path.dirname(os.path.realpath(sys.executable))
    assert set(found.prefixes) - {beside} == {str(prefix)}


@pytest.mark.parametrize("sign", ["home", "above", "local", "project"])
def test_a_prefix_that_holds_other_things_too_is_narrowed(tmp_path, monkeypatch, sign):
    prefix = tmp_path / ".local" if sign == "local" else tmp_path
    for part in ("bin", "lib/python3.11", "secrets"):
        (prefix / part).mkdir(parents=True)
    home = {"home": tmp_path, "above": tmp_path / "user", "local": tmp_path, "project": tmp_path / "elsewhere"}[sign]
    monkeypatch.setenv("HOME", str(home))
    if sign == "project":
        (prefix / "pyproject.toml").touch()
    found = _interpreter._describe("python", answer_of(prefix), "inherit")
    assert {str(prefix / "bin"), str(prefix / "lib")} <= set(found.prefixes)
    assert not any((prefix / "secrets").is_relative_to(folder) for folder in found.prefixes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": [3, 8, 18]}, "is cpython 3.8.18; coldframe needs CPython 3.9 or later"),
        ({"implementation": "pypy"}, "is pypy 3.11.7"),
        ({"executables": ["", "/nowhere/python3", "/usr/bin/env"]}, "no python executable was found"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, changes, why):
    with pytest.raises(ConfigurationError, match=why):
        _interpreter._describe("/x/python", answer_of(tmp_path, **changes), "inherit")


def test_other_programs_are_refused(tmp_path):
    (tmp_path / "plain").touch()
    wrong = {
        str(tmp_path / "none"): "No such file",
        str(tmp_path): "not an executable file",
        str(tmp_path / "plain"): "not an executable file",
        script(tmp_path / "silent", "#!/bin/sh\n"): "does not answer as CPython",
        script(tmp_path / "wrong", "#!/bin/sh\necho '{}'\n"): "does not answer as CPython",
        script(tmp_path / "list", "#!/bin/sh\necho '[]'\n"): "does not answer as CPython",
        script(tmp_path / "failing", "#!/bin/sh\nexit 3\n"): "exit status 3",
        "python3.12": 'use "python", the path',
        "provided.al2": 'use "python", the path',
    }
    for runtime, why in wrong.items():
        with pytest.raises(ConfigurationError, match=why):
            describe(runtime)
    with pytest.raises(ConfigurationError, match="runtime=3"):
        describe(3)


def test_an_interpreter_is_asked_once_until_it_changes(tmp_path):
    count = tmp_path / "count"
    path = script(tmp_path / "python", f'#!/bin/sh\necho x >> {count}\nexec {sys.executable} "$@"\n')
    assert describe(path) == describe(path)
    assert count.read_text() == "x\n"
    os.utime(path, ns=(0, 0))
    describe(path)
    assert count.read_text() == "x\nx\n"
