"""Grids of noise levels: sigma is the only clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError

NUM_SIGMAS = 15
SIGMA_LOW = 0.02
SIGMA_HIGH = 80.0


def sigma_grid(
    num_sigmas: int = NUM_SIGMAS, *, low: float = SIGMA_LOW, high: float = SIGMA_HIGH
) -> NDArray[np.float64]:
    """Noise levels spaced evenly in their logarithm, both ends included, float64 (S,)."""
    return check_sigmas(np.geomspace(low, high, num_sigmas))


def check_sigmas(sigmas: Any) -> NDArray[np.float64]:
    """A grid of noise levels as float64 (S,).

    Raises
    ------
    InputError
        Unless they are one or more numbers, positive and finite in float32, each larger than the one before.
    """
    try:
        grid = np.asarray(sigmas, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"sigmas is {sigmas!r}: give noise levels such as [0.1, 1, 10]") from None
    if grid.ndim != 1 or grid.size == 0:
        raise InputError(f"sigmas has shape {grid.shape}: give a list of at least one noise level")
    with np.errstate(over="ignore", under="ignore"):
        told = grid.astype(np.float32)  # what a denoiser is told
    wrong = grid[~(np.isfinite(told) & (told > 0))]
    if wrong.size:
        raise InputError(
            f"sigmas holds {wrong[0]:g}: noise levels are positive and finite in float32, in units of data in [-1, 1]"
        )
    if (np.diff(told) <= 0).any():
        place = int(np.argmax(np.diff(told) <= 0))
        raise InputError(
            f"sigmas has {grid[place + 1]:g} after {grid[place]:g}: give noise levels in increasing order, each once"
        )
    return grid
