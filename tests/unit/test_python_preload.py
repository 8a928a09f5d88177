"""Which installed packages are preloaded: what the code imports, and never what it brings itself."""

import os
import zipfile

import pytest

from coldframe._interpreter import Interpreter
from coldframe._preload import imported, resolve
from coldframe._source import Source
from coldframe.errors import ConfigurationError


@pytest.fixture
def site(tmp_path):
    """Installed packages of every shape."""
    folder = tmp_path / "site-packages"
    for package in ("numpy", "PIL", "pytest", "coldframe", "optional", "helper"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    (folder / "namespace" / "part").mkdir(parents=True)
    (folder / "six.py").touch()
    (folder / "native.cpython-311-x86_64-linux-gnu.so").touch()
    (folder / "numpy-1.0.dist-info").mkdir()
    (folder / "notes.txt").touch()
    return folder


@pytest.fixture
def interpreter(site):
    return Interpreter("/usr/bin/python3", "3.11", (), (), (str(site),))


@pytest.fixture
def auto(tmp_path, interpreter):
    """What "auto" comes to for a directory with these files."""

    def resolved(files, handler="app.handler", *, layers=(), pack=None, preload="auto", packages="inherit"):
        root = tmp_path / "code"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        target = str(pack(root) if pack else root)
        return resolve(
            preload,
            packages=packages,
            handler=handler,
            code=target,
            origin=target,
            layers=[str(layer) for layer in layers],
            interpreter=interpreter,
        )

    return resolved


def as_zip(root):
    path = root.parent / "code.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in root.rglob("*"):
            archive.write(file, file.relative_to(root))
    return path


def as_file(root):
    return root / "app.py"


IMPORTS = """
import os, json
import numpy as np, six
from PIL import Image
import native
import namespace.part
import gone
"""


@pytest.mark.parametrize("pack", [None, as_zip, as_file])
def test_installed_packages_that_the_code_imports(auto, pack):
    assert auto({"app.py": IMPORTS}, pack=pack) == ("PIL", "namespace", "native", "numpy", "six")


@pytest.mark.parametrize("pack", [None, as_zip])
def test_through_modules_of_the_code(auto, pack):
    files = {
        "pkg/__init__.py": "from . import sub",
        "pkg/app.py": "from .deep.er import thing\nfrom ..beyond import x",
        "pkg/sub.py": "import six",
        "pkg/deep/__init__.py": "",
        "pkg/deep/er.py": "import PIL",
        "unrelated.py": "import numpy",
    }
    assert auto(files, "pkg/app.handler", pack=pack) == ("PIL", "six")
    assert auto(files, "pkg.app.handler", pack=pack) == ("PIL", "six")


def test_lazy_imports_count_in_the_handlers_own_file_only(auto):
    lazy = "def f():\n    import {}\n"
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import optional\nelse:\n    import six\n"
    files = {"app.py": f"import mine\n{lazy.format('numpy')}{guarded}", "mine.py": lazy.format("optional")}
    assert auto(files) == ("numpy", "six")


def test_imports_in_blocks_count(auto):
    guarded = "try:\n    import numpy\nexcept ImportError:\n    import six\n"
    text = guarded + "class C:\n    import PIL\nwith x:\n    import native\n"
    assert auto({"app.py": "import mine", "mine.py": text}) == ("PIL", "native", "numpy", "six")


def test_tools_and_the_standard_library_are_left_out(auto):
    assert auto({"app.py": "import pytest, coldframe, json, numpy"}) == ("numpy",)


@pytest.mark.parametrize("layer", ["python", "python/lib/python3.11/site-packages"])
@pytest.mark.parametrize("pack", [None, as_zip])
def test_nothing_when_a_layer_provides_an_installed_name(auto, tmp_path, layer, pack):
    """An installed package might have imported the installed one of the same name."""
    folder = tmp_path / "layer"
    (folder / layer / "PIL").mkdir(parents=True)
    (folder / layer / "PIL" / "__init__.py").touch()
    layers = [as_zip(folder)] if pack else [folder]
    assert auto({"app.py": "import PIL, numpy"}, layers=layers) == ()


def test_nothing_when_the_code_provides_an_installed_name(auto):
    assert auto({"app.py": "import helper, numpy", "helper.py": ""}) == ()


def test_common_names_of_folders_are_no_conflict(auto, site):
    (site / "tests").mkdir()
    assert auto({"app.py": "import numpy", "tests/test_app.py": ""}) == ("numpy",)


def test_an_editable_install_of_the_same_code_is_no_conflict(tmp_path, site):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("import numpy")
    interpreter = Interpreter("/usr/bin/python3", "3.11", (), (), (str(site), str(tmp_path / "src")))
    for code in (tmp_path / "src", tmp_path / "src" / "app.py"):
        options = {"handler": "app.handler", "code": str(code), "origin": str(code), "interpreter": interpreter}
        assert resolve("auto", packages="inherit", layers=[], **options) == ("numpy",)


def test_packages_none_preloads_nothing(auto):
    assert auto({"app.py": "import numpy"}, packages="none") == ()


@pytest.mark.parametrize(
    "text",
    [
        b"import numpy\n(",
        b"\0import numpy",
        b"import numpy\n" + b"(" * 10_000,
        b"x = " + b"-" * 100_000 + b"1",
        b"\xff",
    ],
)
def test_what_cannot_be_parsed_is_skipped(auto, text):
    assert auto({"app.py": text}) == ()


def test_strange_files_are_skipped_without_waiting(auto, tmp_path):
    (tmp_path / "code").mkdir()
    os.mkfifo(tmp_path / "code" / "pipe.py")
    os.symlink("/dev/zero", tmp_path / "code" / "endless.py")
    (tmp_path / "code" / "huge.py").write_bytes(b"import PIL\n" + b"#" * (1 << 20))
    assert auto({"app.py": "import pipe, endless, huge, numpy"}) == ("numpy",)


@pytest.mark.parametrize("handler", ["../app.handler", "/etc/passwd.handler", "a\0b.handler", "..handler"])
def test_a_handler_cannot_lead_out_of_the_code(auto, handler):
    assert auto({"app.py": "import numpy"}, handler) == ()


def test_a_circle_of_imports_ends(auto):
    assert auto({"app.py": "import other", "other.py": "import app, numpy"}) == ("numpy",)


def test_the_search_is_bounded(tmp_path):
    for number in range(400):
        (tmp_path / f"m{number}.py").write_text(f"import m{number + 1}, found{number}")
    with Source(str(tmp_path)) as source:
        found = imported(source, "m0.handler")
    assert "found299" in found
    assert "found300" not in found


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[:-10], lambda b: b[:40] + b"\xff" * 40 + b[80:], lambda b: b"x" * 1000],
)
def test_broken_archives_are_hints_about_nothing(auto, damage):
    def pack(root):
        path = as_zip(root)
        path.write_bytes(damage(path.read_bytes()))
        return path

    assert auto({"app.py": "import numpy"}, pack=pack) == ()


