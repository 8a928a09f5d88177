"""What an environment is, seen by the handler inside and by the kernel's own files outside."""

import errno
import os
import re
import resource
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import descendants, living, parent, parked, until

import coldframe

NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
FIRST_UID = 0x7000_0000

READ = """
def handler(path, context):
    with open(path) as file:
        return file.read()
"""
LIST = """
import os
def handler(path, context):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return error.errno
"""


@pytest.fixture(params=["new", "parked"])
def make(request, make):
    """Return the factory of functions; their first environments are new, or were parked and are in `make.parked`."""

    def make_one(source, **options):
        host = options.setdefault("host", request.getfixturevalue("host"))
        host._native.park_at_most(*(0, 0) if request.param == "new" else (None,))
        if request.param == "new":
            assert until(lambda: host.parked == 0)
        else:
            # Another function of the same zygote has one parked there.
            others = {one.pid for one in host.environments()}
            with make(source, **{**options, "name": "primer", "reuse": True}) as primer:
                host.prewarm(primer, 1)
                (first,) = {one.pid for one in host.environments()} - others
                assert until(lambda: parent(first) in [parent(init) for init in parked() if init != first])
        make_one.parked = parked()
        return make(source, **options)

    make_one.kind = request.param
    return make_one


@pytest.fixture
def inside(make):
    """Return a function that evaluates an expression inside an environment."""
    return make("""
        import ctypes, errno, os, pwd, resource, socket, stat, struct, subprocess, sys, threading
        def handler(event, context):
            return eval(event)
    """)


def environment(host):
    """Return the one environment, and the process ids of its init and of the handler's process."""
    (only,) = living(host)
    return only, only.pid, handler_of(only)


def handler_of(environment):
    """Return the process id of the handler's process."""
    (handler,) = [pid for pid in descendants(environment.pid) if parent(pid) == environment.pid]
    return handler


def status(path):
    return dict(line.split(":", 1) for line in Path(path, "status").read_text().splitlines())


def namespaces(pid):
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


def test_environments_are_of_the_kind_that_is_looked_at(make, host):
    make(READ)("/dev/null")
    _, init, _ = environment(host)
    assert (init in make.parked) is (make.kind == "parked")


# Namespaces and identity


def test_every_namespace_is_the_environments_own(make, host):
    fn = make(READ)
    host.prewarm(fn, 2)
    here = namespaces("self")
    one, other = (namespaces(handler_of(environment)) for environment in living(host, 2))
    for name in NAMESPACES:
        assert len({here[name], one[name], other[name]}) == 3, name


def test_the_handler_is_in_the_namespaces_of_its_init(make, host):
    make(READ)("/dev/null")
    _, init, handler = environment(host)
    inside, of_init = namespaces(handler), namespaces(init)
    # That one is out of its environment's cgroups, so that it need not be frozen and thawed with it.
    assert {name for name in NAMESPACES if inside[name] != of_init[name]} == {"cgroup"}


def test_network_true_shares_the_hosts_network_and_nothing_else(make, host):
    make(READ, network=True)("/dev/null")
    _, _, handler = environment(host)
    here, there = namespaces("self"), namespaces(handler)
    assert {name for name in NAMESPACES if here[name] == there[name]} == {"net"}


@pytest.mark.needs("root")
def test_as_root_live_environments_are_different_host_users_of_one_id(make, host):
    fn = make(READ)
    host.prewarm(fn, 2)
    users = set()
    for environment in living(host, 2):
        for kind in ("uid", "gid"):
            inside, outside, length = map(int, Path(f"/proc/{environment.pid}/{kind}_map").read_text().split())
            assert (inside, length) == ({"uid": 993, "gid": 990}[kind], 1)
            assert FIRST_UID < outside < 0x7800_0000
        assert status(f"/proc/{environment.pid}")["Uid"].split() == [str(outside)] * 4
        assert Path(f"/proc/{environment.pid}/setgroups").read_text() == "deny\n"
        users.add(outside)
    assert len(users) == 2


def test_the_handler_is_lambdas_user_without_groups(inside):
    assert inside("[os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups()]") == [993, 993, 990, 990, []]
    assert inside("pwd.getpwuid(os.getuid()).pw_name") == "sbx_user1051"


