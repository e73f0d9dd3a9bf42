"""Which pairs a bound from their codes cannot skip, and the nearest among those, compared exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import Workers
from memgen_eval.neighbours.distances import may_be_within, row_distances
from memgen_eval.neighbours.quantizers import Codes
from memgen_eval.neighbours.topk import TopK, keys_below

PAIR_BYTES = 16
_MOST_PASSING = 0.2  # of the pairs of a chunk with a tile, by the bound of its time
_FARTHEST = 2.0**20  # steps: more than any two codes can be apart
_UNDERFLOW = 1e-300  # times D: more than squares that vanish can take from a float64 sum
_MARGIN = 1e-9
_INT32 = np.iinfo(np.int32)


class TooMany(Exception):
    """The bound lets too many pairs pass: the whole product is cheaper."""


@dataclass(frozen=True)
class CodedTile:
    """References in code, in any order.

    Attributes
    ----------
    indices : rows of the references, int32 or int64, (T,)
    packed : their codes, packed
    half_norms : half the squared norms of the codes, rounded down, int32, (T,)
    error : the largest error of a code
    """

    indices: NDArray[Any]
    packed: Any
    half_norms: NDArray[np.int32]
    error: float


@dataclass(frozen=True)
class Pairs:
    """Pairs of a chunk of queries with references of a tile that passed the bound, (P,) each.

    Attributes
    ----------
    chunk : the queries that are meant
    error : the largest error of a reference of the tile
    queries : rows of the queries, counted from the chunk's first
    references : rows of the references
    keys : of the codes
    """

    chunk: slice
    error: float
    queries: NDArray[np.int32]
    references: NDArray[Any]
    keys: NDArray[np.int32]

    def some(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Those chosen."""
        return Pairs(self.chunk, self.error, self.queries[chosen], self.references[chosen], self.keys[chosen])


