"""Attacks on memory, processes, time, files, descriptors, logs and answers: O38 to O46, and some beside them.

Each ends in a verdict, costs the embedding process next to nothing, and is not felt by a neighbour, who is called while
it goes on.
"""

import errno
import os
import signal
import threading

import pytest
from conftest import descendants, until

import coldframe
from escape.conftest import NEIGHBOUR, size

MB = 1 << 20
COST = 16 * MB
"""Bytes by which an attack may make this process larger while it goes on."""


@pytest.fixture
def contained(attack, make, without):
    """Return `attack`, with a look at a neighbour and at this process for as long as it goes on."""

    def contained(source, event=None, **options):
        host = without()
        neighbour = make(NEIGHBOUR, name="beside", host=host)
        assert neighbour("well") == "well"
        over, answers, sizes = threading.Event(), [], [size()]

        def look():
            while not over.wait(0.02):
                answers.append(neighbour.invoke("well").payload)
                sizes.append(size())

        watch = threading.Thread(target=look)
        watch.start()
        try:
            invocation = attack(source, event, host=host, **options)
        finally:
            over.set()
            watch.join(10)
        assert not watch.is_alive()
        assert set(answers) <= {"well"}
        assert max(sizes) - sizes[0] < COST
        return invocation

    return contained


# O38, memory, in every way of taking it. Each answers with the MiB that it could take.

HEAP = "def handler(mb, context):\n    return len(bytes([1]) * (mb << 20)) >> 20\n"
FILES = """
    import os
    def handler(mb, context):
        file = os.open("{path}", os.O_CREAT | os.O_WRONLY)
        return sum(os.write(file, bytes([1]) * (1 << 20)) for _ in range(mb)) >> 20
"""
SPARSE = """
    import mmap
    def handler(mb, context):
        # A page that is only read is the page of zeros, which is nobody's; the table that has it is 4 KiB for 2 MiB.
        mapped = mmap.mmap(-1, mb << 29, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
        for place in range(0, len(mapped), 1 << 21):
            mapped[place]
        return (len(mapped) >> 21) * 4096 >> 20
"""
FILL = """
    def fill(file, put, most):
        taken = 0
        try:
            while taken < most:
                taken += put(file)
        except BlockingIOError:
            pass
        return taken
"""
PIPES = (
    FILL
    + """
    import fcntl, os
    def handler(mb, context):
        taken, most = 0, mb << 20
        while taken < most:
            reader, writer = os.pipe2(os.O_NONBLOCK)
            try:
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
            except PermissionError:
                pass
            taken += fill(writer, lambda file: os.write(file, bytes(4096)), most - taken)
        return taken >> 20
"""
)
UNIX = (
    FILL
    + """
    import socket
    kept = []
    def handler(mb, context):
        taken, most = 0, mb << 20
        while taken < most:
            pair = socket.socketpair()
            kept.append(pair)
            pair[0].setblocking(False)
            pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
            taken += fill(pair[0], lambda file: file.send(bytes(32768)), most - taken)
        kept.clear()
        return taken >> 20
"""
)
MEMORY = {
    "the heap": HEAP,
    "a file without a name": FILES.replace('os.open("{path}", os.O_CREAT | os.O_WRONLY)', 'os.memfd_create("big")'),
    "shared memory": FILES.replace("{path}", "/dev/shm/big"),
    "/tmp": FILES.replace("{path}", "/tmp/big"),
    "page tables": SPARSE,
    "pipes": PIPES,
    "sockets": UNIX,
}


@pytest.mark.bank("O38")
@pytest.mark.needs("cgroup.memory")
@pytest.mark.parametrize("source", MEMORY.values(), ids=MEMORY)
def test_memory_ends_at_the_cap(contained, source):
    invocation = contained(source, 40 + 64, memory_mb=40, timeout_s=20)
    assert isinstance(invocation.error, coldframe.OutOfMemoryError), invocation
    assert invocation.report.max_memory_mb == 40


