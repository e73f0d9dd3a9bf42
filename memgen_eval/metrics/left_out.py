"""Groups of a set's images to leave out one at a time: images that nearly repeat each other are left out together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import single_thread
from memgen_eval.metrics.statistics import jackknife_variance
from memgen_eval.results import LEVEL

MOST_LEFT_OUT = 100
BLOCK_IMAGES = 512
TYPICAL_IMAGES = 1000
REPEATED = 1 / 4  # of the distance between neighbours of the reference

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]


def groups_of_images(images: Floats, reference: Floats, *, seed: int) -> Groups:
    """A number from 0 to G - 1 for each image, (M,), G at most 100; near repeats have one number.

    Two images nearly repeat each other if their distance is at most a quarter of the median distance of a reference
    image to its nearest other one, less in the measure in which the set varies less. Coordinates (M, K) of both sets.

    Cost: M^2 K operations in float32.
    """
    spread, usual = (math.sqrt(float(rows.var(axis=0).sum())) for rows in (images, reference))
    tolerance = REPEATED * _typical_distance(reference) * (min(1.0, spread / usual) if usual > 0 else 0.0)
    _, cluster = np.unique(_clusters(images, tolerance), return_inverse=True)
    order = np.random.default_rng(seed).permutation(int(cluster.max()) + 1)
    return np.asarray(order[cluster] % min(MOST_LEFT_OUT, len(order)))


def _typical_distance(rows: Floats) -> float:
    """The median distance of some of the rows to their nearest other one."""
    if len(rows) < 2:
        return 0.0
    centred = (rows - rows.mean(axis=0)).astype(np.float32)
    nearest = []
    for start in range(0, min(len(rows), TYPICAL_IMAGES), BLOCK_IMAGES):
        squared = _squared_distances(centred, start)
        np.fill_diagonal(squared[:, start:], np.inf)
        nearest.append(squared.min(axis=1))
    return math.sqrt(max(float(np.median(np.concatenate(nearest))), 0.0))


def _clusters(rows: Floats, tolerance: float) -> Groups:
    """A number for each row; each is linked to the first and to the last row within the tolerance."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    centred, count = (rows - rows.mean(axis=0)).astype(np.float32), len(rows)
    linked = np.empty((2, count), dtype=np.int64)
    for start in range(0, count, BLOCK_IMAGES):
        near = _squared_distances(centred, start) <= tolerance**2
        mine = np.arange(start, start + len(near))
        near[np.arange(len(near)), mine] = True
        linked[:, mine] = near.argmax(axis=1), count - 1 - near[:, ::-1].argmax(axis=1)
    links = (np.ones(2 * count), (np.tile(np.arange(count), 2), linked.reshape(-1)))
    return np.asarray(connected_components(coo_array(links, shape=(count, count)), directed=False)[1], dtype=np.int64)


def _squared_distances(rows: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    """Of a block of rows from all rows, (B, M)."""
    norms = np.einsum("mk,mk->m", rows, rows)
    with single_thread():
        products = rows[start : start + BLOCK_IMAGES] @ rows.T
    squared: NDArray[np.float32] = norms[start : start + BLOCK_IMAGES, None] + norms - 2 * products
    return squared


def left_out_half_width(values: Floats) -> float:
    """Half of the 95 % interval of a figure, from its values with each of G >= 2 groups left out, (G,).

    The variance is the jackknife's, which is too large on average, never too small; Student's t with G - 1 degrees.
    """
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * math.sqrt(jackknife_variance(values))
