"""What every test may use: a host, functions from source text, and a check that each module leaves nothing behind.

`@pytest.mark.needs("landlock", "root")` names what a test cannot do without: protections as `coldframe doctor` lists
them, or "root". With a version, as in "landlock:6" or "kernel:6.16", it wants that one or a newer one. Where one is
missing the test is skipped, and says why. COLDFRAME_REQUIRE=all, or a list of names, turns such skips into failures,
but for versions: a list has to name those, since no setting of a machine gives it another kernel.
"""

import ctypes
import gc
import itertools
import os
import re
import textwrap
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest
from programs import executable, program

import coldframe
from coldframe import _core, _host

PR_SET_CHILD_SUBREAPER = 36
WALL = 0x4000_0000
"""waitpid: children by clone, too, which signal their end in another way."""
SLOWNESS = float(os.environ.get("COLDFRAME_SLOWNESS", "1"))
"""How many times slower than usual this machine is; an emulated one says so."""
PATIENCE_S = 5.0 * SLOWNESS
"""How long what is cleaned up in the background may take before it counts as left behind."""


# All of the package now: the unit tests that put a stand-in for its native module in place restore what was there.
for _name in coldframe.__all__:
    getattr(coldframe, _name)


# They make cgroups at the root of the tree: for a machine of their own, see vm/machine.py.
collect_ignore = [] if os.environ.get("COLDFRAME_OWN_MACHINE") else ["vm/test_layouts.py"]


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*names): skip where a protection is missing or too old, or root")
    # The orphans of programs that the tests start and kill become children of this process, where they are seen.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@cache
def doctor():
    """Return what `coldframe doctor` finds, by the names of the protections."""
    return {fact["protection"]: fact for fact in _core.doctor()}


def missing():
    """Return what this host lacks, by name, with the reason."""
    lacks = {name: f"{fact['detail']}; {fact['remedy']}" for name, fact in doctor().items() if not fact["in_force"]}
    if os.getuid() != 0:
        lacks["root"] = f"the tests run as user {os.getuid()}"
    return lacks


def numbers(text):
    """Return the first version number in a text, as a tuple: (6, 16) of "Linux 6.16"."""
    return tuple(map(int, re.search(r"\d+(?:\.\d+)*", text)[0].split(".")))


def lacking(need):
    """Return why a need, such as "root" or "kernel:6.16", is not met here; None if it is."""
    name, _, version = need.partition(":")
    if name in missing():
        return missing()[name]
    if version:
        here = doctor()[name]["detail"]
        return None if numbers(here) >= numbers(version) else f"here is {here}"
    return None


def pytest_runtest_setup(item):
    required = os.environ.get("COLDFRAME_REQUIRE", "").split(",")
    for need in itertools.chain.from_iterable(mark.args for mark in item.iter_markers("needs")):
        if why := lacking(need):
            reason = f"needs {need}: {why}"
            of_a_version = ":" in need and need.partition(":")[0] not in missing()
            if need in required or ("all" in required and not of_a_version):
                pytest.fail(f"{reason} (COLDFRAME_REQUIRE demands it)", pytrace=False)
            pytest.skip(reason)


# What is there. The witness is the kernel, not the library.


def descendants(pid=None):
    """Return the living processes below this one, or below `pid`: a dictionary from process id to a description."""
    children = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            number = int(entry.name)
            name, _, rest = entry.joinpath("stat").read_text().rpartition(")")
            state, parent = rest.split()[:2]
            children.setdefault(int(parent), []).append((number, state, name.partition("(")[2]))
    found, queue = {}, [pid or os.getpid()]
    while queue:
        for number, state, name in children.get(queue.pop(), ()):
            queue.append(number)
            if state not in "ZX":
                found[number] = f"{name} ({state})"
    return found


