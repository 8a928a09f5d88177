"""Quantiles, and whether two runs differ by more than their noise.

Start times are skewed and have outliers, so that medians are compared, and nothing is assumed about their shape: the
interval of the ratio of the medians comes from a bootstrap. That sees the noise within a run; it does not see that
the whole machine was slower an hour ago, which is the larger part on machines that are shared. So each run measures a
control as well, a start that coldframe has no part in. What differs has to differ both as it is and by the control.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    Verdict = Literal["faster", "slower", "no difference", "too few runs"]

CONFIDENCE = 0.99
"""How sure the interval of a ratio is."""
LEAST_CHANGE = 0.08
"""A smaller change of the median says nothing: the control takes away most of what the machine does, but not all."""
LEAST_RUNS = 5
"""With fewer on a side, even two sets without any overlap are too likely by chance (one in ten for three and three)."""
_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Ratio:
    """By what one median is larger than another; the truth lies between `low` and `high` with `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def differs(self) -> Literal["faster", "slower"] | None:
        """Return to which side this is a difference, if it is one."""
        if self.high < 1 and self.value <= 1 - LEAST_CHANGE:
            return "faster"
        if self.low > 1 and self.value >= 1 + LEAST_CHANGE:
            return "slower"
        return None


@dataclass(frozen=True, slots=True)
class Difference:
    """How the median went from `before` to `after`, in milliseconds: by `ratio`, and by `adjusted` to the control."""

    before: float
    after: float
    ratio: Ratio
    adjusted: Ratio
    verdict: Verdict


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the smallest sample that at least `part` of them do not exceed: one that was measured, not a guess."""
    return sorted(samples)[_rank(len(samples), part) - 1]


def median(samples: Sequence[float]) -> float:
    """Return the quantile in the middle."""
    return quantile(samples, 0.5)


def compare(
    before: Sequence[float], after: Sequence[float], control: tuple[Sequence[float], Sequence[float]]
) -> Difference:
    """Return how two sets of positive numbers differ, given the measurements of the control before and after.

    Without a control on both sides, the adjusted ratio is the plain one.
    """
    was, became = median(before), median(after)
    randomness = random.Random(0)  # noqa: S311 - no secret; the same samples have the same verdict each time
    plain = _divide(_medians(after, randomness), _medians(before, randomness))
    ratio = adjusted = _ratio(became / was, plain)
    if all(control):
        machine = _divide(_medians(control[1], randomness), _medians(control[0], randomness))
        adjusted = _ratio(ratio.value / (median(control[1]) / median(control[0])), _divide(plain, machine))
    verdict: Verdict = "no difference"
    if min(len(before), len(after)) < LEAST_RUNS:
        verdict = "too few runs"
    elif (side := ratio.differs()) is not None and side == adjusted.differs():
        verdict = side
    return Difference(was, became, ratio, adjusted, verdict)


def _ratio(value: float, resampled: Sequence[float]) -> Ratio:
    """Return a ratio with the interval that its resamples span."""
    tail = (1 - CONFIDENCE) / 2
    return Ratio(value, quantile(resampled, tail), quantile(resampled, 1 - tail))


def _divide(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratios of two sets, one by one."""
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators, strict=True)]


def _medians(samples: Sequence[float], randomness: random.Random) -> list[float]:
    """Return the medians of resamples of `samples`, as a bootstrap has them.

    None is drawn number by number: to resample is to draw n places uniformly, the median is the sample at the k-th
    smallest of these places, and the k-th smallest of n uniform numbers has the distribution Beta(k, n + 1 - k).
    """
    ordered, count = sorted(samples), len(samples)
    rank = _rank(count, 0.5)
    places = (randomness.betavariate(rank, count + 1 - rank) for _ in range(_RESAMPLES))
    return [ordered[min(int(place * count), count - 1)] for place in places]


def _rank(count: int, part: float) -> int:
    """Return which of `count` ordered samples is the quantile, counted from 1."""
    return max(math.ceil(part * count), 1)
