"""Code and layers: in every form, wherever it lies, read once, and refused when it is for another machine."""

import os
import platform
import shutil
import stat
import struct
import sys
import zipfile
from pathlib import Path

import pytest

from coldframe import ConfigurationError, Function

ECHO = "def handler(event, context):\n    return event\n"
MACHINES = {"x86_64": 62, "arm64": 183}
HOST = "arm64" if platform.machine() == "aarch64" else "x86_64"
OTHER = "x86_64" if HOST == "arm64" else "arm64"
NOBODY = 65534


def library(architecture):
    """Return the beginning of a shared library for `architecture`."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 3, MACHINES[architecture], 1) + bytes(40)


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def function(host):
    """Return a factory of functions on the module's host, all closed when the test ends."""
    made = []

    def function(handler, code, **options):
        made.append(Function(handler, code, host=host, **options))
        return made[-1]

    yield function
    for fn in made:
        fn.close()


FILES = {
    "app.py": "from pkg.mod import add\nimport data\ndef handler(event, context):\n    return add(*event), data.text\n",
    "pkg/__init__.py": "",
    "pkg/mod.py": "def add(a, b):\n    return a + b\ndef handler(event, context):\n    return ['mod', event]\n",
    "data.py": "import pathlib\ntext = pathlib.Path('notes/text').read_text()\n",
    "notes/text": "ü",
}


@pytest.fixture
def folder(tmp_path):
    """Return a directory with some modules and a text."""
    top = tmp_path / "project"
    for name, text in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def test_a_directory(function, folder):
    assert function("app.handler", folder)([1, 2]) == [3, "ü"]
    assert function("app.handler", str(folder))([1, 2]) == [3, "ü"]


def test_a_relative_path(function, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    fn = function("app.handler", "project")
    monkeypatch.chdir("/")
    assert fn([1, 2]) == [3, "ü"]


@pytest.mark.parametrize("handler", ["pkg.mod.handler", "pkg/mod.handler"])
def test_both_notations_of_a_handler_in_a_package(function, folder, handler):
    assert function(handler, folder)(1) == ["mod", 1]


def test_a_single_file(function, tmp_path):
    path = tmp_path / "single.py"
    path.write_text("import os\ndef handler(event, context):\n    return os.listdir('/var/task')\n")
    (tmp_path / "other.py").write_text("")
    fn = function("single.handler", path)
    assert fn() == ["single.py"]
    assert fn.name == "single"


def test_a_zip(function, tmp_path):
    path = zipped(tmp_path / "code.zip", FILES)
    assert function("app.handler", path)([1, 2]) == [3, "ü"]
    assert function("pkg/mod.handler", path)(1) == ["mod", 1]


def test_a_zip_keeps_modes_and_links_within(function, tmp_path):
    path = tmp_path / "code.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "app.py",
            "import os, subprocess\n"
            "def handler(event, context):\n"
            "    return [subprocess.run(['./tool'], capture_output=True, text=True).stdout,\n"
            "            os.readlink('alias'), open('alias').read(), os.access('text', os.X_OK)]\n",
        )
        for name, mode, text in (
            ("tool", stat.S_IFREG | 0o755, "#!/bin/sh\necho tool\n"),
            ("text", stat.S_IFREG | 0o600, "text"),
            ("alias", stat.S_IFLNK | 0o777, "text"),
        ):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, text)
    assert function("app.handler", path)() == ["tool\n", "text", "text", False]


def test_code_below_a_home_that_is_closed_to_others(function, tmp_path):
    home = tmp_path / "home"
    code = home / "project"
    code.mkdir(parents=True)
    (code / "app.py").write_text("import helper\ndef handler(event, context):\n    return helper.text()\n")
    (code / "helper.py").write_text("def text():\n    return open('/var/task/data').read()\n")
    (code / "data").write_text("private")
    for path in code.iterdir():
        path.chmod(0o600)
    code.chmod(0o700)
    home.chmod(0o700)
    assert function("app.handler", code)() == "private"
    assert function("app.handler", code / "app.py").invoke().error.error_type == "Runtime.ImportModuleError"
    archive = zipped(home / "code.zip", {"app.py": ECHO})
    archive.chmod(0o600)
    assert function("app.handler", archive)(1) == 1
    assert function("app.handler", zipped(home / "x.zip", {"app.py": ECHO}), layers=[code])(1) == 1


@pytest.mark.needs("root")
def test_code_that_belongs_to_somebody_else(function, folder):
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert function("app.handler", folder)([1, 2]) == [3, "ü"]


