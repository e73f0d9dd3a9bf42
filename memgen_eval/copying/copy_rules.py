"""Which samples are copies of training images, and how often images that cannot be copies look like it.

Tables of neighbours in, figures out. Distances are in the units of the tables; a report scales them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError
from memgen_eval.metrics.ratios import ratio_below, undefined_ratios
from memgen_eval.metrics.statistics import (
    NO_IMAGES,
    check_fraction,
    exceedance_p_value,
    proportion,
    upper_quantile,
)
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.results import Axis, Curve, Estimate

CARLINI_ALPHA = 0.5
CARLINI_NEIGHBOURS = 50
MEAN_ROUNDING = 1e-12  # of a mean of 50 distances, relative, and more
CURVE_THRESHOLDS = tuple(j / 30 for j in range(1, 30))  # holds 1/3
CALIBRATED_RATE = 0.001  # of unseen images pass a calibrated threshold
MOST_LISTED = 100  # samples that a note names
PATCH_GRID = 4  # tiles a side, 16 in all, as Carlini et al. cut their images
Floats = NDArray[np.float64]
UNDEFINED = "{} images have no training neighbour beside duplicates of the first: undefined, counted as not copied"
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class CopyRules:
    """What counts as a copy.

    Attributes
    ----------
    threshold : float
        The c of the ratio rule ``d1 / d2 < c``.
    tolerance : float
        Of duplicates, as a distance between images.
    flip : bool
        Whether mirrored training images count.
    """

    threshold: float
    tolerance: float
    flip: bool


class Tally(NamedTuple):
    """How many of some images have a property."""

    found: int
    images: int


NOTHING_COUNTED = Tally(0, 0)


@dataclass(frozen=True, eq=False)
class Copying:
    """What is known of one set of images beside the training set.

    Attributes
    ----------
    plain : Neighbours, (N, K)
        In the orientation given.
    nearest : Neighbours, (N, K)
        To the nearer of both orientations of each training image, unless mirroring was switched off.
    distinct : Neighbours, (N, 2)
        Of `nearest`: the first, and the nearest that does not duplicate the first.
    closest : Neighbours, (N, K)
        To the nearer of both orientations, whether mirroring was switched off or not.
    near_identical : bool, (N,)
        Within the duplicate tolerance of a training image, in either orientation.
    repeats : bool, (N,)
        Showing the picture of an earlier image of the set.
    relatively_near : bool, (N,), or None
        By `nearest`; see `relatively_near`.
    """

    plain: Neighbours
    nearest: Neighbours
    distinct: Neighbours
    closest: Neighbours
    near_identical: Bools
    repeats: Bools
    relatively_near: Bools | None

    def __len__(self) -> int:
        return len(self.nearest)

    @property
    def identical(self) -> Bools:
        """Equal to a training image in every value, (N,)."""
        equal: Bools = self.closest.squared_distances[:, 0] == 0
        return equal


def copied(neighbours: Neighbours, *, threshold: float) -> Bools:
    """The images that the ratio rule calls copies, bool (N,); see `memorization_ratio`."""
    first, second = neighbours.squared_distances[:, 0], neighbours.squared_distances[:, 1]
    return ratio_below(first, second, threshold)


def memorization_ratio(neighbours: Neighbours, *, threshold: float = 1 / 3, repeats: Bools | None = None) -> Estimate:
    """Share of samples much nearer to one training image than to any other.

    A sample counts as a copy if ``distance_1 == 0`` or ``distance_1 / distance_2 < threshold``, strictly [1]_ [2]_.
    Pass `distinct_neighbours(...)` for a second neighbour that does not duplicate the first, the plain neighbours for
    the published rule (which calls an exact copy of an exact duplicate 0/0; here it is a copy).
    0: no copies; 1: every sample is one. A perfect sampler does not give 0 in low dimension but about
    ``threshold ** D``: compare with the same share for test images.

    Parameters
    ----------
    neighbours : Neighbours, (N, K >= 2)
        Training neighbours of each sample, nearest first.
    threshold : float
        Between 0 and 1.
    repeats : bool, (N,), optional
        Samples that show the picture of an earlier one: they count in the share and not in the interval.

    Returns
    -------
    Estimate
        In [0, 1]; the interval is Clopper and Pearson's at 95 %; ``count`` is the number of samples that repeat no
        other. A note counts samples whose ratio is undefined.

    Raises
    ------
    InputError
        If there are fewer than two neighbours, or the threshold is not between 0 and 1.

    References
    ----------
    .. [1] Yoon, Choi, Kwon & Ryu, "Diffusion Probabilistic Models Generalize when They Fail to Memorize", 2023.
    .. [2] Gu et al., "On Memorization in Diffusion Models", TMLR 2025, section 2.
    """
    check_fraction("threshold", threshold)
    if neighbours.indices.shape[1] < 2:
        raise InputError(
            "neighbours hold one column, expected two or more: search with k=2 or pass distinct_neighbours()"
        )
    num_undefined = int(np.count_nonzero(undefined_ratios(neighbours)))
    notes = (UNDEFINED.format(num_undefined),) if num_undefined else ()
    return proportion(copied(neighbours, threshold=threshold), repeats=repeats, notes=notes)


def ratio_curve(neighbours: Neighbours, *, repeats: Bools | None = None) -> Curve:
    """`memorization_ratio` against its threshold, at 29 thresholds between 0 and 1; undefined for no images."""
    if len(neighbours) == 0:
        return Curve.undefined(NO_IMAGES)
    shares = [proportion(copied(neighbours, threshold=c), repeats=repeats) for c in CURVE_THRESHOLDS]
    return Curve(
        value=tuple(s.value for s in shares),
        low=tuple(s.low for s in shares),
        high=tuple(s.high for s in shares),
        method="Clopper-Pearson 95 %, pointwise",
        count=shares[0].count,
        notes=shares[0].notes,
        x=Axis("threshold c of d1/d2", "", CURVE_THRESHOLDS),
    )


def carlini_ratio(near: Bools | None, *, repeats: Bools | None = None) -> Estimate:
    """Share of samples nearer to one training image than half the mean distance to the nearest 50: `relatively_near`.

    Less hurt by duplicates in the training set than the ratio of the first two. Undefined for fewer than 51 training
    images.
    """
    if near is None:
        return Estimate.undefined(f"needs more than {CARLINI_NEIGHBOURS} training images")
    return proportion(near, repeats=repeats)


def relatively_near(neighbours: Neighbours) -> Bools | None:
    """The images with ``d_1 / (0.5 * mean(d_1, ..., d_50)) <= 1``, (N,); None where there are no 51 training images.

    References
    ----------
    .. [1] Carlini et al., "Extracting Training Data from Diffusion Models", USENIX Security 2023, section 5.
    """
    if neighbours.indices.shape[1] <= CARLINI_NEIGHBOURS:
        return None
    distances = neighbours.distances[:, :CARLINI_NEIGHBOURS]  # (N, 50)
    near: Bools = distances[:, 0] <= CARLINI_ALPHA * distances.mean(axis=1)
    return near


def surely_or_perhaps_near(neighbours: Neighbours, farthest: Floats) -> tuple[Bools, Bools]:
    """The images that `relatively_near` counts for certain, and those that it may count, (N,) each.

    Of `neighbours`, (N, K <= 50), no distance beyond the K-th is known: it is at least the K-th, and the j-th of all is
    at most column j of `farthest`, (N, 50). The margin covers the rounding of a mean.
    """
    known, others = neighbours.distances, CARLINI_NEIGHBOURS - neighbours.indices.shape[1]
    least = np.concatenate([known, np.repeat(known[:, -1:], others, axis=1)], axis=1).mean(axis=1)
    most = np.concatenate([known, farthest[:, CARLINI_NEIGHBOURS - others :]], axis=1).mean(axis=1)
    surely, perhaps = (
        known[:, 0] <= CARLINI_ALPHA * mean for mean in (least * (1 - MEAN_ROUNDING), most * (1 + MEAN_ROUNDING))
    )
    return surely, perhaps


def largest_patch_distances(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """The largest root mean square difference over a 4 x 4 grid of patches, (P, C, H, W) twice -> (P,), grey levels.

    A flat background that two images share does not make them near: the worst patch counts.
    """
    squares = (first.astype(np.float64) - second.astype(np.float64)) ** 2  # (P, C, H, W)
    means = [
        tile.mean(axis=(1, 2, 3))
        for row in np.array_split(squares, min(PATCH_GRID, squares.shape[2]), axis=2)
        for tile in np.array_split(row, min(PATCH_GRID, squares.shape[3]), axis=3)
    ]
    largest: NDArray[np.float64] = np.max(means, axis=0)
    return np.sqrt(largest)


def repeated(
    to_others: Neighbours, to_baseline: Neighbours, *, threshold: float, repeats: Bools | None = None
) -> Estimate:
    """Share of images nearer to another image of their set than `threshold` times to any baseline image.

    Collapse onto images that are not in the training set ("spurious" states) shows here. Both tables are (M, >= 1),
    from sets of one size: a larger set holds nearer neighbours. Compare with the same share for two halves of the
    baseline.

    References
    ----------
    .. [1] Pham et al., "Memorization to Generalization: Emergence of Diffusion Models from Associative Memory", 2025.
    """
    near, far = to_others.squared_distances[:, 0], to_baseline.squared_distances[:, 0]
    return proportion(ratio_below(near, far, threshold), repeats=repeats)


def cosine_similarities(neighbours: Neighbours) -> Floats:
    """Cosines of each image with its nearest training images, (N, K), of a table of rows of length 1."""
    cosines: Floats = 1 - neighbours.squared_distances / 2
    return cosines


def named_samples(hits: Bools) -> tuple[str, ...]:
    """A note that names the first 100 samples of those that count; none if none does."""
    found = np.flatnonzero(hits)
    names = ", ".join(str(i) for i in found[:MOST_LISTED]) + (", ..." if len(found) > MOST_LISTED else "")
    return (f"samples {names}",) if len(found) else ()


def calibrated_share(
    samples: Floats, baseline: Floats, *, largest: float, repeats: Bools | None = None
) -> tuple[Estimate, Estimate, Estimate]:
    """The value that 0.1 % of a baseline exceeds, the share of samples that exceed it, and its p-value.

    Strictly. The p-value is exact if samples and baseline are exchangeable, as unseen images are; samples that repeat
    another one count once in it. With fewer than 1,000 baseline images the value is their largest.

    Parameters
    ----------
    samples, baseline : float64, (N,) and (m,)
        Of each image; larger is more suspicious.
    largest : float
        The largest value that there can be.
    repeats : bool, (N,), optional
        Samples that show the picture of an earlier one.

    Returns
    -------
    Estimate, Estimate, Estimate
        Threshold, share and p-value, which is 1 where no sample exceeds the threshold. Undefined without a baseline.
    """
    threshold = upper_quantile(baseline, CALIBRATED_RATE, largest=largest)
    if threshold.value is None or len(samples) == 0:
        undefined = Estimate.undefined(NO_IMAGES)
        return threshold, undefined, undefined
    hits = samples > threshold.value
    single = np.ones(len(samples), dtype=bool) if repeats is None else ~repeats
    num_allowed = int(CALIBRATED_RATE * len(baseline))
    num_above, num_single = int(np.count_nonzero(hits & single)), int(np.count_nonzero(single))
    expected = f"{(num_allowed + 1) / (len(baseline) + 1):.2%} are expected if nothing is copied"
    share = proportion(hits, repeats=repeats, notes=(expected, *named_samples(hits)))
    p_value = exceedance_p_value(num_above, num_single, num_allowed, len(baseline))
    return threshold, share, Estimate(p_value, method="exact, of exceedances", count=num_single)
