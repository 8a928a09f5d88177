"""The public names: signatures, exports, errors, results, and the forms of an invocation."""

import asyncio
import dataclasses
import inspect
import math
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest

import coldframe
from coldframe import Function, Hardening, Host

ECHO = "def handler(event, context):\n    return event\n"
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"
REQUIRED = inspect.Parameter.empty

FUNCTION = {
    "handler": REQUIRED,
    "code": REQUIRED,
    "name": None,
    "runtime": "python",
    "memory_mb": 128,
    "timeout_s": 3.0,
    "tmp_mb": 512,
    "max_processes": 1024,
    "log_kb": 1024,
    "env": {},
    "layers": (),
    "architecture": None,
    "network": False,
    "packages": "inherit",
    "preload": "auto",
    "isolation": "strict",
    "reserved_concurrency": None,
    "provisioned_concurrency": 0,
    "snapstart": False,
    "reuse": True,
    "mounts": {},
    "hardening": Hardening(),
    "host": None,
}
HOST = {"max_concurrency": 1000, "max_memory_mb": None, "idle_timeout_s": 600, "freeze": True, "freeze_after_ms": 0}
REPORT = [
    "start",
    "duration_ms",
    "billed_duration_ms",
    "init_duration_ms",
    "restore_duration_ms",
    "memory_mb",
    "max_memory_mb",
    "cpu_ms",
    "throttled_ms",
    "log_dropped_bytes",
    "environment_id",
]
ERRORS = {
    "ColdframeError": Exception,
    "ConfigurationError": (coldframe.ColdframeError, ValueError),
    "HostCapabilityError": (coldframe.ColdframeError, OSError),
    "ThrottledError": coldframe.ColdframeError,
    "InvocationError": coldframe.ColdframeError,
    "HandlerError": coldframe.InvocationError,
    "InitError": coldframe.InvocationError,
    "InvocationTimeout": (coldframe.InvocationError, TimeoutError),
    "OutOfMemoryError": (coldframe.InvocationError, MemoryError),
    "EnvironmentExit": coldframe.InvocationError,
    "PayloadError": coldframe.InvocationError,
}


def plain(value):
    return dict(value) if hasattr(value, "keys") else value


def until(condition, within_s=10):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def busy(host):
    return [each for each in host.environments() if each.state == "busy"]


def test_the_arguments_of_a_function_and_their_defaults():
    parameters = inspect.signature(Function).parameters
    assert {name: plain(each.default) for name, each in parameters.items()} == FUNCTION
    assert [name for name, each in parameters.items() if each.kind is not each.KEYWORD_ONLY] == ["handler", "code"]


