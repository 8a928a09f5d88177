"""What bad input gets: a clear error, and the next invocation works."""

import json
import math
import socket
import stat
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import wait

import psutil
import pytest

import coldframe
from coldframe import ConfigurationError, EnvironmentExit, Function, HandlerError, Host, PayloadError, ThrottledError

LIMIT = 6_291_556
ECHO = "def handler(event, context):\n    return event\n"

# Each is a body that does harm when the event says so; afterwards the same function has to work.
HARM = "import ctypes, io, os, signal, struct, sys, threading, time\ndef handler(event, context):\n    if event == 'well':\n        return 'well'\n"


@pytest.fixture
def harm(make):
    """Return a function that makes a handler which misbehaves once, and works with the event "well"."""

    def harm(body, **options):
        return make(HARM + "".join(f"    {line}\n" for line in body.splitlines()), name="harm", **options)

    return harm


def works(fn):
    """Check that the function works, twice: in a fresh environment perhaps, and in the same."""
    return fn("well") == fn("well") == "well"


# Functions that cannot exist.


@pytest.mark.parametrize("name", ["missing", "missing.py", "missing.zip", "missing/app.py", ""])
def test_a_code_path_that_does_not_exist(tmp_path, host, name):
    with pytest.raises(ConfigurationError) as caught:
        Function("app.handler", tmp_path / name if name else "", host=host)
    assert name in str(caught.value)


def test_code_that_is_nothing_of_the_kind(tmp_path, host):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.py"))
        for name in ("notes.txt", "loop", "socket.py"):
            with pytest.raises(ConfigurationError, match=name):
                Function("app.handler", tmp_path / name, host=host)
    with pytest.raises(ConfigurationError, match="null"):
        Function("app.handler", "/dev/null", host=host)


@pytest.mark.parametrize("code", [None, 7, b"bytes", "nul\0"])
def test_code_that_is_no_path(host, code):
    with pytest.raises(ConfigurationError, match="code"):
        Function("app.handler", code, host=host)


@pytest.mark.parametrize("handler", ["", "handler", ".", "app.", ".handler", "a b.c", "app.handler\0", None, 7, b"a.b"])
def test_a_handler_that_is_not_in_lambdas_notation(make, handler):
    with pytest.raises(ConfigurationError, match="handler"):
        make(ECHO, handler=handler)


@pytest.mark.parametrize("handler", ["nowhere.handler", "app.nothing", "app.app.handler", "../app.handler", "a/b.handler"])
def test_a_handler_that_does_not_exist(make, handler):
    for _ in range(2):
        error = make(ECHO, handler=handler).invoke().error
        assert type(error) is coldframe.InitError
        assert error.error_type in {"Runtime.ImportModuleError", "Runtime.HandlerNotFound", "TypeError"}


@pytest.mark.parametrize("value", ["'text'", "None", "7", "type('C', (), {})"])
def test_a_handler_that_cannot_be_called_with_an_event(make, value):
    error = make(f"handler = {value}\n").invoke().error
    assert isinstance(error, HandlerError | coldframe.InitError)
    assert error.error_type == "TypeError"


@pytest.mark.parametrize(
    "options",
    [
        {"memory_mb": 31},
        {"memory_mb": 10_241},
        {"memory_mb": 0},
        {"memory_mb": -1},
        {"memory_mb": 1 << 70},
        {"memory_mb": 128.5},
        {"memory_mb": "128"},
        {"memory_mb": None},
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"timeout_s": 900.1},
        {"timeout_s": math.nan},
        {"timeout_s": math.inf},
        {"timeout_s": "3"},
        {"timeout_s": None},
        {"tmp_mb": 0},
        {"tmp_mb": 10_241},
        {"tmp_mb": 1.5},
        {"max_processes": 0},
        {"max_processes": -5},
        {"log_kb": -1},
        {"log_kb": 1 << 40},
        {"layers": ["missing"]},
        {"layers": "missing"},
        {"layers": 7},
        {"layers": [7]},
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 65},
        {"architecture": "mips"},
        {"packages": "some"},
        {"isolation": "none"},
        {"hardening": "hard"},
        {"preload": ["no-such-package-anywhere"]},
        {"preload": "json"},
        {"runtime": "ruby"},
        {"runtime": "/nowhere/python3"},
        {"reserved_concurrency": -1},
        {"env": {"A": 1}},
    ],
    ids=repr,
)
def test_what_is_out_of_range_is_refused_and_named(make, options):
    with pytest.raises(ConfigurationError) as caught:
        make(ECHO, **options)()
    name = next(iter(options))
    assert name.removesuffix("s") in str(caught.value)
    assert make(ECHO)(1) == 1


