"""Squared distances as they are reported: exact integers for uint8, sums of float64 squares for floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import integer_products, threads_for
from memgen_eval.compute.products import SLICE, installed
from memgen_eval.compute.resources import blocks, start_workers
from memgen_eval.compute.rows import IntegerTransform, as_array, check_pair, dimension, mirrored, read_rows
from memgen_eval.neighbours.candidates import ReferenceTile, prepare

_SCRATCH_VALUES = 2**18  # differences that a thread holds at once
_SCRATCH_BYTES = 2**19  # values of uint8 rows at once, whose differences are not held
_OVERFLOWING = 1e38  # limits near the end of float32


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
    num_columns = right_rows.shape[1]
    distances = np.empty(right_rows.shape, dtype=distance_dtype(left, right))

    def fill(rows: slice) -> None:
        pairs = np.repeat(left_rows[rows], num_columns), right, right_rows[rows].ravel()
        distances[rows] = row_distances(left, *pairs).reshape(-1, num_columns)

    with start_workers(threads_for(2.0 * distances.size * dimension(left))) as workers:
        workers(fill, len(right_rows))
    return distances


def row_distances(
    left: NDArray[Any], left_rows: NDArray[Any], right: NDArray[Any], right_rows: NDArray[np.int64]
) -> NDArray[Any]:
    """Squared distances of left rows (P,) to right rows (P,), one by one, (P,)."""
    distances = np.empty(len(right_rows), dtype=distance_dtype(left, right))
    for pairs, one, other in _row_pairs(left, left_rows, right, right_rows):
        distances[pairs] = _direct(one, other)
    return distances


def may_be_within(
    left: NDArray[Any],
    left_rows: NDArray[Any],
    right: NDArray[Any],
    right_rows: NDArray[np.int64],
    limits: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether squared distances of left rows (P,) to right rows (P,) may be at most their limits, (P,).

    Computed in float32 where no side is wider: a sum of squared differences, in any order, is at most ``1 + (D + 4) u``
    times the true one, since all terms are positive and each is rounded three times, plus the rounding of denormal
    squares.
    """
    passing = np.ones(len(right_rows), dtype=bool)
    if not all(array.dtype in (np.float16, np.float32) for array in (left, right)):
        return passing
    limits = limits * (1 + (dimension(left) + 16) * 2.0**-23) + dimension(left) * 2.0**-149
    for pairs, one, other in _row_pairs(left, left_rows, right, right_rows):
        with np.errstate(over="ignore"):
            gaps = np.subtract(one, other, dtype=np.float32)
            squared = np.einsum("ij,ij->i", gaps, gaps)
        passing[pairs] = (squared <= limits[pairs]) | (limits[pairs] > _OVERFLOWING)
    return passing


def _row_pairs(
    left: NDArray[Any], left_rows: NDArray[Any], right: NDArray[Any], right_rows: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[Any], NDArray[Any]]]:
    """Both rows of each pair, (B, D), for a few pairs at a time; the next ones overwrite them."""
    width = dimension(left)
    num_values = _SCRATCH_BYTES if distance_dtype(left, right) == np.int64 else _SCRATCH_VALUES
    size = max(1, min(len(right_rows), num_values // width))
    one, other = (np.empty((size, *array.shape[1:]), array.dtype) for array in (left, right))
    for pairs in blocks(len(right_rows), size):
        count = pairs.stop - pairs.start
        _gather(left, left_rows[pairs], one[:count])
        _gather(right, right_rows[pairs], other[:count])
        yield pairs, one[:count].reshape(-1, width), other[:count].reshape(-1, width)


def _gather(array: NDArray[Any], chosen: NDArray[Any], out: NDArray[Any]) -> None:
    if array.flags.c_contiguous:
        array.take(chosen, axis=0, out=out, mode="clip")  # all indices are in range: other modes copy `out` first
    else:
        out[:] = array[chosen]  # where `take` would copy the whole array


def distance_dtype(queries: NDArray[Any], references: NDArray[Any]) -> Any:
    """int64 where both are uint8, else float64."""
    return np.int64 if queries.dtype == references.dtype == np.uint8 else np.float64


def _one_orientation(queries: NDArray[Any], references: NDArray[Any]) -> NDArray[Any]:
    distances = np.empty((len(queries), len(references)), dtype=distance_dtype(queries, references))
    if distances.size == 0:
        return distances
    fill_rows = _fill_integers if distances.dtype == np.int64 else _fill_floats
    fill_rows(distances, queries, references)
    return distances


def _fill_integers(distances: NDArray[Any], queries: NDArray[Any], references: NDArray[Any]) -> None:
    work, transform = 2.0 * distances.size * dimension(queries), IntegerTransform()
    products = integer_products("auto", work=work, width=dimension(queries))
    with start_workers(threads_for(work)) as workers:
        tile = ReferenceTile.of(references, slice(0, len(references)), transform, products)
        prepared, norms = prepare(queries, slice(0, len(queries)), transform)
        products.callers(workers)(
            lambda rows: np.add(tile.keys(prepared[rows]), norms[rows, None], out=distances[rows]), len(queries)
        )


def _fill_floats(distances: NDArray[Any], queries: NDArray[Any], references: NDArray[Any]) -> None:
    left, right = (read_rows(array, slice(0, len(array))) for array in (queries, references))
    with start_workers(threads_for(2.0 * distances.size * dimension(queries))) as workers:
        workers(lambda rows: _fill_directly(distances[rows], left[rows], right), len(left))


def _fill_directly(distances: NDArray[Any], left: NDArray[Any], right: NDArray[Any]) -> None:
    """Direct differences of all pairs, a few columns at a time."""
    num_left = max(1, min(len(left), _SCRATCH_VALUES // left.shape[1], 16))
    num_right = max(1, _SCRATCH_VALUES // (left.shape[1] * num_left))
    for columns in blocks(len(right), num_right):
        block = right[None, columns].astype(np.float64)
        for rows in blocks(len(left), num_left):
            distances[rows, columns] = _direct(left[rows, None], block)


def _direct(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Sums of squared differences over the last axis, whose order depends on its length alone."""
    if one.dtype == other.dtype == np.uint8:
        return _of_bytes(one, other)
    gaps = one.astype(np.float64) - other.astype(np.float64)
    return np.asarray(np.square(gaps, out=gaps).sum(axis=-1))


def _of_bytes(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The same, exact, of uint8 rows."""
    if not installed("numkong"):
        gaps = one.astype(np.int32) - other.astype(np.int32)
        return np.asarray(np.square(gaps, out=gaps).sum(axis=-1, dtype=np.int64))
    import numkong

    total = np.zeros(len(one), dtype=np.int64)
    for columns in blocks(one.shape[1], SLICE):
        left, right = (np.ascontiguousarray(rows[:, columns]) for rows in (one, other))
        total += np.asarray(numkong.sqeuclidean(left, right)).astype(np.int64)
    return total
