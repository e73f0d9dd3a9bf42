"""The bootstrap over images: what figures would have been on other sets of as many images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from memgen_eval.results import LEVEL

NUM_RESAMPLES = 1000

Floats = NDArray[np.float64]


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], Floats],
    num_images: int,
    *,
    seed: int | tuple[int, ...],
    num_resamples: int = NUM_RESAMPLES,
) -> Floats:
    """`statistic` of resampled image indices, with replacement.

    Parameters
    ----------
    statistic : callable
        From indices (num_images,) to values (S,).
    num_images : int
        How many images there are; the image is the sampling unit.
    seed : int or tuple of int
        Of the resamples.
    num_resamples : int
        R.

    Returns
    -------
    float64, (num_resamples, S)
    """
    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, num_images, num_images) for _ in range(num_resamples))
    return np.stack([statistic(drawn) for drawn in draws])


def resampled_quantiles(values: Floats, quantiles: Sequence[float], *, seed: int | tuple[int, ...]) -> Floats:
    """Quantiles of resamples of the values, (R, S), to the bit those of ``numpy.quantile``.

    A resample is how often each of the sorted values was drawn: sums of these numbers say where a rank lies.
    """
    positions = np.asarray(quantiles) * (len(values) - 1)
    below = np.floor(positions).astype(np.int64)
    share = positions - below
    ranks = np.concatenate([below, np.minimum(below + 1, len(values) - 1)])
    low, high = np.split(_of_ranks(values, ranks, seed=seed), 2, axis=1)  # (R, S) each
    between: Floats = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    return between


def resampled_medians(values: Floats, *, seed: int | tuple[int, ...]) -> Floats:
    """Medians of resamples of the values, (R,), to the bit those of ``numpy.median``."""
    middle = np.array([(len(values) - 1) // 2, len(values) // 2])
    medians: Floats = _of_ranks(values, middle, seed=seed).mean(axis=1)
    return medians


def _of_ranks(values: Floats, ranks: NDArray[np.int64], *, seed: int | tuple[int, ...]) -> Floats:
    """The values of these ranks, from 0, among the sorted values of each resample, (R, S)."""
    order = np.argsort(values)
    ranked = values[order]

    def resampled(drawn: NDArray[np.int64]) -> Floats:
        times = np.bincount(drawn, minlength=len(ranked))[order]
        return np.asarray(ranked[np.searchsorted(np.cumsum(times), ranks, side="right")])

    return bootstrap(resampled, len(values), seed=seed)


def percentile_interval(resamples: Floats) -> tuple[Floats, Floats]:
    """The central 95 % of bootstrap values, (R, S) -> (S,), (S,)."""
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(resamples, [tail, 100 - tail], axis=0)
    return low, high


def percentile_method() -> str:
    """How a bootstrap interval is named in a report."""
    return f"bootstrap over images, {NUM_RESAMPLES} resamples, percentile 95 %"
