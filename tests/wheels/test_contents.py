"""What is in a wheel and in the source distribution: all that it takes, for the right machine, and nothing else."""

import platform
import re
import struct
import tarfile
import zipfile
from email import message_from_bytes

import pytest
from released import BUILT, ROOT, WHEELS, machine

import coldframe

MACHINES = {"x86_64": 62, "aarch64": 183}
"""ELF's numbers for them."""
PYTHON = ROOT / "python"
OURS = {
    file.relative_to(PYTHON).as_posix()
    for file in PYTHON.rglob("*")
    if file.suffix in {".py", ".pyi"} or file.name == "py.typed"
}
LARGEST = 4 << 20
by_name = pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name)


def test_there_is_one_wheel_for_every_python_of_this_machine():
    assert [machine(wheel) for wheel in WHEELS if machine(wheel) == platform.machine()] == [platform.machine()]


@by_name
def test_a_wheel_says_what_it_runs_on(wheel):
    # Whatever glibc a distribution has that still gets updates: 2.17 is of 2012.
    tags = f"cp311-abi3-manylinux2014_{machine(wheel)}.manylinux_2_17_{machine(wheel)}"
    assert wheel.name == f"coldframe-{coldframe.__version__}-{tags}.whl"


@by_name
def test_a_wheel_has_the_package_and_nothing_else(wheel):
    info = f"coldframe-{coldframe.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = {name for name in names if name.startswith(info)}
    assert names - about == OURS | {"coldframe/_core.abi3.so"}
    expected = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert {name.removeprefix(f"{info}/") for name in about if "/sboms/" not in name} == expected
    assert wheel.stat().st_size < LARGEST


@by_name
def test_all_programs_of_a_wheel_are_for_its_machine(wheel):
    with zipfile.ZipFile(wheel) as archive:
        module = archive.read("coldframe/_core.abi3.so")
    # The module itself, and in it: the init, the library of zygotes, the tracer, and the fork server in that.
    starts = [found.start() for found in re.finditer(rb"\x7fELF\x02\x01\x01", module)]
    assert len(starts) == 5
    assert {struct.unpack_from("<H", module, start + 18)[0] for start in starts} == {MACHINES[machine(wheel)]}


@by_name
def test_the_base_install_has_no_dependencies(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"coldframe-{coldframe.__version__}.dist-info/METADATA"))
    assert [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need] == []
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_source_distribution_has_what_a_build_needs_and_nothing_else():
    (source,) = BUILT.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {name for name in names if "/" not in name}
    assert top == {"Cargo.lock", "Cargo.toml", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
    python = {name for name in names if name.startswith("python/")}
    assert {name.removeprefix("python/") for name in python} == OURS
    needed = re.compile(r"rust/(?!capi/)\w+/(src/.*|child/.*|build\.rs|Cargo\.toml)")
    assert [name for name in names - top - python if not needed.fullmatch(name)] == []
