"""What one invocation came to: its result or its error, its log, and what it cost."""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from coldframe.errors import InvocationError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coldframe import _core

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120


class _Phased:
    """What a report has beside its fields, which are Lambda's."""

    __slots__ = ("_phases",)

    _phases: Mapping[str, float]

    @property
    def phases(self) -> dict[str, float]:
        """Milliseconds by phase, for those that happened.

        A new dict, empty in a report made by hand. `queue`: until there was an environment, or the making of one began.
        `fork`, `isolate`: a new environment's processes, and what locks them in. `import`: the handler's module.
        `initialise`: the rest of its initialisation. `freeze`: the freeze before this invocation, since its own comes
        after its report. `thaw`, `invoke`: the event's way to the answer; where a call has raised the error that this
        belongs to, `invoke` is all of it. They do not overlap; what lies between them is in none.
        """
        return dict(getattr(self, "_phases", ()))


@dataclass(frozen=True, slots=True)
class Report(_Phased):
    """What one invocation took, as Lambda's REPORT line has it and a little more.

    `duration_ms` is the wall clock of the handler; `billed_duration_ms` the same in whole milliseconds, rounded up;
    `init_duration_ms` is None when the environment was warm, and `restore_duration_ms` unless it was restored.
    `memory_mb` is the cap and `max_memory_mb` the peak of the whole environment, both in MiB. `cpu_ms` is processor
    time of all its processes, `throttled_ms` the time that it stood still for having used up its share, and
    `log_dropped_bytes` how much output was over `log_kb` and is not in the log.
    """

    start: Literal["cold", "warm", "restored"]
    duration_ms: float
    billed_duration_ms: int
    init_duration_ms: float | None
    restore_duration_ms: float | None
    memory_mb: int
    max_memory_mb: int
    cpu_ms: float
    throttled_ms: float
    log_dropped_bytes: int
    environment_id: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields and the phases."""
        return _report, (self.phases, *(getattr(self, field.name) for field in fields(self)))


def _report(phases: Mapping[str, float], *values: Any) -> Report:  # noqa: ANN401 - as the fields are
    """Return a report with its phases."""
    report = Report(*values)
    object.__setattr__(report, "_phases", phases)
    return report


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Invocation:
    """One event that went through one environment.

    `payload` is what the handler returned, decoded from JSON (None when it failed). It may be any JSON: NaN, too, and
    halves of surrogate pairs, which not every encoder takes. `error` says why it failed (None when it did not), and
    `log` is the text of its stdout and stderr between Lambda's START, END and REPORT lines. Of a cold start it begins
    with INIT_START and with what the initialisation printed.
    """

    request_id: str
    payload: Any
    error: InvocationError | None
    log: str
    report: Report

    @property
    def ok(self) -> bool:
        """Whether the handler returned."""
        return self.error is None

    def unwrap(self) -> Any:  # noqa: ANN401 - whatever JSON the handler returned
        """Return the payload, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.payload

    def __repr__(self) -> str:
        """Show the verdict first, and no more of the payload than fits a line."""
        verdict = f"payload={_short.repr(self.payload)}" if self.error is None else f"error={self.error!r}"
        report = self.report
        return (
            f"Invocation(ok={self.ok}, {verdict}, request_id={self.request_id!r}, "
            f"start={report.start!r}, duration_ms={report.duration_ms:.2f})"
        )


# The scanner in C itself: `json.loads` looks for white space around the document with two regular expressions.
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # missing in typeshed


def decode(payload: bytes | None) -> Any:  # noqa: ANN401 - whatever JSON the handler returned
    """Return the value of `payload`; raise ValueError or RecursionError when it is not JSON that can be read here."""
    return decode_text((payload or b"").decode())


def decode_text(text: str) -> Any:  # noqa: ANN401 - whatever JSON the handler returned
    """Do as `decode` with a payload that is text already."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    return value if end == len(text) else json.loads(text)


def from_outcome(outcome: _core.Outcome, *, streamed: bool = False) -> Invocation:
    """Return the core's `outcome` as an `Invocation`; a payload that is no JSON makes it a failed one.

    A payload that was `streamed` has gone elsewhere, and may be anything.
    """
    payload: Any = None
    error: InvocationError | None = None
    if outcome.kind == "ok":
        try:
            payload = None if streamed else decode(outcome.payload)
        except (ValueError, RecursionError) as reason:
            why = f"the response is not JSON that can be read here: {_explain(reason)}"
            error = PayloadError(f"Runtime.MarshalError: {why}", error_type="Runtime.MarshalError", error_message=why)
    else:
        error = InvocationError.from_outcome(outcome.kind, outcome.error)
    report = _report(
        outcome.phases,
        outcome.start,
        outcome.duration_ms,
        outcome.billed_duration_ms,
        outcome.init_duration_ms,
        outcome.restore_duration_ms,
        outcome.memory_mb,
        outcome.max_memory_mb,
        outcome.cpu_ms,
        outcome.throttled_ms,
        outcome.log_dropped_bytes,
        outcome.environment_id,
    )
    invocation = Invocation(outcome.request_id, payload, error, outcome.log, report)
    if error is not None:
        error.invocation = invocation
    return invocation


def _explain(reason: ValueError | RecursionError) -> str:
    """Return `reason` as a clause; the interpreter's own words for deep nesting do not mention nesting."""
    return "it is nested too deeply" if isinstance(reason, RecursionError) else str(reason)
