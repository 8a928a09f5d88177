"""The example ``grader``: eight submissions, six of them hostile, and a verdict for each run."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

GRADER = Path(__file__).resolve().parents[2] / "examples" / "grader"

VERDICTS = {
    "endless_loop": ["TLE", "TLE", "TLE"],
    "exits": ["RE", "RE", "RE"],
    "fork_bomb": ["TLE", "TLE", "TLE"],
    "memory_bomb": ["MLE", "MLE", "MLE"],
    "prints_forever": ["OLE", "OLE", "OLE"],
    "raises": ["RE", "RE", "RE"],
    "right": ["OK", "OK", "OK"],
    "wrong": ["OK", "WRONG", "OK"],
}


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(GRADER)
    return importlib.import_module("grade")


@pytest.mark.timeout(180)
def test_every_submission_gets_its_verdict_whatever_runs_beside_it(grader: ModuleType) -> None:
    submissions = sorted((GRADER / "submissions").iterdir())
    cases = grader.read_cases(GRADER / "cases.json")
    assert grader.grade_all(submissions, cases) == VERDICTS


@pytest.mark.timeout(60)
def test_submissions_made_up_on_the_spot(grader: ModuleType, tmp_path: Path) -> None:
    cases = [grader.Case(event, event) for event in ("first", "second")]
    sources = {
        "no_handler": ("answer = 42", ["RE", "RE"]),
        "syntax_error": ("def handler(", ["RE", "RE"]),
        "no_json": ("def handler(event, context): return {1, 2}", ["RE", "RE"]),
        "too_much": ("def handler(event, context): return 'x' * 7_000_000", ["OLE", "OLE"]),
        "remembers": ("seen = []\ndef handler(event, context):\n seen.append(event)\n return seen[0]", ["OK", "OK"]),
        "honest": ("def handler(event, context): return event", ["OK", "OK"]),
    }
    for name, (source, _) in sources.items():
        directory = tmp_path / name
        directory.mkdir()
        (directory / "submission.py").write_text(source, encoding="utf-8")
    verdicts = grader.grade_all([tmp_path / name for name in sources], cases)
    assert verdicts == {name: expected for name, (_, expected) in sources.items()}
