"""The handler's surroundings: variables, folders, user and clock, and nothing of the host's."""

import os
import sys
import time
import zipfile
from pathlib import Path

import pytest

from coldframe import ConfigurationError

VARIABLES = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
EVALUATE = (
    "import getpass, os, pwd, shutil, subprocess, sys, tempfile, time\n"
    "def handler(event, context):\n"
    "    return eval(event)\n"
)
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"

EXPECTED = {
    "_HANDLER": "app.handler",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EXECUTION_ENV": f"AWS_Lambda_python{VERSION}",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_LAMBDA_FUNCTION_NAME": "orders",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/orders",
    "AWS_REGION": "us-east-1",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LANG": "en_US.UTF-8",
    "LC_CTYPE": "C.UTF-8",
    "LD_LIBRARY_PATH": (
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
    ),
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "PWD": "/var/task",
    "PYTHONPATH": "/var/runtime",
    "SHLVL": "0",
    "TZ": ":UTC",
    # Not Lambda's: the environment has no more CPUs than its memory gives it.
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@pytest.fixture
def evaluate(make):
    """Return a function that evaluates Python expressions in an environment."""
    return make(EVALUATE)


def test_the_variables_are_lambdas_and_no_others(make):
    variables = make(VARIABLES, name="orders", memory_mb=256)()
    assert variables.pop("AWS_LAMBDA_LOG_STREAM_NAME").split("/")[-1].startswith("[$LATEST]")
    assert variables == EXPECTED


def test_nothing_of_the_hosts_environment_enters(make, monkeypatch):
    monkeypatch.setenv("COLDFRAME_TEST_SECRET", "s3cr3t")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("PYTHONSTARTUP", "/home/somebody/.pythonrc")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("LD_PRELOAD_OF_TESTS", "x")
    fn = make(
        "import os, subprocess\n"
        "def handler(event, context):\n"
        "    child = subprocess.run(['env'], capture_output=True, text=True).stdout\n"
        "    return [dict(os.environ), child]\n"
    )
    variables, child = fn()
    assert set(variables) == {*EXPECTED, "AWS_LAMBDA_LOG_STREAM_NAME"}
    assert {line.partition("=")[0] for line in child.splitlines()} == set(variables)
    for secret in ("s3cr3t", "somebody", "AKIA", "HASHSEED", "LD_PRELOAD"):
        assert secret not in child


def test_the_functions_own_variables_are_added(make):
    given = {"TABLE": "orders", "EMPTY": "", "Mixed_1": "ü=€\n😀", "HOME": "/tmp"}
    variables = make(VARIABLES, env=given)()
    assert {name: variables[name] for name in given} == given
    assert set(variables) == {*EXPECTED, *given, "AWS_LAMBDA_LOG_STREAM_NAME"}


def test_the_region_and_the_credentials_are_the_functions_to_give(make):
    given = {
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": "test",
    }
    variables = make(VARIABLES, env=given)()
    assert {name: variables[name] for name in given} == given


@pytest.mark.parametrize("name", ["LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH"])
def test_what_lambda_does_not_reserve_the_function_may_set(make, name):
    assert make(VARIABLES, env={name: "/opt/mine"})()[name] == "/opt/mine"


@pytest.mark.parametrize(
    "name",
    [
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    ],
)
def test_reserved_names_are_refused(make, name):
    with pytest.raises(ConfigurationError, match=name):
        make(VARIABLES, env={name: "mine"})


@pytest.mark.parametrize("env", [{"1X": "a"}, {"A=B": "a"}, {"": "a"}, {"A": 1}, {"A": "a\0b"}, {"A": "\ud800"}, ["A"]])
def test_what_can_be_no_variable_is_refused(make, env):
    with pytest.raises(ConfigurationError, match="env"):
        make(VARIABLES, env=env)


def test_changes_to_the_callers_dictionary_do_not_reach_the_function(make):
    env = {"KEY": "before"}
    fn = make(VARIABLES, env=env)
    env["KEY"] = "after"
    assert fn()["KEY"] == "before"


def test_the_working_directory_is_the_code(evaluate):
    assert evaluate("[os.getcwd(), os.listdir('.'), os.listdir('/var/task')]") == ["/var/task", ["app.py"], ["app.py"]]


@pytest.mark.parametrize("folder", ["/var/task", "/opt", "/var/runtime", "/", "/usr", "/etc", "/proc", "/dev"])
def test_what_is_not_tmp_cannot_be_written(make, folder):
    fn = make(
        "import os\n"
        "def handler(event, context):\n"
        "    try:\n"
        "        open(event + '/x', 'w')\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
    )
    assert fn(folder) in {"OSError", "PermissionError", "FileNotFoundError"}


def test_tmp_can_be_written_and_run_from(make):
    fn = make(
        "import os, subprocess\n"
        "def handler(event, context):\n"
        "    with open('/tmp/hello', 'w') as file:\n"
        "        file.write('#!/bin/sh\\necho hello from $0\\n')\n"
        "    os.chmod('/tmp/hello', 0o755)\n"
        "    return subprocess.run(['/tmp/hello'], capture_output=True, text=True).stdout\n"
    )
    assert fn() == "hello from /tmp/hello\n"


def test_tmp_has_the_size_it_was_given(make):
    fn = make(
        "import errno, shutil\n"
        "def handler(event, context):\n"
        "    total = shutil.disk_usage('/tmp').total\n"
        "    try:\n"
        "        with open('/tmp/full', 'wb', buffering=0) as file:\n"
        "            for _ in range(64):\n"
        "                file.write(bytes(1 << 20))\n"
        "    except OSError as error:\n"
        "        return [total, errno.errorcode[error.errno]]\n",
        tmp_mb=8,
        memory_mb=256,
    )
    assert fn() == [8 << 20, "ENOSPC"]


def test_tmp_is_private(make):
    listing = "import os\ndef handler(event, context):\n    open(event, 'w')\n    return os.listdir('/tmp')\n"
    # Without packages: a virtual environment under /tmp is shown there, at its own path.
    fn, other = make(listing, packages="none"), make(listing, packages="none")
    assert fn("/tmp/seen") == ["seen"]
    assert other("/dev/null") == []
    assert not Path("/tmp/seen").exists()


def test_the_modes_of_the_folders_are_lambdas(evaluate):
    modes = "[oct(os.stat(p).st_mode & 0o7777) for p in ('/var/task', '/opt', '/tmp')]"
    assert evaluate(modes) == ["0o755", "0o755", "0o1777"]


def test_the_user_is_lambdas(evaluate):
    assert evaluate("[os.getuid(), os.geteuid(), os.getgid()]") == [993, 993, 990]
    assert evaluate("[getpass.getuser(), pwd.getpwuid(os.getuid()).pw_name]") == ["sbx_user1051", "sbx_user1051"]
    assert evaluate("subprocess.run(['whoami'], capture_output=True, text=True).stdout") == "sbx_user1051\n"
    assert evaluate("'HOME' in os.environ") is False


def test_the_time_is_utc(evaluate, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert evaluate("[time.tzname[0], time.timezone, time.localtime().tm_gmtoff]") == ["UTC", 0, 0]
    assert evaluate("subprocess.run(['date', '+%Z'], capture_output=True, text=True).stdout") == "UTC\n"
    assert abs(evaluate("time.time()") - time.time()) < 10


def test_standard_input_is_empty(evaluate):
    assert evaluate("[sys.stdin.read(), os.read(0, 1) == b'', os.readlink('/proc/self/fd/0')]") == [
        "",
        True,
        "/dev/null",
    ]


def test_sys_path_begins_with_the_code_and_the_layers(evaluate):
    path = evaluate("sys.path")
    assert path[:4] == ["/var/task", f"/opt/python/lib/python{VERSION}/site-packages", "/opt/python", "/var/runtime"]
    assert len(path) == len(set(path))
    library = path.index(os.path.dirname(os.__file__))
    packages = path.index(os.path.dirname(os.path.dirname(pytest.__file__)))
    assert 4 <= library < packages


def test_the_code_comes_before_layers_and_layers_before_packages(make, tmp_path):
    folders = {
        "/opt/python": tmp_path / "layer" / "python",
        "site-packages": tmp_path / "layer" / "python" / "lib" / f"python{VERSION}" / "site-packages",
    }
    for name, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        for module in ("first", "second", "third", "iniconfig"):
            (folder / f"{module}.py").write_text(f"where = {name!r}\n")
    (folders["site-packages"] / "third.py").unlink()
    fn = make(
        {
            "app.py": "import first, second, third, iniconfig\n"
            "def handler(event, context):\n"
            "    return [first.where, second.where, third.where, iniconfig.where]\n",
            "first.py": "where = 'code'\n",
        },
        layers=[tmp_path / "layer"],
    )
    assert fn() == ["code", "site-packages", "/opt/python", "site-packages"]


def test_layers_are_laid_over_one_another_in_order_under_opt(make, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for layer, files in ((first, ("a", "b", "bin/only_first")), (second, ("b", "c", "bin/only_second"))):
        for name in files:
            (layer / name).parent.mkdir(parents=True, exist_ok=True)
            (layer / name).write_text(layer.name)
    third = tmp_path / "third.zip"
    with zipfile.ZipFile(third, "w") as archive:
        archive.writestr("c", "third")
        archive.writestr("deep/er/d", "third")
    fn = make(
        "import os\n"
        "def handler(event, context):\n"
        "    return {os.path.join(top, name)[5:]: open(os.path.join(top, name)).read()\n"
        "            for top, _, names in os.walk('/opt') for name in names}\n",
        layers=[first, second, third],
    )
    assert fn() == {
        "a": "first",
        "b": "second",
        "c": "third",
        "bin/only_first": "first",
        "bin/only_second": "second",
        "deep/er/d": "third",
    }


def test_programs_of_layers_are_found_on_the_path(make, tmp_path):
    tool = tmp_path / "layer" / "bin" / "greet"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho greetings\n")
    tool.chmod(0o755)
    fn = make(
        "import subprocess\n"
        "def handler(event, context):\n"
        "    return subprocess.run(['greet'], capture_output=True, text=True).stdout\n",
        layers=[tmp_path / "layer"],
    )
    assert fn() == "greetings\n"


def test_without_layers_opt_is_there_and_empty(evaluate):
    assert evaluate("os.listdir('/opt')") == []


@pytest.mark.parametrize(
    "path", ["/boot", "/etc/shadow", "/lost+found", "/mnt", "/run", "/srv", "/sys", "/var/lib", "/var/log"]
)
def test_the_hosts_folders_are_not_there(evaluate, path):
    assert evaluate(f"os.path.isfile({path!r}) or os.path.isdir({path!r}) and os.listdir({path!r})") in ([], False)


def test_the_hosts_files_are_not_there(evaluate, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("alive")
    for path in (canary, Path(__file__), Path("/proc/1/environ"), Path("/proc/cpuinfo"), Path("/proc/mounts")):
        assert path.exists()
        assert evaluate(f"os.path.exists({str(path)!r}) and open({str(path)!r}).read()") is False, path


def test_only_the_environments_own_processes_can_be_seen(evaluate):
    assert len(evaluate("[name for name in os.listdir('/proc') if name.isdigit()]")) <= 2
    assert evaluate("os.getpid()") == 2


def test_the_program_is_lambdas(evaluate):
    assert evaluate("sys.argv") == ["/var/runtime/bootstrap.py"]
    assert evaluate("os.path.exists(sys.executable)") is True
    child = "subprocess.run([sys.executable, '-c', 'import json; print(json.dumps(1))'], capture_output=True)"
    assert evaluate(f"{child}.stdout.decode()") == "1\n"


def test_temporary_files_go_to_tmp(evaluate):
    assert evaluate("tempfile.gettempdir()") == "/tmp"


def test_the_standard_library_can_start_processes_and_threads(make):
    fn = make(
        "import multiprocessing, sqlite3, ssl, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def square(x):\n"
        "    return x * x\n"
        "def handler(event, context):\n"
        "    with ThreadPoolExecutor(4) as pool:\n"
        "        threads = list(pool.map(square, range(4)))\n"
        "    parent, child = multiprocessing.Pipe()\n"
        "    process = multiprocessing.Process(target=child.send, args=(square(9),))\n"
        "    process.start()\n"
        "    received = parent.recv()\n"
        "    process.join()\n"
        "    database = sqlite3.connect('/tmp/db').execute('select 1 + 1').fetchone()[0]\n"
        "    return [threads, received, database, ssl.create_default_context().verify_mode.name]\n",
        timeout_s=20,
        memory_mb=512,
    )
    assert fn() == [[0, 1, 4, 9], 81, 2, "CERT_REQUIRED"]
