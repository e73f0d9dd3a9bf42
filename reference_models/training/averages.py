"""Averages of the weights over the steps, and those of other lengths that are put together of kept ones afterwards.

The average of length ``l`` at step T weighs the weights of step t by ``t^gamma``: the longer the training, the further
it reaches back, always over the same share of the steps. ``l`` is the standard deviation of t under these weights in
parts of T, so 0.1 is an average over about the last tenth.

References
----------
.. [1] Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), CVPR 2024, section 3
   and appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import get_ema_multi_avg_fn

LONGEST = 0.28  # below that of the plain mean of all steps, 1 / sqrt(12), gamma 0


@dataclass(frozen=True)
class Kept:
    """Which average: until which step, and of which relative length."""

    step: int
    length: float


@cache
def exponent(length: float) -> float:
    """The exponent gamma of a relative length in (0, LONGEST): EDM2, algorithm 2.

    The largest root of ``(gamma + 2)^2 (gamma + 3) = (gamma + 1) / length^2``, from the variance of the density
    ``(gamma + 1) t^gamma`` on [0, 1].
    """
    precision = length**-2
    return float(np.roots([1, 7, 16 - precision, 12 - precision]).real.max())


def decay_at(step: int, *, length: float) -> float:
    """``(1 - 1 / step)^(gamma + 1)``, what an average keeps of itself at a step, counted from 1: EDM2, equation 127."""
    decay: float = (1 - 1 / step) ** (exponent(length) + 1)
    return decay


def update_average(average: torch.nn.Module, model: torch.nn.Module, *, decay: float) -> None:
    """``average = decay * average + (1 - decay) * model``, for every weight."""
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    update(list(average.parameters()), list(model.parameters()), None)  # in few launches on a GPU


@dataclass(frozen=True, eq=False)
class Combination:
    """An average as a sum of kept ones.

    Attributes
    ----------
    coefficients : float64, (K,)
        Of each kept average.
    error : float
        How far the sum's weighting of the steps is from the one asked for: L2, in parts of that one's norm.
    """

    coefficients: NDArray[np.float64]
    error: float


def combination(kept: Sequence[Kept], wanted: Kept) -> Combination:
    """The sum of kept averages whose weighting of the steps is nearest to that of another one: EDM2, algorithm 3.

    The coefficients sum to 1, which EDM2 does not ask for: its networks normalise their weights, others would be scaled
    by the sum.

    Parameters
    ----------
    kept : sequence of Kept
        K averages that lie in files.
    wanted : Kept
        The one to be put together.
    """
    products = np.array([[_product(a, b) for b in kept] for a in kept])  # (K, K)
    target = np.array([_product(a, wanted) for a in kept])  # (K,)
    scale = np.sqrt(np.diag(products))
    system = np.zeros((len(kept) + 1, len(kept) + 1))  # with a multiplier for the sum
    system[:-1, :-1] = products / np.outer(scale, scale)
    system[:-1, -1] = system[-1, :-1] = 1 / scale
    solved, *_ = np.linalg.lstsq(system, np.append(target / scale, 1.0), rcond=None)
    coefficients = solved[:-1] / scale
    norm = _product(wanted, wanted)
    left = norm - 2 * coefficients @ target + coefficients @ products @ coefficients
    return Combination(coefficients, float(np.sqrt(max(0.0, left) / norm)))


def _product(first: Kept, second: Kept) -> float:
    """The integral over t of two weightings ``(gamma + 1) t^gamma / T^(gamma + 1)``, each 0 beyond its T."""
    earlier, later = sorted((first, second), key=lambda average: average.step)
    early, late = exponent(earlier.length), exponent(later.length)
    ratio = (earlier.step / later.step) ** late
    product: float = (early + 1) * (late + 1) * ratio / ((early + late + 1) * later.step)
    return product
