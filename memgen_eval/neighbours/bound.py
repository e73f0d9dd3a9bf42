"""Which pairs a bound from their codes cannot skip, and the nearest among those, compared exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.products import Products
from memgen_eval.compute.resources import Workers
from memgen_eval.neighbours.distances import distance_dtype, may_be_within, row_distances
from memgen_eval.neighbours.quantizers import Quantizer, encode
from memgen_eval.neighbours.topk import TopK, keys_below

PAIR_BYTES = 16
_BLOCK_ROWS = 4096  # queries whose codes are multiplied with a tile at once
_MOST_COMPARED = 0.015  # of all pairs: beyond it the whole product is cheaper
_MOST_PASSING = 0.2  # of the pairs of a chunk of queries with a tile, by the radii of that moment
_FARTHEST = 2.0**20  # steps: more than the distance of any two codes
_UNDERFLOW = 1e-300  # times D: more than a float64 sum loses where squares vanish
_MARGIN = 1e-9
_INT32 = np.iinfo(np.int32)


class TooManyPairsError(Exception):
    """The bound lets too many pairs pass: the whole product is cheaper."""


@dataclass(frozen=True, eq=False)
class CodedTile:
    """References as codes, in any order.

    Attributes
    ----------
    indices : rows of the references, int32 or int64, (T,)
    packed : their codes, packed by `products`
    half_norms : half the squared norms of the codes, rounded down, int32, (T,)
    error : the largest error of a code
    """

    indices: NDArray[Any]
    packed: Any
    half_norms: NDArray[np.int32]
    error: float
    products: Products

    def keys(self, codes: NDArray[np.int8]) -> NDArray[np.int32]:
        """Keys ``floor(|b|^2 / 2) - a.b`` of codes a (B, P) of queries, (B, T)."""
        products = self.products.multiply(codes, self.packed)
        return np.asarray(np.subtract(self.half_norms, products, out=products))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a chunk of queries with references of a tile that passed the bound, (P,) each.

    Attributes
    ----------
    chunk : rows of the queries
    error : the largest error of a reference of the tile
    queries : rows counted from the first of the chunk
    references : rows of the references
    keys : keys of the codes
    """

    chunk: slice
    error: float
    queries: NDArray[np.int32]
    references: NDArray[Any]
    keys: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The pairs of a mask."""
        return Pairs(self.chunk, self.error, self.queries[chosen], self.references[chosen], self.keys[chosen])


_Compared = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


class Bound:
    """What is known of the neighbours of some queries, and the pairs that are still to be compared.

    Each query has a radius, within which K references are known to lie, so that no reference beyond it is wanted. With
    codes a and b, step s and errors e, a pair is skipped if ``s |a - b| > radius + e_q + e_y``, for
    ``|q - y| >= s |a - b| - e_q - e_y`` (see `quantizers`). In integers: the key ``floor(|b|^2 / 2) - a.b`` is at most
    ``(|a - b|^2 - |a|^2) / 2``, so the pairs with keys up to ``(((radius + e_q + e_y) / s)^2 - |a|^2) / 2`` are looked
    at, equality included.

    Attributes
    ----------
    best : TopK
        The K nearest references of those compared so far.
    squared_radii : in the type of the distances, (N,)
    near : float64, (N,)
        The fraction of the radius up to which pairs are compared first, by the distance of their codes.
    pending : list of Pairs
        Pairs that passed the bound and have not been compared.
    num_compared : int
    """

    def __init__(
        self, queries: NDArray[Any], references: NDArray[Any], k: int, quantizer: Quantizer, workers: Workers
    ) -> None:
        """Nothing is known yet of queries (N, D), contiguous."""
        self.queries, self.references, self.workers = queries, references, workers
        self.codes, self.step = encode(quantizer, queries, slice(0, len(queries)), workers), quantizer.step
        self.best = TopK(len(queries), k, distance_dtype(queries, references))
        self.squared_radii = self.best.keys[:, -1].copy()
        self.near = np.ones(len(queries))
        self.pending: list[Pairs] = []
        self.num_compared = 0

    def set_initial_radii(self, tiles: list[CodedTile]) -> None:
        """The radius of a query: the largest distance of the K references in these tiles that are nearest by code."""
        k = self.best.keys.shape[1]
        nearest, first = TopK(len(self.queries), k, np.int32), 0  # its indices count the references of the tiles
        for tile in tiles:
            self._for_queries(tile, partial(self._update_nearest, nearest, tile, first))
            first += len(tile.indices)
        indices = np.concatenate([tile.indices for tile in tiles])

        def compare(rows: slice) -> None:
            row, index = np.repeat(np.arange(rows.start, rows.stop), k), indices[nearest.indices[rows].ravel()]
            self.squared_radii[rows] = self._distances(row, index).reshape(-1, k).max(axis=1)
            farthest = self.step * np.sqrt(np.maximum(2.0 * nearest.keys[rows, -1] + 1 + self.codes.norms[rows], 0))
            self.near[rows] = np.minimum(farthest / self._radii(rows), 1)

        self.workers(compare, len(self.queries))

    def add(self, tile: CodedTile) -> None:
        """Add the pairs of all queries with a tile that pass the bound to the pending ones."""
        self._for_queries(tile, partial(self._add_passing, tile))

    def passing(self, tile: CodedTile, rows: slice) -> Pairs:
        """Pairs of a slice of the queries with a tile that pass the bound."""
        keys = tile.keys(self.codes.values[rows])
        row, column, key = keys_below(keys, self._limits(rows, tile.error) + np.int32(1))
        if len(row) > _MOST_PASSING * keys.size:
            raise TooManyPairsError
        return Pairs(rows, tile.error, row.astype(np.int32), tile.indices[column], key)

    @property
    def num_pending(self) -> int:
        """The number of pending pairs."""
        return sum(map(len, self.pending))

    def compare_near(self) -> None:
        """Compare the pairs that are near by code; the others stay pending if they pass the narrower radii."""
        halves = self.workers.map(self._split, self.pending)
        self.compare([near for near, _ in halves])
        self.pending = self.workers.map(self._still_passing, [far for _, far in halves])

    def compare_pending(self) -> None:
        """Compare all pending pairs."""
        self.compare(self.pending)
        self.pending = []

    def compare(self, pairs: list[Pairs]) -> None:
        """Enter the exact distances of pairs into the best so far, and narrow the radii."""
        self.num_compared += sum(map(len, pairs))
        if self.num_compared > _MOST_COMPARED * len(self.queries) * len(self.references):
            raise TooManyPairsError
        compared: dict[int, list[_Compared]] = defaultdict(list)  # by chunk of queries
        for part, found in zip(pairs, self.workers.map(self._within, pairs), strict=True):
            compared[part.chunk.start].append(found)
        self.workers.map(self._admit, compared.values())

    def _for_queries(self, tile: CodedTile, task: Callable[[slice], None]) -> None:
        tile.products.callers(self.workers)(task, len(self.queries), block_rows=_BLOCK_ROWS)

    def _update_nearest(self, nearest: TopK, tile: CodedTile, first: int, rows: slice) -> None:
        nearest.update(rows, tile.keys(self.codes.values[rows]), first)

    def _add_passing(self, tile: CodedTile, rows: slice) -> None:
        pairs = self.passing(tile, rows)
        if len(pairs):
            self.pending.append(pairs)

    def _split(self, pairs: Pairs) -> tuple[Pairs, Pairs]:
        """The pairs that are near by code, and the others."""
        reach = self._radii(pairs.chunk) * self.near[pairs.chunk]
        near = pairs.keys <= key_limits(reach, self.step, self.codes.norms[pairs.chunk])[pairs.queries]
        return pairs[near], pairs[~near]

    def _still_passing(self, pairs: Pairs) -> Pairs:
        return pairs[pairs.keys <= self._limits(pairs.chunk, pairs.error)[pairs.queries]]

    def _within(self, pairs: Pairs) -> _Compared:
        """Rows of queries, rows of references and distances of the pairs that are within the radius."""
        rows, indices = pairs.queries + pairs.chunk.start, pairs.references
        passing = may_be_within(self.queries, rows, self.references, indices, np.square(self._radii(rows)))
        rows, indices = rows[passing], indices[passing]
        distances = self._distances(rows, indices)
        within = distances <= self.squared_radii[rows]
        return rows[within], indices[within], distances[within]

    def _admit(self, compared: list[_Compared]) -> None:
        """Enter the distances of a chunk of queries into the best so far, and narrow their radii."""
        rows, indices, distances = (np.concatenate(part) for part in zip(*compared, strict=True))
        touched = self.best.admit(rows, distances, indices)
        self.squared_radii[touched] = np.minimum(self.squared_radii[touched], self.best.keys[touched, -1])

    def _distances(self, rows: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
        return row_distances(self.queries, rows, self.references, indices)

    def _limits(self, rows: slice, error: float) -> NDArray[np.int32]:
        """The largest keys of pairs that pass, (B,)."""
        reach = self._radii(rows) + self.codes.errors[rows] + error
        return key_limits(reach, self.step, self.codes.norms[rows])

    def _radii(self, rows: Any) -> NDArray[np.float64]:
        """Distances beyond which no reference is wanted, up to rounding."""
        return np.asarray(np.sqrt(self.squared_radii[rows].astype(np.float64) + self.queries.shape[1] * _UNDERFLOW))


def key_limits(reach: NDArray[np.float64], step: float, norms: NDArray[np.int64]) -> NDArray[np.int32]:
    """The largest keys of pairs whose codes are at most `reach` apart, rounded up.

    The margin covers the rounding of the limits, and of a reach that stems from a float64 sum of at most 2^15 squares.
    """
    steps = np.minimum(reach, _FARTHEST * step) / step
    limits = (np.square(steps) * (1 + _MARGIN) - norms) / 2
    return np.clip(np.floor(limits), _INT32.min, _INT32.max - 1).astype(np.int32)
