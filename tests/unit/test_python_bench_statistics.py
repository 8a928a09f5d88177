"""When `coldframe bench` calls two runs different."""

import importlib
import random

import pytest
from test_python_fake import coldframe, fake  # noqa: F401

# These names are the fixtures of the stand-in.
# ruff: noqa: F811


@pytest.fixture
def statistics(coldframe):
    return importlib.import_module("coldframe._cli.statistics")


def noisy(median, runs=200, seed=0):
    """Measurements as they come: skewed, with outliers."""
    randomness = random.Random(seed)
    return [median * randomness.lognormvariate(0, 0.15) * (4 if randomness.random() < 0.02 else 1) for _ in range(runs)]


def test_quantiles_are_measured_values(statistics):
    quantile = statistics.quantile
    samples = [3.0, 1.0, 2.0, 4.0]
    assert [quantile(samples, each) for each in (0, 0.25, 0.5, 0.51, 0.9, 1)] == [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    assert quantile([5.0], 0.5) == 5.0


@pytest.mark.parametrize(
    ("factor", "machine", "verdict"),
    [
        (1.0, 1.0, "no difference"),
        (1.03, 1.0, "no difference"),  # it may well be one, but not one to act upon
        (1.2, 1.0, "slower"),
        (0.8, 1.0, "faster"),
        (1.2, 1.2, "no difference"),  # everything is slower
        (1.0, 1.2, "no difference"),  # a handler that computes does not mind what the control does
        (1.5, 1.2, "slower"),
    ],
)
def test_a_comparison_finds_what_there_is(statistics, factor, machine, verdict):
    found = statistics.compare(
        noisy(2.0, seed=1), noisy(2.0 * factor, seed=2), (noisy(1.0, seed=3), noisy(machine, seed=4))
    )
    assert found.verdict == verdict
    assert found.ratio.value == pytest.approx(factor, rel=0.05)
    assert found.ratio.low <= found.ratio.value <= found.ratio.high
    assert found.adjusted.low < factor / machine < found.adjusted.high


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says(statistics, monkeypatch):
    monkeypatch.setattr(statistics, "_RESAMPLES", 1000)
    intervals = [
        statistics.compare(noisy(1.0, 30, seed), noisy(1.0, 30, 1000 + seed), ([], [])).ratio for seed in range(200)
    ]
    assert sum(each.low <= 1 <= each.high for each in intervals) >= 194


def test_a_bootstrap_without_resampling_is_a_bootstrap(statistics):
    randomness = random.Random(5)
    samples = noisy(1.0, 15)
    slowly = sorted(statistics.median(randomness.choices(samples, k=15)) for _ in range(10_000))
    fast = sorted(statistics._medians(samples, randomness))
    for each in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert statistics.quantile(fast, each) == pytest.approx(statistics.quantile(slowly, each), rel=0.03)


def test_few_runs_are_no_evidence(statistics):
    compare = statistics.compare
    assert compare([1.0] * 4, [9.0] * 20, ([], [])).verdict == "too few runs"
    assert compare([1.0] * 5, [9.0] * 5, ([], [])).verdict == "slower"
    assert compare([1.0, 1.1, 1.2, 1.3, 9.0], [2.0] * 5, ([], [])).verdict == "no difference", "they overlap"
