"""The short way to import a handler of one source file leads where the way of importlib leads.

Each function is initialised three times in the same folder: the short way, with the bytecode that came of it, and,
since a `__pycache__` beside it forbids the short way, by importlib itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from test_runtime_driver import (
    INIT_ERROR,
    READY,
    WARNING,
    Driver,
    every_python,  # noqa: F401 - the fixture "python"
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ECHO = "def handler(event, context): return [__name__, __file__, event]"
A_FOLDER = None


def write(task: Path, files: Mapping[str, str | bytes | None]) -> None:
    for name, content in files.items():
        path = task / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is A_FOLDER:
            path.mkdir()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def outcome(task: Path, python: str, handler: str, known: bytes = b"") -> tuple[Any, bytes]:
    """Return what becomes of the function, with all that it prints, and the bytecode."""
    with Driver(task, python=python) as driver:
        answer = driver.init(handler, {"LAMBDA_TASK_ROOT": str(task), "TZ": ":UTC"}, known=known)
        if answer is None:
            return ("left", driver.exit_status(), driver.log()), b""
        if answer.kind != READY:
            return (answer.kind, answer.value, WARNING.sub("", driver.log())), b""
        called = driver.invoke(1)
        assert called is not None
        return (called.kind, called.value, driver.log()), answer.bytecode


def every_way(task: Path, python: str, handler: str) -> tuple[Any, bytes]:
    """Return the outcome, which is the same each time, and the bytecode of the short way."""
    plain, bytecode = outcome(task, python, handler)
    if bytecode:
        assert outcome(task, python, handler, bytecode) == (plain, b"")
    (task / "__pycache__").mkdir()
    assert outcome(task, python, handler) == (plain, b"")
    return plain, bytecode


ABOUT = '''"""What it is."""
import builtins, importlib, importlib.util, inspect, pickle, sys, typing
class Kind:
    """A class."""
    member: "int" = 1
def typed(x: int) -> Kind: return Kind()
def handler(event, context):
    module = sys.modules[__name__]
    spec, loader = module.__spec__, module.__loader__
    about = {
        "members": list(vars(module)),
        "texts": {name: value for name, value in vars(module).items() if isinstance(value, str)},
        "repr": [repr(module), type(module).__name__, module.__doc__],
        "builtins": module.__builtins__ is vars(builtins),
        "spec": {name: repr(value) for name, value in vars(spec).items() if name != "loader"},
        "place": [spec.parent, spec.has_location, spec.cached, spec.origin, spec.name, type(spec).__qualname__],
        "found": importlib.util.find_spec(__name__) is spec,
        "search": spec == importlib.machinery.PathFinder.find_spec(__name__),
        "loader": [type(loader).__module__, type(loader).__qualname__, vars(loader), spec.loader is loader],
        "loaded": [loader.get_source(__name__), loader.is_package(__name__), loader.get_filename(__name__)],
        "code": loader.get_code(__name__).co_consts == compile(loader.get_source(__name__), __file__, "exec").co_consts,
        "flags": [typed.__code__.co_flags, typed.__code__.co_filename, typed.__code__.co_firstlineno],
        "annotations": [typed.__annotations__["x"] is int, typing.get_type_hints(typed)["return"] is Kind],
        "pickled": type(pickle.loads(pickle.dumps(Kind()))) is Kind,
        "source": [inspect.getsource(typed), inspect.getsource(Kind), inspect.getsourcefile(typed)],
        "module": [inspect.getmodule(typed) is module, Kind.__module__, __import__(__name__) is module],
    }
    about["again"] = [importlib.reload(module) is module, sys.modules[__name__] is module, typed(1).member]
    return about
'''


def test_a_module_is_exactly_as_importlib_makes_it(tmp_path: Path, python: str) -> None:
    write(tmp_path, {"app.py": ABOUT})
    (_, about, log), bytecode = every_way(tmp_path, python, "app.handler")
    assert bytecode
    assert log == ""
    assert about["members"][:9] == [
        "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__cached__", "__builtins__",
        "builtins",
    ]  # fmt: skip
    assert about["place"][:2] == ["", True]
    assert about["texts"]["__file__"] == str(tmp_path / "app.py")
    # The runtime postpones its own annotations; the code of the function does so when it says so.
    for check in ("builtins", "found", "search", "code", "annotations", "pickled", "module", "again"):
        assert all(about[check] if isinstance(about[check], list) else [about[check]]), check


SUCCESSES = {
    "nothing special": {"app.py": ECHO},
    "a cookie": {"app.py": "# coding: latin-1\ndef handler(e, c): return 'é', 'naïve'".encode("latin-1")},
    "a byte order mark": {"app.py": b"\xef\xbb\xbfdef handler(e, c): return '\xc3\xa9'"},
    "line ends of Windows": {"app.py": b"x = '''a\r\nb'''\r\ndef handler(e, c):\r\n    return x\r\n"},
    "postponed annotations": {
        "app.py": "from __future__ import annotations\ndef f(x: nope): pass\n"
        "def handler(e, c): return f.__annotations__, f.__code__.co_flags"
    },
    "annotations that are looked at": {
        "app.py": "def f(x: int): pass\ndef handler(e, c): return str(f.__annotations__), f.__code__.co_flags"
    },
    "a failure later": {"app.py": "def inner(): return {}['x']\n\ndef handler(e, c):\n    return inner()"},
    "a replaced module": {
        "app.py": "import sys\nclass New:\n"
        "    def handler(self, e, c): return [__name__, type(sys.modules['app']).__name__]\n"
        "sys.modules[__name__] = New()"
    },
    "a circle": {
        "other.py": "import app\nfrom app import early\nseen = [app.__spec__._initializing, hasattr(app, 'late')]",
        "app.py": "import sys\nearly = 1\nimport other\nlate = 2\n"
        "def handler(e, c): return other.seen, other.app is sys.modules['app'], __spec__._initializing",
    },
    "a thread that imports it": {
        "app.py": "import sys, threading, time\nseen = []\n"
        "def look():\n    import app\n    seen.append(hasattr(app, 'late'))\n"
        "thread = threading.Thread(target=look)\nthread.start()\nthread.join(0.05)\nlate = 1\n"
        "def handler(e, c):\n    thread.join(5)\n    return seen, thread.is_alive()"
    },
    "a bytecode file": {"app.py": ECHO, "app.pyc": b"of something else"},
    "output": {"app.py": "import sys\nprint('out')\nprint('err', file=sys.stderr)\n" + ECHO},
}


@pytest.mark.parametrize("name", SUCCESSES)
def test_what_a_module_does_is_the_same(tmp_path: Path, python: str, name: str) -> None:
    write(tmp_path, SUCCESSES[name])
    _, bytecode = every_way(tmp_path, python, "app.handler")
    assert bytecode, "it was not imported the short way"


def test_results_of_some_modules(tmp_path: Path) -> None:
    """That the ways agree shows nothing if they agree on nonsense."""
    expected = {
        "a cookie": ["é", "naïve"],
        "a byte order mark": "é",
        "line ends of Windows": "a\nb",
        "a replaced module": ["app", "New"],
        "a circle": [[True, False], True, False],
        "a thread that imports it": [[True], False],
    }
    for name, result in expected.items():
        write(tmp_path, SUCCESSES[name])
        assert outcome(tmp_path, sys.executable, "app.handler")[0][1] == result, name


@pytest.mark.parametrize("name", ["my-app", "ünï", "calendar", "code", "_private"])
def test_any_name_of_a_file_is_one_of_a_module(tmp_path: Path, python: str, name: str) -> None:
    write(tmp_path, {f"{name}.py": ECHO})
    (_, result, _), bytecode = every_way(tmp_path, python, f"{name}.handler")
    assert result == [name, str(tmp_path / f"{name}.py"), 1]
    assert bytecode


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"app.py": "1/0", "app/__init__.py": ECHO}, "app.handler"),
        ({"app.py": ECHO, "app": A_FOLDER}, "app.handler"),
        ({"app.py": ECHO, "app.so": b"no library"}, "app.handler"),
        ({"app.py": ECHO, "app.abi3.so": b"no library"}, "app.handler"),
        ({"app.py": A_FOLDER}, "app.handler"),
        ({"app.mod.py": ECHO}, "app.mod.handler"),
        ({".py": ECHO}, ".handler"),
        ({"app/mod.py": ECHO}, "app.mod.handler"),
        ({"app/mod.py": ECHO}, "app/mod.handler"),
        ({"json.py": ECHO}, "json.handler"),  # loaded before any code of a function
        ({"__hello__.py": ECHO}, "__hello__.handler"),  # part of every interpreter, and found there first
        ({}, "app.handler"),
    ],
    ids=str,
)
def test_what_python_prefers_to_a_source_file_it_gets(
    tmp_path: Path, python: str, files: Mapping[str, str | bytes | None], handler: str
) -> None:
    write(tmp_path, files)
    assert every_way(tmp_path, python, handler)[1] == b""


def test_a_dangling_link_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "app.py").symlink_to(tmp_path / "nowhere")
    (kind, error, _), _ = every_way(tmp_path, sys.executable, "app.handler")
    assert (kind, error["errorType"]) == (INIT_ERROR, "Runtime.ImportModuleError")


def test_a_folder_that_is_missing_is_an_import_error(tmp_path: Path, python: str) -> None:
    with Driver(tmp_path, python=python) as driver:
        answer = driver.init("app.handler", {"LAMBDA_TASK_ROOT": str(tmp_path / "nowhere")})
        assert answer is not None
        assert answer.value == {
            "errorMessage": "Unable to import module 'app': No module named 'app'",
            "errorType": "Runtime.ImportModuleError",
            "requestId": "",
            "stackTrace": [],
        }


FAILURES = {
    "in nested calls": {"app.py": "def g():\n    raise KeyError('x')\ndef f():\n    g()\nif True:\n    f()\n"},
    "from a cause": {
        "app.py": "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('caused') from e\n",
    },
    "in a context": {
        "app.py": "def f():\n    try:\n        {}['x']\n    except KeyError:\n        raise ValueError('late')\nf()\n"
    },
    "from nothing": {"app.py": "try:\n    1/0\nexcept ZeroDivisionError:\n    raise ValueError from None\n"},
    "twice": {"app.py": "try:\n    1/0\nexcept ZeroDivisionError as e:\n    error = e\nraise error\n"},
    "without a trace": {"app.py": "raise ValueError('x').with_traceback(None)"},
    "in another module": {"app.py": "import other\n", "other.py": "def f():\n    1/0\nf()\n"},
    "in another module by importlib": {
        "app.py": "import importlib\nimportlib.import_module('other')\n",
        "other.py": "1/0\n",
    },
    "in text": {"app.py": "exec('1/0')\n"},
    "in a class": {"app.py": "class A:\n    x = [1/0 for _ in 'x']\n"},
    "as an interrupt": {"app.py": "raise KeyboardInterrupt\n"},
    "missing a module": {"app.py": "x = 1\nimport nope_x\n"},
    "missing a name": {"app.py": "from os import nope_x\n"},
    "with an import error of its own": {"app.py": "raise ImportError('mine')\n"},
    "after it was replaced": {"app.py": "import sys, json\nsys.modules[__name__] = json\n1/0\n"},
    "after it was removed": {"app.py": "import sys\ndel sys.modules[__name__]\n1/0\n"},
    "in its syntax": {"app.py": "x = 1\ndef f(:\n"},
    "in the syntax of another": {"app.py": "import other", "other.py": "x = = 1\n"},
    "with a null": {"app.py": b"x = 1\0\n"},
    "in an unknown encoding": {"app.py": b"# coding: nope\n"},
    "outside its encoding": {"app.py": b"x = 1\ny = '\xff'\n"},
    "with a syntax error of its own": {"app.py": "compile('x = = 1', 'text', 'exec')\n"},
    "leaving": {"app.py": "import sys\nprint('so far', end='')\nsys.exit()\n"},
    "leaving with a status": {"app.py": "import sys\nsys.exit(3)\n"},
    "leaving with words": {"app.py": "raise SystemExit('bye')\n"},
    "leaving from a depth": {"app.py": "def f():\n    exit(4)\nf()\n"},
    "without a handler": {"app.py": "x = 1\n"},
    "empty": {"app.py": ""},
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_equal_line_by_line(tmp_path: Path, python: str, name: str) -> None:
    write(tmp_path, FAILURES[name])
    (kind, _, _), bytecode = every_way(tmp_path, python, "app.handler")
    assert kind in (INIT_ERROR, "left")
    assert bytecode == b""


def test_a_trace_has_the_frames_of_an_import_and_then_those_of_the_code(tmp_path: Path, python: str) -> None:
    write(tmp_path, FAILURES["in nested calls"])
    trace = outcome(tmp_path, python, "app.handler")[0][1]["stackTrace"]
    assert [frame.partition(", in ")[2].split("\n")[0] for frame in trace] == [
        "import_module", "_gcd_import", "_find_and_load", "_find_and_load_unlocked", "_load_unlocked", "exec_module",
        "_call_with_frames_removed", "<module>", "f", "g",
    ]  # fmt: skip


def test_a_module_that_removes_itself_is_not_found(tmp_path: Path, python: str) -> None:
    write(tmp_path, {"app.py": f"import sys\n{ECHO}\ndel sys.modules[__name__]"})
    plain = outcome(tmp_path, python, "app.handler")[0][1]
    (tmp_path / "__pycache__").mkdir()
    usual = outcome(tmp_path, python, "app.handler")[0][1]
    assert [plain["errorType"], plain["errorMessage"]] == [usual["errorType"], usual["errorMessage"]]
    assert plain["errorType"] == "KeyError"


def test_a_failure_leaves_the_import_system_as_it_was(tmp_path: Path, python: str) -> None:
    source = """
    import atexit, os, sys
    def look(finders=list(sys.meta_path)):
        os.write(1, str([sys.meta_path == finders, "app" in sys.modules]).encode())
        sys.__stdout__.flush()
    class Late(Exception):
        def __str__(self):
            look()
            return "late"
    raise Late
    """
    write(tmp_path, {"app.py": "\n".join(line[4:] for line in source.splitlines())})
    (_, error, log), _ = every_way(tmp_path, python, "app.handler")
    assert error["errorMessage"] == "late"
    assert log.startswith("[True, False]")


def test_bytecode_that_is_known_is_what_runs(tmp_path: Path, python: str) -> None:
    write(tmp_path, {"app.py": ECHO})
    first, bytecode = outcome(tmp_path, python, "app.handler")
    write(tmp_path, {"app.py": "1/0"})
    assert outcome(tmp_path, python, "app.handler", bytecode) == (first, b"")


def test_bytecode_that_python_cannot_read_is_none(tmp_path: Path, python: str) -> None:
    write(tmp_path, {"app.py": ECHO})
    assert outcome(tmp_path, python, "app.handler", b"no code")[0] == outcome(tmp_path, python, "app.handler")[0]


def test_bytecode_that_nobody_would_keep_is_not_sent(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": f"text = {'x' * 2_000_000!r}\ndef handler(e, c): return len(text)"})
    (_, result, _), bytecode = outcome(tmp_path, sys.executable, "app.handler")
    assert (result, bytecode) == (2_000_000, b"")
