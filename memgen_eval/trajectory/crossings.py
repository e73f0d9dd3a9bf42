"""Where along a training something begins, and where it would have begun with other samples and images.

Places are indices of checkpoints; K, one beyond the last, stands for not within the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.resampling import NUM_RESAMPLES
from memgen_eval.metrics.statistics import smallest_significant
from memgen_eval.results import Z
from memgen_eval.trajectory.readings import Tallies, Tracked

COPYING_P_VALUE = 0.001  # at each of two checkpoints in a row
SATURATED = 0.9

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
_Counts = NDArray[np.int64]


def gap_seen(gap: Tracked) -> Bools:
    """At which checkpoints the interval of the gap lies above zero, (K,)."""
    return np.asarray(gap.low > 0)


def divergence(gap: Tracked) -> int:
    """The first checkpoint from which the gap stays above zero and grows.

    At this one and at all later ones the interval lies above zero, every later gap is larger than this one, and the
    interval of the last lies above that of this one: test images that happen to be harder than training images give a
    gap above zero too, but one that does not grow.
    """
    return int(_divergence(gap.value, gap.low, gap.high))


def resampled_divergence(gap: Tracked, *, seed: int) -> _Counts:
    """The same with the gaps of other images, (R,).

    Every checkpoint is measured on the same images with the same noise, so that other images would shift all gaps
    alike: each by one normal number, the same for all, times its standard error.
    """
    normal = np.random.default_rng(seed).standard_normal(NUM_RESAMPLES)
    shifts = normal[:, np.newaxis] * gap.half / Z
    return _divergence(*(part + shifts for part in (gap.value, gap.low, gap.high)))


def _divergence(value: Floats, low: Floats, high: Floats) -> _Counts:
    """Of gaps (..., K), (...)."""
    stays = _from_here_on(np.logical_and, low > 0)
    smallest_later = _from_here_on(np.minimum, value)[..., 1:]
    holds = stays[..., :-1] & (value[..., :-1] < smallest_later) & (high[..., :-1] < low[..., -1:])
    return _first(holds, none=value.shape[-1])


def copies_seen(tallies: Tallies) -> Bools:
    """At which checkpoints samples copy more often than unseen images seem to: Fisher's exact p <= 0.001, (K,)."""
    found = _significant(tallies, tallies.copies[np.newaxis], tallies.flagged_unseen[np.newaxis])  # (1, K)
    return found.reshape(-1)


def first_copies(tallies: Tallies) -> int:
    """The first checkpoint at which `copies_seen` holds, there and at the next."""
    return int(_first_of_two(copies_seen(tallies)))


def resampled_first_copies(tallies: Tallies, *, seed: int) -> _Counts:
    """The same with other samples and other unseen images, (R,).

    The counts of samples drawn again, with replacement, are binomial. Samples start from the same noise at every
    checkpoint, so that one draw moves the counts of all checkpoints alike; so does one draw of unseen images.
    """
    from scipy.stats import binom

    of_samples, of_unseen = np.random.default_rng(seed).random((2, NUM_RESAMPLES, 1))
    copies = binom.ppf(of_samples, tallies.samples, tallies.copies / np.maximum(tallies.samples, 1))
    flagged = binom.ppf(of_unseen, tallies.unseen, tallies.flagged_unseen / tallies.unseen)
    return _first_of_two(_significant(tallies, np.asarray(copies, np.int64), np.asarray(flagged, np.int64)))


def _significant(tallies: Tallies, copies: _Counts, flagged: _Counts) -> Bools:
    """Whether counts (R, K) are significant beside those of unseen images, (R, K)."""
    cases = np.stack(np.broadcast_arrays(tallies.samples, flagged, tallies.unseen), axis=-1)  # (R, K, 3)
    distinct, which = np.unique(cases.reshape(-1, 3), axis=0, return_inverse=True)
    fewest = [smallest_significant(*map(int, case), p_value=COPYING_P_VALUE) for case in distinct]
    needed = np.array([np.iinfo(np.int64).max if few is None else few for few in fewest])
    return np.asarray(copies >= needed[which].reshape(copies.shape))


def _first_of_two(holds: Bools) -> _Counts:
    return _first(holds[..., :-1] & holds[..., 1:], none=holds.shape[-1])


def _first(holds: Bools, *, none: int) -> _Counts:
    """The first true place along the last axis, `none` where there is none."""
    return np.where(holds.any(axis=-1), holds.argmax(axis=-1), none)


def _from_here_on(gather: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """`gather` of each value and all later ones along the last axis."""
    return np.asarray(np.flip(gather.accumulate(np.flip(values, axis=-1), axis=-1), axis=-1))


def saturation(ratio: Tracked, onset: int) -> int:
    """The first checkpoint from `onset` on at which the ratio has reached nine tenths of its largest value."""
    return onset + int(np.argmax(ratio.value[onset:] >= SATURATED * ratio.value[onset:].max()))


def plateau(fidelity: Tracked) -> int:
    """The first checkpoint after which no figure is better than its interval: none lies below the lower end."""
    best_later = np.append(_from_here_on(np.minimum, fidelity.value)[1:], np.inf)
    return int(np.argmax(best_later >= fidelity.low))