def seats(owner=None):
    """Return the inits of all environments below this process, or `owner`, each with the processes below it.

    Among them are those of the stock: free seats, with nobody below, and parked environments. A zygote's init, which is
    one pid namespace higher, and the zygote are none of them.
    """
    inside = {pid: pids_of(pid) for pid in descendants(owner)}
    inits = [pid for pid, ids in inside.items() if len(ids) >= 3 and ids[-1] == "1"]
    return {init: set(descendants(init)) for init in inits}


def beside_environments(owner=None):
    """Return the processes below this process, or `owner`, that are in no seat: zygotes, their inits, and others."""
    inside = seats(owner)
    return set(descendants(owner)) - inside.keys() - set().union(*inside.values())


def stock():
    """Return the seats below this process that no environment of a host has; to be looked at when all is quiet."""
    assigned = {environment.pid for host in _host._hosts for environment in host.environments()}
    return {init: below for init, below in seats().items() if init not in assigned}


def parked():
    """Return the environments that are parked: from the process id of their inits to that of their processes."""
    return {init: next(iter(below)) for init, below in stock().items() if below}


def parks(host, least=1):
    """Return what is parked by the only host, once that is so many or more."""
    assert until(lambda: host.parked >= least and host.parked == len(parked())), (host.parked, stock())
    return parked()


@contextmanager
def no_stock():
    """Have no host make anything ahead in this block; what has been made is gone when it begins."""
    hosts = [host for host in _host._hosts if not host.closed]
    for host in hosts:
        host._native.park_at_most(0, 0)
    assert until(lambda: not stock()), stock()
    assert [host.parked for host in hosts] == [0] * len(hosts)
    yield
    for host in hosts:
        host._native.park_at_most(None)


def pids_of(pid):
    """Return the process ids that a process has, from our pid namespace to its own; none if it is gone."""
    with suppress(OSError):
        return re.search(r"^NSpid:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1].split()
    return []


def parent(pid):
    """Return the process id of a process's parent; None if it is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def own_cgroups():
    """Return the caller's own cgroup of every hierarchy that is mounted."""
    paths = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller.removeprefix("name=")] = path
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        front, _, back = line.partition(" - ")
        root, point = front.split()[3:5]
        kind, _, options = back.split()[:3]
        names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        for name in names:
            path = paths.get(name.removeprefix("name="))
            if path is not None:
                found.add(Path(point) / path.removeprefix(root).lstrip("/"))
    return sorted(found)


def cgroups_of(pid):
    """Return every cgroup that a host of the process `pid` made, and those below."""
    tops = [top for own in own_cgroups() for top in own.glob(f"coldframe-{pid}-*")]
    found = [top for top in tops if top.is_dir()]
    for folder, below, _ in itertools.chain.from_iterable(map(os.walk, tops)):  # which passes over what vanishes
        found += [Path(folder, name) for name in below]
    return sorted(map(str, found))


def state_directory():
    """Return the folder in which every owner of environments has a folder of its own."""
    if chosen := os.environ.get("COLDFRAME_STATE_DIR"):
        return Path(chosen)
    if os.getuid() == 0:
        return Path("/var/lib/coldframe")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coldframe"


def directories_of(pid):
    """Return the folders of state of the hosts of the process `pid`."""
    return sorted(map(str, (state_directory() / "owners").glob(f"*coldframe-{pid}-*")))


def descriptors():
    """Return how often each thing is open in this process."""
    found = Counter()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            # The number of a pipe or a socket says nothing.
            found[re.sub(r"\d+", "N", os.readlink(f"/proc/self/fd/{name}"))] += 1
    return found


def threads():
    """Return how many threads of the library this process has."""
    names = Counter()
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            names[Path(f"/proc/self/task/{task}/comm").read_text().strip()] += 1
    return Counter({name: count for name, count in names.items() if name.startswith("coldframe")})


def mounts():
    """Return the mounts that this process sees."""
    return Counter(Path("/proc/self/mountinfo").read_text().splitlines())


