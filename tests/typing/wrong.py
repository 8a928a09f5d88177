"""What the type checkers have to refuse: each line has an error, or the comment that excuses it is one. Never run."""

from typing import Any

import coldframe
from coldframe import Function, Hardening, Host, Invocation

Function("app.handler")  # type: ignore[call-arg]
Function("app.handler", ".", memory="256")  # type: ignore[call-arg]
Function("app.handler", ".", memory_mb="256")  # type: ignore[arg-type]
Function("app.handler", ".", isolation="lax")  # type: ignore[arg-type]
Function("app.handler", ".", architecture="aarch64")  # type: ignore[arg-type]
Function("app.handler", ".", mounts={"/mnt/data": ("data", "w")})  # type: ignore[dict-item]
Hardening(proc="all")  # type: ignore[arg-type]
Host(10)  # type: ignore[call-arg]
Host(cgroup="make")  # type: ignore[arg-type]


@coldframe.function(memory=128)  # type: ignore[call-overload, untyped-decorator]
def unknown_option(event: Any, context: Any) -> Any:
    return event


@coldframe.function  # type: ignore[arg-type]
def no_context(event: Any) -> Any:
    return event


def read_only(fn: Function, inv: Invocation) -> None:
    inv.payload = 1  # type: ignore[misc]
    inv.report.cpu_ms = 0.0  # type: ignore[misc]
    inv.ok = True  # type: ignore[misc]
    fn.isolation["network"] = "off"  # type: ignore[index]
    fn.invoke({}, timeout=1)  # type: ignore[call-arg]
    print(inv.error.error_type)  # type: ignore[union-attr]
