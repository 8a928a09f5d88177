"""Grading: submissions become functions, their cases run side by side, and all of it has its bounds."""

import asyncio
import tempfile
from pathlib import Path

import coldframe

from .problems import Case, Limits, Problem
from .verdicts import Result, Verdict, judge

HARNESS = Path(__file__).with_name("harness")
MAX_UNPACKED_MB = 8
PROBE = b"import os\ndef solve(paths): return [path for path in paths if os.path.lexists(path)]"
ZIP_MAGIC = b"PK\x03\x04"


class Busy(Exception):  # noqa: N818 - this is a state and not a mistake
    """As many submissions as there is room for are being graded, or wait for it."""


class Refused(ValueError):  # noqa: N818 - the submission's fault and not ours
    """What was handed in cannot be run at all, for one because it is no sound archive."""


class Grader:
    """Grades submissions: `side_by_side` runs at a time, `places` submissions at a time, the waiting ones included."""

    def __init__(self, *, side_by_side: int, places: int) -> None:
        self.places = places
        self.taken = 0
        self._slots = asyncio.Semaphore(side_by_side)
        # Room for more than the slots: a run that is cancelled ends a moment after its task.
        self._host = coldframe.Host(max_concurrency=2 * side_by_side)

    async def grade(self, problem: Problem, submission: bytes) -> list[Result]:
        """Run a submission, source text or a zip with a `submission.py`, on every case; one result a case, in order."""
        if self.taken >= self.places:
            raise Busy
        self.taken += 1
        try:
            function = await asyncio.to_thread(self._function, submission, problem.limits)
            with function:
                return await asyncio.gather(*(self._run(function, case) for case in problem.cases))
        finally:
            self.taken -= 1

    async def readable(self, *paths: Path) -> list[str]:
        """Return which of these paths a submission can see, by handing in one that looks."""
        function = await asyncio.to_thread(self._function, PROBE, Limits(time_s=10))
        with function:
            run = await function.ainvoke({"paths": [str(path.resolve()) for path in paths]})
        return list(run.unwrap())

    @property
    def environments(self) -> int:
        """How many environments are alive: none, when no submission is being graded."""
        return len(self._host.environments())

    def close(self) -> None:
        """End whatever runs."""
        self._host.close()

    async def _run(self, function: coldframe.Function, case: Case) -> Result:
        async with self._slots:
            try:
                return judge(await function.ainvoke(case.input), case)
            except coldframe.ThrottledError:  # this machine is out of memory, or of threads
                return Result(Verdict.NOT_JUDGED)

    def _function(self, submission: bytes, limits: Limits) -> coldframe.Function:
        """Make a function of one submission; its code is read here and now, so the files need not stay."""
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder, "submission.zip" if submission.startswith(ZIP_MAGIC) else "submission.py")
            code.write_bytes(submission)
            try:
                return coldframe.Function(
                    "harness.handler",
                    code,
                    layers=[HARNESS],
                    memory_mb=limits.memory_mb,
                    timeout_s=limits.time_s,
                    log_kb=limits.output_kb,
                    max_processes=limits.processes,
                    packages="none",
                    reuse=False,  # a case must not learn anything from the one before it
                    hardening=coldframe.Hardening(max_zip_mb=1, max_code_mb=MAX_UNPACKED_MB),
                    host=self._host,
                )
            except coldframe.ConfigurationError as error:
                raise Refused(str(error).replace(folder + "/", "")) from None