@pytest.mark.bank("O38", twin=True)
@pytest.mark.needs("cgroup.memory")
@pytest.mark.parametrize("source", MEMORY.values(), ids=MEMORY)
def test_without_the_cap_memory_is_taken(attack, without, source):
    # Beyond the cap, and within what one user may have in pipes.
    host = without("memory", "scratch")
    assert attack(source, 60, host=host, memory_mb=40, timeout_s=20).payload == 60


TCP = (
    FILL
    + """
    import socket
    def handler(mb, context):
        server, kept, taken = socket.create_server(("127.0.0.1", 0), backlog=500), [], 0
        for _ in range(300):
            near = socket.create_connection(server.getsockname())
            kept += [near, server.accept()[0]]
            near.setblocking(False)
            taken += fill(near, lambda file: file.send(bytes(65536)), 16 << 20)
            if taken >> 20 >= mb:
                break
        return taken >> 20
"""
)


@pytest.mark.needs("cgroup.memory")
def test_buffers_of_tcp_are_no_way_around_the_cap(contained):
    invocation = contained(TCP, 400, memory_mb=64, timeout_s=20)
    # Version 1 counts them apart, with a cap of their own at which the writer waits.
    assert isinstance(invocation.error, coldframe.OutOfMemoryError) or invocation.payload < 64, invocation


# O39, processes and threads.

FORK = """
    import os, signal
    def handler(most, context):
        children = []
        try:
            for _ in range(most):
                pid = os.fork()
                if pid == 0:
                    signal.pause()
                children.append(pid)
            return [len(children), 0]
        except OSError as error:
            return [len(children), error.errno]
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
"""
BOMBS = {
    "processes": """
        import os
        def handler(event, context):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
    """,
    "threads that spin": """
        import threading
        def spin():
            while True:
                pass
        def handler(event, context):
            while True:
                try:
                    threading.Thread(target=spin).start()
                except RuntimeError:
                    pass
    """,
    "processes that spin and write": """
        import os
        def handler(event, context):
            for _ in range(20):
                if os.fork() == 0:
                    break
            while True:
                os.write(1, bytes(65536))
    """,
}


@pytest.mark.bank("O39")
@pytest.mark.needs("cgroup.pids")
def test_processes_end_at_the_cap(contained):
    # The handler's own process is the twentieth.
    assert contained(FORK, 60, max_processes=20, memory_mb=1769).payload == [19, errno.EAGAIN]


@pytest.mark.bank("O39", twin=True)
@pytest.mark.needs("cgroup.pids")
def test_without_the_cap_there_are_more_processes(attack, without):
    host = without("pids", "rlimits")
    assert attack(FORK, 60, host=host, max_processes=20, memory_mb=1769).payload == [60, 0]


@pytest.mark.bank("O39")
@pytest.mark.needs("cgroup.pids")
@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_a_bomb_ends_at_the_deadline(contained, source):
    error = contained(source, memory_mb=512, max_processes=300, timeout_s=1, log_kb=64).error
    assert isinstance(error, coldframe.InvocationTimeout | coldframe.OutOfMemoryError), error


# O40 and O41, time.

SPIN = """
    import time
    def handler(seconds, context):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return "ran on"
"""
DEAF = """
    import signal, time
    def handler(seconds, context):
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)
        return "ran on"
"""


@pytest.mark.bank("O40")
def test_a_loop_ends_at_the_deadline(contained):
    invocation = contained(SPIN, 60, timeout_s=0.5)
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    assert 500 <= invocation.report.duration_ms < 1500


@pytest.mark.bank("O40", twin=True)
def test_a_loop_goes_on_until_the_deadline(attack):
    assert attack(SPIN, 1.0, timeout_s=30).payload == "ran on"


@pytest.mark.bank("O41")
def test_who_hears_no_signal_ends_at_the_deadline(contained):
    invocation = contained(DEAF, 60, timeout_s=0.5)
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    assert 500 <= invocation.report.duration_ms < 1500


