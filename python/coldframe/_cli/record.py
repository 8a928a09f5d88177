"""What a bench found: on which machine, with which options, and every measurement; as JSON, and back."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldframe._cli.arguments import UNUSUAL
from coldframe._cli.statistics import median, quantile
from coldframe.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

KINDS = ("first", "cold", "parked", "frozen", "warm")
"""The kinds of start, from the dearest down."""
PHASES = ("queue", "fork", "isolate", "import", "initialise", "thaw", "invoke", "freeze", "rest")
"""The phases of a start in the order of its life; `rest` is what the others leave of the wall time."""
QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_SCHEMA = 1


@dataclass
class Start:
    """The measurements of one kind of start, in milliseconds, in the order in which they were taken.

    `phases` has as many numbers for each phase as there are `samples`, 0.0 where it did not happen; `throttled` is how
    long the processor quota held each of them.
    """

    samples: list[float] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)
    throttled: list[float] = field(default_factory=list)

    def add(self, wall: float, phases: dict[str, float], throttled: float = 0.0) -> None:
        """Add one measurement."""
        whole = {**phases, "rest": wall - sum(phases.values())}
        for name in [*self.phases, *(new for new in whole if new not in self.phases)]:
            earlier = self.phases.setdefault(name, [0.0] * len(self.samples))
            earlier.append(round(whole.get(name, 0.0), 6))
        self.samples.append(round(wall, 6))
        self.throttled.append(round(throttled, 6))

    def quantiles(self) -> dict[str, float]:
        """Return the quantiles of the wall time."""
        return {name: quantile(self.samples, part) for name, part in QUANTILES.items()}

    def medians(self) -> dict[str, float]:
        """Return the median of each phase that happened, in the order of their life."""
        return {name: median(self.phases[name]) for name in sorted(self.phases, key=phase_order)}

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "runs": len(self.samples),
            **self.quantiles(),
            "phases_p50": self.medians(),
            "samples": self.samples,
            "phases": self.phases,
            "throttled": self.throttled,
        }


@dataclass
class Record:
    """One run of the bench: `starts` by kind, and for the kinds that could not be measured the reason, in `skipped`.

    `control` has milliseconds, too: how long this machine took to start and to bury /bin/true, measured in turns with
    the rest. It says how fast the machine was at the time.
    """

    handler: str
    machine: dict[str, Any]
    options: dict[str, Any]
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    interrupted: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    control: list[float] = field(default_factory=list)
    starts: dict[str, Start] = field(default_factory=lambda: {kind: Start() for kind in KINDS})

    def measured(self) -> dict[str, Start]:
        """Return the kinds of start that there are measurements of."""
        return {kind: self.starts[kind] for kind in KINDS if kind in self.starts and self.starts[kind].samples}

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        plain = {part.name: getattr(self, part.name) for part in dataclasses.fields(self) if part.name != "starts"}
        return {
            "schema": _SCHEMA,
            "unit": "ms",
            **plain,
            "starts": {kind: start.as_dict() for kind, start in self.measured().items()},
        }

    def function(self) -> str:
        """Return what was measured, in words."""
        return f"{self.handler}, {self.options.get('memory_mb', '?')} MB"

    def place(self) -> str:
        """Return where it was measured, in words."""
        machine = {"cpu": "?", "cpus": "?", "kernel": "?", "python": "?", "coldframe": "?", **self.machine}
        debug = " (debug build)" if machine.get("profile") == "debug" else ""
        return "{cpu}, {cpus} CPUs, Linux {kernel}, Python {python}, coldframe {coldframe}".format(**machine) + debug

    def unlike(self, other: Record) -> list[str]:
        """Return in what the conditions of two runs differ, a text each: what makes a comparison one of two things."""
        found = [] if self.handler == other.handler else [f"handler: {other.handler}, now {self.handler}"]
        for here, there in ((self.machine, other.machine), (self.options, other.options)):
            found += [
                f"{name}: {_brief(there.get(name))}, now {_brief(here.get(name))}"
                for name in dict.fromkeys([*there, *here])
                if name != "runs" and there.get(name) != here.get(name)
            ]
        return found


def phase_order(name: str) -> tuple[int, str]:
    """Return a key that sorts phases by the order of a start's life, and those unknown to it beside the rest."""
    return (PHASES.index(name) if name in PHASES else len(PHASES) - 1, name)


def read(file: str) -> Record:
    """Return the record that `coldframe bench --json` wrote to `file`.

    Raises:
        ConfigurationError: It cannot be read, or is not such a record.
    """
    try:
        found = json.loads(Path(file).read_bytes())
        if found["schema"] != _SCHEMA:
            raise ConfigurationError(
                f"--compare {file}: it has schema {found['schema']!r}, this coldframe knows {_SCHEMA}; measure it again"
            )
        starts = {
            kind: Start(
                _numbers(start["samples"], above=0.0),
                {str(name): _numbers(values) for name, values in start["phases"].items()},
                _numbers(start["throttled"]),
            )
            for kind, start in found["starts"].items()
            if kind in KINDS
        }
        if any(len(column) != len(start.samples) for start in starts.values() for column in start.phases.values()):
            raise ValueError("phases and samples differ in number")
        return Record(
            handler=str(found["handler"]),
            machine=dict(found["machine"]),
            options=dict(found["options"]),
            date=str(found["date"]),
            interrupted=bool(found["interrupted"]),
            control=_numbers(found["control"], above=0.0),
            starts=starts,
        )
    except OSError as error:
        raise ConfigurationError(f"--compare {file}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"--compare {file}: it is not what `coldframe bench --json` prints ({type(error).__name__}: {error})"
        ) from None


def machine() -> dict[str, Any]:
    """Return what the numbers depend on beside the function; what isolation is in force, a function has to say."""
    from coldframe import build_info  # noqa: PLC0415 - not for --help

    build = build_info()
    return {
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "coldframe": build["version"],
        "profile": build["profile"],
        "isolation": {},
    }


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a run; of the variables the names alone, since their values may be secrets."""
    return {
        "runs": arguments.runs,
        "memory_mb": arguments.memory,
        "timeout_s": arguments.timeout,
        "layers": len(arguments.layer),
        "env": sorted(name for name, _ in arguments.env),
        "isolation": arguments.isolation,
        "event_bytes": len(json.dumps(arguments.event)),
        # Named where they are not what they are by themselves, as in the records of before there were any.
        **{
            name: value if isinstance(value, str | int) else len(value)
            for name in UNUSUAL
            if (value := getattr(arguments, name)) != arguments.parser.get_default(name)
        },
    }


def _cpu() -> str:
    """Return the model of the processor, or its architecture where the kernel does not name the model."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()


def _numbers(values: Iterable[object], above: float = -math.inf) -> list[float]:
    """Return `values` when they are numbers `above` a bound."""
    found = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
            raise ValueError(f"{value!r} is not a time")
        found.append(float(value))
    return found


def _brief(value: object) -> str:
    """Return a value as a few words."""
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004 - what fits a line beside another