@pytest.mark.parametrize("set_name", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
def test_the_handler_has_no_capability(make, host, set_name):
    make(READ)("/dev/null")
    _, _, handler = environment(host)
    assert int(status(f"/proc/{handler}")[set_name], 16) == 0


def test_every_thread_is_filtered_and_can_gain_nothing(make, host):
    fn = make("""
        import threading
        for index in range(3):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        def handler(event, context):
            return threading.active_count()
    """)
    assert fn() == 4
    _, _, handler = environment(host)
    threads = list(Path(f"/proc/{handler}/task").iterdir())
    assert len(threads) == 4
    for thread in threads:
        assert {name: status(thread)[name].strip() for name in ("Seccomp", "NoNewPrivs")} == {
            "Seccomp": "2",
            "NoNewPrivs": "1",
        }


def test_what_a_handler_starts_is_as_confined(make, host):
    fn = make("""
        import subprocess
        def handler(event, context):
            return subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    """)
    seen = dict(line.split(":", 1) for line in fn().splitlines())
    assert seen["Seccomp"].strip() == "2"
    assert seen["NoNewPrivs"].strip() == "1"
    assert {int(seen[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


def test_init_is_ours_and_can_do_nothing(make, host):
    make(READ)("/dev/null")
    _, init, handler = environment(host)
    facts = status(f"/proc/{init}")
    assert facts["NSpid"].split()[-1] == "1"
    assert facts["Seccomp"].strip() == "2"
    assert facts["NoNewPrivs"].strip() == "1"
    assert facts["Threads"].strip() == "1"
    assert {int(facts[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}
    assert "python" not in os.readlink(f"/proc/{init}/exe")
    assert os.readlink(f"/proc/{init}/exe") != os.readlink(f"/proc/{handler}/exe")
    assert Path(f"/proc/{init}/environ").read_bytes() == b""


def test_the_handlers_process_is_2_and_its_parent_is_init(make, host):
    fn = make("import os\ndef handler(event, context):\n    return [os.getpid(), os.getppid()]\n")
    assert fn() == [2, 1]
    _, init, handler = environment(host)
    assert status(f"/proc/{handler}")["NSpid"].split()[-1] == "2"
    assert set(descendants(init)) == {handler}


# Descriptors and variables


def test_the_kernel_and_the_interpreter_agree_on_the_threads_number(inside):
    # A process made by clone3 behind the C library's back has its parent's number there, which robust locks go by.
    call = f"ctypes.CDLL(None, use_errno=True).syscall({ {'x86_64': 186, 'aarch64': 178}[os.uname().machine] })"
    assert inside(f"[threading.get_native_id(), os.getpid(), {call}, ctypes.CDLL(None).gettid()]") == [2] * 4


def test_four_descriptors_are_open(make, host):
    fn = make(LIST)
    assert fn("/proc/self/fd") == ["0", "1", "2", "3", "4"]  # and the one that looks
    _, _, handler = environment(host)
    targets = {name: os.readlink(f"/proc/{handler}/fd/{name}") for name in os.listdir(f"/proc/{handler}/fd")}
    assert targets.keys() == {"0", "1", "2", "3"}
    assert targets["0"] == "/dev/null"
    assert targets["1"] == targets["2"]
    assert targets["1"].startswith("pipe:")
    assert targets["3"].startswith("socket:")


def test_the_control_socket_does_not_reach_programs(inside):
    expression = "subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True, close_fds=False).stdout"
    assert inside(expression).split() == ["0", "1", "2", "3"]  # 3: the folder that ls reads


def test_inheritable_descriptors_of_the_host_do_not_enter(make, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    files = [os.open(secret, os.O_RDWR) for _ in range(40)]
    files.append(os.dup2(files[0], 200))
    try:
        for file in files:
            os.set_inheritable(file, True)
        with coldframe.Host() as host:
            assert make(LIST, host=host)("/proc/self/fd") == ["0", "1", "2", "3", "4"]
            seen = []
            for pid in descendants():
                with suppress(FileNotFoundError, ProcessLookupError):  # on its way into a seat
                    seen.append([os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()])
            assert len(seen) >= 4
            assert not [opened for opened in seen if str(secret) in opened]
    finally:
        for file in set(files):
            os.close(file)


def test_standard_input_is_empty(inside):
    assert inside("sys.stdin.read()") == ""


def test_the_environment_is_exactly_lambdas_and_the_functions(make, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the host's")
    monkeypatch.setenv("COLDFRAME_TEST_SECRET", "the host's")
    with coldframe.Host() as host:
        fn = make(
            "import os\ndef handler(event, context):\n    return dict(os.environ)\n",
            name="orders",
            memory_mb=884,
            env={"STAGE": "test", "EMPTY": ""},
            host=host,
        )
        seen = fn()
    trace = seen.pop("_X_AMZN_TRACE_ID", None)
    assert trace is None or trace.startswith("Root=")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", seen.pop("AWS_LAMBDA_LOG_STREAM_NAME"))
    assert seen == {
        "STAGE": "test",
        "EMPTY": "",
        "_HANDLER": "app.handler",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "884",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/orders",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:"
        "/var/task:/var/task/lib:/opt/lib",
        "PYTHONPATH": "/var/runtime",
        "PWD": "/var/task",
        "SHLVL": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def test_no_process_of_an_environment_was_started_with_the_hosts_variables(make, monkeypatch):
    monkeypatch.setenv("COLDFRAME_TEST_SECRET", "sesame")
    with coldframe.Host() as host:
        make(READ, host=host)("/dev/null")
        variables = {}
        for pid in descendants():
            with suppress(FileNotFoundError, ProcessLookupError):  # on its way into a seat
                variables[pid] = Path(f"/proc/{pid}/environ").read_bytes()
        assert len(variables) >= 4
        assert not [pid for pid, text in variables.items() if b"sesame" in text]


# Files


@pytest.mark.parametrize("path", ["/x", "/usr/x", "/etc/x", "/var/task/x", "/opt/x", "/var/runtime/x", "/dev/x", "/.x"])
def test_nothing_can_be_made_outside_the_scratch_directories(inside, path):
    attempt = f"(lambda: open({path!r}, 'w'))"
    # errno of whatever the attempt raises, without a statement
    code = f"""exec('''
try:
    {attempt}()
    result = 0
except OSError as error:
    result = error.errno
''', (names := dict(globals()))) or names['result']"""
    assert inside(code) == errno.EROFS


@pytest.mark.parametrize(
    "call",
    [
        "os.unlink('/var/task/app.py')",
        "os.chmod('/var/task/app.py', 0o666)",
        "os.rename('/var/task/app.py', '/var/task/b.py')",
        "os.utime('/var/task/app.py')",
        "os.mkdir('/var/x')",
        "os.rmdir('/opt')",
        "os.symlink('/tmp', '/var/x')",
        "os.chmod('/.store', 0o777)",
    ],
)
def test_nothing_can_be_changed_outside_the_scratch_directories(make, call):
    fn = make(f"""
        import os, sys
        def handler(event, context):
            try:
                {call}
            except OSError as error:
                return error.errno
    """)
    assert fn() == errno.EROFS


@pytest.mark.parametrize("path", ["'/var/task/app.py'", "'/etc/passwd'", "sys.executable", "os.__file__", "'/bin/sh'"])
def test_files_of_the_host_cannot_be_written(make, path):
    fn = make(f"""
        import os, sys
        def handler(event, context):
            try:
                open({path}, "r+b")
            except OSError as error:
                return error.errno
    """)
    # As root, environments are other users than the files' owners, and the kernel asks that first.
    assert fn() in {errno.EROFS, errno.EACCES}


@pytest.mark.parametrize("path", ["/home", "/sys", "/run", "/boot", "/srv", "/media", "/var/lib", "/var/log"])
def test_the_hosts_own_directories_are_absent(make, path):
    assert make(LIST)(path) == errno.ENOENT


def test_the_root_is_an_allow_list(make):
    fn = make(LIST, packages="none")
    prefix = Path(sys.base_prefix).parts[1]
    bound = {"bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"}
    allowed = bound | {"dev", "etc", "mnt", "opt", "proc", "tmp", "var"}
    assert {name for name in fn("/") if not name.startswith(".")} - {prefix} <= allowed
    assert fn("/mnt") == []
    assert fn("/var") == ["runtime", "task"]
    assert fn("/var/task") == ["app.py"]
    assert fn("/opt") == fn("/tmp") == fn("/dev/shm") == []


def test_of_the_directory_above_the_interpreter_nothing_else_is_visible(make):
    fn = make(LIST, packages="none")
    path = Path(sys.base_prefix)
    if path.is_relative_to("/usr"):
        pytest.skip("the interpreter is the system's")
    for above, name in zip(path.parents, reversed(path.parts), strict=False):
        if str(above) != "/":
            assert fn(str(above)) == [name]


def test_the_devices_are_the_least(make, inside):
    names = {"null", "zero", "full", "random", "urandom", "shm", "fd", "stdin", "stdout", "stderr"}
    assert set(make(LIST)("/dev")) == names
    kinds = "{name: stat.S_IFMT(os.stat('/dev/' + name).st_mode) == stat.S_IFCHR for name in os.listdir('/dev')}"
    devices = {name for name, is_device in inside(kinds).items() if is_device}
    assert devices - {"stdin"} == {"null", "zero", "full", "random", "urandom"}
    assert inside("len(open('/dev/urandom', 'rb').read(16))") == 16
    assert inside("open('/dev/null', 'wb').write(b'x')") == 1


def test_etc_tells_nothing_of_the_host(make):
    allowed = {"ld.so.cache", "ssl", "pki", "ca-certificates", "localtime", "alternatives"}
    made = {"passwd", "group", "hosts", "nsswitch.conf"}
    assert made <= set(make(LIST)("/etc")) <= made | allowed
    assert set(make(LIST)("/etc/ssl")) <= {"certs"}
    users = make(READ)("/etc/passwd").splitlines()
    assert [line.split(":")[0] for line in users] == ["root", "sbx_user1051"]
    assert socket.gethostname() not in make(READ)("/etc/hosts")


def test_the_store_of_code_is_closed(make):
    fn = make(LIST)
    other = make("SECRET = 1\ndef handler(event, context): pass\n")
    other()
    assert fn("/.store") == errno.EACCES


def test_proc_shows_the_environments_own_processes_alone(make):
    assert set(make(LIST)("/proc")) <= {"1", "2", "self", "thread-self"}


def test_the_cgroup_shows_as_a_root(make):
    lines = make(READ)("/proc/self/cgroup").splitlines()
    assert lines
    assert {line.split(":", 2)[2] for line in lines} == {"/"}


def mount_table(make, **options):
    """Return the mounts inside: (source, point, options, optional fields) each."""
    table = []
    for line in make(READ, **options)("/proc/self/mountinfo").splitlines():
        front, _, _ = line.partition(" - ")
        fields = front.split()
        table.append((fields[3], fields[4], fields[5].split(","), fields[6:]))
    return table


def test_no_mount_propagates(make):
    table = mount_table(make)
    assert len(table) > 10
    assert [mount for mount in table if mount[3]] == []


def test_mounts_are_read_only_and_without_set_uid_and_devices(make):
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")}
    table = mount_table(make)
    # The last of those at a place is the one that is seen.
    for _, point, options, _ in {mount[1]: mount for mount in table}.values():
        assert "nosuid" in options, point
        assert "nodev" in options or point in devices, point
        assert "ro" in options or point in devices | {"/tmp", "/dev/shm"}, point
        assert "noexec" in options or point not in devices | {"/proc", "/dev/shm", "/.store"}, point


def test_mounts_name_nothing_of_the_caller(make, tmp_path):
    text = str(mount_table(make, name="customer-name"))
    assert str(tmp_path) not in text
    assert "customer-name" not in text
    system = ("/usr", "/lib", "/bin", "/sbin", "/etc")
    prefixes = {sys.base_prefix, sys.prefix, str(Path(coldframe.__file__).parents[1])}
    for source, point, _, _ in mount_table(make):
        if source in ("/", "/.cover") or point.startswith("/dev/"):
            continue
        opaque = re.fullmatch(r".*/coldframe-\d+-[0-9a-f]+/store(/[0-9a-f]{64})?", source)
        own = any(Path(source).is_relative_to(prefix) for prefix in prefixes | set(system))
        assert opaque or own, source


def test_scratch_is_sized_sticky_and_private(make, host):
    fn = make(
        """
        import os
        def handler(event, context):
            shape = os.statvfs("/tmp")
            before = os.listdir("/tmp")
            with open("/tmp/mine", "w") as file:
                file.write("x")
            return [before, oct(os.stat("/tmp").st_mode), shape.f_blocks * shape.f_frsize, shape.f_files]
        """,
        tmp_mb=7,
        reuse=False,
        packages="none",  # a virtual environment under /tmp is shown there, at its own path
    )
    for _ in range(2):
        assert fn() == [[], "0o41777", 7 << 20, 65536]
    assert not Path("/tmp/mine").exists()


def test_scratch_ends_at_its_size(make):
    fn = make(
        """
        def handler(event, context):
            try:
                with open("/tmp/big", "wb") as file:
                    for _ in range(event):
                        file.write(bytes(1 << 20))
                    return "written"
            except OSError as error:
                return error.errno
        """,
        tmp_mb=3,
    )
    assert fn(2) == "written"
    assert fn(4) == errno.ENOSPC


def test_scratch_ends_at_its_number_of_files(make):
    fn = make(
        """
        import os
        def handler(event, context):
            try:
                for index in range(70_000):
                    os.close(os.open(f"/tmp/{index}", os.O_CREAT | os.O_WRONLY))
            except OSError as error:
                return [error.errno, index]
        """,
        timeout_s=30,
        memory_mb=1769,
    )
    number, files = fn()
    assert number == errno.ENOSPC
    assert 60_000 < files < 65_536


def test_programs_may_be_run_in_scratch_unless_that_is_switched_off(make):
    source = """
        import os, shutil, subprocess
        def handler(event, context):
            shutil.copy("/bin/true", "/tmp/true")
            try:
                return subprocess.run(["/tmp/true"]).returncode
            except OSError as error:
                return error.errno
    """
    assert make(source)() == 0
    assert make(source, hardening=coldframe.Hardening(noexec_tmp=True))() == errno.EACCES


# The network and the name


def test_the_name_is_the_same_for_all(inside):
    assert inside("[socket.gethostname(), os.uname().nodename]") == ["coldframe", "coldframe"]


def test_loopback_is_up_and_usable(make):
    fn = make("""
        import socket, threading
        def handler(event, context):
            with socket.create_server(("127.0.0.1", 0)) as server:
                def serve():
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(connection.recv(10).upper())
                thread = threading.Thread(target=serve)
                thread.start()
                with socket.create_connection(server.getsockname()) as client:
                    client.sendall(b"ping")
                    answer = client.recv(10)
                thread.join()
                return answer.decode()
    """)
    assert fn() == "PING"


CONNECT = """
import socket
def handler(port, context):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError as error:
        return error.errno
    return "connected"
"""


def test_a_listener_of_the_host_sees_nothing(make):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        assert make(CONNECT)(server.getsockname()[1]) == errno.ECONNREFUSED
        with pytest.raises(BlockingIOError):
            server.accept()
        # The same, without the namespace, arrives.
        assert make(CONNECT, network=True)(server.getsockname()[1]) == "connected"
        server.accept()[0].close()


@pytest.mark.parametrize("address", ["8.8.8.8", "169.254.169.254", "10.0.0.1"])
def test_there_is_no_way_out(make, address):
    fn = make("""
        import socket
        def handler(address, context):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                try:
                    sock.sendto(b"x", (address, 53))
                except OSError as error:
                    return error.errno
    """)
    assert fn(address) == errno.ENETUNREACH


def test_loopback_is_the_only_interface(make, host):
    make(READ)("/dev/null")
    _, init, _ = environment(host)
    lines = Path(f"/proc/{init}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


# Limits


def test_the_limits_are_as_planned_and_hard(make):
    fn = make(
        """
        import resource
        def handler(event, context):
            names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
            return {name: resource.getrlimit(getattr(resource, name)) for name in names}
        """,
        tmp_mb=300,
        memory_mb=128,
        max_processes=77,
    )
    limits = fn()
    expected = {
        "RLIMIT_CORE": 1,
        "RLIMIT_NOFILE": 1024,
        "RLIMIT_NPROC": 79,  # the init counts, too, and the cgroup is to say no first
        "RLIMIT_FSIZE": 300 << 20,
        "RLIMIT_MEMLOCK": 64 << 10,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_RTPRIO": 0,
        "RLIMIT_NICE": 0,
        "RLIMIT_SIGPENDING": 1024,
        "RLIMIT_STACK": 8 << 20,
        "RLIMIT_AS": resource.RLIM_INFINITY,
    }
    assert {name: limits[name] for name in expected} == {name: [value, value] for name, value in expected.items()}


def test_limits_cannot_be_raised(make):
    fn = make("""
        import resource
        def handler(event, context):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
            except ValueError as error:
                return str(error)
    """)
    assert fn() == "not allowed to raise maximum limit"


def test_files_cannot_be_opened_without_end(make):
    fn = make("""
        import os
        def handler(event, context):
            opened = []
            try:
                while True:
                    opened.append(os.open("/dev/null", os.O_RDONLY))
            except OSError as error:
                return [error.errno, max(opened)]
            finally:
                for file in opened:
                    os.close(file)
    """)
    assert fn() == [errno.EMFILE, 1023]
    assert fn() == [errno.EMFILE, 1023]