@pytest.mark.parametrize("timeout_s", [0, -1, 901, math.nan, math.inf, "1"])
def test_a_timeout_of_one_call_that_is_out_of_range(make, timeout_s):
    fn = make(ECHO)
    with pytest.raises(ConfigurationError, match="timeout_s"):
        fn.invoke(1, timeout_s=timeout_s)
    with pytest.raises(ConfigurationError, match="timeout_s"):
        fn.submit(1, timeout_s=timeout_s).result(10)
    assert fn(1) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": -1},
        {"max_concurrency": 1.5},
        {"max_memory_mb": -1},
        {"idle_timeout_s": -1},
        {"idle_timeout_s": math.nan},
        {"freeze": "yes"},
        {"freeze_after_ms": -1},
        {"freeze_after_ms": math.nan},
        {"cgroup": "/nowhere"},
    ],
    ids=repr,
)
def test_a_host_that_is_out_of_range(options):
    with pytest.raises((ConfigurationError, coldframe.HostCapabilityError)) as caught, Host(**options):
        pass
    assert next(iter(options)) in str(caught.value) or "cgroup" in options


# Archives that an attacker made.


def entry(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def archive_of(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in ((entry("app.py"), ECHO), *entries):
            archive.writestr(info, content)
    return path


ENTRIES = {
    "absolute": (entry("/etc/passwd"), "x"),
    "parent": (entry("../../outside"), "x"),
    "parent in the middle": (entry("a/../../outside"), "x"),
    "backslashes": (entry("..\\..\\outside"), "x"),
    "link out": (entry("link", stat.S_IFLNK | 0o777), "../../etc/passwd"),
    "absolute link": (entry("link", stat.S_IFLNK | 0o777), "/etc/passwd"),
    "device": (entry("device", stat.S_IFCHR | 0o666), ""),
    "block device": (entry("device", stat.S_IFBLK | 0o666), ""),
    "fifo": (entry("fifo", stat.S_IFIFO | 0o666), ""),
    "socket": (entry("socket", stat.S_IFSOCK | 0o666), ""),
    "twice": (entry("app.py/below"), "x"),
    "long": (entry("x" * 300), "x"),
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("place", ["code", "layer"])
def test_an_archive_that_reaches_out_of_itself(make, tmp_path, host, name, place):
    path = archive_of(tmp_path / "bad.zip", ENTRIES[name])
    with pytest.raises(ConfigurationError, match=r"bad\.zip"):
        if place == "code":
            Function("app.handler", path, host=host)
        else:
            make(ECHO, layers=[path])
    assert make(ECHO)(1) == 1


def test_an_archive_with_the_same_name_twice(tmp_path, host):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("app.py", ECHO)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("app.py", "x = 1")
    with pytest.raises(ConfigurationError, match=r"bad\.zip"):
        Function("app.handler", path, host=host)


def test_links_through_links_of_an_archive(tmp_path, host):
    link = stat.S_IFLNK | 0o777
    path = archive_of(tmp_path / "bad.zip", (entry("a", link), "."), (entry("a/b", link), "../.."))
    with pytest.raises(ConfigurationError, match=r"bad\.zip"):
        Function("app.handler", path, host=host)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"PK\x05\x06" + bytes(18),
        lambda data: b"not a zip at all",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-30],
        lambda data: data.replace(b"return", b"rEturn"),
        lambda data: b"front" + data,
        lambda data: data[:14] + bytes(4) + data[18:],
        lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03"),
    ],
    ids=["empty", "no entries", "text", "half", "no end", "checksum", "in front", "header checksum", "directory"],
)
def test_a_broken_archive(make, tmp_path, host, spoil):
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("app.py", ECHO)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(spoil(good.read_bytes()))
    try:
        with Function("app.handler", bad, host=host) as fn:
            # What still has one meaning may be taken, and is no one's danger.
            assert fn.invoke(1).payload == 1 or fn.invoke(1).error.error_type.startswith("Runtime.")
    except ConfigurationError as error:
        assert "bad.zip" in str(error)  # noqa: PT017 - either is fine
    with Function("app.handler", good, host=host) as fn:
        assert fn(1) == 1


