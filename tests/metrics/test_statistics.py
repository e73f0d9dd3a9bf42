"""Intervals and tests against published tables, whole-number arithmetic, and how often they cover the truth."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import special, stats

import oracles
from memgen_eval.errors import InputError
from memgen_eval.metrics import statistics
from memgen_eval.results import Estimate
from metric_tables import known

NUM_SETS = 2000
NUM_IMAGES = 1000


def share(successes: int, trials: int) -> Estimate:
    return statistics.proportion(np.arange(trials) < successes)


@pytest.mark.parametrize("trials", [1, 2, 10, 1000, 50_000])
def test_wilson_solves_its_quadratic(trials: int) -> None:
    for successes in sorted({0, 1, trials // 3, trials - 1, trials}):
        found = statistics.wilson_interval(successes / trials, trials)
        assert found == pytest.approx(oracles.wilson(successes, trials), abs=1e-11)


def test_wilson_ends_are_exact() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    assert statistics.wilson_interval(0, 500) == (0, pytest.approx(z2 / (500 + z2), rel=1e-14))
    assert statistics.wilson_interval(1, 100) == (pytest.approx(0.96300, abs=5e-5), 1)
    assert statistics.wilson_interval(1 / 6, 600) == pytest.approx((0.1390, 0.1986), abs=5e-5)


@pytest.mark.parametrize("trials", [1, 2, 10, 1000])
def test_each_end_of_a_share_leaves_one_in_forty(trials: int) -> None:
    for successes in sorted({0, 1, trials // 3, trials - 1, trials}):
        estimate = share(successes, trials)
        assert (estimate.count, estimate.method) == (trials, "Clopper-Pearson 95 %")
        value, low, high = known(estimate)
        assert value == successes / trials
        assert low == 0 if successes == 0 else oracles.at_least(successes, trials, low) == pytest.approx(0.025)
        as_many = 1 if successes == trials else oracles.at_least(successes + 1, trials, high)
        assert high == 1 if successes == trials else 1 - as_many == pytest.approx(0.025)


def test_no_images_have_no_share() -> None:
    nothing = statistics.proportion(np.zeros(0, dtype=bool))
    assert nothing.value is nothing.low is nothing.high is None
    assert nothing.notes == ("no images to count",)


# Newcombe 1998, table II, method 10: the eight contrasts (a) to (h).
PUBLISHED = [
    ((56, 70), (48, 80), (0.0524, 0.3339)),
    ((9, 10), (3, 10), (0.1705, 0.8090)),
    ((6, 7), (2, 7), (0.0582, 0.8062)),
    ((5, 56), (0, 29), (-0.0381, 0.1926)),
    ((0, 10), (0, 20), (-0.1611, 0.2775)),
    ((0, 10), (0, 10), (-0.2775, 0.2775)),
    ((10, 10), (0, 20), (0.6791, 1.0)),
    ((10, 10), (0, 10), (0.6075, 1.0)),
]


@pytest.mark.parametrize(("first", "second", "published"), PUBLISHED)
def test_newcombe_as_published(first: tuple[int, int], second: tuple[int, int], published: tuple[float, float]) -> None:
    shares = [Estimate(k / n, *statistics.wilson_interval(k / n, n), count=n) for k, n in (first, second)]
    difference = statistics.proportion_difference(*shares)
    assert known(difference)[1:] == pytest.approx(published, abs=5.1e-5)
    assert known(difference)[1:] == pytest.approx(oracles.newcombe(first, second), abs=1e-14)
    assert difference.value == first[0] / first[1] - second[0] / second[1]
    assert difference.count == min(first[1], second[1])
    turned = statistics.proportion_difference(*reversed(shares))
    assert known(turned)[1:] == pytest.approx((-published[1], -published[0]), abs=5.1e-5)


def test_a_difference_from_nothing_says_why() -> None:
    absent = Estimate.undefined("no test set")
    for pair in ((share(1, 9), absent), (absent, share(1, 9))):
        difference = statistics.proportion_difference(*pair)
        assert difference.value is None and difference.notes == ("no test set",)


@pytest.mark.parametrize(("successes", "trials"), [(0, 434), (0, 1), (3, 40), (39, 40), (1, 1000)])
def test_clopper_pearson_leaves_five_percent(successes: int, trials: int) -> None:
    limit = statistics.clopper_pearson_upper(successes, trials)
    assert 1 - oracles.at_least(successes + 1, trials, limit) == pytest.approx(0.05, abs=1e-9)


def test_clopper_pearson_ends() -> None:
    assert statistics.clopper_pearson_upper(0, 434) == pytest.approx(1 - 0.05 ** (1 / 434), rel=1e-12)
    assert statistics.clopper_pearson_upper(0, 500) == pytest.approx(0.00597, abs=5e-6)
    assert statistics.clopper_pearson_upper(7, 7) == 1
    assert statistics.clopper_pearson_upper(0, 0) == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_fisher_counts_the_ways(hits: int, misses: int, base_hits: int, base_misses: int) -> None:
    trials, base = hits + misses, base_hits + base_misses
    found = statistics.fisher_greater(hits, trials, base_hits, base)
    assert found == pytest.approx(float(oracles.fisher(hits, trials, base_hits, base)), rel=1e-11)
    if trials and base:
        peer = stats.fisher_exact([[hits, misses], [base_hits, base_misses]], alternative="greater").pvalue
        assert found == pytest.approx(peer, rel=1e-11)
    assert found <= 1


def test_fisher_without_a_baseline_says_nothing() -> None:
    assert statistics.fisher_greater(500, 500, 0, 0) == 1
    assert statistics.fisher_greater(0, 500, 0, 500) == 1


@pytest.mark.parametrize("baseline", [(0, 1000), (11, 10_000), (0, 300), (40, 400)])
@pytest.mark.parametrize("trials", [1, 4, 434, 1000])
def test_the_fewest_significant_are_the_fewest(trials: int, baseline: tuple[int, int]) -> None:
    limit = Fraction(1, 100_000)
    found = statistics.smallest_significant(trials, *baseline, p_value=1e-5)
    if found is None:
        assert oracles.fisher(trials, trials, *baseline) > limit
    else:
        assert oracles.fisher(found, trials, *baseline) <= limit < oracles.fisher(found - 1, trials, *baseline)


@pytest.mark.parametrize(("successes", "trials"), [(1, 1), (5, 1000), (43, 300), (300, 300)])
def test_the_rate_seen_with_power_has_that_power(successes: int, trials: int) -> None:
    rate = statistics.rate_seen_with_power(successes, trials, power=0.9)
    assert oracles.at_least(successes, trials, rate) == pytest.approx(0.9, abs=1e-9)
    assert statistics.rate_seen_with_power(0, trials, power=0.9) == 0


@pytest.mark.parametrize("levels", [2, 4, 1000])  # few levels: many ties
@pytest.mark.parametrize("sizes", [(2, 2), (7, 60), (60, 7)])
def test_auc_is_the_mean_over_all_pairs(levels: int, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(levels + sizes[0])
    for _ in range(5):
        first, second = (rng.integers(0, levels, size).astype(np.float64) for size in sizes)
        area, variance = oracles.delong(first, second)
        value, low, high = known(statistics.auc(first, second))
        assert value == pytest.approx(area, abs=1e-14)
        if variance > 1e-20 and 0 < area < 1:
            half = stats.norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
            assert (low, high) == pytest.approx(
                tuple(special.expit(special.logit(area) + np.array([-half, half]))), abs=1e-12
            )


def test_auc_turned_round_is_its_complement() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, 50).astype(float), rng.integers(2, 11, 70).astype(float)
    value, low, high = known(statistics.auc(first, second))
    assert known(statistics.auc(second, first)) == pytest.approx((1 - value, 1 - high, 1 - low), abs=1e-14)
    assert known(statistics.auc(np.log1p(first), np.log1p(second))) == (value, low, high)


@pytest.mark.parametrize(("first", "value"), [(0.0, 0.0), (2.0, 1.0), (1.0, 0.5), (math.inf, 1.0)])
def test_auc_without_variance_falls_back_on_clopper_pearson(first: float, value: float) -> None:
    estimate = statistics.auc(np.full(300, first), np.ones(40))
    end = 1 - 0.025 ** (1 / 40)
    limits = {0.0: (0.0, end), 1.0: (1 - end, 1.0)}
    assert estimate.value == value
    assert estimate.method.startswith("Clopper-Pearson")
    assert known(estimate)[1:] == pytest.approx(limits.get(value, known(estimate)[1:]), abs=1e-12)
    assert known(estimate)[2] - known(estimate)[1] > 0.08


def test_auc_of_next_to_nothing() -> None:
    assert statistics.auc(np.zeros(0), np.ones(3)).value is None
    assert statistics.auc(np.ones(3), np.zeros(0)).value is None
    one = statistics.auc(np.ones(1), np.zeros(3))
    assert (one.value, one.low, one.high) == (1, None, None)


@cache
def cached_share(successes: int, trials: int) -> Estimate:
    return share(successes, trials)


def covered(intervals: list[tuple[float, float, float]], truth: float) -> float:
    return sum(low <= truth <= high for _, low, high in intervals) / len(intervals)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_the_interval_of_a_share_covers(rate: float) -> None:
    counts = np.random.default_rng(int(1000 * rate)).binomial(NUM_IMAGES, rate, NUM_SETS)
    intervals = [known(cached_share(int(count), NUM_IMAGES)) for count in counts]
    assert 0.94 <= covered(intervals, rate) <= 0.975
    possible = np.arange(NUM_IMAGES + 1)
    inside = [low <= rate <= high for _, low, high in (known(cached_share(int(k), NUM_IMAGES)) for k in possible)]
    exact = float(stats.binom.pmf(possible, NUM_IMAGES, rate) @ np.array(inside))
    assert 0.95 <= exact <= 0.97


@pytest.mark.parametrize("num_baseline", [1000, 10_000])
@pytest.mark.parametrize("base_rate", [0.001, 0.05])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_newcombe_covers(rate: float, base_rate: float, num_baseline: int) -> None:
    """A sample is a copy with probability `rate`; one that is none is flagged as often as a held-out image."""
    rng = np.random.default_rng(7)
    flagged = rng.binomial(NUM_IMAGES, rate + (1 - rate) * base_rate, NUM_SETS)
    base = rng.binomial(num_baseline, base_rate, NUM_SETS)
    intervals = [
        known(statistics.proportion_difference(cached_share(int(k), NUM_IMAGES), cached_share(int(b), num_baseline)))
        for k, b in zip(flagged, base, strict=True)
    ]
    assert 0.92 <= covered(intervals, rate * (1 - base_rate)) <= 0.98


@pytest.mark.parametrize("copies", [0.0, 0.4, 0.8, 0.96, 0.99])
def test_delong_covers(copies: float) -> None:
    """Copies lie at distance 0, below all test images: 40 % of them bring the area from 0.5 to 0.3, 99 % to 0.005."""
    rng = np.random.default_rng(11)
    intervals = []
    for _ in range(NUM_SETS):
        distances = rng.standard_exponential((2, NUM_IMAGES))
        distances[0, rng.random(NUM_IMAGES) < copies] = 0
        intervals.append(known(statistics.auc(*distances)))
    assert all(0 <= low <= high <= 1 for _, low, high in intervals)
    assert 0.91 <= covered(intervals, (1 - copies) / 2) <= 0.98


def test_a_permutation_depends_on_size_and_seed_alone() -> None:
    first = statistics.permutation(100, seed=5)
    assert sorted(first) == list(range(100))
    assert (
        first.tolist() == statistics.permutation(100, seed=5).tolist() != statistics.permutation(100, seed=6).tolist()
    )


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, math.inf, True, "0.5"])
def test_a_share_lies_between_0_and_1(value: float) -> None:
    with pytest.raises(InputError, match=r"threshold is .*between 0 and 1"):
        statistics.check_fraction("threshold", value)


def test_a_count_has_no_interval() -> None:
    count = statistics.count_estimate(3, count=9, notes=("a",))
    assert (count.value, count.low, count.high, count.method, count.count) == (3.0, None, None, "count", 9)
