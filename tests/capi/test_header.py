"""`coldframe.h`, which is written by hand, says what the library has."""

import re
import subprocess
from pathlib import Path

from native import ABI, HEADER, LIBRARY, TOP, constant, declarations, ffi, lib

import coldframe

TYPES = {
    "int": "c_int",
    "double": "c_double",
    "size_t": "usize",
    "uint64_t": "u64",
    "char *": "*const c_char",
    "char * *": "*const *const c_char",
    "coldframe_report *": "*const Report",
}


def rust_fields(file, structure):
    """Return the fields of a structure of the library's source, those that nobody but the library sees left out."""
    text = (TOP / "rust/capi/src" / file).read_text()
    body = re.search(rf"#\[repr\(C\)\]\npub struct {structure} \{{\n(.*?)\n\}}", text, re.DOTALL)[1]
    return [(name, kind) for name, kind in re.findall(r"^    (\w+): (.*),$", body, re.MULTILINE) if name[0] != "_"]


def test_every_function_is_in_both():
    symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1] for line in symbols.splitlines()}
    declared = set(re.findall(r"\b(coldframe_\w+)\(", declarations()))
    assert exported == declared
    assert all(hasattr(lib, name) for name in declared)


def test_every_structure_has_the_same_fields_in_the_same_order():
    for structure, file, name in (
        ("coldframe_error", "error.rs", "Error"),
        ("coldframe_report", "invocation.rs", "Report"),
        ("coldframe_invocation", "invocation.rs", "Invocation"),
    ):
        fields = [(field, TYPES[found.type.cname]) for field, found in ffi.typeof(structure).fields]
        assert fields == rust_fields(file, name), structure


def test_every_number_is_the_librarys():
    source = "".join(path.read_text() for path in (TOP / "rust/capi/src").glob("*.rs"))
    for enumeration, prefix, form in (
        ("coldframe_error_code", "COLDFRAME_ERROR_", "{} = {},"),
        ("coldframe_verdict", "COLDFRAME_", "Kind::{} => {},"),
        ("coldframe_start", "COLDFRAME_", "Start::{} => {},"),
    ):
        short = {"HandlerError": "Handler", "InitError": "Init", "OutOfMemory": "Memory", "PayloadError": "Payload"}
        for value, name in ffi.typeof(enumeration).elements.items():
            word = name.removeprefix(prefix).title().replace("_", "")
            word = short.get(word, word) if enumeration == "coldframe_verdict" else word
            assert form.format(word, value) in source, name


def test_the_versions_are_one():
    assert ffi.string(lib.coldframe_version()).decode() == coldframe.__version__ == constant("COLDFRAME_VERSION")[1:-1]
    assert lib.coldframe_abi() == ABI


def test_the_installed_header_is_this_one():
    installed = LIBRARY.parents[1] / "include/coldframe.h"
    assert installed.read_text() == HEADER.read_text(), "run `make capi`"
    assert Path(LIBRARY).resolve().name == "libcoldframe.so.1"
    dynamic = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
    assert "soname: [libcoldframe.so.1]" in dynamic
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    assert {name.partition(".")[0] for name in needed} <= {
        "libc",
        "libgcc_s",
        "libm",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }


def test_unsafe_stands_in_one_file():
    for path in (TOP / "rust").glob("*/src/**/*.rs"):
        crate = path.relative_to(TOP / "rust").parts[0]
        if crate != "sys" and re.search(r"\bunsafe (\{|fn|impl|extern)|#\[unsafe", path.read_text()):
            assert path == TOP / "rust/capi/src/border.rs"
    for crate in ("core", "coldframe", "py"):
        assert "#![forbid(unsafe_code)]" in (TOP / "rust" / crate / "src/lib.rs").read_text(), crate
    assert "#![deny(unsafe_code)]" in (TOP / "rust/capi/src/lib.rs").read_text()
