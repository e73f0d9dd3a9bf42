"""Intervals and tests, thin over scipy. Every interval is at 95 %."""

from __future__ import annotations

import math
import numbers
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError
from memgen_eval.results import LEVEL, Estimate, Z

NUM_QUANTILES = 32  # of a law of counts, each at the middle of its share
NO_BASELINE = "needs a test set, or two training images without an exact duplicate to leave one out"
NO_IMAGES = "no images to count"
REPEATS = "{:,} samples repeat another sample; intervals and tests count them once"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def wilson_interval(share: float, trials: float, *, quantile: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a proportion, `trials` > 0 (Wilson 1927). Neither need be of whole counts."""
    centre = share + quantile**2 / (2 * trials)
    half = quantile * math.sqrt(share * (1 - share) / trials + (quantile / (2 * trials)) ** 2)
    # rounding leaves bounds of 1e-19 where the formula gives exactly 0 or 1
    low = 0.0 if share == 0 else (centre - half) / (1 + quantile**2 / trials)
    high = 1.0 if share == 1 else (centre + half) / (1 + quantile**2 / trials)
    return low, high


def clopper_pearson_interval(share: float, trials: float, *, tail: float = (1 - LEVEL) / 2) -> tuple[float, float]:
    """The exact interval of a proportion, `trials` > 0 (Clopper & Pearson 1934). Neither need be of whole counts.

    Either end errs with a chance of at most `tail`, however rare the hits: Wilson's lower end errs in 16 of 100 sets
    where 0.18 hits are expected.
    """
    hits = share * trials
    return rate_seen_with_power(hits, trials, power=tail), clopper_pearson_upper(hits, trials, tail=tail)


def simultaneous(num_figures: int) -> tuple[float, str]:
    """The chance that each of some intervals may miss its figure on one side, so that 95 % of times all hold theirs.

    By Bonferroni. With the words that say so after the name of a method.
    """
    words = f"95 % for {num_figures} thresholds at once" if num_figures > 1 else "95 %"
    return (1 - LEVEL) / (2 * num_figures), words


def proportion(
    hits: Bools, *, repeats: Bools | None = None, notes: tuple[str, ...] = (), num_figures: int = 1
) -> Estimate:
    """Share of true entries with Clopper-Pearson's interval: it holds the rate in at least 95 of 100 sets.

    Parameters
    ----------
    hits : bool, (N,)
        One entry per image.
    repeats : bool, (N,), optional
        Images that repeat an earlier one exactly. They count in the share and not in the interval, since equal images
        may be one draw that was written several times; `count` is that of the others.
    notes : tuple of str
        What changed or limits the figure.
    num_figures : int
        Among how many such shares this one was chosen: the interval is as wide as `simultaneous` asks for.

    Returns
    -------
    Estimate
        In [0, 1]; undefined for no images.
    """
    if len(hits) == 0:
        return Estimate.undefined(NO_IMAGES)
    share, trials = int(np.count_nonzero(hits)) / len(hits), len(hits)
    if repeats is not None and repeats.any():
        trials = int(np.count_nonzero(~repeats))
        notes = (*notes, REPEATS.format(len(hits) - trials))
    tail, words = simultaneous(num_figures)
    low, high = clopper_pearson_interval(share, trials, tail=tail)
    return Estimate(share, low, high, f"Clopper-Pearson {words}", trials, notes)


def share_below_rank(rank: int, num_values: int, *, num_figures: int = 1) -> Estimate:
    """The share, of what some values were drawn from, that lies below the value of a rank; the smallest has rank 1.

    Beta distributed with mean ``rank / (num_values + 1)`` whatever they were drawn from; less if values are equal.
    `num_figures` is as for `proportion`.

    References
    ----------
    .. [1] David & Nagaraja, "Order Statistics", 3rd edition, 2003, section 2.3.
    """
    from scipy.stats import beta

    tail, words = simultaneous(num_figures)
    low, high = (float(beta.ppf(end, rank, num_values + 1 - rank)) for end in (tail, 1 - tail))
    return Estimate(rank / (num_values + 1), low, high, f"beta of the rank, {words}", num_values)


def count_estimate(value: int, *, count: int | None = None, notes: tuple[str, ...] = ()) -> Estimate:
    """A plain count of `count` images: it has no interval."""
    return Estimate(float(value), method="count", count=count, notes=notes)


def proportion_difference(first: Estimate, second: Estimate) -> Estimate:
    """First minus second of two independent proportions, with Newcombe's combination of their own intervals.

    He combines Wilson's; those of `proportion` hold the difference of rare events better. In [-1, 1]; 0: no difference.
    ``count`` is the smaller of both. Undefined where one of the two is.

    References
    ----------
    .. [1] Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
       17, 1998, method 10.
    """
    if first.value is None or second.value is None:
        return Estimate.undefined((first.notes if first.value is None else second.notes)[0])
    assert first.low is not None and first.high is not None and second.low is not None and second.high is not None
    p1, l1, u1 = first.value, first.low, first.high
    p2, l2, u2 = second.value, second.low, second.high
    low = (p1 - p2) - math.hypot(p1 - l1, u2 - p2)
    high = (p1 - p2) + math.hypot(u1 - p1, p2 - l2)
    count = min(c for c in (first.count, second.count) if c is not None)
    return Estimate(p1 - p2, max(low, -1.0), min(high, 1.0), "Newcombe 95 %", count)


def clopper_pearson_upper(successes: float, trials: float, *, tail: float = 1 - LEVEL) -> float:
    """The one-sided Clopper-Pearson upper limit of a proportion, at 95 %: ``1 - tail**(1/N)`` for no success."""
    from scipy.stats import beta

    return 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))


def fisher_greater(successes: int, trials: int, base_successes: int, base_trials: int) -> float:
    """Fisher's exact one-sided p-value that the first proportion exceeds the second.

    The probability of at least `successes` among the first set's images, given all successes of both sets.
    1 where one of the sets is empty: nothing can be said.
    """
    from scipy.stats import hypergeom

    if trials == 0 or base_trials == 0:
        return 1.0
    total = successes + base_successes
    return float(hypergeom.sf(successes - 1, trials + base_trials, total, trials))


def exceedance_p_value(num_above: int, num_samples: int, num_allowed: int, num_baseline: int) -> float:
    """The exact chance that `num_above` samples or more exceed all but `num_allowed` baseline values if none is a copy.

    Every order of the pooled values is then equally likely. At least `num_above` samples exceed the baseline value of
    that rank exactly if at least `num_above` of the largest ``num_above + num_allowed`` values are samples. Where
    values are equal and only larger ones count, the chance is smaller still.

    References
    ----------
    .. [1] Gumbel & von Schelling, "The distribution of the number of exceedances", Annals of Mathematical Statistics
       21, 1950.
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(num_above - 1, num_samples + num_baseline, num_samples, num_above + num_allowed))