def test_an_archive_that_claims_a_huge_directory_is_not_read(auto):
    def pack(root):
        path = as_zip(root)
        whole = bytearray(path.read_bytes())
        whole[-10:-6] = (1 << 30).to_bytes(4, "little")  # the size of the central directory
        path.write_bytes(whole)
        return path

    assert auto({"app.py": "import numpy"}, pack=pack) == ()


def test_no_code_at_all_is_for_the_core_to_refuse(interpreter):
    options = {"handler": "app.handler", "code": "/nowhere", "origin": "/nowhere", "layers": ["/nowhere"]}
    assert resolve("auto", packages="inherit", interpreter=interpreter, **options) == ()


def test_an_explicit_list_is_taken_as_it_is(auto):
    assert auto({"app.py": ""}, preload=["numpy", "json", "PIL.Image", "numpy"]) == ("PIL.Image", "json", "numpy")
    assert auto({"app.py": "import numpy"}, preload=()) == ()


@pytest.mark.parametrize(
    ("preload", "why"),
    [
        ("numpy", "a list of names"),
        ([1], "a list of names"),
        (["not a name"], "is not the name of a module"),
        (["import"], "is not the name of a module"),
        (["numpy."], "is not the name of a module"),
        (["app"], "provided by the code"),
        (["gone"], "is not installed"),
    ],
)
def test_an_explicit_list_is_checked(auto, preload, why):
    with pytest.raises(ConfigurationError, match=why):
        auto({"app.py": ""}, preload=preload)


def test_packages_none_can_preload_the_standard_library_only(auto):
    assert auto({"app.py": ""}, preload=["json"], packages="none") == ("json",)
    with pytest.raises(ConfigurationError, match="visible with packages"):
        auto({"app.py": ""}, preload=["numpy"], packages="none")