def test_an_archive_that_is_a_bomb(tmp_path, host):
    path = tmp_path / "bomb.zip"
    block = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("app.py", ECHO)
        with archive.open("zeros", "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(block)
    assert path.stat().st_size < 3 << 20
    with pytest.raises(ConfigurationError, match="262144000"):
        Function("app.handler", path, host=host)


def test_an_archive_that_lies_about_its_size(tmp_path, host):
    path = archive_of(tmp_path / "bad.zip", (entry("zeros"), bytes(10 << 20)))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"bad\.zip"):
        Function("app.handler", path, host=host)


def test_an_archive_with_more_entries_than_there_may_be(tmp_path, host):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100_001):
            archive.writestr(zipfile.ZipInfo(f"{number}/"), "")
    with pytest.raises(ConfigurationError, match=r"many\.zip"):
        Function("app.handler", path, host=host)


# Events.


class Unknown:
    pass


def deep(levels):
    event = []
    for _ in range(levels):
        event = [event]
    return event


def looped():
    event = []
    event.append(event)
    return event


EVENTS = {
    "object": Unknown(),
    "bytes": b"bytes",
    "set": {1, 2},
    "key": {(1, 2): 3},
    "loop": looped(),
    "deep": deep(10_000),
    "surrogate": "half \ud800 a pair",
    "surrogate key": {"\udfff": 1},
    "too large": "x" * (LIMIT - 1),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_that_cannot_be_sent_is_refused_by_every_form(make, name):
    fn = make(ECHO)
    event = EVENTS[name]
    with pytest.raises(PayloadError) as caught:
        fn(event)
    assert caught.value.invocation is None
    assert "event" in str(caught.value)
    with pytest.raises(PayloadError):
        fn.invoke(event)
    future = fn.submit(event)
    with pytest.raises(PayloadError):
        future.result(10)
    with pytest.raises(PayloadError):
        list(fn.map([1, event]))
    assert fn(1) == 1


@pytest.mark.parametrize("event", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_allowed_as_in_lambda(make, event):
    result = make("def handler(event, context):\n    return [event, repr(event)]\n")(event)
    assert result[1] == repr(event)
    assert result[0] == event or math.isnan(result[0])


@pytest.mark.parametrize(
    "event",
    [None, True, 0, -1.5, 10**30, 1e308, "", "ü€😀\0\x7f\u2028", [], {}, {"": [None]}, (1, 2), {"a": {"b": [1, {}]}}],
    ids=repr,
)
def test_what_json_can_express_goes_there_and_back(make, event):
    assert make(ECHO)(event) == json.loads(json.dumps(event))


def test_an_event_and_a_response_at_the_limit_pass(make):
    fn = make(ECHO, memory_mb=512, timeout_s=30)
    text = "x" * (LIMIT - 2)
    assert fn(text) == text
    with pytest.raises(PayloadError, match="too large"):
        fn(text + "x")
    assert fn(1) == 1


def test_the_limit_counts_bytes_and_not_characters(make):
    fn = make("def handler(event, context):\n    return len(event)\n", memory_mb=512, timeout_s=30)
    assert fn("ü" * ((LIMIT - 2) // 2)) == (LIMIT - 2) // 2
    with pytest.raises(PayloadError, match="too large"):
        fn("ü" * (LIMIT // 2))


def test_an_event_of_some_depth_passes_and_one_the_runtime_cannot_read_is_an_error(make):
    fn = make("def handler(event, context):\n    return 'read'\n")
    assert fn(deep(500)) == "read"
    assert fn("well") == "read"


# Responses.


def test_a_response_at_the_limit_passes_and_one_byte_more_does_not(make):
    fn = make("def handler(event, context):\n    return 'x' * (event - 2)\n", memory_mb=512, timeout_s=30)
    assert len(fn(LIMIT)) == LIMIT - 2
    invocation = fn.invoke(LIMIT + 1)
    assert type(invocation.error) is PayloadError
    assert invocation.error.error_type == "Function.ResponseSizeTooLarge"
    assert invocation.error.error_message == (
        "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    )
    assert invocation.error.invocation is invocation
    with pytest.raises(PayloadError):
        fn(LIMIT + 1)
    again = fn.invoke(10)
    assert (again.payload, again.report.start) == ("x" * 8, "warm")


@pytest.mark.parametrize(
    "body", ["return {1}", "return object()", "return b'bytes'", "return '\\ud800'", "return {(1,): 2}", "return handler"]
)
def test_a_response_that_is_not_json(harm, body):
    fn = harm(body)
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert error.error_type == "Runtime.MarshalError"
    assert works(fn)


def test_a_response_that_is_nested_ten_thousand_deep(harm):
    fn = harm("result = []\nfor _ in range(10_000):\n    result = [result]\nreturn result")
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert works(fn)


def test_a_response_of_more_digits_than_python_reads(harm):
    fn = harm("sys.set_int_max_str_digits(0)\nreturn 10 ** 10_000")
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert works(fn)


# Handlers that misbehave.

EXITS = {
    "os._exit(0)": "Runtime exited without providing a reason",
    "os._exit(9)": "Runtime exited with error: exit status 9",
    "sys.exit()": "Runtime exited without providing a reason",
    "sys.exit(3)": "Runtime exited with error: exit status 3",
    "sys.exit('words')": "Runtime exited with error: exit status 1",
    "exit(4)": "Runtime exited with error: exit status 4",
    "raise SystemExit(5)": "Runtime exited with error: exit status 5",
    "os.abort()": "Runtime exited with error: signal: aborted",
    "ctypes.string_at(0)": "Runtime exited with error: signal: segmentation fault",
    "os.kill(os.getpid(), signal.SIGKILL)": "Runtime exited with error: signal: killed",
    "os.kill(os.getpid(), signal.SIGTERM)": "Runtime exited with error: signal: terminated",
    "threading.Thread(target=os._exit, args=(6,)).start(); time.sleep(30)": "Runtime exited with error: exit status 6",
    "os.execv('/bin/sh', ['sh', '-c', 'exit 7'])": "Runtime exited with error: exit status 7",
}


@pytest.mark.parametrize("body", EXITS)
def test_a_handler_that_ends_the_process(harm, body):
    fn = harm(body)
    invocation = fn.invoke("harm")
    assert type(invocation.error) is EnvironmentExit
    assert invocation.error.error_type == "Runtime.ExitError"
    assert invocation.error.error_message == f"RequestId: {invocation.request_id} Error: {EXITS[body]}"
    assert invocation.report.duration_ms < 2_500
    assert works(fn)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(2); return 'slept'", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("f = lambda: f()\nf()", "RecursionError"),
        ("raise MemoryError", "MemoryError"),
        ("raise BaseException('base')", "BaseException"),
    ],
)
def test_a_handler_that_raises_what_is_no_exception(harm, body, name):
    fn = harm(body)
    error = fn.invoke("harm").error
    if type(error) is EnvironmentExit and "SIGINT" in body:
        assert "interrupt" in error.error_message  # the runtime may leave the signal to the kernel
    else:
        assert type(error) is HandlerError
        assert error.error_type == name
    assert works(fn)


def test_a_handler_that_recurses_until_its_stack_is_full(harm):
    fn = harm("sys.setrecursionlimit(10 ** 9)\nf = lambda x: sorted([x], key=f)\nf(1)", memory_mb=512)
    error = fn.invoke("harm").error
    assert type(error) is EnvironmentExit
    assert error.error_message.endswith("signal: segmentation fault")
    assert works(fn)


@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_handler_that_closes_all_its_descriptors(harm, first):
    fn = harm(f"os.closerange({first}, 1024)\nreturn 'closed'")
    invocation = fn.invoke("harm")
    assert type(invocation.error) is EnvironmentExit
    assert invocation.report.duration_ms < 2_500
    assert works(fn)


def test_a_handler_that_closes_its_streams_only(harm):
    fn = harm("os.closerange(0, 3)\nreturn 'closed'")
    assert fn("harm") == "closed"
    assert works(fn)


def test_a_handler_that_puts_something_else_at_the_control_descriptor(harm):
    fn = harm("os.dup2(os.open('/dev/null', os.O_RDWR), 3)\nreturn 'nothing'")
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, EnvironmentExit | coldframe.InvocationTimeout)
    assert works(fn)


@pytest.mark.parametrize("body", ["del sys.stdout", "sys.stdout = None", "sys.stdout = io.StringIO()", "sys.stdout.close()"])
def test_a_handler_that_takes_sys_stdout_away(harm, body):
    fn = harm(f"{body}\nreturn 'quiet'")
    assert fn("harm") == "quiet"
    assert works(fn)


@pytest.mark.parametrize(
    "body",
    [
        "os._exit = lambda code: None\nsys.exit(1)",
        "json = __import__('json')\njson.dumps = json.loads = json.JSONEncoder = None\nreturn 'fine'",
        "sys.modules.clear()\nreturn 'fine'",
        "import builtins\nbuiltins.len = builtins.isinstance = builtins.print = None\nreturn 'fine'",
        "os.environ.clear()\nos.chdir('/')\nreturn 'fine'",
        "import gc\ngc.disable()\nsys.setrecursionlimit(50)\nreturn 'fine'",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsys.settrace(lambda *a: 1 / 0)\nreturn 'fine'",
        "time.monotonic_ns = struct.pack = struct.unpack = None\nreturn 'fine'",
        "sys.path.clear()\nsys.meta_path.clear()\nreturn 'fine'",
    ],
)
def test_a_handler_that_spoils_the_interpreter_spoils_no_more_than_its_environment(harm, body):
    fn = harm(body)
    invocation = fn.invoke("harm")
    assert invocation.payload == "fine" or isinstance(invocation.error, coldframe.InvocationError)
    fn.invoke("well")  # the same environment, and its own affair
    fn.close()
    assert works(harm("return 'fine'"))


def test_output_without_end_costs_the_embedding_process_nothing(harm):
    fn = harm(
        "block = b'x' * 65_536\nfor _ in range(3_200):\n    os.write(1, block)\nreturn 'printed'",
        memory_mb=1769,
        timeout_s=60,
    )
    assert works(fn)
    process = psutil.Process()
    before = highest = process.memory_info().rss
    future = fn.submit("harm")
    while not future.done():
        highest = max(highest, process.memory_info().rss)
        wait([future], timeout=0.01)
    invocation = future.result()
    assert invocation.payload == "printed"
    assert len(invocation.log) < 1_100_000
    assert invocation.report.log_dropped_bytes == 65_536 * 3_200 - (1 << 20)
    assert "bytes of output were dropped" in invocation.log
    assert highest - before < 8 << 20
    assert works(fn)


def test_output_until_the_deadline_is_bounded_too(harm):
    fn = harm("while True:\n    print('x' * 1000)", timeout_s=0.5, log_kb=64)
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    assert invocation.report.duration_ms < 800
    assert invocation.report.log_dropped_bytes > 0
    assert len(invocation.log) < 70_000
    assert works(fn)


# The control channel. A handler can find its descriptor; nothing it writes there may count as more than an answer.

FRAME = "frame = lambda kind, body, token, size=None: struct.pack('<BxHIQ', kind, 0, len(body) if size is None else size, token) + body\n"
TOKEN = (
    "import gc\n"
    "token = next(f.f_locals['token'] for f in __import__('inspect').getouterframes(sys._getframe()) for f in [f.frame]"
    " if 'token' in f.f_locals)\n"
)


@pytest.mark.parametrize(
    "body",
    [
        "os.write(3, b'rubbish')",
        "os.write(3, b'x')",
        "os.write(3, os.urandom(65_536))",
        FRAME + "os.write(3, frame(13, b'\"forged\"', 12345))",
        FRAME + "os.write(3, frame(11, b'', 0))",
        FRAME + "os.write(3, frame(12, b'{}', 0))",
        FRAME + "os.write(3, frame(255, b'', 0))",
        FRAME + "os.write(3, frame(1, b'{}', 0))",
        "import socket\nsocket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_WR)",
    ],
)
def test_a_handler_that_writes_rubbish_to_the_control_channel(harm, body):
    fn = harm(body + "\nreturn 'honest'")
    invocation = fn.invoke("harm")
    assert invocation.payload == "honest" or type(invocation.error) is EnvironmentExit
    assert "forged" not in repr(invocation.payload)
    assert invocation.report.duration_ms < 2_900
    assert works(fn)


@pytest.mark.parametrize(
    "size",
    [0, 7, 6_291_557, 0xFFFF_FFFF],
)
def test_a_handler_that_knows_the_token_and_lies_about_the_length(harm, size):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame(13, b'\"0123456789\"', token, {size}))\nreturn 'honest'")
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, EnvironmentExit | PayloadError | coldframe.InvocationTimeout)
    assert works(fn)


def test_a_handler_that_answers_twice(harm):
    fn = harm(TOKEN + FRAME + "os.write(3, frame(13, b'\"first\"', token))\nreturn 'second'")
    for _ in range(10):
        assert fn("harm") == "first", "the answer that came first counts"
        assert works(fn)


def test_answers_kept_for_the_next_invocation_do_not_reach_it(harm):
    fn = harm(
        TOKEN + FRAME + "for _ in range(8):\n    os.write(3, frame(13, b'\"stale\"', token))\nreturn 'last'",
    )
    for _ in range(3):
        assert fn("harm") == "stale"
        assert works(fn)


@pytest.mark.parametrize("body", ["not json", '{"a": ', "", "\\xff\\xfe", "[" * 20_000, '"\\\\ud800'])
def test_a_forged_response_that_is_not_json(harm, body):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame(13, b'{body}', token))\nreturn 'honest'")
    error = fn.invoke("harm").error
    assert type(error) is PayloadError
    assert works(fn)


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        "[]",
        "{}",
        '{"errorType": 7, "errorMessage": [], "stackTrace": "x"}',
        '{"errorType": null, "errorMessage": {"a": 1}, "stackTrace": [1, null]}',
        "[" * 20_000,
    ],
)
def test_a_forged_error_that_makes_no_sense(harm, body):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame(14, b'{body}', token))\nreturn 'honest'")
    invocation = fn.invoke("harm")
    assert isinstance(invocation.error, coldframe.InvocationError)
    assert str(invocation.error)
    assert works(fn)