def test_what_the_handler_sees_of_modes_lets_it_read_everything(function, folder):
    (folder / "app.py").write_text(
        "import os\n"
        "def handler(event, context):\n"
        "    return {os.path.join(top, name): [oct(os.stat(os.path.join(top, name)).st_mode & 0o777),\n"
        "        os.stat(os.path.join(top, name)).st_uid]\n"
        "        for top, folders, files in os.walk('.') for name in folders + files}\n"
    )
    (folder / "notes" / "text").chmod(0o400)
    (folder / "notes").chmod(0o700)
    seen = function("app.handler", folder)()
    assert {"./app.py", "./notes", "./notes/text", "./pkg/mod.py"} <= seen.keys()
    assert {int(mode, 8) & 0o444 for mode, _ in seen.values()} == {0o444}
    assert not any(int(mode, 8) & 0o022 for mode, _ in seen.values())


def test_code_in_tmp_itself(function):
    path = Path(f"/tmp/coldframe-test-{os.getpid()}.py")
    path.write_text("import os\ndef handler(event, context):\n    return os.listdir('/tmp')\n")
    try:
        # Without packages: a virtual environment under /tmp is shown there, at its own path.
        assert function(f"{path.stem}.handler", path, packages="none")() == []
    finally:
        path.unlink()


def test_edits_after_the_function_was_made_are_not_seen(function, tmp_path):
    code, layer = tmp_path / "code", tmp_path / "layer"
    code.mkdir()
    layer.mkdir()
    source = "import os\ndef handler(event, context):\n    return ['%s', open('/opt/text').read(), os.listdir('.')]\n"
    (code / "app.py").write_text(source % "before")
    (layer / "text").write_text("before")
    fn = function("app.handler", code, layers=[layer])
    (code / "app.py").write_text(source % "after")
    (code / "more.py").write_text("")
    (layer / "text").write_text("after")
    assert fn() == ["before", "before", ["app.py"]]
    shutil.rmtree(code)
    shutil.rmtree(layer)
    fresh = fn.submit  # a second environment, since the first is busy
    futures = [fresh(), fresh()]
    assert [future.result(30).payload for future in futures] == [["before", "before", ["app.py"]]] * 2
    code.mkdir()
    layer.mkdir()
    (code / "app.py").write_text(source % "again")
    (layer / "text").write_text("again")
    assert function("app.handler", code, layers=[layer])() == ["again", "again", ["app.py"]]


def test_links_within_the_code_work_and_those_that_leave_it_lead_nowhere(function, folder):
    (folder / "inside").symlink_to("notes/text")
    secret = folder.parent / "secret"
    secret.write_text("secret")
    (folder / "app.py").write_text(
        "def handler(event, context):\n"
        "    try:\n"
        "        return open(event).read()\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
    )
    assert function("app.handler", folder)("inside") == "ü"
    (folder / "outside").symlink_to("../secret")
    (folder / "absolute").symlink_to(secret)
    try:
        fn = function("app.handler", folder)
    except ConfigurationError as error:
        assert "outside" in str(error) or "absolute" in str(error)  # noqa: PT017 - either is fine
    else:
        assert fn("outside") == fn("absolute") == "FileNotFoundError"
        assert fn("inside") == "ü"


def test_pipes_and_sockets_in_a_directory_do_not_hang(function, folder):
    os.mkfifo(folder / "pipe")
    try:
        assert function("app.handler", folder)([1, 2]) == [3, "ü"]
    except ConfigurationError as error:
        assert "pipe" in str(error)  # noqa: PT017 - either is fine


def test_an_empty_directory_has_no_handler(function, tmp_path):
    error = function("app.handler", tmp_path).invoke().error
    assert error.error_type == "Runtime.ImportModuleError"


def test_layers_as_directories_and_zips_in_order(function, tmp_path):
    layers = []
    for number in range(5):
        files = {"python/shared.py": f"number = {number}\n", f"python/own{number}.py": f"number = {number}\n"}
        if number % 2:
            layers.append(zipped(tmp_path / f"layer{number}.zip", files))
        else:
            layers.append(tmp_path / f"layer{number}")
            for name, text in files.items():
                (layers[-1] / name).parent.mkdir(parents=True, exist_ok=True)
                (layers[-1] / name).write_text(text)
    code = tmp_path / "app.py"
    code.write_text(
        "import shared, own0, own1, own2, own3, own4\n"
        "def handler(event, context):\n"
        "    return [shared.number, *(module.number for module in (own0, own1, own2, own3, own4))]\n"
    )
    assert function("app.handler", code, layers=layers)() == [4, 0, 1, 2, 3, 4]
    assert function("app.handler", code, layers=[*layers[1:], layers[0]])() == [0, 0, 1, 2, 3, 4]
    with pytest.raises(ConfigurationError, match="5 layers"):
        function("app.handler", code, layers=[*layers, layers[0]])


def test_a_layer_that_is_missing_is_named(function, tmp_path):
    code = tmp_path / "app.py"
    code.write_text(ECHO)
    with pytest.raises(ConfigurationError, match="nothing-here"):
        function("app.handler", code, layers=[tmp_path / "nothing-here"])
    with pytest.raises(ConfigurationError, match=r"app\.py"):
        function("app.handler", code, layers=[code])


