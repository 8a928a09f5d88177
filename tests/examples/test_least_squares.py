"""The example ``least_squares``: numpy against exact arithmetic and against the certified values of NIST."""

import csv
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

import coldframe

LEAST_SQUARES = Path(__file__).resolve().parents[2] / "examples" / "least_squares"
LONGLEY = LEAST_SQUARES / "data" / "longley.csv"

# https://www.itl.nist.gov/div898/strd/lls/data/Longley.shtml
NIST_INTERCEPT = -3482258.63459582
NIST_COEFFICIENTS = {
    "gnp_deflator": 15.0618722713733,
    "gnp": -0.0358191792925910,
    "unemployed": -2.02022980381683,
    "armed_forces": -1.03322686717359,
    "population": -0.0511041056535807,
    "year": 1829.15146461355,
}
NIST_R2 = 0.995479004577296


@pytest.fixture
def least_squares() -> Iterator[coldframe.Function]:
    with coldframe.Function("app.handler", code=LEAST_SQUARES, memory_mb=1769, timeout_s=60) as function:
        yield function


def test_the_shipped_table_gives_the_certified_coefficients(least_squares: coldframe.Function) -> None:
    fit = least_squares({"target": "employed"})

    assert fit["rows"] == 16
    assert fit["intercept"] == pytest.approx(NIST_INTERCEPT, rel=1e-8)
    assert fit["coefficients"] == pytest.approx(NIST_COEFFICIENTS, rel=1e-8)
    assert fit["r2"] == pytest.approx(NIST_R2, rel=1e-10)


@pytest.mark.parametrize("target", ["employed", "gnp", "population"])
def test_a_table_in_the_event_gives_what_exact_arithmetic_gives(least_squares: coldframe.Function, target: str) -> None:
    text = LONGLEY.read_text(encoding="utf-8")
    fit = least_squares({"csv": text, "target": target})

    intercept, coefficients, r2 = exact_fit(text, target)
    assert fit["intercept"] == pytest.approx(intercept, rel=1e-7)
    assert fit["coefficients"] == pytest.approx(coefficients, rel=1e-7)
    assert fit["r2"] == pytest.approx(r2, rel=1e-9)


def test_exact_arithmetic_agrees_with_the_certified_values() -> None:
    intercept, coefficients, r2 = exact_fit(LONGLEY.read_text(encoding="utf-8"), "employed")

    assert intercept == pytest.approx(NIST_INTERCEPT, rel=1e-13)
    assert coefficients == pytest.approx(NIST_COEFFICIENTS, rel=1e-13)
    assert r2 == pytest.approx(NIST_R2, rel=1e-13)


def test_columns_that_depend_on_each_other_are_an_error_and_the_next_table_works(
    least_squares: coldframe.Function,
) -> None:
    invocation = least_squares.invoke({"csv": "y,a,b\n1,1,2\n2,2,4\n4,3,6\n3,5,10\n", "target": "y"})
    assert isinstance(invocation.error, coldframe.HandlerError)
    assert invocation.error.error_type == "ValueError"
    assert "not independent" in invocation.error.error_message

    line = least_squares({"csv": "x,y\n0,1\n1,3\n2,5\n", "target": "y"})
    assert line["intercept"] == pytest.approx(1)
    assert line["coefficients"] == pytest.approx({"x": 2})
    assert line["r2"] == pytest.approx(1)


def exact_fit(text: str, target: str) -> tuple[float, dict[str, float], float]:
    """Solve the normal equations in fractions, with not one rounding before the end."""
    rows = list(csv.DictReader(io.StringIO(text)))
    y = [Fraction(row.pop(target)) for row in rows]
    names = list(rows[0])
    x = [[Fraction(1), *(Fraction(row[name]) for name in names)] for row in rows]

    width = len(names) + 1
    equations = [
        [sum((row[i] * row[j] for row in x), Fraction()) for j in range(width)]
        + [sum((row[i] * value for row, value in zip(x, y, strict=True)), Fraction())]
        for i in range(width)
    ]
    for i in range(width):
        pivot = next(row for row in range(i, width) if equations[row][i])
        equations[i], equations[pivot] = equations[pivot], equations[i]
        equations[i] = [cell / equations[i][i] for cell in equations[i]]
        for row in range(width):
            if row != i:
                factor = equations[row][i]
                equations[row] = [a - factor * b for a, b in zip(equations[row], equations[i], strict=True)]

    solution = [row[-1] for row in equations]
    fitted = [sum((a * b for a, b in zip(row, solution, strict=True)), Fraction()) for row in x]
    mean = sum(y, Fraction()) / len(y)
    left = sum(((a - b) ** 2 for a, b in zip(y, fitted, strict=True)), Fraction())
    r2 = 1 - left / sum(((a - mean) ** 2 for a in y), Fraction())
    return float(solution[0]), dict(zip(names, map(float, solution[1:]), strict=True)), float(r2)
