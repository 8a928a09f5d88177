"""The zygote, with a native library of a few lines in the place of the real one: it forks, and isolates nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from test_runtime_driver import (
    IMPORT_RUNTIME,
    PATIENCE_S,
    READY,
    RESPONSE,
    RUNTIME,
    Link,
    every_python,  # noqa: F401 - the fixture "python"
)

if TYPE_CHECKING:
    from types import TracebackType

LIBRARY = r"""
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
void coldframe_assign(int parked) {
    if (parked) write(3, "parked", 6);
}
int coldframe_serve(int control, ssize_t rseq_offset) {
    for (;;) {
        char byte, space[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec part = {&byte, 1};
        struct msghdr message = {0};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        if (recvmsg(control, &message, 0) <= 0) return -1;
        int end;
        memcpy(&end, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof end);
        if (fork() == 0) {
            close(control);
            dup2(end, 3);
            if (end != 3) close(end);
            return byte == 'p';
        }
        close(end);
        while (waitpid(-1, 0, WNOHANG) > 0) {}
    }
}
"""
RUN_ZYGOTE = f"""{IMPORT_RUNTIME}
from coldframe_runtime import zygote
zygote.main(config)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler on PATH")
    folder = tmp_path_factory.mktemp("library")
    (folder / "serve.c").write_text(LIBRARY)
    path = folder / "serve.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, folder / "serve.c"], check=True)
    return path


class Zygote:
    """A zygote in a process of its own, and the environments that it forked."""

    def __init__(self, library: str, python: str, *, preload: list[str], sites: list[str]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE_S)
        self.links: list[Link] = []
        standard = subprocess.check_output([python, "-I", "-S", "-c", "import json, sys; print(json.dumps(sys.path))"])
        config = {
            "runtime": str(RUNTIME),
            "sys_path": json.loads(standard) + sites,
            "prefix": "/some/prefix",
            "preload": preload,
            "library": library,
            "control": theirs.fileno(),
            "renew": True,
            "fds": {},
        }
        with theirs:
            self.process = subprocess.Popen(
                [python, "-I", "-S", "-B", "-c", RUN_ZYGOTE, json.dumps(config)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        self.report: dict[str, Any] = json.loads(self.control.recv(65_536))

    def fork(self, task: Path, handler: str = "app.handler", *, parked: bool = False, **more: Any) -> Link:
        """Return an initialised environment, which may have been parked first."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self.control, [b"p" if parked else b"f"], [theirs.fileno()])
        if parked:
            ours.settimeout(PATIENCE_S)
            assert ours.recv(100) == b"parked"
        link = Link(ours)
        self.links.append(link)
        answer = link.init(handler, {"LAMBDA_TASK_ROOT": str(task)}, **more)
        assert answer is not None
        assert answer.kind == READY, answer.body
        return link

    def close(self) -> str:
        """Hang up, and return all that was written to standard output and standard error."""
        for link in self.links:
            link.socket.close()
        self.control.close()
        return self.process.communicate(timeout=PATIENCE_S)[0].decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.close()


def call(link: Link, event: Any = None) -> Any:
    answer = link.invoke(event)
    assert answer is not None
    assert answer.kind == RESPONSE, answer.body
    return answer.value


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder for the code of a function."""
    folder = tmp_path / "task"
    folder.mkdir()
    return folder


def test_a_zygote_forks_environments_with_what_it_preloaded(library: Path, python: str, site: Path, task: Path) -> None:
    (site / "package.py").write_text(
        "import os\nprint('loaded', end='')\npid = os.getpid()\nforks = []\n"
        "os.register_at_fork(after_in_child=lambda: forks.append(1))"
    )
    (task / "app.py").write_text(
        textwrap.dedent("""
        import gc, os, sys
        loaded = "package" in sys.modules
        import package
        def handler(event, context):
            print("called")
            return {"loaded": loaded, "forked": package.pid == os.getppid(), "hooks": package.forks,
                    "exit": callable(exit), "gc": gc.isenabled(), "frozen": gc.get_freeze_count() > 0,
                    "prefix": sys.prefix, "path": sys.path}
    """)
    )
    with Zygote(str(library), python, preload=["json", "package"], sites=[str(site)]) as zygote:
        version = zygote.report.pop("python")
        assert zygote.report == {"ready": True, "threads": 1, "refused": {}}
        for sites in ([str(site)], []):
            seen = call(zygote.fork(task, packages=sites))
            path = seen.pop("path")
            assert seen == {
                "loaded": True,
                "forked": True,
                "hooks": [1],
                "exit": True,
                "gc": True,
                "frozen": True,
                "prefix": "/some/prefix",
            }
            assert path[0] == str(task)
            assert ".".join(version.split(".")[:2]) in path[1]
            assert (path[-1] == str(site)) is bool(sites)
            assert str(RUNTIME.parent) not in path
        # What a preload printed comes out once, and not again from every environment.
        assert zygote.close() == "loadedcalled\ncalled\n"
        assert zygote.process.returncode == 0


RANDOM = """
import multiprocessing, random, ssl, tempfile, uuid
def handler(event, context):
    return [random.random(), next(tempfile._get_candidate_names()), uuid.uuid1().hex[-17:], uuid.uuid4().hex,
            ssl.RAND_bytes(8).hex(), multiprocessing.current_process().authkey.hex()]
"""


def test_environments_share_no_random_state(library: Path, python: str, site: Path, task: Path) -> None:
    (site / "draws.py").write_text(
        "import multiprocessing, os, random, ssl, tempfile, uuid\n"
        "random.random(), next(tempfile._get_candidate_names())\n"
        "uuid._node, uuid._last_timestamp = 1, 1\n"
        # As in a pid namespace of its own, where every environment and perhaps the zygote is process 2.
        "os.getpid = lambda: 2\n"
    )
    (task / "app.py").write_text(RANDOM)
    with Zygote(str(library), python, preload=["draws"], sites=[str(site)]) as zygote:
        first, second = (call(zygote.fork(task)) for _ in range(2))
        assert all(one != other for one, other in zip(first, second, strict=True))


def test_numpy_is_reseeded(library: Path, task: Path) -> None:
    numpy = pytest.importorskip("numpy")
    (task / "app.py").write_text("import numpy\ndef handler(event, context): return numpy.random.rand()")
    sites = [str(Path(numpy.__file__).parents[1])]
    with Zygote(str(library), sys.executable, preload=["numpy", "numpy.random"], sites=sites) as zygote:
        assert zygote.report["ready"], zygote.report
        first, second = (call(zygote.fork(task)) for _ in range(2))
        assert first != second


def test_code_shadows_what_a_preload_brought_in(library: Path, python: str, site: Path, task: Path) -> None:
    (site / "package.py").write_text("import calendar, json\ndef day(): return calendar.MONDAY")
    (task / "calendar.py").write_text(
        "import package\ndef handler(event, context): return [package.day(), __file__, package.json.loads('1')]"
    )
    (task / "json.py").write_text("")  # loaded before any code, here as in Lambda, and therefore not shadowed
    with Zygote(str(library), python, preload=["package"], sites=[str(site)]) as zygote:
        assert call(zygote.fork(task, "calendar.handler")) == [0, str(task / "calendar.py"), 1]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=[60], daemon=True).start()", "2 threads"),
        ("import nope_x", "ModuleNotFoundError: No module named 'nope_x'"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('no')", "SystemExit: no"),
        ("import mmap\nleft = mmap.mmap(-1, 4096)", "shared memory mapped ("),
        ("import os\nleft = os.pipe()", "(pipe:["),
        ("import os\nleft = os.memfd_create('left')", "(/memfd:left (deleted)) open"),
        ("left = open(__file__)", "bad.py) open"),
    ],
)
def test_a_preload_that_spoils_the_zygote_is_refused_with_a_reason(
    library: Path, site: Path, source: str, reason: str
) -> None:
    (site / "good.py").write_text("")
    (site / "bad.py").write_text(source)
    with Zygote(str(library), sys.executable, preload=["good", "bad", "json"], sites=[str(site)]) as zygote:
        assert zygote.report["ready"] is False
        assert list(zygote.report["refused"]) == ["bad"]
        assert reason in zygote.report["refused"]["bad"]
        assert zygote.control.recv(1) == b""
        zygote.close()
        assert zygote.process.returncode == 1


def test_thread_counts_are_one_before_a_preload_reads_them(library: Path, site: Path) -> None:
    (site / "reads.py").write_text("import os\nassert os.environ['OPENBLAS_NUM_THREADS'] == '1'")
    with Zygote(str(library), sys.executable, preload=["reads"], sites=[str(site)]) as zygote:
        assert zygote.report["ready"] is True


def test_a_library_that_does_not_load_is_a_refusal(tmp_path: Path) -> None:
    with Zygote(str(tmp_path / "none.so"), sys.executable, preload=[], sites=[]) as zygote:
        assert zygote.report["ready"] is False
        assert "none.so" in zygote.report["refused"]["ctypes"]


def test_the_library_may_be_named_by_a_descriptor(library: Path, task: Path) -> None:
    (task / "app.py").write_text("def handler(event, context): return event")
    with library.open("rb") as opened:
        os.set_inheritable(opened.fileno(), True)
        path = f"/proc/{os.getpid()}/fd/{opened.fileno()}"
        with Zygote(path, sys.executable, preload=[], sites=[]) as zygote:
            assert call(zygote.fork(task), 1) == 1
