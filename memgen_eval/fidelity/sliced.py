"""Sliced Wasserstein distance: how far two sets are apart along random directions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import threads_for
from memgen_eval.compute.resources import MIN_BLOCK_ROWS, blocks, single_thread, single_thread_pool
from memgen_eval.compute.rows import dimension, read_rows
from memgen_eval.fidelity.jackknife import Floats, LeftOut

NUM_PROJECTIONS = 256
SLICES_AT_ONCE = 32
DIRECTION_VALUES = 2**25  # of directions at once
BLOCK_VALUES = 2**22  # of rows that a thread holds as float64


@dataclass(frozen=True, eq=False)
class Slices:
    """Rows (M, ...) along P directions: the order of their coordinates, and the coordinates in that order, (M, P)."""

    order: NDArray[np.int32]
    sorted: Floats

    @staticmethod
    def of(rows: NDArray[Any], *, seed: int) -> Slices:
        """Along directions drawn with the seed: the same for all sets of rows of one length."""
        width = dimension(rows)
        parts = [coordinates(rows, directions) for directions in random_directions(width, seed=seed)]
        along = np.concatenate(parts, axis=1)
        order = np.empty(along.shape, dtype=np.int32)
        for columns in blocks(along.shape[1], SLICES_AT_ONCE):
            order[:, columns], along[:, columns] = _ranked(along[:, columns])
        return Slices(order, along)


def _ranked(values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The stable order of each column, (M, P), and the values in it; a faster sort where no two are equal."""
    for kind in (None, "stable"):
        order = np.argsort(values, axis=0, kind=kind)
        ranked = np.take_along_axis(values, order, axis=0)
        if not (ranked[1:] == ranked[:-1]).any():
            break
    return order, ranked


def random_directions(width: int, *, seed: int) -> Iterator[Floats]:
    """256 directions drawn uniformly, (D, P), as many at once as take 256 MiB."""
    generator = np.random.default_rng((seed, width))
    most = max(1, DIRECTION_VALUES // width)
    for columns in blocks(NUM_PROJECTIONS, most):
        drawn = generator.standard_normal((width, columns.stop - columns.start))
        yield drawn / np.linalg.norm(drawn, axis=0)


def coordinates(rows: NDArray[Any], directions: Floats) -> Floats:
    """Coordinates of rows (M, ...) along directions (D, P), (M, P): the same for any number of threads."""
    found = np.empty((len(rows), directions.shape[1]))
    size = max(MIN_BLOCK_ROWS, BLOCK_VALUES // len(directions))

    def fill(block: slice) -> None:
        found[block] = read_rows(rows, block).astype(np.float64) @ directions

    with single_thread(), single_thread_pool(threads_for(2.0 * len(rows) * directions.size)) as pool:
        for _ in pool.map(fill, blocks(len(rows), size)):
            pass
    return found


def sliced_wasserstein(samples: Slices, references: Slices, *, scale: float) -> LeftOut:
    """``sqrt(mean over directions of W2^2)`` times `scale`, of two sets of one size.

    W2 of two sets of M numbers is the root of the mean squared difference of the sorted ones. 0: equal sets; a shift of
    all values by c gives c in expectation, whatever the dimension. Fresh images do not give 0. Leaving out an image
    changes the square by its Kantorovich potential, which follows from the sorted numbers.

    References
    ----------
    .. [1] Bonneel, Rabin, Peyre & Pfister, "Sliced and Radon Wasserstein Barycenters of Measures", JMIV 51, 2015.
    """
    squares = [np.square(x - y).sum() for (_, x), (_, y) in _side_by_side(samples, references)]
    value = math.sqrt(math.fsum(squares) / samples.sorted.size)
    of_samples, of_references = np.zeros(len(samples.sorted)), np.zeros(len(references.sorted))
    if value > 0:
        for (x_order, x), (y_order, y) in _side_by_side(samples, references):
            steps = np.diff(x, axis=0) * (x[1:] + x[:-1] - y[1:] - y[:-1])
            potentials = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(steps, axis=0)])
            of_samples += _in_order(potentials, x_order)
            of_references += _in_order(np.square(x - y) - potentials, y_order)  # of a pair, they add up to its square
        factor = scale / (2 * value * samples.sorted.shape[1])
        of_samples, of_references = of_samples * factor, of_references * factor
    return LeftOut.of_influences(value * scale, of_samples, of_references)


def _side_by_side(*sets: Slices) -> Iterator[list[tuple[NDArray[np.int32], Floats]]]:
    """Orders and sorted coordinates of each set, (M, P) each, some directions at a time."""
    for columns in blocks(sets[0].sorted.shape[1], SLICES_AT_ONCE):
        yield [(one.order[:, columns], one.sorted[:, columns]) for one in sets]


def _in_order(ranked: Floats, order: NDArray[np.int32]) -> Floats:
    """The sum over directions of what each image has, given by rank, (M, P) -> (M,)."""
    own = np.empty_like(ranked)
    np.put_along_axis(own, order, ranked, axis=0)
    return np.asarray(own.sum(axis=1))
