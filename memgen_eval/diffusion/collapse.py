"""At which noise D* stops giving a training image its own image back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memgen_eval.diffusion.inputs import NoisedImages
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.distributed import ALONE, Ranks

PRECISION = 1.01  # the bracket's ratio at which it is closed
SECTIONS = 8  # sigmas tried inside a bracket in one pass over the training set

Floats = NDArray[np.float64]


def collapse_sigmas(
    optimal: OptimalDenoiser, inputs: NoisedImages, sigmas: Floats, own_weight: Floats, *, ranks: Ranks = ALONE
) -> Floats:
    """For each image's first noise draw, the sigma at which the weight of the image itself falls through 1/2, to 1 %.

    With ``A_i = |y - y_i|^2`` and ``b_i = <eps, y - y_i>`` the odds against the image itself are
    ``sum_i exp(-A_i / (2 sigma^2) - b_i / sigma)``. A term below 1 grows with sigma, and one that has passed 1 stays
    above it: so the odds pass 1 once, brackets from the grid are safe, and the median of these sigmas is the sigma at
    which the median weight is 1/2.

    Parameters
    ----------
    optimal : OptimalDenoiser
        That holds the images.
    inputs : NoisedImages
        N training images.
    sigmas : (S,)
        The grid, increasing.
    own_weight : (S, N)
        On the grid.
    ranks : Ranks
        They share the images.

    Returns
    -------
    float64, (N,)
        0 where the weight is below 1/2 on the whole grid, infinite where it is above.
    """
    passed = (own_weight >= 0.5).sum(axis=0)  # (N,)
    found = np.where(passed == 0, 0.0, np.inf)
    inside = np.flatnonzero((passed > 0) & (passed < len(sigmas)))
    low, high = sigmas[passed[inside] - 1], sigmas[passed[inside]]
    mine = ranks.share(len(inside))
    while inside.size and (high / low).max() > PRECISION:
        tried = np.geomspace(low, high, SECTIONS + 2)  # (sections, N)
        weights = np.empty((SECTIONS, 0))
        if mine.start < mine.stop:
            weights = _own_weight(optimal, inputs, inside[mine], tried[1:-1, mine])
        steps = (ranks.gather(weights, axis=1) >= 0.5).sum(axis=0)  # (N,)
        columns = np.arange(len(inside))
        low, high = tried[steps, columns], tried[steps + 1, columns]
    found[inside] = np.sqrt(low * high)
    return found


def _own_weight(optimal: OptimalDenoiser, inputs: NoisedImages, which: NDArray[np.int64], sigmas: Floats) -> Floats:
    x0, eps = inputs.take(which)
    return optimal.posterior(x0, eps, sigmas, with_mean=False).own_weight
