"""Fit a linear model to the columns of a CSV table by least squares."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

# Longley's table of the American economy, 1947 to 1962: famous for being hard on least-squares programs.
LONGLEY = Path(__file__).with_name("data") / "longley.csv"


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Explain column ``event["target"]`` of ``event["csv"]`` (Longley's table unless given) by all the others."""
    text = event["csv"] if "csv" in event else LONGLEY.read_text(encoding="utf-8")
    names, *rows = csv.reader(io.StringIO(text))
    table = np.array([row for row in rows if row], dtype=float)

    target = names.index(event["target"])
    y = table[:, target]
    x = np.delete(table, target, axis=1)

    # Centred columns, since the years alone would drown the differences that matter.
    slopes, _, rank, _ = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(), rcond=None)
    if rank < x.shape[1]:
        message = f"the columns are not independent: {x.shape[1]} explain no more than {rank} would"
        raise ValueError(message)
    intercept = y.mean() - x.mean(axis=0) @ slopes
    residuals = y - intercept - x @ slopes
    r2 = 1 - (residuals @ residuals) / ((y - y.mean()) @ (y - y.mean()))

    explaining = [name for name in names if name != event["target"]]
    return {
        "intercept": float(intercept),
        "coefficients": dict(zip(explaining, slopes.tolist(), strict=True)),
        "r2": float(r2),
        "rows": len(y),
    }
