"""Squared distances as they are reported: exact integers for uint8, sums of float64 squares for floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.arrays import as_array, check_pair, dimension, mirrored, rows
from memgen_eval.neighbours.engines import integer_products, threads_for
from memgen_eval.neighbours.frames import IntegerFrame
from memgen_eval.neighbours.threads import sharing
from memgen_eval.neighbours.tiles import for_keys, make_tile, prepare

_SCRATCH_VALUES = 2**18  # differences that a thread holds at once


def squared_distances(queries: Any, references: Any, *, flip: bool = False) -> NDArray[Any]:
    """Squared Euclidean distances of every query to every reference, exact.

    Parameters
    ----------
    queries : uint8 or float, (N, ...)
    references : uint8 or float, (M, ...)
        With the trailing shape of the queries.
    flip : bool
        Take the smaller of both orientations of each reference (mirrored along the last axis).

    Returns
    -------
    int64 (both uint8) or float64, (N, M)
        In the squared units of the arrays. Integers are exact. Floats are float64 sums of squares of float64
        differences, the same bits as in `nearest_neighbours`.

    Raises
    ------
    InputError
        If the arrays cannot be compared, or hold NaN or infinity.

    Notes
    -----
    The whole matrix is held in memory: for small blocks. Integers cost one integer product, floats N M D float64
    operations.
    """
    queries, references = as_array(queries, "queries"), as_array(references, "references")
    check_pair(queries, references, flip=flip)
    return block_distances(queries, references, flip=flip)


def block_distances(queries: NDArray[Any], references: NDArray[Any], *, flip: bool) -> NDArray[Any]:
    """`squared_distances` of arrays that were checked at the door."""
    distances = _one_orientation(queries, references)
    if flip:
        np.minimum(distances, _one_orientation(mirrored(queries), references), out=distances)
    return distances


def pair_distances(
    left: NDArray[Any],
    left_rows: NDArray[np.int64],
    right: NDArray[Any],
    right_rows: NDArray[np.int64],
    *,
    flip: bool = False,
) -> NDArray[Any]:
    """Squared distances of left row i to each of its own right rows: left_rows (N,), right_rows (N, J) -> (N, J)."""
    if flip:
        nearer = pair_distances(left, left_rows, right, right_rows)
        np.minimum(nearer, pair_distances(mirrored(left), left_rows, right, right_rows), out=nearer)
        return nearer
    distances = np.empty(right_rows.shape, dtype=distance_dtype(left, right))
    if distances.size == 0:
        return distances
    width, num_columns = dimension(left), right_rows.shape[1]
    size = max(1, _SCRATCH_VALUES // (width * num_columns))

    def fill(start: int, stop: int) -> None:
        for first in range(start, stop, size):
            mine = slice(first, min(first + size, stop))
            one = left[left_rows[mine]].reshape(-1, 1, width)
            many = right[right_rows[mine].ravel()].reshape(-1, num_columns, width)
            distances[mine] = _direct(one, many)

    with sharing(threads_for(2.0 * distances.size * width)) as share:
        share(fill, len(right_rows))
    return distances


def distance_dtype(queries: NDArray[Any], references: NDArray[Any]) -> Any:
    """int64 where both are uint8, else float64."""
    return np.int64 if queries.dtype == references.dtype == np.uint8 else np.float64


def _one_orientation(queries: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
    distances = np.empty((len(queries), len(references)), dtype=distance_dtype(queries, references))
    if distances.size == 0:
        return distances
    work = 2.0 * distances.size * dimension(queries)
    with sharing(threads_for(work)) as share:
        if distances.dtype == np.int64:
            products, frame = integer_products("auto", work=work), IntegerFrame()
            tile = make_tile(references, 0, len(references), frame, products)
            converted, norms = prepare(queries, 0, len(queries), frame)

            def store(start: int, keys: NDArray[Any]) -> None:
                mine = slice(start, start + len(keys))
                np.add(keys, norms[mine, None], out=distances[mine])

            for_keys(products, share, converted, tile, store)
        else:
            left, right = rows(queries, 0, len(queries)), rows(references, 0, len(references))
            share(lambda start, stop: _fill(left[start:stop], right, distances[start:stop]), len(left))
    return distances


def _fill(left: NDArray[Any], right: NDArray[Any], distances: NDArray[Any]) -> None:
    """Direct differences of all pairs, a few columns at a time."""
    num_left = max(1, min(len(left), _SCRATCH_VALUES // left.shape[1], 16))
    num_right = max(1, _SCRATCH_VALUES // (left.shape[1] * num_left))
    for column in range(0, len(right), num_right):
        block = right[None, column : column + num_right].astype(np.float64)
        for row in range(0, len(left), num_left):
            distances[row : row + num_left, column : column + num_right] = _direct(
                left[row : row + num_left, None], block
            )


def _direct(one: NDArray[Any], many: NDArray[Any]) -> NDArray[Any]:
    """Sums of squared differences over the last axis, whose order depends on its length alone."""
    if one.dtype == many.dtype == np.uint8:
        differences = one.astype(np.int32) - many.astype(np.int32)
        return np.asarray(np.square(differences, out=differences).sum(axis=-1, dtype=np.int64))
    gaps = one.astype(np.float64) - many.astype(np.float64)
    return np.asarray(np.square(gaps, out=gaps).sum(axis=-1))
