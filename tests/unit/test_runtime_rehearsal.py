"""A rehearsal leaves no trace, neither in the zygote nor in an environment that was parked."""

from __future__ import annotations

import compileall
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from test_runtime_driver import (
    IMPORT_RUNTIME,
    RUNTIME,
    Driver,
    every_python,  # noqa: F401 - the fixture "python"
)
from test_runtime_zygote import (  # noqa: F401 - the fixtures
    Zygote,
    call,
    library,
    site,
    task,
)

if TYPE_CHECKING:
    from pathlib import Path

# These names are fixtures.
# ruff: noqa: F811

STATE = """
import builtins, gc, hashlib, locale, logging, os, random, signal, subprocess, sys, threading, time, warnings

def mark(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()

def state():
    root, record = logging.getLogger(), logging.makeLogRecord({})
    for handler in root.handlers:
        handler.filter(record)
    return {
        "environ": dict(os.environ),
        "variables of the C library": sorted(subprocess.check_output(["/usr/bin/env"]).decode().splitlines()),
        "modules": sorted(sys.modules),
        "path": sys.path,
        "importers": sorted(sys.path_importer_cache),
        "finders": [repr(getattr(finder, "__name__", type(finder))) for finder in (*sys.meta_path, *sys.path_hooks)],
        "argv": [sys.argv, getattr(sys, "orig_argv", None), sys.dont_write_bytecode],
        "handlers": [[type(handler).__name__, handler.level] for handler in root.handlers],
        "filters": [len(root.filters), *(len(handler.filters) for handler in root.handlers)],
        "formatters": [type(handler.formatter).__name__ for handler in root.handlers],
        "request id": record.aws_request_id,
        "level": [root.level, root.disabled, logging.root.manager.disable],
        "loggers": sorted(logging.root.manager.loggerDict),
        "clock": logging.Formatter.converter is time.gmtime,
        "locale": locale.setlocale(locale.LC_ALL),
        "zone": [time.tzname, time.timezone, time.altzone, time.daylight],
        "streams": [[stream.name, stream.encoding, stream.errors, stream.mode, stream.closed, stream.line_buffering]
                    for stream in (sys.stdout, sys.stderr)],
        "original streams": [sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
        "warnings": [list(map(repr, warnings.filters)), repr(warnings.showwarning.__name__)],
        "main": sorted(vars(sys.modules["__main__"])) if sys.modules["__main__"].__doc__ is None else None,
        "coldframe": sorted(vars(sys.modules["coldframe"])),
        "signals": [repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM)],
        "garbage": [gc.isenabled(), gc.get_threshold(), gc.callbacks],
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace()],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()],
        "threads": [thread.name for thread in threading.enumerate()],
        "descriptors": [fd for fd in sorted(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd/" + fd)],
        "folder": os.getcwd(),
        "builtins": sorted(vars(builtins)),
    }
"""

IN_A_ZYGOTE = f"""{IMPORT_RUNTIME}
{STATE}
from coldframe_runtime import environment, rehearsal
made = environment.Environment(frozenset(sys.modules), list(sys.path))
logging.getLogger().setLevel(logging.ERROR)
warnings.simplefilter("error", BytesWarning)
random.seed(7)
def all_of_it():
    objects = [sys.stdout, sys.stderr, sys.modules, sys.path, os.environ, sys.argv, sys.meta_path, logging.getLogger()]
    objects += [*sys.modules.values(), *sys.meta_path, *logging.getLogger().handlers, *warnings.filters]
    return {{**state(), "random": mark(random.getstate()), "objects": sorted(map(id, objects))}}
all_of_it()  # what it loads itself is there now
before = json.dumps(all_of_it())
rehearsing = rehearsal.Rehearsal(made)
rehearsing.run(3, compiled=False)
rehearsing.run(3, compiled=True)
after = json.dumps(all_of_it())
print(before)
print(after)
"""


def differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: [one.get(name), other.get(name)] for name in {**one, **other} if one.get(name) != other.get(name)}


def run(python: str, source: str) -> subprocess.CompletedProcess[str]:
    config = json.dumps({"runtime": str(RUNTIME)})
    command = [python, "-I", "-S", "-B", "-c", source, config]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_nothing_is_left_where_it_happened(python: str) -> None:
    done = run(python, IN_A_ZYGOTE)
    assert (done.returncode, done.stderr) == (0, "")
    before, after = map(json.loads, done.stdout.splitlines())
    assert differing(before, after) == {}
    assert before["environ"] == {"TZ": ":UTC"}
    assert before["request id"] == ""
    assert before["level"][0] == 40
    assert not any("rehears" in name for name in after["modules"] if name != "coldframe_runtime.rehearsal")


HANDLER = f"""{STATE}
import logging
at_import = state()
logging.error("at import")
def handler(event, context):
    logging.error("called")
    return [at_import, state()]
"""


def test_an_environment_that_was_parked_is_like_one_that_was_not(
    library: Path, python: str, site: Path, task: Path
) -> None:
    (site / "package.py").write_text("import logging, random\nlogging.getLogger('package').setLevel(10)")
    (task / "app.py").write_text(HANDLER)
    with Zygote(str(library), python, preload=["package"], sites=[str(site)]) as zygote:
        fresh, parked = (call(zygote.fork(task, parked=parked)) for parked in (False, True))
        log = zygote.close().splitlines()
    for one, other in zip(fresh, parked, strict=True):
        assert differing(one, other) == {}
    assert fresh[0]["request id"] == ""
    lines = [line.split("\t")[2:] for line in log]
    assert [text for _, text in lines] == ["at import", "called"] * 2
    assert lines[0] == lines[2] == ["", "at import"]
    assert not any("rehears" in str(value) for name, value in fresh[1].items() if name != "modules")