@pytest.mark.parametrize("kind", [11, 12])
def test_an_answer_of_initialisation_is_none_to_an_event(harm, kind):
    fn = harm(TOKEN + FRAME + f"os.write(3, frame({kind}, b'{{}}', token))\nreturn 'honest'")
    assert type(fn.invoke("harm").error) is EnvironmentExit
    assert works(fn)


def test_a_handler_that_forks_and_returns_twice(harm):
    fn = harm("pid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nreturn 'parent' if pid else 'child'")
    for _ in range(3):
        assert fn("harm") == "parent"
        assert works(fn)


def test_children_that_outlive_the_answer_disturb_nobody(harm):
    fn = harm("return 'parent' if os.fork() else [time.sleep(0.05), 'child']")
    for _ in range(3):
        assert fn("harm") == "parent"
        assert works(fn)


def test_a_child_that_keeps_the_control_channel_open_after_its_parent_ended(harm):
    fn = harm("if os.fork():\n    os._exit(2)\ntime.sleep(30)")
    invocation = fn.invoke("harm")
    assert type(invocation.error) is EnvironmentExit
    assert invocation.report.duration_ms < 2_500
    assert works(fn)


def test_a_deadline_holds_while_a_large_event_is_not_read(harm):
    fn = harm(TOKEN + FRAME + "os.write(3, frame(13, b'\"away\"', token))\ntime.sleep(30)", memory_mb=512)
    assert fn("harm") == "away"
    invocation = fn.invoke("x" * 6_000_000, timeout_s=0.5)
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    assert 500 <= invocation.report.duration_ms < 750
    assert works(fn)