def test_the_arguments_of_a_host_and_their_defaults():
    parameters = inspect.signature(Host).parameters
    assert {name: parameters[name].default for name in HOST} == HOST
    assert {each.kind for each in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_the_switches_of_hardening():
    sizes = {"max_code_mb": 250, "max_zip_mb": 50, "max_image_mb": 10_240}
    fields = {field.name: field.default for field in dataclasses.fields(Hardening)}
    assert fields == {"proc": None, "noexec_tmp": False, "on_unclean": "error", **sizes}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Hardening().proc = "pid"
    for wrong in (
        {"proc": "all"},
        {"noexec_tmp": 1},
        {"on_unclean": "ignore"},
        {"max_code_mb": 0},
        {"max_zip_mb": "1"},
    ):
        with pytest.raises(coldframe.ConfigurationError):
            Hardening(**wrong)


@pytest.mark.parametrize("name", ["invoke", "submit", "ainvoke", "__call__"])
def test_every_form_takes_the_options_of_one_call(name):
    parameters = inspect.signature(getattr(Function, name)).parameters
    assert parameters["timeout_s"].default is None
    assert parameters["client_context"].default is None
    assert parameters["timeout_s"].kind is inspect.Parameter.KEYWORD_ONLY


def test_everything_public_can_be_imported_and_is_listed():
    names = {"Environment", "Function", "Hardening", "Host", "Invocation", "Report", "default_host", "function"}
    assert names | ERRORS.keys() <= set(coldframe.__all__) <= set(dir(coldframe))
    for name in coldframe.__all__:
        assert getattr(coldframe, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        coldframe.nothing_of_the_kind  # noqa: B018
    assert coldframe.build_info()["version"] == coldframe.__version__


def test_importing_the_package_is_quiet_and_loads_nothing_heavy():
    program = (
        "import sys\nimport coldframe\n"
        "print(*sorted({'asyncio', 'json', 'concurrent.futures', 'coldframe._host'} & sys.modules.keys()))\n"
    )
    told = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (told.stdout.strip(), told.stderr) == ("", "")


@pytest.mark.parametrize("name", ERRORS)
def test_the_tree_of_errors(name):
    bases = ERRORS[name] if isinstance(ERRORS[name], tuple) else (ERRORS[name],)
    cls = getattr(coldframe, name)
    assert cls.__bases__ == bases
    assert cls.__module__ == "coldframe.errors"


def test_the_fields_of_a_report_and_an_invocation(make):
    invocation = make(ECHO).invoke(7)
    assert [field.name for field in dataclasses.fields(invocation.report)] == REPORT
    assert isinstance(invocation, coldframe.Invocation)
    assert isinstance(invocation.report, coldframe.Report)
    assert (invocation.ok, invocation.payload, invocation.error, invocation.unwrap()) == (True, 7, None, 7)
    assert len(invocation.request_id) == 36
    assert "ok=True" in repr(invocation)
    report = invocation.report
    assert report.start == "cold"
    assert isinstance(report.billed_duration_ms, int)
    assert report.billed_duration_ms == math.ceil(report.duration_ms)
    assert report.init_duration_ms > 0
    assert report.restore_duration_ms is None
    assert report.cpu_ms >= 0, "the kernel may count what a short call used only when the next one begins"
    assert report.throttled_ms >= 0
    assert report.log_dropped_bytes == 0
    for value, name in ((invocation, "payload"), (report, "start")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_cpu_time_is_counted_and_held_back(make):
    fn = make(
        "import time\n"
        "def handler(event, context):\n"
        "    end = time.process_time() + event\n"
        "    while time.process_time() < end:\n"
        "        pass\n",
        timeout_s=20,
    )
    fn(0)
    report = fn.invoke(0.06).report
    assert 55 <= report.cpu_ms < 200
    assert report.throttled_ms > 100, "128 MB are 7% of a CPU"
    assert report.duration_ms > 250
    assert fn.invoke(0).report.cpu_ms < 50, "the time of one invocation is not counted in the next"


def test_every_form_gives_the_same(make):
    fn = make(ECHO)

    async def both():
        return await fn.ainvoke("a"), await asyncio.gather(*(fn.ainvoke(i) for i in range(3)))

    assert fn("a") == "a"
    assert fn.invoke("a").payload == "a"
    future = fn.submit("a")
    assert isinstance(future, Future)
    assert future.result(10).payload == "a"
    one, many = asyncio.run(both())
    assert (one.payload, [each.payload for each in many]) == ("a", [0, 1, 2])
    assert [each.payload for each in fn.map("abc")] == ["a", "b", "c"]
    assert fn() is None


def test_a_failed_handler_is_a_result_of_every_form_but_a_call(make):
    fn = make("def handler(event, context):\n    raise ValueError(event)\n")

    async def one():
        return await fn.ainvoke("x")

    for invocation in (fn.invoke("x"), fn.submit("x").result(10), asyncio.run(one()), *fn.map(["x", "x"])):
        assert not invocation.ok
        assert type(invocation.error) is coldframe.HandlerError
        with pytest.raises(coldframe.HandlerError):
            invocation.unwrap()
    with pytest.raises(coldframe.HandlerError):
        fn("x")


@pytest.mark.parametrize("form", ["call", "invoke", "submit", "ainvoke", "map"])
def test_the_timeout_of_one_call(make, form):
    fn = make(SLEEP, timeout_s=30)

    async def one():
        return await fn.ainvoke(20, timeout_s=0.2)

    def run():
        if form == "call":
            with pytest.raises(coldframe.InvocationTimeout) as caught:
                fn(20, timeout_s=0.2)
            return caught.value.invocation
        if form == "ainvoke":
            return asyncio.run(one())
        if form == "map":
            return next(fn.map([20], timeout_s=0.2))
        made = getattr(fn, form)(20, timeout_s=0.2)
        return made.result(10) if form == "submit" else made

    invocation = run()
    assert isinstance(invocation.error, coldframe.InvocationTimeout)
    assert "0.20 seconds" in str(invocation.error)
    assert invocation.report.duration_ms < 450


@pytest.mark.parametrize("form", ["call", "invoke", "submit", "ainvoke"])
def test_the_client_context_of_one_call(make, form):
    fn = make("def handler(event, context):\n    return context.client_context.custom\n")

    async def one():
        return await fn.ainvoke(client_context={"custom": {"a": 1}})

    if form == "call":
        result = fn(client_context={"custom": {"a": 1}})
    elif form == "ainvoke":
        result = asyncio.run(one()).payload
    else:
        made = getattr(fn, form)(client_context={"custom": {"a": 1}})
        result = (made.result(10) if form == "submit" else made).payload
    assert result == {"a": 1}


def test_map_keeps_the_order_runs_side_by_side_and_reads_no_further_than_it_must(make):
    with Host(max_concurrency=4) as host:
        fn = make(SLEEP, host=host, memory_mb=512)
        read = []

        def events():
            for pause in (0.8, 0.0, 0.4, 0.0, 0.2, 0.0, 0.6, 0.0):
                read.append(pause)
                yield pause

        results = fn.map(events())
        assert read == [], "it starts with the first result that is asked for"
        began = time.monotonic()
        assert next(results).payload == 0.8
        assert len(read) <= 5
        assert [each.payload for each in results] == [0.0, 0.4, 0.0, 0.2, 0.0, 0.6, 0.0]
        assert time.monotonic() - began < 1.8, "one after the other it would take two seconds"


def test_leaving_a_map_early_ends_what_is_in_flight(make):
    with Host(max_concurrency=3) as host:
        fn = make(SLEEP, host=host, timeout_s=30)
        for invocation in fn.map([0, 20, 20, 20]):
            assert invocation.payload == 0
            break
        until(lambda: not busy(host))
        assert fn(0) == 0


def test_map_raises_what_the_caller_got_wrong_in_its_place(make):
    results = make(ECHO).map([1, object(), 3])
    assert next(results).payload == 1
    with pytest.raises(coldframe.PayloadError):
        next(results)


def test_a_function_shows_what_it_is(make):
    fn = make(ECHO, name="orders", memory_mb=256)
    assert fn.name == "orders"
    assert "orders" in repr(fn)
    assert "app.handler" in repr(fn)
    assert fn.isolation["landlock"]
    with pytest.raises(TypeError):
        fn.isolation["landlock"] = "none"
    assert all(isinstance(name, str) and isinstance(what, str) for name, what in fn.isolation.items())


def test_a_closed_function_is_retired(make):
    with Host() as host:
        with make(ECHO, host=host) as fn:
            fn(1)
            assert len(host.environments()) == 1
        until(lambda: not host.environments())
        for call in (fn, fn.invoke, lambda: fn.submit().result(10), lambda: list(fn.map([1]))):
            with pytest.raises(coldframe.ColdframeError, match="closed"):
                call()
        fn.close()
        assert "closed" in repr(fn)


@pytest.mark.parametrize("options", [{"runtime": "provided"}])
def test_what_is_not_there_yet_is_refused_and_not_ignored(make, options):
    with pytest.raises(coldframe.ConfigurationError, match=next(iter(options))):
        make(ECHO, **options)
