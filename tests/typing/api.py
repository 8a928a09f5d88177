"""The whole public surface as user code has it, but the errors, which are in `errors.py`.

Never run: the type checkers read it, and nothing is Any by accident. `tests/unit/test_python_typing.py` sees to it that
nothing public is left out.
"""

import asyncio
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, assert_type

import coldframe
from coldframe import Environment, Function, Hardening, Host, Invocation, InvocationError, Report, Stream
from coldframe.pytest_plugin import FunctionFactory

# ------------------------------------------------------------------------------------------------------- functions

fn = coldframe.Function("app.handler", code="examples/hello", memory_mb=256, timeout_s=3)
everything = coldframe.Function(
    "app.handler",
    Path("examples/hello"),
    name="hello",
    runtime=Path("/usr/bin/python3.12"),
    memory_mb=1769,
    timeout_s=0.5,
    tmp_mb=64,
    max_processes=32,
    log_kb=16,
    env={"STAGE": "test"},
    layers=["layer.zip", Path("layer")],
    architecture="arm64",
    network=False,
    packages="none",
    preload=["json"],
    isolation="available",
    reserved_concurrency=1,
    provisioned_concurrency=0,
    snapstart=False,
    reuse=False,
    mounts={"/mnt/models": Path("models"), "/mnt/data": ("data", "rw")},
    hardening=Hardening(proc="masked", noexec_tmp=True, on_unclean="cold", max_code_mb=1, max_zip_mb=1, max_image_mb=1),
    host=coldframe.default_host(),
)
defaults = coldframe.Function(
    handler="bootstrap",
    code="function.zip",
    name=None,
    runtime="provided",
    architecture=None,
    packages="inherit",
    preload="auto",
    isolation="strict",
    reserved_concurrency=None,
    snapstart=True,
    host=None,
)

assert_type(fn({"name": "Ada"}), Any)
assert_type(fn(event=None, timeout_s=1, client_context={"custom": {}}), Any)
assert_type(fn.invoke(event={"name": "Ada"}, timeout_s=None, client_context=None), Invocation)
assert_type(fn.map(events=[1, 2, 3], timeout_s=1.5, client_context={}), Generator[Invocation, None, None])
assert_type([inv.payload for inv in fn.map(range(3))], list[Any])
assert_type(fn.isolation, Mapping[str, str])
assert_type(fn.handler, str)
assert_type(fn.code, str)
assert_type(fn.name, str)
assert_type(fn.host, Host)
assert_type(fn.close(), None)

with coldframe.Function("app.handler", os.curdir) as closing:
    assert_type(closing, Function)
    closing()

# ------------------------------------------------------------------------------------- futures, asyncio, streams

future: Future[Invocation] = fn.submit(event={"name": "Ada"}, timeout_s=1, client_context={})
assert_type(fn.submit().result(timeout=1), Invocation)
assert_type(future.exception(), BaseException | None)
assert_type(future.cancel(), bool)


async def asynchronous() -> list[Invocation]:
    inv = await fn.ainvoke(event={"name": "Ada"}, timeout_s=1, client_context={})
    assert_type(inv, Invocation)
    async with asyncio.timeout(1):
        return await asyncio.gather(*(fn.ainvoke(number) for number in range(3)))


def pieces() -> Iterator[bytes]:
    with fn.stream(event={}, timeout_s=1, client_context={}) as stream:
        assert_type(stream, Stream)
        assert_type(next(stream), bytes)
        yield from stream
        assert_type(stream.invocation, Invocation | None)
    assert_type(stream.close(), None)


# ------------------------------------------------------------------------------------------ invocations and reports


def look(inv: Invocation) -> str:
    assert_type(inv.ok, bool)
    assert_type(inv.payload, Any)
    assert_type(inv.unwrap(), Any)
    assert_type(inv.error, InvocationError | None)
    assert_type(inv.request_id, str)
    assert_type(inv.log, str)
    assert_type(inv.report, Report)
    report = inv.report
    assert_type(report.start, Literal["cold", "warm", "restored"])
    assert_type(report.duration_ms, float)
    assert_type(report.billed_duration_ms, int)
    assert_type(report.init_duration_ms, float | None)
    assert_type(report.restore_duration_ms, float | None)
    assert_type(report.memory_mb, int)
    assert_type(report.max_memory_mb, int)
    assert_type(report.cpu_ms, float)
    assert_type(report.throttled_ms, float)
    assert_type(report.log_dropped_bytes, int)
    assert_type(report.environment_id, str)
    assert_type(report.phases, dict[str, float])
    return inv.request_id + inv.log


# -------------------------------------------------------------------------------------------------- the decorator


@coldframe.function
def bare(event: dict[str, int], context: object) -> int:
    return event["n"]


@coldframe.function(memory_mb=128, timeout_s=1, name="parse", env={"STAGE": "test"}, host=Host())
def parse(event: Any, context: Any) -> Any:
    return event


assert_type(bare({"n": 1}), Any)
assert_type(parse.invoke({}), Invocation)
as_function: coldframe.Function = parse
handler: Callable[[Any], Any] = bare

# --------------------------------------------------------------------------------------------------- hosts, and more

with Host(
    max_concurrency=10, max_memory_mb=512, idle_timeout_s=60, freeze=True, freeze_after_ms=0.5, cgroup="take"
) as host:
    assert_type(host, Host)
    host.prewarm(function=fn, n=2)
    assert_type(host.environments(), list[Environment])
    assert_type(host.parked, int)
    assert_type(host.closed, bool)
    assert_type(host.max_concurrency, int)
    for environment in host.environments():
        assert_type(environment.id, str)
        assert_type(environment.function, str)
        assert_type(environment.state, str)
        assert_type(environment.pid, int)
        assert_type(environment.cgroups, dict[str, str])
        assert_type(environment.memory_mb, float)
        assert_type(environment.created, float)
        assert_type(environment.last_used, float)
Host(max_memory_mb=None, cgroup=None).close()

hardening = Hardening(proc=None)
assert_type(hardening.proc, Literal["pid", "masked"] | None)
assert_type(hardening.noexec_tmp, bool)
assert_type(hardening.on_unclean, Literal["error", "cold"])
assert_type(hardening.max_code_mb, int)
assert_type(hardening.max_zip_mb, int)
assert_type(hardening.max_image_mb, int)

assert_type(coldframe.__version__, str)
assert_type(coldframe.build_info()["version"], str)
assert_type(coldframe.build_info()["profile"], Literal["release", "debug"])
assert_type(coldframe.build_info()["target"], str)


def test_submission(coldframe_function: FunctionFactory) -> None:
    made = coldframe_function("submission.handler", code="submissions/42", memory_mb=64, timeout_s=1)
    assert_type(made, Function)
    assert made({"n": 3}) == 9
