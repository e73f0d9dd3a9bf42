"""Mean and leading directions of few images: from their products, beside scikit-learn and the covariance's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from benchmarks import OURS
from benchmarks.data import ImageSets, Pixels
from benchmarks.machine import Peaks
from benchmarks.stopwatch import Stopwatch
from memgen_eval.diffusion.moments import leading_directions, moments, principal

NUM_DIRECTIONS = 64
Directions = NDArray[np.float64]  # (D, K)


def by_scikit_learn(images: Pixels) -> Directions:
    """A singular value decomposition of the images."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    found: Any = PCA(NUM_DIRECTIONS, svd_solver="full").fit(rows)
    return np.asarray(found.components_.T)


def by_covariance(images: Pixels) -> Directions:
    """As of many images."""
    return leading_directions(moments(images).covariance, NUM_DIRECTIONS)[1]


METHODS: dict[str, Callable[[Pixels], Directions]] = {
    OURS: lambda images: principal(images, NUM_DIRECTIONS).kept,
    "scikit-learn": by_scikit_learn,
    "covariance": by_covariance,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("num_images", [400, 1_500])
def test_directions(
    images: ImageSets, num_images: int, turn: int, method: str, peaks: Peaks, stopwatch: Stopwatch
) -> None:
    """The floor is that of the products of the images, half of them, and of the directions, in float64."""
    chosen = images.train[:num_images]
    centred = chosen.reshape(num_images, -1).astype(np.float64)
    centred -= centred.mean(axis=0)
    work = 1.0 * centred.size * (num_images + 2 * NUM_DIRECTIONS)
    found = stopwatch(
        lambda: METHODS[method](chosen),
        case=f"{NUM_DIRECTIONS} leading directions of {num_images:,} images of 32 x 32 x 3",
        method=method,
        floor=2 * work / peaks.float32,
    )
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    cosines = np.linalg.svd(right[:NUM_DIRECTIONS] @ found, compute_uv=False)
    assert cosines.min() > 1 - 1e-10
    stopwatch.note(answer="the same subspace")
