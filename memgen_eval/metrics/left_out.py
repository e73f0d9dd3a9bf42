"""Groups of a set's images to leave out one at a time: images that nearly repeat each other are left out together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import blocks, single_thread
from memgen_eval.metrics.statistics import jackknife_variance
from memgen_eval.results import LEVEL

MOST_LEFT_OUT = 100
BLOCK_IMAGES = 512
TYPICAL_IMAGES = 1000
FEW_COORDINATES = 16
MOST_ALIKE = 1 / 20  # of the pairs of a block: beyond it all of them are compared at once
REPEATED = 1 / 4  # of the distance between neighbours of the reference

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbourhood:
    """How near images of a reference lie: the median distance to the nearest other one, and how far they spread."""

    typical: float
    spread: float

    @staticmethod
    def of(reference: Floats) -> Neighbourhood:
        """Of coordinates (M, K)."""
        return Neighbourhood(_typical_distance(reference), _spread(reference))


def groups_of_images(images: Floats, reference: Neighbourhood, *, seed: int) -> Groups:
    """A number from 0 to G - 1 for each image, (M,), G at most 100; near repeats have one number.

    Two images, with coordinates (M, K), nearly repeat each other if their distance is at most a quarter of the median
    distance of a reference image to its nearest other one, less in the measure in which the set varies less.

    Cost: M^2 K operations in float32 at most, for a set of many near repeats.
    """
    share = min(1.0, _spread(images) / reference.spread) if reference.spread > 0 else 0.0
    _, cluster = np.unique(_clusters(images, REPEATED * reference.typical * share), return_inverse=True)
    order = np.random.default_rng(seed).permutation(int(cluster.max()) + 1)
    return np.asarray(order[cluster] % min(MOST_LEFT_OUT, len(order)))


def _spread(rows: Floats) -> float:
    return math.sqrt(float(rows.var(axis=0).sum()))


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
    linked, unclear = _links(centred, tolerance)
    for start in unclear:
        near = _squared_distances(centred, start) <= tolerance**2
        mine = np.arange(start, start + len(near))
        near[np.arange(len(near)), mine] = True
        linked[:, mine] = near.argmax(axis=1), count - 1 - near[:, ::-1].argmax(axis=1)
    links = (np.ones(2 * count), (np.tile(np.arange(count), 2), linked.reshape(-1)))
    return np.asarray(connected_components(coo_array(links, shape=(count, count)), directed=False)[1], dtype=np.int64)


def _links(rows: NDArray[np.float32], tolerance: float) -> tuple[Groups, list[int]]:
    """The first and the last row within the tolerance of each, (2, M), and the blocks of rows where they are not known.

    Only rows that are near in one coordinate, and then in a few, are compared in all, in float64. That decides what
    `_squared_distances` would, for it errs by no more than rounding takes: where it may err, and where many are near, a
    block is left to it.
    """
    squares = np.einsum("mk,mk->m", rows, rows, dtype=np.float64)
    slack = (2 * rows.shape[1] + 16) * 2.0**-24 * squares  # of a row: a pair errs by those of both at most
    limit, most = float(np.float32(tolerance**2)), 2 * float(slack.max(initial=0.0))
    reach = math.sqrt(limit + most) * (1 + 1e-6)
    widest = int(rows.var(axis=0).argmax())
    order = np.argsort(rows[:, widest])
    along, few = rows[order, widest].astype(np.float64), np.ascontiguousarray(rows[order, :FEW_COORDINATES])
    linked, unclear = np.tile(np.arange(len(rows)), (2, 1)), np.zeros(len(rows), dtype=bool)
    for block in blocks(len(rows), BLOCK_IMAGES):
        last = int(np.searchsorted(along, along[block.stop - 1] + reach, side="right"))
        columns = slice(block.start, last)  # a pair is met once, in the block of the earlier row
        row, column = _near_in_few(few, block, columns, limit + 2 * most)  # both err
        one, other = order[row + block.start], order[column + columns.start]
        if len(row) > MOST_ALIKE * (block.stop - block.start) * (last - block.start):
            unclear[one] = unclear[other] = True
            continue
        gaps = rows[one].astype(np.float64) - rows[other]
        squared, doubt = np.einsum("sk,sk->s", gaps, gaps), slack[one] + slack[other]
        doubtful = np.abs(squared - limit) <= doubt
        unclear[one[doubtful]] = unclear[other[doubtful]] = True
        for mine, theirs in ((one, other), (other, one)):
            near = squared <= limit
            np.minimum.at(linked[0], mine[near], theirs[near])
            np.maximum.at(linked[1], mine[near], theirs[near])
    return linked, [block.start for block in blocks(len(rows), BLOCK_IMAGES) if unclear[block].any()]


def _near_in_few(
    few: NDArray[np.float32], block: slice, columns: slice, limit: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a block and the rows after it that may be near by the coordinates that are looked at, (S,) and (S,)."""
    with single_thread():
        products = few[block] @ few[columns].T
    norms = np.einsum("mk,mk->m", few[columns], few[columns])
    squared = norms[: block.stop - block.start, None] + norms - 2 * products
    row, column = np.nonzero(squared <= np.nextafter(np.float32(limit), np.float32(np.inf)))
    after = column > row
    return row[after], column[after]


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
