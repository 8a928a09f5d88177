"""Container images as the code of functions."""

import json
import os
import tarfile
from pathlib import Path

import pytest
from images import blob, interpreter, layer, layout, saved, special, tarred
from programs import ECHO, PYTHON, program

import coldframe

pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"the images here hold {PYTHON}")

LOOK = """
    def handle(event, request, headers):
        answers = []
        for expression in [event] if isinstance(event, str) else event:
            try:
                answers.append(eval(expression))
            except OSError as error:
                answers.append(os.strerror(error.errno))
        return answers[0] if isinstance(event, str) else answers
"""


def bootstrap(source, path="/entry"):
    return (path, program(source), 0o755)


@pytest.fixture
def run(host, tmp_path):
    """Return a factory of functions whose code is an image of these layers, over one with an interpreter."""
    made = []

    def run(source, *layers, base=interpreter, kind="layout", handler="", options=None, **config):
        config.setdefault("Entrypoint", ["/entry"])
        layers = [base(), [bootstrap(source)], *layers]
        code = layout(tmp_path / f"image{len(made)}", layers, compress=kind == "compressed", **config)
        if kind == "old":
            code = saved(tmp_path / "old.tar", layers, **config)
        elif kind == "new":
            code = tarred(tmp_path / "new.tar", code)
        options = {"host": host, "name": "app", "timeout_s": 10, **(options or {})}
        made.append(coldframe.Function(handler, code, runtime="provided", **options))
        return made[-1]

    yield run
    for fn in made:
        fn.close()


@pytest.mark.parametrize("kind", ["compressed", "old", "new"])
def test_an_image_answers(run, kind):
    fn = run(ECHO, kind=kind)
    first = fn.invoke({"n": 1})
    assert first.ok, (first.error, first.log)
    assert first.payload["event"] == {"n": 1}
    assert [fn.invoke(n).report.start for n in range(2)] == ["warm", "warm"]


def test_its_root_is_the_image_and_nothing_of_the_host(run, tmp_path):
    fn = run(
        LOOK,
        [("/etc/os-release", "ID=test\n", 0o644), ("/top", "x", 0o644)],
        [special("etc/.wh.os-release", tarfile.REGTYPE), ("/etc/motd", "hello", 0o600)],
    )
    assert fn("open('/etc/motd').read()") == "hello", "whatever its mode was"
    names = set(fn("os.listdir('/')"))
    assert {"entry", "top", "usr", "proc", "dev", "tmp", "etc", "mnt"} <= names
    assert not {"home", "root", "var", "run", "boot", "sys"} & names
    missing = "No such file or directory"
    outside = ["/etc/os-release", "/etc/shadow", "/proc/cpuinfo_", str(tmp_path), "/usr/bin/env", "/root"]
    assert fn([f"os.stat({path!r})" for path in outside]) == [missing] * len(outside)
    assert fn("sorted(os.listdir('/dev'))") == sorted(
        ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
    )
    assert "sandbox.localdomain" in fn("open('/etc/hosts').read()")
    read_only, denied = "Read-only file system", "Permission denied"
    writes = [f"open({path!r}, 'w')" for path in ("/new", "/etc/motd", "/entry", "/usr/x", "/dev/x", "/mnt/x")]
    assert set(fn(writes)) <= {read_only, denied}
    assert fn("open('/tmp/x', 'w').write('x') + open('/dev/shm/x', 'w').write('x')") == 2
    assert fn("open('/dev/null', 'w').write('x')") == 1
    store = fn(["os.listdir('/.store')", "os.listdir('/.cover')"])
    assert store in ([denied, denied], [[], []]), "other functions' code is covered"
    flags = fn("[line.split()[3:6] for line in open('/proc/self/mountinfo')]")
    for _, point, options in flags:
        assert "nosuid" in options, point
        assert "nodev" in options or point.startswith("/dev"), point
        assert "ro" in options.split(",") or point in ("/tmp", "/dev/shm", "/proc") or point.startswith("/dev/"), point