def upper_quantile(values: Floats, rate: float, *, largest: float, num_figures: int = 1) -> Estimate:
    """The smallest of the values that at most the share `rate` of them exceeds, with the interval of order statistics.

    The interval covers the quantile of the distribution that the values were drawn from, whatever that is. It ends at
    `largest`, the largest possible value, if there are too few values to bound it. Undefined for no values.
    `num_figures` is as for `proportion`.
    """
    from scipy.stats import binom

    if len(values) == 0:
        return Estimate.undefined(NO_IMAGES)
    descending, (tail, words) = np.sort(values)[::-1], simultaneous(num_figures)
    above = int(rate * len(values))
    high = int(binom.ppf(tail, len(values), rate))  # the least number of values that exceed the quantile
    low = int(binom.isf(tail, len(values), rate))  # the largest
    return Estimate(
        float(descending[above]),
        float(descending[min(low, len(values) - 1)]),
        float(descending[high - 1]) if high > 0 else largest,
        f"order statistics {words}",
        len(values),
    )


def smallest_significant(trials: int, base_successes: int, base_trials: int, *, p_value: float) -> int | None:
    """The fewest successes of `trials` at which `fisher_greater` is at most `p_value`; None where none suffices."""
    suffices = lambda successes: fisher_greater(successes, trials, base_successes, base_trials) <= p_value  # noqa: E731
    fewest = bisect_left(range(trials + 1), True, key=suffices)  # the p-value falls as successes grow
    return fewest if fewest <= trials else None


def rate_seen_with_power(successes: float, trials: float, *, power: float) -> float:
    """The smallest rate at which at least `successes` of `trials` happen with probability `power`.

    With the probability of a tail it is the Clopper-Pearson lower limit of a proportion.
    """
    from scipy.stats import beta

    return 0.0 if successes == 0 else float(beta.ppf(power, successes, trials - successes + 1))


