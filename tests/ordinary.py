"""Being an ordinary user with cgroups of its own, for tests that root runs.

As a program it runs pytest as that user, in delegated cgroups, from copies that everybody can read:

    python tests/ordinary.py [PYTEST ARGUMENT ...]
"""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from conftest import own_cgroups, until

import coldframe

UID = 64_321
NAME = f"coldframe-test-{os.getpid()}"
PROJECT = Path(__file__).resolve().parents[1]
PLUGINS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "psutil")
"""What the tests need beside what they test."""
# Joins cgroups while it may, then becomes the user, then the program. In a version 2 tree only who may write to the
# common ancestor moves a process, so this cannot wait until the user has changed.
ENTER = """
import os, sys
user, groups, program = int(sys.argv[1]), sys.argv[2].split(":"), sys.argv[3:]
for group in filter(None, groups):
    with open(group + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
os.execv(program[0], program)
"""


def command(program, groups=(), user=UID):
    """Return the command that runs a program as the ordinary user, or another, in the given cgroups."""
    return [sys.executable, "-c", ENTER, str(user), ":".join(map(str, groups)), *map(str, program)]


def variables(place, **more):
    """Return the variables of a program of the user."""
    return {"HOME": str(place / "home"), "PATH": os.defpath, "PYTHONPATH": str(place / "lib"), **more}


def interpreter():
    """Return an interpreter that everybody can run and that the native module was built for; None if there is none."""
    test = "import sys; assert sys.version_info >= (3, 11); import json, ctypes, ssl"
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run([path, "-c", test], user=UID, group=UID, extra_groups=[], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    return None


@contextmanager
def place():
    """Yield a folder that everybody can reach: a copy of the package, in `lib`, and the user's home."""
    place = Path(f"/var/tmp/{NAME}")
    place.mkdir(mode=0o755)
    try:
        copy(Path(coldframe.__file__).parent, place / "lib/coldframe")
        place.joinpath("home").mkdir(mode=0o700)
        os.chown(place / "home", UID, UID)
        yield place
    finally:
        shutil.rmtree(place)


def copy(source, target):
    """Copy a folder or a file, for everybody to read; with its age, by which bytecode is known to be of it."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        os.utime(target, ns=(0, source.stat().st_mtime_ns))
        return
    for path in source.iterdir():
        copy(path, target / path.name)


def project(place, python):
    """Copy the tests, make a virtual environment with the packages that they need, and return its interpreter."""
    copy(PROJECT / "tests", place / "project/tests")
    copy(PROJECT / "pyproject.toml", place / "project/pyproject.toml")
    home = place / "project/venv"
    subprocess.run([python, "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    copy(Path(coldframe.__file__).parent, site / "coldframe")
    names, seen = list(PLUGINS), set()
    while names:
        distribution = metadata.distribution(names.pop())
        if distribution.name in seen:
            continue
        seen.add(distribution.name)
        for file in distribution.files:
            if ".." not in file.parts:
                copy(Path(file.locate()), site / file)
        required = [line for line in distribution.requires or () if "extra ==" not in line]
        names += [name for name in map(first_word, required) if installed(name)]
    for folder, _, files in os.walk(site):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, UID, UID)
    return home / "bin/python"


def first_word(requirement):
    """Return the name that a requirement begins with."""
    for index, letter in enumerate(requirement):
        if not (letter.isalnum() or letter in "-_."):
            return requirement[:index]
    return requirement


def installed(name):
    """Tell whether a distribution is here: what is required on other systems is not."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@contextmanager
def delegated():
    """Yield cgroups below our own, one in every hierarchy, that belong to the user."""
    groups = []
    for own in own_cgroups():
        version_2 = own.joinpath("cgroup.controllers").exists()
        if not version_2 and own.joinpath("cpuset.cpus").exists():
            continue  # a version 1 cpuset takes nobody before it has been given processors; environments need none
        if version_2:
            offer(own)
        group = own / NAME
        group.mkdir()
        groups.append(group)
        for path in (group, *group.iterdir()):
            os.chown(path, UID, UID)
    try:
        yield groups
    finally:
        # Nothing of ours is in there any more, but perhaps the leaf that its processes were moved to.
        for group in groups:
            left = group / "coldframe-caller"
            if left.is_dir():
                until(lambda left=left: not left.joinpath("cgroup.procs").read_text())
                left.rmdir()
            assert until(lambda group=group: not [path for path in group.iterdir() if path.is_dir()]), group
            group.rmdir()


def offer(group):
    """Enable the controllers for the children of a version 2 cgroup; at its root processes do not stand in the way."""
    wanted = {"cpu", "memory", "pids"} & set(group.joinpath("cgroup.controllers").read_text().split())
    if not group.joinpath("cgroup.type").exists() and wanted:
        group.joinpath("cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))


def main():
    """Run pytest as the ordinary user; end as it ends."""
    python = interpreter()
    if not python:
        raise SystemExit("no Python 3.11 or newer can be run by another user")
    with place() as folder, delegated() as groups:
        # What is delegated has to be in force, whatever else this machine lacks.
        required = "namespaces,seccomp,cgroup.cpu,cgroup.memory,cgroup.pids,cgroup.freeze"
        tests = [project(folder, python), "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[1:]]
        tests.append(f"--basetemp={folder}/home/tmp")
        more = {name: value for name, value in os.environ.items() if name.startswith("COLDFRAME_")}
        more |= {"COLDFRAME_REQUIRE": required, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
        done = subprocess.run(
            command(tests, groups), cwd=folder / "project", env=variables(folder, **more), check=False
        )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
