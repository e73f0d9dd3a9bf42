"""The ratio d1/d2 cut where unseen images almost never fall, with the exact chance of as many samples below.

The published cut at 1/3 sees copies that are nearly equal. Noise, shifts, compression and blur move a copy beyond it,
but seldom as far as unseen images lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memgen_eval.copying.baseline import Baseline
from memgen_eval.copying.copy_rules import Copying, named_samples
from memgen_eval.errors import p_text
from memgen_eval.metrics.ratios import distance_ratios
from memgen_eval.metrics.statistics import (
    NO_IMAGES,
    exceedance_p_value,
    proportion,
    proportion_difference,
    share_below_rank,
    simultaneous,
    upper_quantile,
)
from memgen_eval.results import Estimate

RATES = (0.001, 0.005, 0.01)  # of unseen images fall below a threshold, about
MIN_BASELINE = 99  # of fewer, even the smallest ratio is one that more than 1 % of unseen images fall below
FEW_UNSEEN = "needs {} baseline images, of which {} are there"
FIGURES = (
    "calibrated_threshold",
    "calibrated_ratio",
    "test_calibrated_ratio",
    "calibrated_excess",
    "calibrated_p_value",
)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """The samples below a value that few unseen images fall below, and the p-value of their number.

    Attributes
    ----------
    rank, ranks : int, tuple of int
        Which of the smallest baseline values is the threshold, and those that were tried.
    threshold : float
        That value.
    below : bool, (N,)
        The samples strictly below it.
    num_samples, num_baseline : int
        Distinct samples, and baseline images.
    p_value : float
        The chance of as many distinct samples below if nothing is copied, corrected for the ranks that were tried.
    p_value_of_images : float
        The same where samples below that share their nearest training image count once. It holds for samples that are
        no independent draws too: a model that repeats one new image, with noise, repeats its ratio.
    """

    rank: int
    ranks: tuple[int, ...]
    threshold: float
    below: Bools
    num_samples: int
    num_baseline: int
    p_value: float
    p_value_of_images: float


def preset_ranks(num_baseline: int) -> tuple[int, ...]:
    """The ranks nearest to 0.1 %, 0.5 % and 1 % of a baseline, each once, from 1 on."""
    return tuple(sorted({max(1, round(rate * (num_baseline + 1))) for rate in RATES}))


def calibrate(samples: Floats, baseline: Floats, *, repeats: Bools, nearest: Rows) -> Calibration:
    """Whether more samples have small values than values of unseen images allow.

    If nothing is copied, samples and baseline images are exchangeable. The number of samples strictly below the j-th
    smallest baseline value then follows the negative hypergeometric law, whatever the images. Of the preset j, that
    with the smallest p-value is kept, the smallest of equal ones, and its p-value is multiplied by their number
    (Bonferroni), up to 1. Equal values are not below, so that ties make the test conservative.

    Parameters
    ----------
    samples, baseline : float64, (N,) and (m >= 1,)
        Of each image; smaller is more suspicious.
    repeats : bool, (N,)
        Samples that show the picture of an earlier one: they count once.
    nearest : int64, (N,)
        The nearest training image of each sample.

    References
    ----------
    .. [1] Gumbel & von Schelling, "The distribution of the number of exceedances", Annals of Mathematical Statistics
       21, 1950.
    """
    num_baseline, num_samples = len(baseline), int(np.count_nonzero(~repeats))
    ranks, ascending = preset_ranks(num_baseline), np.sort(baseline)

    def chances(counts: list[int]) -> list[float]:
        pairs = zip(counts, ranks, strict=True)
        return [exceedance_p_value(count, num_samples, rank - 1, num_baseline) for count, rank in pairs]

    below = [samples < ascending[rank - 1] for rank in ranks]
    of_samples = chances([int(np.count_nonzero(hits & ~repeats)) for hits in below])
    of_images = chances([len(np.unique(nearest[hits])) for hits in below])
    best = int(np.argmin(of_samples))
    return Calibration(
        rank=ranks[best],
        ranks=ranks,
        threshold=float(ascending[ranks[best] - 1]),
        below=below[best],
        num_samples=num_samples,
        num_baseline=num_baseline,
        p_value=min(1.0, len(ranks) * of_samples[best]),
        p_value_of_images=min(1.0, len(ranks) * min(of_images)),
    )


def calibrated_figures(samples: Copying, baseline: Baseline) -> dict[str, Estimate]:
    """`FIGURES` of the ratio d1/d2, by name.

    The excess is that of the share of samples below the threshold over the share of unseen images below it, which is
    known up to the sampling of the threshold. Intervals are wide enough for the choice among thresholds. Leaked
    baseline images count: without them the baseline would lack what unseen images have. A note tells the p-value
    without them. Undefined for no samples, and for fewer than 99 baseline images, of which even the smallest ratio is
    too large a threshold.
    """
    assert baseline.copying is not None
    unseen = distance_ratios(baseline.copying.distinct, squared=True)
    if len(samples) == 0:
        return dict.fromkeys(FIGURES, Estimate.undefined(NO_IMAGES))
    if len(unseen) < MIN_BASELINE:
        return dict.fromkeys(FIGURES, Estimate.undefined(FEW_UNSEEN.format(MIN_BASELINE, len(unseen))))
    ratios, nearest = distance_ratios(samples.distinct, squared=True), samples.nearest.indices[:, 0]
    found = calibrate(ratios, unseen, repeats=samples.repeats, nearest=nearest)
    notes: tuple[str, ...] = ()
    if baseline.leaked.any() and not baseline.leaked.all():
        clean = calibrate(ratios, unseen[~baseline.leaked], repeats=samples.repeats, nearest=nearest)
        leaks = f"{np.count_nonzero(baseline.leaked):,} {baseline.name} that {baseline.leak}"
        notes = (f"{p_text(clean.p_value)} without {leaks}",)
    share, control, p_value = shares_below(found, samples.repeats, notes)
    figures = (
        _threshold(found, np.sqrt(unseen), baseline.name),
        share,
        control,
        replace(proportion_difference(share, control), method=f"Newcombe {simultaneous(len(found.ranks))[1]}"),
        p_value,
    )
    return dict(zip(FIGURES, figures, strict=True))


def shares_below(
    found: Calibration, repeats: Bools, notes: tuple[str, ...] = ()
) -> tuple[Estimate, Estimate, Estimate]:
    """The share of samples below the threshold, that of unseen images, and the p-value, which carries the notes."""
    tried = len(found.ranks)
    share = proportion(found.below, repeats=repeats, notes=named_samples(found.below), num_figures=tried)
    return share, share_below_rank(found.rank, found.num_baseline, num_figures=tried), _p_value(found, notes)


def _threshold(found: Calibration, unseen: Floats, name: str) -> Estimate:
    """The threshold as a ratio, with the interval of what it estimates, and where it comes from."""
    tried, middle = len(found.ranks), (found.rank - 0.5) / found.num_baseline
    mirrored = upper_quantile(-unseen, middle, largest=0.0, num_figures=tried)
    assert mirrored.value is not None and mirrored.low is not None and mirrored.high is not None
    notes = [f"number {found.rank} of the ratios of {found.num_baseline:,} {name}, the smallest first"]
    if tried > 1:
        notes.append(f"of numbers {', '.join(map(str, found.ranks))}, the one with the smallest p-value")
    value, low, high = (0.0 - end for end in (mirrored.value, mirrored.high, mirrored.low))
    return replace(mirrored, value=value, low=low, high=high, notes=tuple(notes))


def _p_value(found: Calibration, notes: tuple[str, ...]) -> Estimate:
    tried = len(found.ranks)
    method = "exact, of exceedances" + (f", Bonferroni for {tried} thresholds" if tried > 1 else "")
    if found.p_value_of_images > found.p_value:
        once = f"{p_text(found.p_value_of_images)} if samples nearest to the same training image count once"
        notes = (once, *notes)
    return Estimate(found.p_value, method=method, count=found.num_samples, notes=notes)
