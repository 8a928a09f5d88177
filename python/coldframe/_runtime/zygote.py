"""A zygote: an interpreter that has imported what its environments need, and forks one whenever it is asked to.

It never runs the code of a function. It has one thread, or refuses to serve: a fork copies only the thread that forks,
and whatever another one held locked stays locked. The fork itself and all of the isolation happen in native code;
Python comes back to life in the child, when there is nothing left to lock down.

Packages and handlers that keep state which must differ from one environment to the next use
`os.register_at_fork(after_in_child=...)`: its hooks run in every environment, before the handler is imported.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import json
import os
import site
import sys
import time
from typing import Any, NoReturn

from . import environment, forking, randomness, rehearsal

# From about eight calls on CPython 3.11 and later leave a function's code as it is.
_REHEARSALS = 12

_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def main(config: dict[str, Any]) -> NoReturn:
    """Prepare, report on the control socket, then serve; ends the process, in the zygote and in every environment.

    `config` has `sys_path` (the folders of the standard library and of the installed packages), `prefix` (sys.prefix,
    or None), `preload` (names of modules), `renew` (whether environments get
    fresh random state), `library` (path of the native library) and `control` (the descriptor that
    requests come in on).
    """
    try:
        _serve(config)
    except BaseException:  # noqa: BLE001 - nothing may unwind into the interpreter's finalisation
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _serve(config: dict[str, Any]) -> NoReturn:
    """Do what `main` says, with exceptions."""
    standard_library = _standard_library()
    sys.path[:] = config["sys_path"]
    if config.get("prefix"):
        sys.prefix = sys.exec_prefix = config["prefix"]
    os.environ.update(dict.fromkeys(_THREAD_COUNTS, "1"))
    _add_site_builtins()
    # Lambda's runtime has these loaded too, before any code of a function: they cannot be shadowed there either.
    settled = frozenset(sys.modules)

    with forking.Hooks() as hooks:
        refused = _preload(config["preload"])
    try:
        native = _load(config["library"])
    except Exception as error:  # noqa: BLE001 - an interpreter without ctypes, or a library of another architecture
        refused = refused or {"ctypes": f"loading the native library raised {type(error).__name__}: {error}"}
    _flush()
    if refused:
        _report(config["control"], refused)
        os._exit(1)
    made = environment.Environment(settled, standard_library)
    random = randomness.to_renew() if config["renew"] else []
    rehearsing = rehearsal.Rehearsal(made)
    rehearsing.run(_REHEARSALS, compiled=False)
    rehearsing.run(_REHEARSALS, compiled=True)
    hooks.run_before()
    gc.collect()
    gc.freeze()  # a collection in an environment then touches none of these pages
    _report(config["control"], {})

    parked = native.coldframe_serve(config["control"], _rseq_offset())
    if parked < 0:
        os._exit(0)  # the supervisor hung up
    made.forked_ns = time.monotonic_ns()
    if random:
        randomness.renew(random)
    if parked:
        rehearsing.run(1, compiled=True)
    native.coldframe_assign(parked)
    # A package's own: what they start is confined from its beginning only when they run now.
    hooks.run_in_child()
    made.in_copies = hooks.run_in_child
    made.assigned_ns = time.monotonic_ns()
    environment.main(made)


def _standard_library() -> list[str]:
    """Return the folders of the standard library: all that an interpreter started with -I -S has on its path."""
    runtime = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - no pathlib in here
    return [folder for folder in sys.path if folder not in ("", runtime)]


def _add_site_builtins() -> None:
    """Add the builtins that `-S` leaves out and handlers expect: exit, quit, help, copyright, credits, license."""
    if not hasattr(builtins, "exit"):
        site.setquit()
        site.setcopyright()
        site.sethelper()


def _preload(names: list[str]) -> dict[str, str]:
    """Import the modules `names`; return the first that makes this process unfit to fork, with the reason."""
    if not names:
        return {}
    shared, opened = _shared_memory(), _opened()
    for name in names:
        try:
            importlib.import_module(name)
            threads = _threads()
        except BaseException as error:  # noqa: BLE001 - a package may raise anything, and even try to exit
            return {name: f"importing it raised {type(error).__name__}: {error}"}
        if threads != 1:
            return {name: f"importing it left {threads} threads running, and a process is forked safely only with one"}
        # Memory that environments would share, and descriptors that each of them finds closed.
        if left := _shared_memory() - shared:
            return {name: f"importing it left shared memory mapped ({min(left)}), and environments have none in common"}
        if left := _opened() - opened:
            return {name: f"importing it left {min(left)} open, and environments inherit no descriptor"}
    return {}


def _shared_memory() -> set[str]:
    """Return the mappings of this process that can be written by others or for others."""
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - no pathlib in here
        return {line.strip() for line in maps if line.split()[1][1::2] == "ws"}


def _opened() -> set[str]:
    """Return what this process has open, by number and name."""
    found = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - no pathlib in here
        try:  # noqa: SIM105 - no contextlib in here
            found.add(f"descriptor {number} ({os.readlink('/proc/self/fd/' + number)})")  # noqa: PTH115
        except OSError:  # noqa: PERF203
            pass  # the one that the listing itself had
    return found


def _threads() -> int:
    """Return the number of threads of this process, also of those that Python knows nothing about."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - no pathlib in here


def _load(path: str) -> Any:  # noqa: ANN401
    """Return the native library; calls into it keep the GIL."""
    import ctypes  # noqa: PLC0415 - after the preloads, and only here: environments have no use for it

    native = ctypes.PyDLL(path)
    native.coldframe_serve.argtypes = [ctypes.c_int, ctypes.c_ssize_t]
    native.coldframe_serve.restype = ctypes.c_int
    native.coldframe_assign.argtypes = [ctypes.c_int]
    native.coldframe_assign.restype = None
    return native


def _rseq_offset() -> int:
    """Return where glibc (2.35) keeps a thread's area for restartable sequences, seen from its pointer; 0: nowhere."""
    import ctypes  # noqa: PLC0415 - see _load

    try:
        if ctypes.c_uint.in_dll(ctypes.pythonapi, "__rseq_size").value == 0:
            return 0
        return ctypes.c_ssize_t.in_dll(ctypes.pythonapi, "__rseq_offset").value
    except ValueError:  # an older glibc, or another C library
        return 0


def _flush() -> None:
    """Write out what the preloads printed: left in a buffer, it would come out of every environment."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _report(control: int, refused: dict[str, str]) -> None:
    """Tell the supervisor what became of this zygote."""
    report: dict[str, Any] = {"ready": not refused, "refused": refused}
    if not refused:
        report["python"] = ".".join(map(str, sys.version_info[:3]))
        report["threads"] = _threads()
    os.write(control, json.dumps(report).encode())