def inventory():
    """Return everything that a test could leave behind."""
    return {
        # Without their states, which are of a moment.
        "processes": Counter(f"{pid} {name.rpartition(' (')[0]}" for pid, name in descendants().items()),
        "cgroups": Counter(cgroups_of(os.getpid())),
        "directories": Counter(directories_of(os.getpid())),
        "descriptors": descriptors(),
        "threads": threads(),
        "mounts": mounts(),
    }


def reap_orphans():
    """Collect the dead whose parents died before them."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG | WALL)[0]:
            pass


def until(condition, within_s=PATIENCE_S):
    """Return the first true value of `condition()`, or its last one when that took too long."""
    deadline = time.monotonic() + within_s
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)  # the rhythm of looking: the condition decides
    return value


def living(host, count=1):
    """Return the environments of a host, once those of functions that were closed are gone."""
    until(lambda: len(host.environments()) == count)
    environments = host.environments()
    assert len(environments) == count, environments
    return environments


def burst(fn, count):
    """Return the invocations of as many threads, which call at the same moment."""
    barrier, invocations = threading.Barrier(count), []

    def call(number):
        barrier.wait()
        invocations.append(fn.invoke(number))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(invocations) == count
    return invocations


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind(request):
    """Compare what is there before and after a module of tests."""
    before, failed = inventory(), request.session.testsfailed
    yield
    if _host._default is not None:
        _host._default.close()
    # Started by multiprocessing when it is first used, and meant to stay for as long as the interpreter.
    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()

    def left():
        now = inventory()
        return {what: dict(now[what] - before[what]) for what in now if now[what] - before[what]}

    gc.collect()
    until(lambda: not left())
    reap_orphans()
    found = left()
    if request.session.testsfailed > failed:
        found.pop("descriptors", None)  # the traceback of a failed test holds whatever its frames did
    assert found == {}


@pytest.fixture(scope="module")
def host():
    """Return a host that the tests of a module share."""
    with coldframe.Host() as host:
        yield host


@pytest.fixture
def make(request, tmp_path):
    """Return a factory of functions: `make(source, **options)`, all closed when the test ends.

    `source` is the text of `app.py`, or a dictionary from file names to texts; the handler is `app.handler`.
    """
    numbers = itertools.count(1)
    with ExitStack() as made:

        def make(source, *, handler="app.handler", **options):
            folder = tmp_path / f"code{next(numbers)}"
            for name, text in ({"app.py": source} if isinstance(source, str) else source).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(textwrap.dedent(text))
            if "host" not in options:
                options["host"] = request.getfixturevalue("host")
            options.setdefault("name", "app")
            if SLOWNESS > 1:
                options.setdefault("timeout_s", 3 * SLOWNESS)
            return made.enter_context(coldframe.Function(handler, folder, **options))

        yield make


@pytest.fixture
def function(host):
    """Return a function that makes functions of a folder, all closed when the test ends."""
    with ExitStack() as made:

        def of(code, handler="any.thing at all", **options):
            options = {"name": "app", "host": host, "runtime": "provided", **options}
            return made.enter_context(coldframe.Function(handler, code, **options))

        yield of


@pytest.fixture
def provided(function, tmp_path):
    """Return a function that makes functions of a bootstrap's source, and of a layer's files."""
    numbers = itertools.count(1)

    def of(source, layer=None, **options):
        place = tmp_path / str(next(numbers))
        executable(place / "code/bootstrap", program(source))
        for name, content in (layer or {}).items():
            executable(place / "layer" / name, program(content))
        return function(place / "code", layers=[place / "layer"] if layer else [], **options)

    return of


@pytest.fixture
def background():
    """Return a function that runs another one in a thread, which is joined when the test ends."""
    running = []

    def start(call, *arguments):
        thread = threading.Thread(target=call, args=arguments)
        thread.start()
        running.append(thread)
        return thread

    yield start
    for thread in running:
        thread.join(30)
        assert not thread.is_alive()
