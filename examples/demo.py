"""The main job in four steps: a handler cold, then warm, then one over its memory, then one over its time.

    python examples/demo.py

Every step prints what came of it and its REPORT line. The exit status is 0 when all came out as they should.
"""

import json
import sys
from pathlib import Path

import coldframe

EXAMPLES = Path(__file__).resolve().parent
MEMORY_MB = 128
TIMEOUT_S = 1.0
TOLERANCE_MS = 500


def main() -> int:
    """Run the four steps; give the exit status."""
    try:
        results = [*cold_and_warm(), over_its_memory(), over_its_time()]
    except coldframe.HostCapabilityError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if all(results) else 1


def cold_and_warm() -> list[bool]:
    """Invoke one function twice: the second time finds the environment of the first, thawed."""
    with coldframe.Function("app.handler", code=EXAMPLES / "hello", memory_mb=MEMORY_MB) as hello:
        greeting = {"message": "Hello, Ada!"}
        cold = hello.invoke({"name": "Ada"})
        as_expected = [
            show(
                "Cold: a Linux process of its own starts, is isolated, imports the handler and calls it.",
                cold,
                as_expected=cold.payload == greeting and cold.report.start == "cold",
            ),
        ]
        warm = hello.invoke({"name": "Ada"})
        same = warm.report.environment_id == cold.report.environment_id
        as_expected.append(
            show(
                "Warm: the same process was frozen when it had answered, and answers again.",
                warm,
                as_expected=warm.payload == greeting and warm.report.start == "warm" and same,
            ),
        )
    return as_expected


def over_its_memory() -> bool:
    """Invoke a handler that hoards memory."""
    with coldframe.Function("app.hoard", code=EXAMPLES / "limits", memory_mb=MEMORY_MB, timeout_s=60) as function:
        hoard = function.invoke({})
    return show(
        f"Over its memory: it takes more than {MEMORY_MB} MB, and is killed.",
        hoard,
        as_expected=isinstance(hoard.error, coldframe.OutOfMemoryError) and hoard.report.max_memory_mb <= MEMORY_MB,
    )


def over_its_time() -> bool:
    """Invoke a handler that does not end and does not want to."""
    with coldframe.Function("app.linger", code=EXAMPLES / "limits", timeout_s=TIMEOUT_S) as function:
        linger = function.invoke({})
    late_ms = linger.report.duration_ms - 1000 * TIMEOUT_S
    return show(
        f"Over its time: {TIMEOUT_S:g} s have passed; all its processes die, whatever signals they ignore.",
        linger,
        as_expected=isinstance(linger.error, coldframe.InvocationTimeout) and abs(late_ms) < TOLERANCE_MS,
    )


def show(title: str, invocation: coldframe.Invocation, *, as_expected: bool) -> bool:
    """Print a step, its result and its REPORT line; hand on whether it came out as expected."""
    if invocation.error is None:
        result = json.dumps(invocation.payload)
    else:
        result = f"{type(invocation.error).__name__}: {invocation.error}"
    reports = [line for line in invocation.log.splitlines() if line.startswith("REPORT ")]
    print(title, result, *reports[-1:], sep="\n    ")
    if not (as_expected and reports):
        print("    This is not what should have come out.", file=sys.stderr)
    return as_expected and bool(reports)


if __name__ == "__main__":
    sys.exit(main())
