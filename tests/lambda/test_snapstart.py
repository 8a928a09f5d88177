"""`snapstart=True`: a function is initialised once, its hooks run as Lambda's do, and no copy has what another has."""

import importlib.util
import re
import signal
import time
from pathlib import Path

import pytest

import coldframe

pytestmark = pytest.mark.needs("root", "seccomp", "landlock")

OPTIONS = {"snapstart": True, "memory_mb": 1769, "timeout_s": 10}
HOOKS = """
import os, random, time
from snapshot_restore_py import register_after_restore, register_before_snapshot

said = []
@register_before_snapshot
def first():
    said.append("before 1")
register_before_snapshot(lambda *args, **kwargs: said.append(f"before 2 {args} {kwargs}"), 1, a=2)
@register_after_restore
def third():
    said.append("after 1")
register_after_restore(said.append, "after 2")

def handler(event, context):
    return {"said": said, "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
            "module": register_after_restore.__module__,
            "stream": [context.log_stream_name, os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]]}
"""
SAID = ["before 2 (1,) {'a': 2}", "before 1", "after 1", "after 2"]


def test_hooks_run_backwards_before_the_snapshot_and_forwards_after_each_restore(make):
    with coldframe.Host() as host:
        fn = make(HOOKS, host=host, reuse=False, **OPTIONS)
        payloads = [fn() for _ in range(3)]
        assert [payload["said"] for payload in payloads] == [SAID] * 3
        assert {payload["type"] for payload in payloads} == {"snap-start"}
        streams = [payload["stream"] for payload in payloads]
        assert all(one == other for one, other in streams)
        assert len({one for one, _ in streams}) == 3


def test_an_installed_copy_of_the_package_is_used(make):
    package = """
    before, after = [], []
    def register_before_snapshot(func, *args, **kwargs):
        before.append((func, args, kwargs))
        return func
    def register_after_restore(func, *args, **kwargs):
        after.append((func, args, kwargs))
        return func
    def get_before_snapshot():
        return before
    def get_after_restore():
        return after
    """
    real = importlib.util.find_spec("snapshot_restore_py")
    source = Path(real.origin).read_text() if real else package
    with coldframe.Host() as host:
        answer = make({"app.py": HOOKS, "snapshot_restore_py.py": source}, host=host, **OPTIONS)()
    assert (answer["said"], answer["module"]) == (SAID, "snapshot_restore_py")


def test_the_reports_say_restored_and_then_warm(make):
    with coldframe.Host() as host:
        fn = make(
            "import time\ntime.sleep(0.2)\nprint('hello')\ndef handler(event, context):\n    return event\n",
            host=host,
            **OPTIONS,
        )
        one, other = fn.invoke(1), fn.invoke(2)
    assert (one.payload, one.report.start, one.report.init_duration_ms) == (1, "restored", None)
    assert 0 < one.report.restore_duration_ms < 200
    line = r"\tRestore Duration: (\d+\.\d\d) ms\tBilled Restore Duration: (\d+) ms\t\n"
    restore, billed = re.search(line, one.log).groups()
    assert float(restore) == pytest.approx(one.report.restore_duration_ms, abs=0.006)
    assert int(billed) - 1 <= float(restore) <= int(billed)
    shape = re.sub(r"\d+\.\d\d", "N", re.sub(r"Version: python\S+|ARN: \S+|[0-9a-f-]{36}", "-", one.log)).splitlines()
    assert [line.partition("\t")[0] for line in shape[:5]] == [
        "INIT_START Runtime -",
        "hello",
        "INIT_REPORT Init Duration: N ms",
        "RESTORE_START Runtime -",
        "RESTORE_REPORT Restore Duration: N ms",
    ], one.log
    assert shape[5].startswith("START ")
    assert "Init Duration" not in one.log.splitlines()[-1]
    assert "hello" not in other.log
    assert (other.payload, other.report.start, other.report.restore_duration_ms) == (2, "warm", None)
    assert "Restore" not in other.log


UNIQUE = """
import os, random, secrets, ssl, tempfile, time, uuid
{more}
drawn = [random.random(), ssl.RAND_bytes(1), uuid.uuid4(), uuid.uuid1(), secrets.token_hex(), tempfile.mktemp()]
BEGUN = time.time()
def handler(event, context):
    return {{"random": random.random(), "choice": random.sample(range(10**9), 2), "uuid4": str(uuid.uuid4()),
             "uuid1": str(uuid.uuid1()), "node": uuid.getnode(), "secrets": secrets.token_hex(),
             "ssl": ssl.RAND_bytes(16).hex(),
             "tempfile": tempfile.mktemp(), "urandom": os.urandom(16).hex(), {extra}
             "request": context.aws_request_id}}
"""


def test_no_copy_has_the_random_state_of_another(make):
    numpy = importlib.util.find_spec("numpy") is not None
    more = "import numpy.random\nnumpy.random.random()" if numpy else ""
    extra = '"numpy": numpy.random.random(),' if numpy else ""
    with coldframe.Host() as host:
        fn = make(UNIQUE.format(more=more, extra=extra), host=host, reuse=False, **OPTIONS)
        seen = [fn() for _ in range(5)]
    for name in seen[0]:
        assert len({str(one[name]) for one in seen}) == 5, name