# Two thousand at once.


def test_two_thousand_events_of_map_all_arrive_in_order(make):
    with Host(max_concurrency=16) as host:
        fn = make("def handler(event, context):\n    return event * 2\n", host=host)
        results = [invocation.unwrap() for invocation in fn.map(range(2_000))]
        assert results == [2 * number for number in range(2_000)]
        assert len(host.environments()) <= 16


@pytest.mark.timeout(120)
def test_two_thousand_submissions_none_lost_none_hung(make):
    with Host(max_concurrency=16) as host:
        fn = make(ECHO, host=host)
        futures = [fn.submit(number) for number in range(2_000)]
        done, pending = wait(futures, timeout=90)
        assert not pending
        assert len(done) == 2_000
        seen = Counter()
        for number, future in enumerate(futures):
            error = future.exception()
            seen[type(error)] += 1
            if error is None:
                assert future.result().unwrap() == number
        assert seen.keys() <= {type(None), ThrottledError}
        assert seen[type(None)] >= 16
        assert fn("well") == "well"


@pytest.mark.timeout(120)
def test_two_thousand_submissions_to_a_host_with_room_for_a_thousand(make):
    with Host() as host:
        fn = make(ECHO, host=host, memory_mb=1769)
        threads = threading.active_count()
        futures = [fn.submit(number) for number in range(2_000)]
        _, pending = wait(futures, timeout=100)
        assert not pending
        kinds = Counter(type(future.exception()) for future in futures)
        assert kinds.keys() <= {type(None), ThrottledError}
        assert kinds[type(None)] > 0
        assert fn("well") == "well"
    deadline = time.monotonic() + 10
    while threading.active_count() > threads:
        assert time.monotonic() < deadline


def test_over_the_limit_every_form_but_map_is_throttled(make):
    with Host(max_concurrency=1) as host:
        fn = make("import time\ndef handler(event, context):\n    time.sleep(event)\n", host=host, timeout_s=30)
        fn(0)
        busy = fn.submit(20)
        deadline = time.monotonic() + 10
        while not any(each.state == "busy" for each in host.environments()):
            assert time.monotonic() < deadline
        with pytest.raises(ThrottledError):
            fn(0)
        with pytest.raises(ThrottledError):
            fn.invoke(0)
        with pytest.raises(ThrottledError):
            fn.submit(0).result(10)
        assert busy.cancel()
        assert [each.ok for each in fn.map([0, 0])] == [True, True]
