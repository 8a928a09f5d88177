"""Takes the measurements: each kind of start on a host of its own.

The first starts come first; the others in turns, so that whatever else the machine does meets them alike, and each
when all hosts are at rest, so that the clean-up after one start is not in the time of the next.

first    a new host: nothing is resident, even the interpreter has to start
cold     a new environment, made while the caller waits; its zygote is resident
parked   the same, from an environment that was forked and isolated ahead of need
frozen   an environment that is used again, and was frozen in between
warm     the same, not frozen
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coldframe._cli.record import KINDS
from coldframe.errors import ColdframeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coldframe import Function, Host, Invocation, Report
    from coldframe._cli.record import Record
    from coldframe._options import FunctionOptions

_REUSED = {"frozen": "frozen", "warm": "ready"}
"""The kinds that use an environment again, with the state in which it has to be before."""
_LEAST_FIRST = 5
_FIRST_SHARE = 10
_QUIET_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.0005


class FailedInvocationError(Exception):
    """An invocation failed: there is nothing to measure."""

    def __init__(self, invocation: Invocation) -> None:
        """Keep the invocation, for its log and its error."""
        super().__init__(str(invocation.error))
        self.invocation = invocation


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a handler, its code and options, and the event."""

    handler: str
    code: str
    options: FunctionOptions
    event: Any


@dataclass(frozen=True, slots=True)
class Station:
    """A host on which one kind of start is measured, with the function for it."""

    kind: str
    host: Host
    function: Function

    def quiet(self) -> bool:
        """Return whether the next start would be one of this kind, and nothing of the last one goes on."""
        states = [environment.state for environment in self.host.environments()]
        if self.kind in _REUSED:
            return states == [_REUSED[self.kind]]
        return not states and (self.kind != "parked" or self.host.parked > 0)


def first_runs(runs: int) -> int:
    """Return how many first starts are measured when each other kind has `runs`: they take a hundred times as long."""
    return min(runs, max(_LEAST_FIRST, runs // _FIRST_SHARE))


def measure(subject: Subject, runs: int, record: Record, progress: Callable[[str, int, int], None]) -> None:
    """Fill `record` with `runs` measurements of each kind; what is in it stays when this is interrupted.

    Calls `progress` before each measurement with its kind, how many are done and how many there will be.

    Raises:
        FailedInvocationError: An invocation failed.
        ColdframeError: The hosts did not come to rest, or reused nothing.
    """
    firsts = first_runs(runs)
    total = firsts + runs * (len(KINDS) - 1)
    for number in range(firsts):
        progress("first", number, total)
        with ExitStack() as stack:
            _take(_station(stack, subject, "first"), subject.event, record)
        _take_control(record)
    with ExitStack() as stack:
        progress("cold", firsts, total)
        stations = _stations(stack, subject, record)
        total = firsts + runs * len(stations)
        for number in range(runs * len(stations)):
            station = stations[number % len(stations)]
            progress(station.kind, firsts + number, total)
            if station is stations[0]:
                _take_control(record)
            _await_quiet(stations)
            _take(station, subject.event, record)


def _stations(stack: ExitStack, subject: Subject, record: Record) -> list[Station]:
    """Return the stations of all kinds but the first start, each of them used once."""
    from coldframe import _core  # noqa: PLC0415 - not for --help

    stations = []
    for kind in KINDS[1:]:
        if kind == "parked" and not hasattr(_core.Host, "park_at_most"):
            continue
        station = _station(stack, subject, kind)
        invocation = station.function.invoke(subject.event)
        if not invocation.ok:
            raise FailedInvocationError(invocation)
        record.machine["isolation"] = dict(station.function.isolation)
        if _until(station.quiet):
            stations.append(station)
        else:
            record.skipped[kind] = f"{_unrest(station)} after {_QUIET_WITHIN_S:.0f} s"
    return stations


def _station(stack: ExitStack, subject: Subject, kind: str) -> Station:
    """Return a station that `stack` will close."""
    from coldframe import Function, Host  # noqa: PLC0415 - not for --help

    host = stack.enter_context(Host(freeze=kind != "warm"))
    native: Any = host._live()  # noqa: SLF001 - how many are parked is the host's own business, but for a bench
    if hasattr(native, "park_at_most"):
        native.park_at_most(1 if kind == "parked" else 0)
    options: FunctionOptions = {**subject.options, "host": host, "reuse": kind in _REUSED}
    return Station(kind, host, stack.enter_context(Function(subject.handler, subject.code, **options)))


def _take(station: Station, event: Any, record: Record) -> None:  # noqa: ANN401 - any JSON
    """Take one measurement."""
    began = time.perf_counter()
    invocation = station.function.invoke(event)
    wall = (time.perf_counter() - began) * 1000
    if not invocation.ok:
        raise FailedInvocationError(invocation)
    report = invocation.report
    if station.kind in _REUSED and report.start != "warm":
        raise ColdframeError(
            f"a {station.kind} start came out as {report.start}: the host gave its environment up in between; "
            "there may be too little memory"
        )
    record.starts[station.kind].add(wall, _phases(report), report.throttled_ms)


def _take_control(record: Record) -> None:
    """Take one measurement of the control: a process that does nothing, with nothing of coldframe in it."""
    program = shutil.which("true") or "/bin/true"
    began = time.perf_counter()
    os.waitpid(os.posix_spawn(program, [program], {}), 0)
    record.control.append(round((time.perf_counter() - began) * 1000, 6))


def _phases(report: Report) -> dict[str, float]:
    """Return the phases of an invocation, in milliseconds."""
    known: dict[str, float] | None = getattr(report, "phases", None)
    if known is not None:
        return dict(known)
    initialise = {} if report.init_duration_ms is None else {"initialise": report.init_duration_ms}
    return {**initialise, "invoke": report.duration_ms}


def _await_quiet(stations: list[Station]) -> None:
    """Wait, off the clock, until every station is ready and at rest."""
    if not _until(lambda: all(station.quiet() for station in stations)):
        restless = next((station for station in stations if not station.quiet()), stations[0])
        raise ColdframeError(f"waited {_QUIET_WITHIN_S:.0f} s for the next {restless.kind} start: {_unrest(restless)}")


def _unrest(station: Station) -> str:
    """Say what keeps a station from being quiet."""
    states = [environment.state for environment in station.host.environments()]
    if station.kind == "parked" and not states:
        return "no environment was parked"
    return f"its environments were {', '.join(states)}" if states else "it had no environment"


def _until(condition: Callable[[], bool]) -> bool:
    """Return whether `condition` came true within the time that is allowed."""
    deadline = time.monotonic() + _QUIET_WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True
