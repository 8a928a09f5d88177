"""Verdicts: what became of one run, in the words of graders. Decided out here, where submissions cannot reach."""

import enum
import math
from dataclasses import dataclass, replace
from typing import Any

import coldframe

from .problems import Case

LONGEST_TEXT = 4_000


class Verdict(enum.StrEnum):
    ACCEPTED = "accepted"
    WRONG_ANSWER = "wrong answer"
    RUNTIME_ERROR = "runtime error"
    TIME_LIMIT = "time limit exceeded"
    MEMORY_LIMIT = "memory limit exceeded"
    OUTPUT_LIMIT = "output limit exceeded"
    NOT_JUDGED = "not judged"  # no fault of the submission: hand it in again


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one case and what the run used; `error` and `output` only where the author may see them."""

    verdict: Verdict
    wall_ms: float = 0.0
    cpu_ms: float = 0.0
    memory_mb: int = 0
    error: str | None = None
    output: str | None = None


def judge(run: coldframe.Invocation, case: Case) -> Result:
    """Turn one run into a result."""
    wall_ms, cpu_ms = round(run.report.duration_ms, 1), round(run.report.cpu_ms, 1)
    result = Result(verdict(run, case.expected), wall_ms, cpu_ms, run.report.max_memory_mb)
    if case.shown:  # of the other cases not even an error message: it says whatever the submission likes
        return replace(result, error=explain(run.error), output=printed(run)[-LONGEST_TEXT:])
    return result


def verdict(run: coldframe.Invocation, expected: object) -> Verdict:
    # First of all the output, since who prints without end runs out of time as well.
    if run.report.log_dropped_bytes:
        return Verdict.OUTPUT_LIMIT
    match run.error:
        case None:
            return Verdict.ACCEPTED if same(run.payload, expected) else Verdict.WRONG_ANSWER
        case coldframe.InvocationTimeout():
            return Verdict.TIME_LIMIT
        case coldframe.OutOfMemoryError():
            return Verdict.MEMORY_LIMIT
        case coldframe.PayloadError(error_type="Function.ResponseSizeTooLarge"):
            return Verdict.OUTPUT_LIMIT
        case _:
            return Verdict.RUNTIME_ERROR


def explain(error: coldframe.InvocationError | None) -> str | None:
    """Return what its author may see of an error, without the advice that is meant for whoever runs this service."""
    if error is None:
        return None
    return ("".join(error.stack_trace) + f"{error.error_type}: {error.error_message}")[-LONGEST_TEXT:]


def printed(run: coldframe.Invocation) -> str:
    """Return what the run itself wrote: what stands between Lambda's first START line and its last END line."""
    _, _, text = run.log.partition(f"START RequestId: {run.request_id} Version: $LATEST\n")
    return text.rpartition(f"END RequestId: {run.request_id}\n")[0].replace("\r", "\n")


def same(answer: Any, expected: Any) -> bool:
    """Compare as JSON: true is not 1, floats are equal when they are close. The expected value sets the depth."""
    match expected:
        case bool() | None | str():
            return type(answer) is type(expected) and answer == expected
        case int() | float():
            return type(answer) in (int, float) and close(answer, expected)
        case list():
            return (
                isinstance(answer, list)
                and len(answer) == len(expected)
                and all(same(mine, theirs) for mine, theirs in zip(answer, expected, strict=True))
            )
        case _:
            return (
                isinstance(answer, dict)
                and answer.keys() == expected.keys()
                and all(same(answer[key], expected[key]) for key in expected)
            )


def close(answer: float, expected: float) -> bool:
    try:
        return answer == expected or math.isclose(answer, expected, rel_tol=1e-9)
    except OverflowError:  # a whole number of thousands of digits is no float
        return False