def test_its_settings_are_honoured(run):
    answer = run(
        LOOK,
        [("/etc/passwd", "app:x:1234:2345::/srv:/bin/sh\n", 0o644), ("/srv/file", "here", 0o644)],
        Env=["FOO=image", "BAR=image", "PATH=/opt/x:/usr/bin", "AWS_LAMBDA_FUNCTION_NAME=mine", "LANG=C"],
        WorkingDir="/srv",
        User="app",
        Cmd=["app.handler", "second"],
        options={"env": {"BAR": "function"}},
    )(["dict(os.environ)", "os.getcwd()", "(os.getuid(), os.getgid())", "sys.argv", "open('file').read()"])
    env, directory, user, arguments, content = answer
    assert (env["FOO"], env["BAR"], env["PATH"], env["LANG"]) == ("image", "function", "/opt/x:/usr/bin", "C")
    assert (env["AWS_LAMBDA_FUNCTION_NAME"], env["_HANDLER"]) == ("app", "app.handler")
    assert "LD_LIBRARY_PATH" not in env
    assert (directory, env["PWD"], content) == ("/srv", "/srv", "here")
    assert user == [1234, 2345]
    assert arguments == ["/entry", "app.handler", "second"]


@pytest.mark.parametrize(
    ("config", "handler", "arguments", "told"),
    [
        ({"Entrypoint": ["/entry"], "Cmd": ["a.b"]}, "", ["/entry", "a.b"], "a.b"),
        ({"Entrypoint": ["/entry", "-x"], "Cmd": ["a.b", "c"]}, "d.e", ["/entry", "-x", "d.e"], "d.e"),
        ({"Entrypoint": None, "Cmd": ["/entry", "a.b"]}, "", ["/entry", "a.b"], "/entry"),
        ({"Entrypoint": None, "Cmd": ["/entry", "a.b"]}, "d.e", ["/entry", "a.b"], "d.e"),
        ({"Entrypoint": ["python3", "-I", "/entry"]}, "", ["/entry"], ""),
    ],
)
def test_the_handler_takes_the_place_of_the_command(run, config, handler, arguments, told):
    assert run(LOOK, handler=handler, **config)(["sys.argv", "os.environ['_HANDLER']"]) == [arguments, told]


