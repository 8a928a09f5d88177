"""The public interface as user code has it. Never run: the type checker reads it, and nothing is Any by accident."""

import asyncio
import os
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, assert_type

import coldframe
from coldframe import Environment, Hardening, Host, Invocation, InvocationError, Report
from coldframe.errors import ConfigurationError, HandlerError, InvocationTimeout, OutOfMemoryError, PayloadError
from coldframe.pytest_plugin import FunctionFactory

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
    hardening=Hardening(proc="masked", noexec_tmp=True, on_unclean="cold"),
    host=coldframe.default_host(),
)

assert_type(fn({"name": "Ada"}), Any)
assert_type(fn.invoke({"name": "Ada"}, timeout_s=1, client_context={"custom": {}}), Invocation)
assert_type(fn.map([1, 2, 3]), Generator[Invocation, None, None])
assert_type(fn.stream({}, timeout_s=1, client_context={}), coldframe.Stream)
assert_type(next(fn.stream()), bytes)
assert_type(fn.stream().invocation, Invocation | None)
assert_type(fn.isolation, Mapping[str, str])
assert_type(fn.name, str)
assert_type(fn.host, Host)

future: Future[Invocation] = fn.submit({"name": "Ada"})
assert_type(future.result(timeout=1), Invocation)
assert_type(future.cancel(), bool)


async def asynchronous() -> list[Invocation]:
    inv = await fn.ainvoke({"name": "Ada"})
    assert_type(inv, Invocation)
    return await asyncio.gather(*(fn.ainvoke(number) for number in range(3)))


def look(inv: Invocation) -> str:
    assert_type(inv.ok, bool)
    assert_type(inv.payload, Any)
    assert_type(inv.unwrap(), Any)
    assert_type(inv.error, InvocationError | None)
    assert_type(inv.report, Report)
    assert_type(inv.report.start, Literal["cold", "warm", "restored"])
    assert_type(inv.report.duration_ms, float)
    assert_type(inv.report.billed_duration_ms, int)
    assert_type(inv.report.init_duration_ms, float | None)
    assert_type(inv.report.restore_duration_ms, float | None)
    assert_type(inv.report.memory_mb, int)
    assert_type(inv.report.max_memory_mb, int)
    assert_type(inv.report.cpu_ms, float)
    assert_type(inv.report.throttled_ms, float)
    assert_type(inv.report.log_dropped_bytes, int)
    assert_type(inv.report.environment_id, str)
    return inv.request_id + inv.log


def fail() -> None:
    try:
        fn({})
    except InvocationTimeout as error:
        as_builtin: TimeoutError = error
        raise as_builtin from None
    except OutOfMemoryError as error:
        memory: MemoryError = error
        raise memory from None
    except (HandlerError, PayloadError) as error:
        assert_type(error.error_type, str)
        assert_type(error.error_message, str)
        assert_type(error.stack_trace, tuple[str, ...])
        assert_type(error.invocation, Invocation | None)
    except ConfigurationError as error:
        wrong: ValueError = error
        raise wrong from None
    except coldframe.HostCapabilityError as error:
        host_error: OSError = error
        raise host_error from None


@coldframe.function
def bare(event: dict[str, int], context: object) -> int:
    return event["n"]


@coldframe.function(memory_mb=128, timeout_s=1)
def parse(event: Any, context: Any) -> Any:
    return event


assert_type(bare({"n": 1}), Any)
assert_type(parse.invoke({}), Invocation)
as_function: coldframe.Function = parse

with Host(max_concurrency=10, max_memory_mb=512, idle_timeout_s=60, freeze=True, freeze_after_ms=0) as host:
    host.prewarm(fn, 2)
    assert_type(host.environments(), list[Environment])
    assert_type(host.parked, int)
    for environment in host.environments():
        assert_type(environment.id, str)
        assert_type(environment.function, str)
        assert_type(environment.state, str)
        assert_type(environment.pid, int)
        assert_type(environment.cgroups, dict[str, str])
        assert_type(environment.memory_mb, float)
        assert_type(environment.created, float)
        assert_type(environment.last_used, float)

with coldframe.Function("app.handler", os.curdir, host=host) as closing:
    closing()

assert_type(coldframe.__version__, str)
assert_type(coldframe.build_info()["version"], str)


def test_submission(coldframe_function: FunctionFactory) -> None:
    made = coldframe_function("submission.handler", code="submissions/42", memory_mb=64, timeout_s=1)
    assert made({"n": 3}) == 9