def test_the_architecture_of_the_host_is_accepted_and_the_other_refused(function, tmp_path):
    code = tmp_path / "app.py"
    code.write_text(ECHO)
    assert function("app.handler", code, architecture=HOST)(1) == 1
    with pytest.raises(ConfigurationError, match=OTHER):
        function("app.handler", code, architecture=OTHER)


@pytest.mark.parametrize("name", ["native.so", "pkg/_speed.cpython-311-linux-gnu.so", "lib/libz.so.1", "bootstrap"])
@pytest.mark.parametrize("place", ["directory", "zip", "layer", "zipped layer"])
def test_native_code_for_the_other_architecture_is_refused_by_name(function, tmp_path, name, place):
    code = tmp_path / "app.py"
    code.write_text(ECHO)

    def make(architecture):
        top = tmp_path / architecture
        (top / name).parent.mkdir(parents=True)
        (top / name).write_bytes(library(architecture))
        (top / "app.py").write_text(ECHO)
        archive = zipped(tmp_path / f"{architecture}.zip", {"app.py": ECHO, name: library(architecture)})
        if "layer" in place:
            return function("app.handler", code, layers=[archive if "zip" in place else top])
        return function("app.handler", archive if place == "zip" else top)

    assert make(HOST)(1) == 1
    with pytest.raises(ConfigurationError) as caught:
        make(OTHER)
    assert name in str(caught.value)
    assert OTHER in str(caught.value)


def test_installed_packages_are_readable_unless_they_are_hidden(function, tmp_path):
    code = tmp_path / "app.py"
    code.write_text(
        "def handler(event, context):\n"
        "    try:\n"
        "        return __import__(event).__name__\n"
        "    except ImportError:\n"
        "        return None\n"
    )
    with_packages, without = function("app.handler", code), function("app.handler", code, packages="none")
    assert [with_packages("iniconfig"), without("iniconfig")] == ["iniconfig", None]
    assert [with_packages("json"), without("json")] == ["json", "json"]
    code.write_text("import os, sys\ndef handler(event, context):\n    return [os.path.exists(event), sys.path]\n")
    seen, path = function("app.handler", code, packages="none")(os.path.dirname(os.path.dirname(pytest.__file__)))
    assert not seen
    assert not any("site-packages" in folder and folder.startswith(sys.prefix) for folder in path)


def test_layers_work_without_packages(function, tmp_path):
    code = tmp_path / "app.py"
    code.write_text("import mine\ndef handler(event, context):\n    return mine.x\n")
    layer = zipped(tmp_path / "layer.zip", {"python/mine.py": "x = 7\n"})
    assert function("app.handler", code, layers=[layer], packages="none")() == 7


IMPORTED = "import sys\nbefore = '%s' in sys.modules\nimport %s\ndef handler(event, context):\n    return before\n"


@pytest.mark.parametrize(
    ("preload", "expected"), [("auto", True), (["iniconfig"], True), ([], False), (("iniconfig", "json"), True)]
)
def test_what_is_preloaded_is_there_before_the_code_is_imported(function, tmp_path, preload, expected):
    code = tmp_path / "app.py"
    code.write_text(IMPORTED % ("iniconfig", "iniconfig"))
    assert function("app.handler", code, preload=preload)() is expected


def test_what_the_code_provides_itself_is_not_preloaded(function, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(
        "import iniconfig\ndef handler(event, context):\n    return iniconfig.x\n"
    )
    (tmp_path / "code" / "iniconfig.py").write_text("x = 'mine'\n")
    assert function("app.handler", tmp_path / "code")() == "mine"
    (tmp_path / "code" / "iniconfig.py").unlink()
    layer = zipped(tmp_path / "layer.zip", {"python/iniconfig.py": "x = 'layer'\n"})
    assert function("app.handler", tmp_path / "code", layers=[layer])() == "layer"


def test_a_preloaded_numpy_works_with_one_thread(function, tmp_path):
    pytest.importorskip("numpy")
    code = tmp_path / "app.py"
    code.write_text(
        "import os, sys\n"
        "before = 'numpy' in sys.modules\n"
        "import numpy\n"
        "def handler(event, context):\n"
        "    a = numpy.array(event, dtype=float)\n"
        "    return [before, (a @ a).tolist(), float(numpy.random.random()), len(os.listdir('/proc/self/task'))]\n"
    )
    fn = function("app.handler", code, memory_mb=512, timeout_s=10, reuse=False)
    results = [fn([[1, 2], [3, 4]]) for _ in range(2)]
    for before, product, _, threads in results:
        assert (before, product, threads) == (True, [[7.0, 10.0], [15.0, 22.0]], 1)
    assert results[0][2] != results[1][2], "the generator's state is not shared"


def test_functions_with_different_preloads_do_not_mix(function, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            "import sys\ndef handler(event, context):\n    return event in sys.modules\n"
        )
    one = function("one.handler", tmp_path / "one.py", preload=["iniconfig"])
    two = function("two.handler", tmp_path / "two.py", preload=[])
    assert (one("iniconfig"), two("iniconfig")) == (True, False)
