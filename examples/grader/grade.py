"""Grade programs that nobody has read: run each against the test cases, every run in an environment of its own.

    python examples/grader/grade.py [SUBMISSION_DIR ...]

A submission is a directory with a ``submission.py`` that has a ``handler(event, context)``. It may loop, hoard, fork,
flood or leave: that is a verdict here, and nothing that the other submissions or this program would notice.
"""

import enum
import functools
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import coldframe

HERE = Path(__file__).resolve().parent
MEMORY_MB = 256
TIME_LIMIT_S = 5.0
OUTPUT_LIMIT_KB = 64
PROCESSES = 16
SIDE_BY_SIDE = 4


class Case(NamedTuple):
    """One test case: what goes in and what must come out."""

    event: Any
    expected: Any


class Verdict(enum.StrEnum):
    """What became of one run, in the words of programming contests."""

    OK = "OK"
    WRONG = "WRONG"
    TLE = "TLE"  # time limit exceeded
    MLE = "MLE"  # memory limit exceeded
    RE = "RE"  # runtime error: raised, crashed or left
    OLE = "OLE"  # output limit exceeded


def grade(submission_dir: Path, cases: Sequence[Case], *, host: coldframe.Host | None = None) -> list[Verdict]:
    """Run a submission on every case, side by side, and give one verdict a case, in their order."""
    try:
        function = coldframe.Function(
            "submission.handler",
            code=submission_dir,
            memory_mb=MEMORY_MB,
            timeout_s=TIME_LIMIT_S,
            log_kb=OUTPUT_LIMIT_KB,
            max_processes=PROCESSES,
            packages="none",
            reuse=False,  # a case must not learn anything from the one before it
            host=host,
        )
    except coldframe.ConfigurationError:
        # What was handed in cannot even be a function, for one because its native code is for another machine.
        return [Verdict.RE for _ in cases]
    with function:
        runs = function.map(case.event for case in cases)
        return [judge(run, case.expected) for run, case in zip(runs, cases, strict=True)]


def judge(run: coldframe.Invocation, expected: object) -> Verdict:
    """Turn one invocation into a verdict."""
    # First of all the output, since who prints without end runs out of time as well.
    if run.report.log_dropped_bytes:
        return Verdict.OLE
    match run.error:
        case None:
            return Verdict.OK if run.payload == expected else Verdict.WRONG
        case coldframe.InvocationTimeout():
            return Verdict.TLE
        case coldframe.OutOfMemoryError():
            return Verdict.MLE
        case coldframe.PayloadError(error_type="Function.ResponseSizeTooLarge"):
            return Verdict.OLE
        case _:
            return Verdict.RE


def grade_all(submissions: Sequence[Path], cases: Sequence[Case]) -> dict[str, list[Verdict]]:
    """Grade many submissions at once, a few runs at a time, and give the verdicts by the name of the submission."""
    with coldframe.Host(max_concurrency=SIDE_BY_SIDE) as host, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        verdicts = pool.map(functools.partial(grade, cases=cases, host=host), submissions)
        return dict(zip((path.name for path in submissions), verdicts, strict=True))


def read_cases(path: Path) -> list[Case]:
    """Read test cases from a JSON file."""
    return [Case(case["event"], case["expected"]) for case in json.loads(path.read_text(encoding="utf-8"))]


def main() -> None:
    """Grade the directories of the command line, or the ones beside this file, and print a table."""
    submissions = [Path(name) for name in sys.argv[1:]] or sorted((HERE / "submissions").iterdir())
    for name, verdicts in grade_all(submissions, read_cases(HERE / "cases.json")).items():
        print(f"{name:<16}", *(f"{verdict:<6}" for verdict in verdicts))


if __name__ == "__main__":
    main()