Held = list[list[Pairs]]  # by tile, then by chunk of queries
_Compared = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Bound:
    """What is known of the neighbours of some queries.

    Each query has a radius, beyond which no reference is wanted: K are known to lie within. With codes a and b, step s
    and errors e, a pair is skipped if ``s |a - b| > radius + e_q + e_y``, for ``|q - y| >= s |a - b| - e_q - e_y`` (see
    `Quantizer`). In integers: the key ``floor(|b|^2 / 2) - a.b`` is at most ``(|a - b|^2 - |a|^2) / 2``, so the pairs
    with keys up to ``(((radius + e_q + e_y) / s)^2 - |a|^2) / 2`` are looked at, equality included.

    Attributes
    ----------
    queries : (N, D), contiguous
    codes : of the queries
    best : the K nearest of those compared so far
    squared_radii : in the type of the distances, (N,)
    near : codes up to this share of the radius are compared first, (N,)
    """

    queries: NDArray[Any]
    references: NDArray[Any]
    codes: Codes
    step: float
    best: TopK
    squared_radii: NDArray[Any]
    near: NDArray[np.float64]

    @staticmethod
    def start(
        queries: NDArray[Any],
        references: NDArray[Any],
        codes: Codes,
        step: float,
        best: TopK,
        squared_radii: NDArray[Any] | None = None,
    ) -> Bound:
        """Nothing is known yet, but for radii beyond which no reference is wanted, where these are given."""
        radii = (best.keys[:, -1] if squared_radii is None else squared_radii).copy()
        return Bound(queries, references, codes, step, best, radii, np.ones(len(queries)))

    def seed(self, nearest: TopK, indices: NDArray[Any], workers: Workers) -> None:
        """First radii: the largest distance of the K references of these that are nearest by code."""
        k = nearest.keys.shape[1]

        def compare(start: int, stop: int) -> None:
            mine = slice(start, stop)
            row = np.repeat(np.arange(start, stop), k)
            found = row_distances(self.queries, row, self.references, indices[nearest.indices[mine].ravel()])
            self.squared_radii[mine] = found.reshape(-1, k).max(axis=1)
            farthest = self.step * np.sqrt(np.maximum(2.0 * nearest.keys[mine, -1] + 1 + self.codes.norms[mine], 0))
            self.near[mine] = np.minimum(farthest / self._radii(mine), 1)

        workers(compare, len(self.queries))

    def passing(self, start: int, keys: NDArray[np.int32], tile: CodedTile) -> Pairs:
        """Pairs of queries from `start` on with a tile that pass, of their keys (B, T)."""
        chunk = slice(start, start + len(keys))
        limits = self._limits(chunk, tile.error)
        row, column, key = keys_below(keys, limits + np.int32(1))
        if len(row) > _MOST_PASSING * keys.size:
            raise TooMany
        return Pairs(chunk, tile.error, row.astype(np.int32), tile.indices[column], key)

    def narrow(self, held: Held, workers: Workers, *, most: float) -> tuple[int, Held]:
        """Compare those that are near by code, at most `most`; their number, and which of the others still pass."""
        near, rest = _split(held, self._is_near, workers)
        compared = self.compare(near, workers, most=most)
        return compared, _split(rest, self._passes, workers)[0]

    def compare(self, held: Held, workers: Workers, *, most: float) -> int:
        """Exact distances of all, at most `most`, and narrower radii; gives their number."""
        if num_pairs(held) > most:
            raise TooMany
        found: dict[int, list[_Compared]] = defaultdict(list)  # by chunk
        for parts in held:  # by tile, whose rows are then in the cache

            def measure(start: int, stop: int, parts: list[Pairs] = parts) -> None:
                for pairs in parts[start:stop]:
                    found[pairs.chunk.start].append(self._within(pairs))

            workers(measure, len(parts))
        chunks = list(found.values())

        def take(start: int, stop: int) -> None:
            for compared in chunks[start:stop]:
                rows, indices, distances = (np.concatenate(part) for part in zip(*compared, strict=True))
                touched = self.best.admit(rows, distances, indices)
                self.squared_radii[touched] = np.minimum(self.squared_radii[touched], self.best.keys[touched, -1])

        workers(take, len(chunks))
        return num_pairs(held)

    def _within(self, pairs: Pairs) -> _Compared:
        """Rows of queries, rows of references and distances of the pairs that are within the radius."""
        rows, indices = pairs.queries + pairs.chunk.start, pairs.references
        passing = may_be_within(self.queries, rows, self.references, indices, np.square(self._radii(rows)))
        rows, indices = rows[passing], indices[passing]
        distances = row_distances(self.queries, rows, self.references, indices)
        within = distances <= self.squared_radii[rows]
        return rows[within], indices[within], distances[within]

    def _is_near(self, pairs: Pairs) -> NDArray[np.bool_]:
        reach = self._radii(pairs.chunk) * self.near[pairs.chunk]
        limits = key_limits(reach, self.step, self.codes.norms[pairs.chunk])
        return np.asarray(pairs.keys <= limits[pairs.queries])

    def _passes(self, pairs: Pairs) -> NDArray[np.bool_]:
        return np.asarray(pairs.keys <= self._limits(pairs.chunk, pairs.error)[pairs.queries])

    def _limits(self, mine: slice, error: float) -> NDArray[np.int32]:
        reach = self._radii(mine) + self.codes.errors[mine] + error
        return key_limits(reach, self.step, self.codes.norms[mine])

    def _radii(self, mine: Any) -> NDArray[np.float64]:
        """Distances beyond which no reference is wanted, up to rounding."""
        return np.asarray(np.sqrt(self.squared_radii[mine].astype(np.float64) + self.queries.shape[1] * _UNDERFLOW))


def key_limits(reach: NDArray[np.float64], step: float, norms: NDArray[np.int64]) -> NDArray[np.int32]:
    """The largest keys of pairs whose codes are at most `reach` apart, rounded up.

    The margin covers the rounding of the limits, and of a reach that stems from a float64 sum of at most 2^15 squares.
    """
    steps = np.minimum(reach, _FARTHEST * step) / step
    limits = (np.square(steps) * (1 + _MARGIN) - norms) / 2
    return np.clip(np.floor(limits), _INT32.min, _INT32.max - 1).astype(np.int32)


def num_pairs(held: Held) -> int:
    """How many pairs are held."""
    return sum(len(part.keys) for parts in held for part in parts)


def _split(held: Held, choose: Callable[[Pairs], NDArray[np.bool_]], workers: Workers) -> tuple[Held, Held]:
    """The pairs chosen, and the others."""
    chosen: Held = [list(parts) for parts in held]
    others: Held = [list(parts) for parts in held]
    places = [(tile, part) for tile, parts in enumerate(held) for part in range(len(parts))]

    def split(start: int, stop: int) -> None:
        for tile, part in places[start:stop]:
            mask = choose(held[tile][part])
            chosen[tile][part], others[tile][part] = held[tile][part].some(mask), held[tile][part].some(~mask)

    workers(split, len(places))
    return chosen, others
