"""Problems: what is asked, within which limits, and the cases with their expected answers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What one case may use. The time is wall clock; the share of a processor follows the memory (1,769 MB are one)."""

    time_s: float = 2.0
    memory_mb: int = 512
    output_kb: int = 16
    processes: int = 16


@dataclass(frozen=True, slots=True)
class Case:
    """One case. Only `input` ever goes to the submission; of a case that is `shown` the author may read the output."""

    input: dict[str, Any]
    expected: Any
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    title: str
    limits: Limits
    cases: tuple[Case, ...]

    def describe(self) -> dict[str, Any]:
        """Return what everybody may know."""
        shown = [{"input": case.input, "expected": case.expected} for case in self.cases if case.shown]
        limits = {name: getattr(self.limits, name) for name in Limits.__slots__}
        return {"title": self.title, "limits": limits, "cases": len(self.cases), "shown": shown}


def load(folder: Path) -> dict[str, Problem]:
    """Read every problem of a folder, by the name of its file."""
    return {path.stem: read(path) for path in sorted(folder.glob("*.json"))}


def read(path: Path) -> Problem:
    data = json.loads(path.read_text(encoding="utf-8"))
    cases = tuple(Case(**case) for case in data["cases"])
    return Problem(data["title"], Limits(**data.get("limits", {})), cases)