def detectable_rate(
    trials: int, base_successes: int, base_trials: int, *, p_value: float, power: float
) -> float | None:
    """The smallest rate at which `fisher_greater` is at most `p_value` with probability `power`, both sets drawn anew.

    The rate of the baseline is known from its counts alone, so that those of the next baseline follow the beta-binomial
    law that Jeffreys' prior gives. It is replaced by quantiles. None where no rate suffices.
    """
    from scipy.optimize import brentq
    from scipy.stats import betabinom, binom

    quantiles = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    drawn = betabinom.ppf(quantiles, base_trials, base_successes + 0.5, base_trials - base_successes + 0.5)
    counts, weights = np.unique(drawn.astype(int), return_counts=True)
    fewest = [smallest_significant(trials, int(count), base_trials, p_value=p_value) for count in counts]
    needed = np.array([trials + 1 if few is None else few for few in fewest])

    def power_beyond(rate: float) -> float:
        return float(np.average(binom.sf(needed - 1, trials, rate), weights=weights)) - power

    return float(brentq(power_beyond, 0, 1)) if power_beyond(1.0) >= 0 else None


def auc(first: Floats, second: Floats) -> Estimate:
    """``P(first > second) + P(equal) / 2`` over all pairs.

    0.5: neither tends to be larger; 1: every first value exceeds every second. DeLong's variance, on the logit scale,
    where the error is symmetric near 0 and 1 too [2]_; at 0 or 1, where it vanishes, Clopper-Pearson with min(N, M)
    trials.

    Parameters
    ----------
    first, second : float64, (N,) and (M,)
        Infinite values are allowed, NaN is not.

    Returns
    -------
    Estimate
        In [0, 1]; ``count`` is min(N, M).

    References
    ----------
    .. [1] DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988. Sun & Xu, IEEE Signal Processing Letters 21, 2014.
    .. [2] Pepe, The Statistical Evaluation of Medical Tests for Classification and Prediction, 2003, section 5.2.
    """
    count = min(len(first), len(second))
    if count == 0:
        return Estimate.undefined("needs images on both sides")
    value, variance = delong(first, second)
    if count < 2:
        return Estimate(value, method="no interval", count=count, notes=("DeLong's interval needs two images a side",))
    exact = value in (0.0, 1.0) or variance == 0.0
    method = "Clopper-Pearson 95 %, min(N, M) trials" if exact else "DeLong 95 %, on the logit scale"
    return Estimate(value, *area_interval(value, variance, count), method, count)


def delong(first: Floats, second: Floats) -> tuple[float, float]:
    """The area of `auc` and DeLong's variance of it, NaN for a single value on a side."""
    from scipy.stats import rankdata

    n, m = len(first), len(second)
    ranks = rankdata(np.concatenate([first, second]))
    value = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))  # sums of half integers are exact
    if min(n, m) < 2:
        return value, math.nan
    first_placements = (ranks[:n] - rankdata(first)) / m  # (N,) share of second below each first, ties one half
    second_placements = 1 - (ranks[n:] - rankdata(second)) / n  # (M,)
    return value, float(first_placements.var(ddof=1) / n + second_placements.var(ddof=1) / m)


def area_interval(value: float, variance: float, count: int) -> tuple[float, float]:
    """Of an area of this variance, on the logit scale; where that vanishes, Clopper-Pearson's with `count` trials."""
    if value in (0.0, 1.0) or variance == 0.0:
        return clopper_pearson_interval(value, count)
    half = Z * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + (1 / value - 1) * math.exp(way)) for way in (half, -half))
    return low, high


def jackknife_variance(values: Floats) -> float:
    """``(n - 1) / n`` times the sum of squared deviations of the n values with one image, or group, left out each."""
    deviations = values - values.mean()
    return float((len(values) - 1) / len(values) * (deviations @ deviations))


def permutation(num_images: int, *, seed: int) -> NDArray[np.int64]:
    """The permutation by which a set of `num_images` is cut to a size; the same for sets of one length."""
    return np.random.default_rng(seed).permutation(num_images)


def check_fraction(name: str, value: float) -> float:
    """`value` if it lies strictly between 0 and 1. Raises InputError naming it otherwise."""
    if not (isinstance(value, numbers.Real) and 0 < value < 1):
        raise InputError(f"{name} is {value!r}, expected a number between 0 and 1 (both excluded)")
    return float(value)