def test_an_environment_is_like_one_that_nothing_was_rehearsed_for(library: Path, python: str, task: Path) -> None:
    (task / "app.py").write_text(HANDLER)
    with Driver(task, python=python) as driver:
        answer = driver.init("app.handler", {"LAMBDA_TASK_ROOT": str(task)})
        assert answer is not None
        never = driver.call()
    with Zygote(str(library), python, preload=[], sites=[]) as zygote:
        rehearsed = call(zygote.fork(task))
    of_the_zygote = {"modules", "descriptors", "folder", "importers", "path", "argv", "builtins"}
    for one, other in zip(never, rehearsed, strict=True):
        assert differing(one, other).keys() <= of_the_zygote


def test_one_that_fails_says_why(python: str) -> None:
    source = IN_A_ZYGOTE.replace("rehearsing = ", "rehearsal._EVENT = b'{bad'\nrehearsing = ")
    done = run(python, source)
    assert done.returncode == 1
    assert "RuntimeError: the rehearsal failed: " in done.stderr
    assert "Runtime.UnmarshalError" in done.stderr


HOOKS = """
import os
order = []
def broken():
    raise KeyError("broken hook")
for name in ("first", "second"):
    os.register_at_fork(after_in_child=lambda name=name: order.append(name))
os.register_at_fork(after_in_child=broken)
os.register_at_fork(before=lambda: order.append("before 1"), after_in_parent=lambda: order.append("parent"))
os.register_at_fork(before=lambda: order.append("before 2"), after_in_child=lambda: order.append("third"))
def leaving():
    raise SystemExit
os.register_at_fork(after_in_child=leaving)
os.register_at_fork(after_in_child=lambda: order.append("last"))
"""


@pytest.mark.parametrize("parked", [False, True])
def test_hooks_run_in_the_order_of_os_fork_and_none_stops_another(
    library: Path, python: str, site: Path, task: Path, *, parked: bool
) -> None:
    (site / "hooking.py").write_text(HOOKS)
    (task / "app.py").write_text(
        "import hooking, os\nseen = list(hooking.order)\n"
        "def handler(e, c):\n    hooking.order.clear()\n    pid = os.fork()\n"
        "    if not pid:\n        os._exit(len(hooking.order))\n"
        "    return seen, os.waitpid(pid, 0)[1] >> 8, hooking.order"
    )
    with Zygote(str(library), python, preload=["hooking"], sites=[str(site)]) as zygote:
        for _ in range(2):
            seen, in_child, in_parent = call(zygote.fork(task, parked=parked))
            assert seen == ["before 2", "before 1", "first", "second", "third", "last"]
            # A fork of the handler's own is Python's.
            assert in_parent == ["before 2", "before 1", "parent"]
            assert in_child == len(["before 2", "before 1", "first", "second", "third", "last"])
        # Two environments, each with a child of its own.
        assert zygote.close().count("KeyError: 'broken hook'") == 4


def test_a_lock_that_is_held_over_the_fork_is_free_in_the_child(
    library: Path, python: str, site: Path, task: Path
) -> None:
    (site / "locking.py").write_text(
        "import os, threading\nlock = threading.Lock()\n"
        "os.register_at_fork(before=lock.acquire, after_in_child=lock.release, after_in_parent=lock.release)"
    )
    (task / "app.py").write_text("import locking\ndef handler(e, c): return locking.lock.locked()")
    with Zygote(str(library), python, preload=["locking"], sites=[str(site)]) as zygote:
        assert [call(zygote.fork(task)), call(zygote.fork(task))] == [False, False]
        assert zygote.close() == ""


def test_what_a_preload_puts_in_front_of_imports_sees_the_handler(
    library: Path, python: str, site: Path, task: Path
) -> None:
    (site / "watching.py").write_text(
        "import sys\nseen = []\nclass Watch:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
        "        seen.append(name)\nsys.meta_path.insert(0, Watch)"
    )
    (task / "app.py").write_text("import watching\ndef handler(e, c): return watching.seen")
    with Zygote(str(library), python, preload=["watching"], sites=[str(site)]) as zygote:
        assert "app" in call(zygote.fork(task))


REHEARSE = f"""{IMPORT_RUNTIME}
from coldframe_runtime import environment, rehearsal
rehearsing = rehearsal.Rehearsal(environment.Environment(sys.modules.keys(), sys.path))
rehearsing.run(1, compiled=False)
os.write(1, str(len(rehearsing._script.bytecode)).encode())
os._exit(0)
"""


@pytest.mark.parametrize("compiled", [False, True])
def test_what_an_installer_has_compiled_is_rehearsed_as_if_it_were_not(tmp_path: Path, *, compiled: bool) -> None:
    """Only that way knows the bytecode: pip compiles all sources that it installs, those of the stage too."""
    runtime = shutil.copytree(RUNTIME, tmp_path / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    if compiled:
        assert compileall.compile_dir(runtime, quiet=1)
        assert (runtime / "stage" / "__pycache__").exists()
    command = [sys.executable, "-I", "-S", "-c", REHEARSE, json.dumps({"runtime": str(runtime)})]
    assert int(subprocess.check_output(command, timeout=20)) > 100