def test_time_goes_on_while_a_function_is_not_restored(make):
    source = """
    import time
    BEGUN = time.time(), time.monotonic()
    def handler(event, context):
        left = context.get_remaining_time_in_millis()
        return [time.time() - BEGUN[0], time.monotonic() - BEGUN[1], time.time(), left]
    """
    with coldframe.Host() as host:
        fn = make(source, host=host, reuse=False, **OPTIONS)
        first, now, second = fn(), time.time(), fn()
    assert 0 < first[0] < second[0] < 60
    assert 0 < first[1] < second[1] < 60
    assert abs(second[2] - now) < 5
    assert 9000 < second[3] <= 10_000


@pytest.mark.parametrize(
    ("when", "kind"), [("before_snapshot", "BeforeSnapshotError"), ("after_restore", "AfterRestoreError")]
)
def test_a_hook_that_raises_is_the_end_of_the_environment(make, when, kind):
    source = f"""
    from snapshot_restore_py import register_{when}
    @register_{when}
    def fail():
        raise ValueError("no")
    def handler(event, context):
        return 1
    """
    with coldframe.Host() as host:
        invocation = make(source, host=host, **OPTIONS).invoke()
    assert isinstance(invocation.error, coldframe.InitError)
    assert (invocation.error.error_type, invocation.error.error_message) == (f"Runtime.{kind}", "ValueError: no")
    assert 'raise ValueError("no")' in "".join(invocation.error.stack_trace)


def test_hooks_have_ten_seconds_after_a_restore(make):
    source = """
    import time
    from snapshot_restore_py import register_after_restore
    register_after_restore(time.sleep, 60)
    def handler(event, context):
        return 1
    """
    with coldframe.Host() as host:
        invocation = make(source, host=host, **OPTIONS).invoke()
    assert isinstance(invocation.error, coldframe.InitError)
    assert invocation.error.error_type == "Runtime.RestoreHookUserTimeout"


def test_a_function_that_cannot_be_initialised_says_why_as_without(make):
    with coldframe.Host() as host:
        invocation = make("import nothing_of_this_name\n", host=host, **OPTIONS).invoke()
    assert invocation.error.error_type == "Runtime.ImportModuleError"


def test_without_snapstart_hooks_are_registered_and_never_run(make):
    answer = make(HOOKS)()
    assert (answer["said"], answer["type"]) == ([], "on-demand")


def test_a_copy_goes_on_wherever_the_function_was_stopped_with_all_its_registers(make):
    source = """
    import math, time
    import coldframe_runtime.environment as environment
    END = time.monotonic() + 0.4
    restore = environment.Environment._restore
    total = 0.0
    def late(self, prepared):
        global total
        number = 0.1
        while time.monotonic() < END:
            for _ in range(1000):
                number = math.sqrt(number * 3.7 + 1.1)
                total += number - number
        assert total == 0.0, total
        return restore(self, prepared)
    environment.Environment._restore = late
    def handler(event, context):
        return total
    """
    with coldframe.Host() as host:
        fn = make(source, host=host, reuse=False, **OPTIONS)
        assert [fn.invoke().payload for _ in range(3)] == [0.0] * 3


def test_a_library_that_would_start_threads_is_told_to_start_none(make):
    source = "import os\ndef handler(event, context):\n    return [os.environ[name] for name in event]\n"
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    with coldframe.Host() as host:
        assert make(source, host=host, **OPTIONS | {"memory_mb": 4 * 1769})(names) == ["1"] * 3


def test_environments_are_restored_ahead_of_need(make):
    with coldframe.Host() as host:
        fn = make("def handler(event, context):\n    return event\n", host=host, **OPTIONS)
        host.prewarm(fn, 2)
        assert len(host.environments()) == 2
        assert fn.invoke(1).report.start == "warm"


def test_with_extensions_or_mounts_it_is_refused(make, tmp_path):
    with pytest.raises(coldframe.ConfigurationError, match="snapstart=True and mounts"):
        make("", mounts={"/mnt/x": tmp_path}, **OPTIONS)


def test_with_a_custom_runtime_it_is_refused_with_the_reason(tmp_path):
    with pytest.raises(coldframe.ConfigurationError, match="one thread"):
        coldframe.Function("app.handler", tmp_path, runtime="provided", snapstart=True)


def test_a_signal_handler_that_comes_in_between_waits_for_nothing_that_it_holds_up(make):
    """An invocation by the thread that is initialising the function would wait for itself; so would a close."""
    source = "import time\ntime.sleep(1)\ndef handler(event, context):\n    return event\n"

    def interrupted(fn, work):
        told = []

        def handle(number, frame):
            begun = time.monotonic()
            try:
                work()
            except coldframe.ColdframeError as error:
                told.append(str(error))
            told.append(time.monotonic() - begun)

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            return fn.invoke(1).payload, told
        except coldframe.ColdframeError as error:
            return str(error), told
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    with coldframe.Host() as host:
        fn = make(source, host=host, snapstart=True, timeout_s=5)
        answer, (refusal, took_s) = interrupted(fn, lambda: fn(2))
        assert answer == 1
        assert "is being initialised by this very thread" in refusal
        assert took_s < 1
        assert fn(3) == 3
        other = make(source, host=host, name="other", snapstart=True, timeout_s=5)
        answer, (took_s,) = interrupted(other, host.close)
        assert "closed" in answer
        assert took_s < 5
