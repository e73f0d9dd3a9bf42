"""The rules of the verdict: more samples near single training images than unseen images are, by several comparisons.

A rule compares samples with the images that cannot have been copied, kind by kind of image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memgen_eval.copying.calibration import preset_ranks
from memgen_eval.copying.kinds import stratified_p_value
from memgen_eval.metrics.statistics import exceedance_p_value, fisher_greater

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rated:
    """How near images lie to single training images, in one way of comparing them.

    Attributes
    ----------
    ratios : float64, (N,)
        The ratio of the distances to the nearest two distinct training images, or its square: small is suspicious.
    nearest : int64, (N,)
        The nearest training image.
    """

    ratios: Floats
    nearest: Rows

    def __getitem__(self, rows: Bools | Rows) -> Rated:
        return Rated(self.ratios[rows], self.nearest[rows])

    def __len__(self) -> int:
        return len(self.ratios)


def joined_ratings(parts: list[Rated]) -> Rated:
    """Those of several sets, one after the other."""
    return Rated(np.concatenate([part.ratios for part in parts]), np.concatenate([part.nearest for part in parts]))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Samples beside images that cannot have been copied: their ratings, and the kind of each image.

    Attributes
    ----------
    samples, unseen : Rated, (N,) and (M,)
    kinds, unseen_kinds : int64, (N,) and (M,)
    """

    samples: Rated
    unseen: Rated
    kinds: Rows
    unseen_kinds: Rows

    def among(self, unseen: Bools) -> Comparison:
        """The same with some of the unseen images."""
        return Comparison(self.samples, self.unseen[unseen], self.kinds, self.unseen_kinds[unseen])


@dataclass(frozen=True)
class Outcome:
    """What a rule found: how many pictures lie below its threshold, and the chance of as many if nothing is copied.

    Attributes
    ----------
    num_below, num_samples : int
        Pictures below the threshold that copy different training images, and all pictures.
    num_unseen_below, num_unseen : int
        The same for unseen images.
    p_value : float
        Corrected for the thresholds that were tried.
    """

    num_below: int
    num_samples: int
    num_unseen_below: int
    num_unseen: int
    p_value: float


NOTHING = Outcome(0, 0, 0, 0, 1.0)


def at_threshold(compared: Comparison) -> Outcome:
    """Fisher's exact test of the pictures whose rating is 0 among ratings of 0 and 1."""
    if len(compared.samples) == 0 or len(compared.unseen) == 0:
        return NOTHING
    return _below(compared, 0.5, fisher_greater)


def at_ranks(compared: Comparison) -> Outcome:
    """The test of exceedances at a few of the smallest ratios of unseen images; see `calibrate`."""
    num_unseen = len(compared.unseen)
    if len(compared.samples) == 0 or num_unseen == 0:
        return NOTHING
    ascending, ranks = np.sort(compared.unseen.ratios), preset_ranks(num_unseen)
    found = [_below(compared, float(ascending[rank - 1]), _exceedances(rank)) for rank in ranks]
    best = min(found, key=lambda outcome: outcome.p_value)
    return replace(best, p_value=min(1.0, len(ranks) * best.p_value))


def _exceedances(rank: int) -> Callable[[int, int, int, int], float]:
    """The chance that a number of samples lie below the smallest ratio of that rank among unseen images."""
    return lambda below, samples, _, unseen: exceedance_p_value(below, samples, rank - 1, unseen)


def _below(compared: Comparison, threshold: float, chance: Callable[[int, int, int, int], float]) -> Outcome:
    """Pictures below a threshold, a training image counted once, and unseen images.

    The p-value is the `chance` of these counts, or that of the same counts compared kind by kind if it is larger.
    """
    own, unseen_below = compared.samples, compared.unseen.ratios < threshold
    rows = np.flatnonzero(own.ratios < threshold)
    first = rows[np.unique(own.nearest[rows], return_index=True)[1]]
    counts = len(first), len(own), int(np.count_nonzero(unseen_below)), len(unseen_below)
    sets = compared.kinds[first], compared.kinds, compared.unseen_kinds[unseen_below], compared.unseen_kinds
    num_kinds = 1 + int(max(compared.kinds.max(initial=0), compared.unseen_kinds.max(initial=0)))
    by_kind = stratified_p_value(*(np.bincount(kinds, minlength=num_kinds) for kinds in sets))
    return Outcome(*counts, max(chance(*counts), by_kind))
