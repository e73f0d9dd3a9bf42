"""Sets of uint8 rows that share a code: their nearest others, and which rows of one lie in balls of the other, exact.

Codes a and b bound distances from below (see `quantizers`): rows can be within a radius of each other only if
``step |a - b|`` is at most their reach, the radius and both errors. Where the error of b exceeds the usual one by d,
and x is at least the reach for d = 0, the square of the reach grows by at most ``2 x d + d^2``. So a row a asks for
products ``a.b`` of at least ``(|a|^2 - (reach / step)^2) / 2`` and ``(|b|^2 - (2 x d + d^2) / step^2) / 2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import threads_for
from memgen_eval.compute.products import SLICE, Products
from memgen_eval.compute.resources import CHUNK_ROWS, MIN_BLOCK_ROWS, Workers, blocks, num_threads, start_workers
from memgen_eval.compute.rows import dimension, read_rows
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.fidelity.small_sets import Integers, SmallSet, k_smallest, places_of_smallest
from memgen_eval.neighbours.balls import BallTally, Membership, PairCounts, count_pairs
from memgen_eval.neighbours.candidates import Resources
from memgen_eval.neighbours.distances import row_distances
from memgen_eval.neighbours.quantizers import Codes, ProjectedQuantizer, encode, sample_rows

CODE_DIRECTIONS = 384
FEWEST_VALUES = 3 * CODE_DIRECTIONS  # of a row: below, products of whole rows are as cheap
FEWEST_CODED = 1000
TILE_ROWS = 2048
MOST_NEAR = 1 / 16  # of the pairs of a block: beyond it the product of the rows is cheaper
MARGIN = 1e-9  # covers the rounding of a reach and its square, as in `key_limits`
FARTHEST = 2**29  # beyond all products of codes and half their norms
BYTES_OF_A_PAIR = 16  # of a block, for each of its pairs


@dataclass(frozen=True, eq=False)
class Coded:
    """uint8 rows (M, D) and their codes."""

    rows: NDArray[np.uint8]
    codes: Codes
    quantizer: ProjectedQuantizer

    @staticmethod
    def of(rows: NDArray[Any], resources: Resources) -> Coded | None:
        """Rows (M, ...) with a code that suits them; None where it does not pay."""
        if not FEWEST_VALUES <= dimension(rows) <= SLICE or len(rows) < FEWEST_CODED:
            return None
        if rows.dtype != np.uint8 or not resources.takes_codes_for(rows, rows):
            return None
        products = resources.engine.integers(2.0 * len(rows) ** 2 * CODE_DIRECTIONS, CODE_DIRECTIONS + 1)
        with start_workers(num_threads()) as workers:
            sample = sample_rows(rows, resources.budget)
            quantizer = ProjectedQuantizer.fit(sample, CODE_DIRECTIONS, products, workers)
        return None if quantizer is None else _coded(rows, quantizer)

    def beside(self, rows: NDArray[Any]) -> Coded | None:
        """Other rows (N, ...) with the same code; None for floats."""
        return _coded(rows, self.quantizer) if rows.dtype == np.uint8 else None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def products(self) -> Products:
        """The library that multiplies codes."""
        return self.quantizer.products

    def reach(self, rows: slice, squared_radii: NDArray[Any]) -> NDArray[np.float64]:
        """How far rows of usual errors may be by code, (B,)."""
        return np.asarray(
            np.sqrt(squared_radii.astype(np.float64)) + self.codes.errors[rows] + self.quantizer.usual_error
        )

    def least(self, rows: slice, reach: NDArray[np.float64]) -> NDArray[np.int32]:
        """What products less the half norms of others have to be at least, (B,)."""
        return _floor((self.codes.norms[rows] - np.square(reach / self.quantizer.step) * (1 + MARGIN)) / 2)

    def half_norms(self, rows: slice, farthest: float) -> NDArray[np.int32]:
        """Half the squared norms of codes, less what unusual errors add to a reach of at most `farthest`, (B,)."""
        excess = np.maximum(self.codes.errors[rows] - self.quantizer.usual_error, 0)
        more = (2 * farthest + excess) * excess / self.quantizer.step**2
        return _floor((self.codes.norms[rows] - more * (1 + MARGIN)) / 2)


def _coded(rows: NDArray[Any], quantizer: ProjectedQuantizer) -> Coded:
    matrix = read_rows(rows, slice(0, len(rows)))
    with start_workers(num_threads()) as workers:
        return Coded(matrix, encode(quantizer, matrix, slice(0, len(matrix)), workers), quantizer)


def _floor(values: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.asarray(np.clip(np.floor(values), -FARTHEST, FARTHEST), dtype=np.int32)


def nearest_others(own: Coded, k: int, *, budget: int, ranks: Ranks = ALONE) -> Integers:
    """Squared distances of each row to its K nearest others, nearest first, (M, K), K < M."""
    mine, products = ranks.shard(len(own)), own.products
    packed = products.pack(own.codes.values)
    with start_workers(threads_for(2.0 * len(own) ** 2 * own.quantizer.width)) as workers:
        size = _block_rows(len(own), budget, workers)
        nearest = partial(_nearest, own, packed, k)
        parts = products.callers(workers).map(nearest, blocks(mine.stop, size, start=mine.start))
    return np.asarray(ranks.gather(np.concatenate([np.empty((0, k), dtype=np.int64), *parts])))


def _block_rows(num_columns: int, budget: int, workers: Workers) -> int:
    return max(MIN_BLOCK_ROWS, min(CHUNK_ROWS, budget // (2 * workers.count * BYTES_OF_A_PAIR * num_columns)))


def _nearest(own: Coded, packed: Any, k: int, rows: slice) -> Integers:
    """The K nearest others of a slice of the rows, (B, K): among those that are no farther than the nearest by code."""
    products, everyone = own.products.multiply(own.codes.values[rows], packed), slice(0, len(own))
    themselves = np.arange(len(products)), np.arange(rows.start, rows.stop)
    keys = np.subtract((own.codes.norms >> 1).astype(np.int32), products)
    keys[themselves] = FARTHEST
    row, _, squared = _compared(own, rows, own, everyone, places_of_smallest(keys, k))
    reach = own.reach(rows, k_smallest(row, squared, k)[:, -1])
    np.subtract(products, own.half_norms(everyone, float(reach.max())), out=products)
    products[themselves] = -2 * FARTHEST
    near = np.flatnonzero(products >= own.least(rows, reach)[:, None])
    row, _, squared = _compared(own, rows, own, everyone, near)
    return k_smallest(row, squared, k)


def _compared(
    left: Coded, rows: slice, right: Coded, columns: slice, flat: Integers
) -> tuple[Integers, Integers, Integers]:
    """Places of pairs in a block of left rows and right columns, (S,) and (S,), and their squared distances, (S,)."""
    num_columns = columns.stop - columns.start
    row, column = np.divmod(flat, num_columns)
    if len(flat) <= MOST_NEAR * (rows.stop - rows.start) * num_columns:
        return row, column, row_distances(left.rows, row + rows.start, right.rows, column + columns.start)
    squared = SmallSet.of(left.rows[rows]).squared_to(SmallSet.of(right.rows[columns]), left.products)
    return row, column, squared.ravel()[flat].astype(np.int64)


def coded_memberships(
    queries: Coded,
    query_radii: Integers,
    references: Coded,
    radii: Integers,
    *,
    budget: int,
    ranks: Ranks = ALONE,
) -> tuple[Membership, Membership]:
    """As `memberships` counts them."""
    pairs = _CodedPairs(queries, query_radii, references, radii)
    inside = BallTally(len(queries), len(references), radii.shape[1])
    around = BallTally(len(references), len(queries), query_radii.shape[1])
    own, products = ranks.shard(len(queries)), queries.products
    with start_workers(threads_for(2.0 * len(queries) * len(references) * queries.quantizer.width)) as workers:
        size = _block_rows(TILE_ROWS, budget, workers)
        for tile in blocks(len(references), TILE_ROWS):
            counts = partial(pairs.counts, tile, products.pack(references.codes.values[tile]))
            chunks = list(blocks(own.stop, size, start=own.start))
            for chunk, (first, second) in zip(chunks, products.callers(workers).map(counts, chunks), strict=True):
                inside.add(chunk, tile, first)
                around.add(tile, chunk, second)
    return inside.joined(own, ranks, share_points=True), around.joined(own, ranks, share_points=False)


@dataclass(frozen=True, eq=False)
class _CodedPairs:
    """All pairs of two sets of one code, and the squared radii of both."""

    queries: Coded
    query_radii: Integers
    references: Coded
    radii: Integers

    def counts(self, tile: slice, packed: Any, chunk: slice) -> tuple[PairCounts, PairCounts]:
        """Of a slice of the queries and a tile of the references."""
        products = self.queries.products.multiply(self.queries.codes.values[chunk], packed)
        sides = (self.queries, chunk, self.query_radii), (self.references, tile, self.radii)
        near = np.zeros(products.shape, dtype=bool)
        if self.query_radii.shape[1]:
            near |= _near(products, *sides[0], *sides[1][:2])
        if self.radii.shape[1]:
            near |= _near(products.T, *sides[1], *sides[0][:2]).T
        found = _compared(self.queries, chunk, self.references, tile, np.flatnonzero(near))
        row, column, squared = found
        return count_pairs(row, column, squared, (self.query_radii[chunk][row], self.radii[tile][column]), near.shape)


def _near(
    products: NDArray[np.int32], centres: Coded, rows: slice, radii: Integers, points: Coded, columns: slice
) -> NDArray[np.bool_]:
    """Which points may lie within the largest radius of which centres, given products (B, T)."""
    reach = centres.reach(rows, radii[rows].max(axis=1))
    left = np.subtract(products, points.half_norms(columns, float(reach.max())))
    return np.asarray(left >= centres.least(rows, reach)[:, None])
