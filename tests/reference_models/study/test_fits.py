"""The censored log-normal fit beside least squares, a direct maximum, and its own promise of 95 %."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special, stats

from made_studies import bracket
from reference_models.study.fits import Bracket, fit_line, slope

NUM_IMAGES = np.repeat([50, 100, 200, 400, 800], 3).astype(np.float64)


def design(values: NDArray[np.float64] = NUM_IMAGES) -> NDArray[np.float64]:
    return np.stack([np.ones(len(values)), np.log(values)], axis=1)


def times(*, exponent: float, scatter: float, seed: int) -> NDArray[np.float64]:
    eps = np.random.default_rng(seed).standard_normal(len(NUM_IMAGES))
    return np.asarray(np.exp(2 + exponent * np.log(NUM_IMAGES) + scatter * eps))


def test_known_onsets_are_fitted_by_least_squares() -> None:
    known = times(exponent=1.1, scatter=0.3, seed=0)
    found = slope([Bracket(time * (1 - 1e-7), time * (1 + 1e-7)) for time in known], design(), 1)
    line = stats.linregress(np.log(NUM_IMAGES), np.log(known))
    half = stats.t.ppf(0.975, len(known) - 2) * line.stderr
    expected = (line.slope, line.slope - half, line.slope + half)
    assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-5)


def test_several_factors_are_fitted_by_least_squares() -> None:
    generator = np.random.default_rng(1)
    x = np.column_stack([np.ones(20), generator.standard_normal((20, 2))])
    y = x @ [5.0, 1.0, -0.7] + 0.2 * generator.standard_normal(20)
    tight = [Bracket(math.exp(v - 1e-7), math.exp(v + 1e-7)) for v in y]
    expected, *_ = np.linalg.lstsq(x, y, rcond=None)
    variance = float(np.square(y - x @ expected).sum()) / 17 * np.linalg.inv(x.T @ x)
    for column in (1, 2):
        found = slope(tight, x, column)
        half = stats.t.ppf(0.975, 17) * math.sqrt(variance[column, column])
        assert found.value == pytest.approx(expected[column], rel=1e-5)
        assert found.high == pytest.approx(expected[column] + half, rel=1e-5)


@pytest.mark.parametrize("last", [math.inf, 3000])
def test_the_likelihood_is_largest_at_the_fit(last: float) -> None:
    steps = [round(2 ** (k / 3)) for k in range(12, 48) if round(2 ** (k / 3)) <= last]
    brackets = [bracket(time, steps) for time in times(exponent=1.0, scatter=0.4, seed=2)]
    ends = np.array([(math.log(one.low), math.inf if one.high is None else math.log(one.high)) for one in brackets])
    found = fit_line(brackets, design())

    def loss(parameters: NDArray[np.float64]) -> float:
        low, high = (special.ndtr((side - design() @ parameters[:2]) / math.exp(parameters[2])) for side in ends.T)
        return -float(np.log(np.maximum(high - low, 1e-300)).sum())

    start = [*found.coefficients, math.log(found.scatter)]
    best = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10})
    assert found.log_likelihood == pytest.approx(-best.fun, abs=1e-6)
    assert (*found.coefficients, math.log(found.scatter)) == pytest.approx(best.x, abs=1e-3)
    assert any(one.high is None for one in brackets) == (last < math.inf)


def test_runs_without_onset_are_not_left_out() -> None:
    """Leaving them out would take the late ones of the large sets away, and flatten the line."""
    law = times(exponent=1.0, scatter=0.3, seed=3)
    steps = [round(2 ** (k / 3)) for k in range(12, 48) if round(2 ** (k / 3)) <= 3500]
    brackets = [bracket(time, steps) for time in law]
    seen = [place for place, one in enumerate(brackets) if one.seen]
    assert len(seen) < len(brackets) - 1
    with_all = slope(brackets, design(), 1)
    without = slope([brackets[place] for place in seen], design()[seen], 1)
    assert with_all.value is not None and without.value is not None
    assert abs(with_all.value - 1) < abs(without.value - 1) and without.value < with_all.value
    assert with_all.notes == (f"{15 - len(seen)} of 15 runs ended before their onset",)


def test_a_line_through_all_intervals_is_in_their_middle() -> None:
    found = slope([bracket(time) for time in times(exponent=1.0, scatter=0.0, seed=0)], design(), 1)
    assert found.value == pytest.approx(1.0, abs=0.02)
    assert found.low is not None and found.high is not None and found.low < 0.97 and found.high > 1.03


def test_an_onset_before_the_first_checkpoint_is_censored_too() -> None:
    brackets = [bracket(time) for time in times(exponent=1.0, scatter=0.1, seed=4)]
    early = [Bracket(0.0, 600.0) if one.high is not None and one.high < 600 else one for one in brackets]
    assert any(one.low == 0 for one in early)
    found = slope(early, design(), 1)
    assert found.low is not None and found.high is not None and found.low < 1 < found.high


@pytest.mark.parametrize(
    ("brackets", "values", "reason"),
    [
        ([Bracket(10, 20), Bracket(30, None)], [1, 2], "1 runs with an onset, a fit needs at least 2"),
        ([Bracket(10, 20), Bracket(10, 20), Bracket(30, None)], [1, 1, 2], "do not tell the factors apart"),
    ],
)
def test_too_few_onsets_give_a_reason(brackets: list[Bracket], values: list[float], reason: str) -> None:
    found = slope(brackets, design(np.array(values, dtype=np.float64)), 1)
    assert found.value is None and reason in found.notes[0]


def test_two_onsets_give_a_slope_without_an_interval() -> None:
    found = slope([Bracket(9, 11), Bracket(90, 110)], design(np.array([10.0, 100.0])), 1)
    assert found.value == pytest.approx(1.0, abs=1e-3)
    assert (found.low, found.high) == (None, None) and "at least 3 runs" in found.notes[0]


def test_intervals_hold_the_truth_in_95_of_100_studies() -> None:
    """One study of 15 runs each, 120 of them: with 95 % coverage, fewer than 105 hits have a chance below 0.1 %."""
    hits = 0
    for seed in range(120):
        law = times(exponent=1.0, scatter=0.3, seed=100 + seed)
        found = slope([bracket(time, [round(2 ** (k / 3)) for k in range(42)]) for time in law], design(), 1)
        hits += (found.low is None or found.low <= 1) and (found.high is None or found.high >= 1)
    assert 105 <= hits <= 120
