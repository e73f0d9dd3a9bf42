"""Tables of neighbours made by hand or by brute force, for tests of what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from memgen_eval.copying.copy_rules import Copying, relatively_near
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.results import Estimate


def table(squared: ArrayLike, indices: ArrayLike | None = None, dtype: type = np.int64) -> Neighbours:
    """Squared distances as given, (N, K); references numbered by column unless said otherwise."""
    distances = np.asarray(squared, dtype=dtype)
    rows = np.broadcast_to(np.arange(distances.shape[1]), distances.shape) if indices is None else indices
    return Neighbours(distances, np.array(rows, dtype=np.int64))


def brute_force(
    queries: NDArray[Any], references: NDArray[Any], k: int = 2, *, exclude: Sequence[int] | None = None
) -> Neighbours:
    """All differences at once: int64 for uint8, float64 otherwise; ties to the smaller index."""
    kind = np.int64 if references.dtype == np.uint8 else np.float64
    left, right = (images.reshape(len(images), -1).astype(kind) for images in (queries, references))
    squared = np.stack([((row - right) ** 2).sum(axis=1) for row in left]) if len(left) else np.zeros((0, len(right)))
    if exclude is not None:
        squared[np.arange(len(left)), list(exclude)] = np.iinfo(np.int64).max if kind is np.int64 else np.inf
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    left_out = None if exclude is None else np.array(exclude, dtype=np.int64)
    return Neighbours(
        np.take_along_axis(squared, order, axis=1).astype(kind), order, queries=queries, excluded=left_out
    )


def copying(neighbours: Neighbours, *, tolerance: float = 0.0) -> Copying:
    """What the memorization family knows of a set, without mirrored copies and without duplicates in train."""
    near = neighbours.squared_distances[:, 0] <= tolerance**2
    first_two = Neighbours(neighbours.squared_distances[:, :2], neighbours.indices[:, :2])
    repeats = np.zeros(len(near), dtype=bool)
    return Copying(neighbours, neighbours, first_two, neighbours, near, repeats, relatively_near(neighbours))


def known(estimate: Estimate) -> tuple[float, float, float]:
    """Value and interval of a figure that has both."""
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high
    return estimate.value, estimate.low, estimate.high


def torus(num_queries: int, num_references: int, dimension: int, *, seed: int) -> tuple[Neighbours, Neighbours]:
    """Uniform points on a flat torus: neighbours of fresh points, and of the references among themselves."""
    rng = np.random.default_rng(seed)
    queries, references = rng.random((num_queries, dimension)), rng.random((num_references, dimension))
    return _around(queries, references), _around(references, references, exclude_self=True)


def _around(queries: NDArray[Any], references: NDArray[Any], *, exclude_self: bool = False) -> Neighbours:
    squared = np.zeros((len(queries), len(references)))
    for x, y in zip(queries.T, references.T, strict=True):
        gap = np.abs(x[:, None] - y)
        squared += np.minimum(gap, 1 - gap) ** 2
    if exclude_self:
        np.fill_diagonal(squared, np.inf)
    two = np.argpartition(squared, 2, axis=1)[:, :2]
    order = np.take_along_axis(two, np.take_along_axis(squared, two, axis=1).argsort(axis=1), axis=1)
    return Neighbours(np.take_along_axis(squared, order, axis=1), order)


def smooth_images(count: int, shape: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    """Blurred noise of full contrast: like photographs, it still resembles itself when shifted by a pixel."""
    noise = np.random.default_rng(seed).standard_normal((count, *shape))
    blurred = gaussian_filter(noise, (0, 0, 1.5, 1.5))
    blurred *= 55 / blurred.std(axis=(1, 2, 3), keepdims=True)
    return np.rint(128 + blurred).clip(0, 255).astype(np.uint8)