@pytest.mark.parametrize("user", ["", "root:7", "4000000000:1"])
def test_any_user_of_the_image_is_nobody_on_the_host(run, user):
    seen = run(LOOK, [("/etc/passwd", "root:x:0:0::/:\n", 0o644)], User=user)(
        [
            "(os.getuid(), os.getgid())",
            "{line.split(':')[0]: line.split()[1:] for line in open('/proc/self/status')}",
            "os.setuid(0)",
            "os.chown('/tmp', 0, 0)",
            "os.mkdir('/tmp/x')",
            "(os.stat('/tmp/x').st_uid, os.stat('/entry').st_uid)",
        ]
    )
    ids = {"": [993, 990], "root:7": [0, 7], "4000000000:1": [4_000_000_000, 1]}[user]
    assert seen[0] == ids
    assert {seen[1][name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert seen[1]["NoNewPrivs"] == ["1"]
    assert seen[2:4] == ["Operation not permitted"] * 2
    assert seen[4] is None
    assert seen[5] == [ids[0], 65534 if os.getuid() == 0 else ids[0]], (
        "its files are the caller's, who is root, or is it"
    )


def test_its_powers_are_stripped(run, tmp_path):
    fn = run(
        LOOK,
        [("/tool", "#!/bin/sh\n", 0o6755), special("device", tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [special("pipe", tarfile.FIFOTYPE), special("hard", tarfile.LNKTYPE, "tool")],
    )
    assert fn(["oct(os.stat('/tool').st_mode & 0o7777)", "oct(os.stat('/hard').st_mode & 0o7777)"]) == ["0o755"] * 2
    assert fn(["os.path.lexists('/device')", "os.path.lexists('/pipe')"]) == [False, False]


def test_an_entry_point_that_cannot_be_started(run):
    for config, kind, what in [
        ({"Entrypoint": ["/nowhere"]}, "Runtime.InvalidEntrypoint", "/nowhere"),
        ({"Entrypoint": ["nowhere"]}, "Runtime.InvalidEntrypoint", "nowhere"),
        ({"Entrypoint": ["/usr"]}, "Runtime.InvalidEntrypoint", "/usr"),
        ({"WorkingDir": "/nowhere"}, "Runtime.InvalidWorkingDir", "/nowhere"),
        ({"WorkingDir": "/entry"}, "Runtime.InvalidWorkingDir", "/entry"),
        ({"Entrypoint": ["/broken"]}, "Runtime.InvalidEntrypoint", "/broken"),
    ]:
        error = run(ECHO, [("/broken", "#!/no/interpreter\n", 0o755)], base=list, **config).invoke().error
        assert error.error_type == kind, (config, error)
        assert what in error.error_message


@pytest.mark.needs("root")
def test_with_the_hosts_network_it_has_the_hosts_resolver(run):
    read = "open('/etc/resolv.conf').read()"
    assert run(LOOK)(read) == ""
    assert run(LOOK, options={"network": True})(read) == Path("/etc/resolv.conf").read_text()


def test_extensions_of_an_image_are_started(run):
    extension = program("""
        me, _ = register("INVOKE", "SHUTDOWN")
        while next_event(me)["eventType"] != "SHUTDOWN":
            pass
    """)
    fn = run(ECHO, [("/opt/extensions/watcher", extension, 0o755), ("/opt/extensions/notes", "x", 0o644)])
    invocation = fn.invoke(1)
    assert invocation.ok, invocation.log
    assert "watcher" in invocation.log


def test_two_functions_of_one_image_share_it_and_not_their_files(run, tmp_path):
    first = run(LOOK)
    second = coldframe.Function("", first.code, runtime="provided", host=first.host, timeout_s=10)
    try:
        assert first("open('/tmp/x', 'w').write('secret')") == 6
        assert second("os.listdir('/tmp')") == []
        assert first("os.listdir('/tmp')") == ["x"]
    finally:
        second.close()


def test_mounts_and_sizes_go_with_images(run, tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data/file").write_text("sesame")
    fn = run(LOOK, options={"mounts": {"/mnt/data": (tmp_path / "data", "rw")}, "memory_mb": 64}, User="0")
    assert fn("open('/mnt/data/file').read() + str(open('/mnt/data/new', 'w').write('x'))") == "sesame1"
    assert (tmp_path / "data/new").stat().st_uid == os.getuid()
    assert fn.invoke("len(bytes([1]) * (200 << 20))").error.error_type == "Runtime.OutOfMemory"


def test_what_is_no_image_that_can_run_is_refused(run, host, tmp_path):
    def refused(code, **options):
        options = {"runtime": "provided", "host": host, **options}
        with pytest.raises(coldframe.ConfigurationError) as caught:
            coldframe.Function("app.handler", code, **options)
        return str(caught.value)

    folder = layout(tmp_path / "image", [[bootstrap(ECHO)]], Entrypoint=["/entry"])
    assert 'say runtime="provided"' in refused(folder, runtime="python")
    assert "leave layers out" in refused(folder, layers=[tmp_path])
    assert "neither an entry point nor a command" in refused(layout(tmp_path / "empty", [[bootstrap(ECHO)]]))
    assert "max_image_mb" in refused(
        layout(tmp_path / "large", [layer([("x", bytes(2 << 20), 0o644)])]),
        hardening=coldframe.Hardening(max_image_mb=1),
    )
    (tmp_path / "rubbish.tar").write_bytes(b"rubbish")
    assert "rubbish.tar" in refused(tmp_path / "rubbish.tar")
    index = json.loads((folder / "index.json").read_text())
    index["manifests"][0]["platform"]["architecture"] = "s390x"
    (folder / "index.json").write_text(json.dumps(index))
    assert "linux/s390x" in refused(folder)
    index["manifests"].append(blob(folder, b"{}", "manifest.v1+json"))
    (folder / "index.json").write_text(json.dumps(index))
    assert "is no digest" in refused(folder)