@pytest.mark.bank("O41", twin=True)
def test_who_hears_no_signal_goes_on_if_asked_to_end(make, host):
    """What ends it is a signal that cannot be ignored: by any other it is not even disturbed."""
    future = make(DEAF, timeout_s=30).submit(1.5)
    (environment,) = until(lambda: [one for one in host.environments() if one.state == "busy"])
    (handler,) = descendants(environment.pid)
    ignored = lambda: int(status(handler, "SigIgn"), 16) >> (signal.SIGTERM - 1) & 1  # noqa: E731
    assert until(ignored)
    os.kill(handler, signal.SIGTERM)
    assert future.result().payload == "ran on"


def status(pid, field):
    """Return a line of a process's status."""
    with open(f"/proc/{pid}/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


# O42 and O43, scratch directories.

WRITE = """
    def handler(mb, context):
        try:
            with open("/tmp/big", "wb", buffering=0) as file:
                for _ in range(mb):
                    file.write(bytes(1 << 20))
            return "written"
        except OSError as error:
            return error.errno
"""
CREATE = """
    import os
    def handler(event, context):
        folder, most = event
        for number in range(most):
            try:
                os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))
            except OSError as error:
                return [number, error.errno]
        return [most, 0]
"""


@pytest.mark.bank("O42")
def test_scratch_ends_at_its_size(contained):
    assert contained(WRITE, 12, tmp_mb=8).payload == errno.ENOSPC


@pytest.mark.bank("O42", twin=True)
def test_without_a_size_scratch_does_not_end(attack, without):
    assert attack(WRITE, 12, tmp_mb=8, host=without("scratch")).payload == "written"


@pytest.mark.bank("O43")
@pytest.mark.parametrize(("folder", "most"), [("/tmp", 65_536), ("/dev/shm", 4_096)])
def test_scratch_ends_at_its_number_of_files(contained, folder, most):
    made, number = contained(CREATE, [folder, most], memory_mb=1769, timeout_s=20).payload
    assert number == errno.ENOSPC
    assert most - 100 < made < most


@pytest.mark.bank("O43", twin=True)
@pytest.mark.parametrize(("folder", "most"), [("/tmp", 65_536), ("/dev/shm", 4_096)])
def test_without_a_number_files_do_not_end(attack, without, folder, most):
    invocation = attack(CREATE, [folder, most], host=without("scratch"), memory_mb=1769, timeout_s=20)
    assert invocation.payload == [most, 0]


# O44, descriptors and other objects that are counted.

OPEN = """
    import resource
    import ctypes, os, select, signal, socket, sys
    libc = ctypes.CDLL(None, use_errno=True)
    def checked(value):
        if value < 0:
            raise OSError(ctypes.get_errno(), "")
        return value
    def timer():
        checked(libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p())))
    def pending():
        signal.pthread_sigmask(signal.SIG_BLOCK, {40})
        checked(libc.sigqueue(os.getpid(), 40, None))
    def watch(number=iter(range(10**6)), at=[]):
        at = at or at.append(checked(libc.inotify_init1(0))) or at
        name = f"/tmp/{next(number)}"
        os.mkdir(name)
        checked(libc.inotify_add_watch(at[0], name.encode(), 2))
    def flight(pair=[]):
        pair = pair or pair.extend(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)) or pair
        one, other = socket.socketpair()
        pair[0].setblocking(False)
        try:
            socket.send_fds(pair[0], [b"."], [one.fileno()] * 250)
        except BlockingIOError:
            pair[:] = [one, other]
            one.detach(), other.detach()
    makers = {
        "files": lambda: os.open("/dev/null", os.O_RDONLY),
        "events": lambda: checked(libc.eventfd(0, 0)),
        "timers by descriptor": lambda: checked(libc.timerfd_create(1, 0)),
        "polls": lambda: checked(libc.epoll_create1(0)),
        "watchers": lambda: checked(libc.inotify_init1(0)),
        "watches": watch,
        "timers": timer,
        "signals": pending,
        "descriptors under way": flight,
    }
    def end_of(what, most):
        try:
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            for made in range(most):
                makers[what]()
            return made + 1, 0
        except OSError as error:
            return made, error.errno
    def handler(event, context):
        ends = {}
        for what, most in event.items():
            reader, writer = os.pipe()
            if os.fork() == 0:  # whose end is that of all it has made
                os.write(writer, repr(end_of(what, most)).encode())
                os._exit(0)
            os.wait()
            ends[what] = eval(os.read(reader, 100))
            os.close(reader), os.close(writer)
        return ends
"""
COUNTED = {
    "files": (1024, errno.EMFILE),
    "events": (1024, errno.EMFILE),
    "timers by descriptor": (1024, errno.EMFILE),
    "polls": (1024, errno.EMFILE),
    "watchers": (16, errno.EMFILE),
    "watches": (1024, errno.ENOSPC),
    "timers": (1024, errno.EAGAIN),
    "signals": (1024, errno.EAGAIN),
    "descriptors under way": (16, errno.ETOOMANYREFS),
}
"""What there may be at most, and the answer to one more. Descriptors are sent by 250 at a time."""


@pytest.mark.bank("O44")
def test_objects_of_the_kernel_end_at_their_number(contained):
    ends = contained(OPEN, {what: 2 * most for what, (most, _) in COUNTED.items()}, timeout_s=10).payload
    for what, (most, number) in COUNTED.items():
        made, error = ends[what]
        assert (made <= most, errno.errorcode.get(error)) == (True, errno.errorcode[number]), what


@pytest.mark.bank("O44", twin=True)
def test_without_limits_they_do_not_end(attack, without):
    event = {what: 2 * most for what, (most, _) in COUNTED.items()}
    ends = attack(OPEN, event, host=without("rlimits", "user-limits"), timeout_s=10).payload
    assert ends == {what: [most, 0] for what, most in event.items()}


# O45 and O46, what comes out.

PRINT = """
    import os
    def handler(mb, context):
        for _ in range(mb):
            written = 0
            while written < 1 << 20:
                written += os.write(1, bytes([120]) * ((1 << 20) - written))
        return "printed"
"""


@pytest.mark.bank("O45")
def test_a_log_is_bounded(contained):
    invocation = contained(PRINT, 1024, memory_mb=1769, timeout_s=30)
    assert invocation.payload == "printed"
    assert len(invocation.log) < 1_100_000
    assert invocation.report.log_dropped_bytes == 1023 * MB
    assert "bytes of output were dropped" in invocation.log


@pytest.mark.bank("O45", twin=True)
def test_a_log_that_may_be_large_is_kept_whole(attack):
    invocation = attack(PRINT, 24, memory_mb=1769, timeout_s=30, log_kb=24 << 10)
    assert invocation.report.log_dropped_bytes == 0
    assert len(invocation.log) > 24 * MB


ANSWER = "def handler(mb, context):\n    return 'x' * (mb << 20)\n"
FORGE = """
    import os, struct, sys
    def handler(mb, context):
        caller = sys._getframe()
        while "token" not in caller.f_locals:
            caller = caller.f_back
        body = b'"' + b"x" * ((mb << 20) - 2) + b'"'
        frame = struct.pack("<BxHIQ", 13, 0, len(body), caller.f_locals["token"]) + body
        for place in range(0, len(frame), 65536):
            os.write(3, frame[place : place + 65536])
        return "honest"
"""


@pytest.mark.bank("O46")
def test_a_response_is_bounded(contained):
    error = contained(
        "def handler(mb, context):\n    return 'x' * (mb << 20)\n", 64, memory_mb=1769, timeout_s=10
    ).error
    assert type(error) is coldframe.PayloadError
    assert error.error_type == "Function.ResponseSizeTooLarge"


@pytest.mark.bank("O46")
def test_a_response_past_the_runtime_is_bounded(contained):
    error = contained(FORGE, 64, memory_mb=1769, timeout_s=5).error
    assert isinstance(error, coldframe.EnvironmentExit | coldframe.PayloadError)
