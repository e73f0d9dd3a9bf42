"""The K nearest references by codes, exact: a bound skips most pairs, the others are compared."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import integer_products
from memgen_eval.compute.products import Products, for_products
from memgen_eval.compute.resources import CHUNK_ROWS, Workers, num_threads, start_workers
from memgen_eval.compute.rows import as_array, dimension, rows
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.neighbours.bound import PAIR_BYTES, Bound, CodedTile, Pairs, TooMany, num_pairs
from memgen_eval.neighbours.distances import distance_dtype
from memgen_eval.neighbours.quantizers import (
    Codes,
    Kind,
    ProjectedQuantizer,
    Quantizer,
    ScalarQuantizer,
    encode,
    kind_of_code,
    sample,
)
from memgen_eval.neighbours.topk import TopK

_MOST_TILE_ROWS = 4096
_FEWEST_TILE_ROWS = 256
_TILE_BYTES = 12 * 2**20
_BLOCK_ROWS = 4096
_SEED_SHARE = 0.25  # of the references, from which the first radii come
_MOST_SEEDS = 2**16
_MOST_COMPARED = 0.015  # of all pairs: beyond it the whole product is cheaper
_logger = logging.getLogger("memgen_eval.neighbours")
_USUAL = 1.1  # times the usual error: references with larger ones make tiles of their own
_TILE_VALUES = 16  # bytes of a reference in a tile, its code apart
_Key = tuple[type[ProjectedQuantizer] | type[ScalarQuantizer], str]


@dataclass(frozen=True)
class _Plan:
    """How much is held at once: references of a tile and of the tiles that seed, queries, pairs that passed."""

    tile_rows: int
    num_seeds: int
    resident_rows: int
    num_pairs: int

    @staticmethod
    def within(budget: int, width: int, queries: NDArray[Any], k: int) -> _Plan | None:
        """A plan for codes of this width, None where the budget is too small for one worth it."""
        tile_rows = min(_MOST_TILE_ROWS, _TILE_BYTES // width, budget // 64 // max(width, CHUNK_ROWS))
        query_bytes = dimension(queries) * queries.itemsize + width + 96 * k
        resident_rows = min(len(queries), budget // 4 // query_bytes)
        if tile_rows < _FEWEST_TILE_ROWS or resident_rows < min(len(queries), _FEWEST_TILE_ROWS):
            return None
        return _Plan(tile_rows, min(_MOST_SEEDS, budget // 8 // width), resident_rows, budget // 8 // PAIR_BYTES)


def nearest_by_codes(
    queries: NDArray[Any],
    references: References,
    k: int,
    *,
    engine: str,
    budget: int,
    within: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """Squared distances and indices of the K nearest references, exact and in order; None where codes do not pay.

    Where `within` (N,) is given, only references of at most this squared distance are looked for: rows with fewer than
    K end in (largest, -1).
    """
    means = _means(queries, references, k, engine=engine, budget=budget)
    if means is None:
        return None
    kind, plan, products = means
    squared = np.empty((len(queries), k), dtype=distance_dtype(queries, references.rows))
    indices = np.empty(squared.shape, dtype=np.int64)
    with start_workers(num_threads()) as workers:
        coded = references.coded(kind, products, plan.tile_rows, budget, workers)
        if coded is None:
            return None
        for start in range(0, len(queries), plan.resident_rows):
            mine = slice(start, min(start + plan.resident_rows, len(queries)))
            some = rows(queries, mine.start, mine.stop)
            limits = None if within is None else within[mine]
            try:
                best = _search(some, references.rows, k, coded, products, plan, workers, limits)
            except TooMany:
                _logger.debug("codes let too many pairs pass: the whole product is taken")
                return None
            squared[mine], indices[mine] = best.keys, best.indices
    return squared, indices


def code_together(queries: NDArray[Any], references: References, k: int, *, budget: int, ranks: Ranks) -> None:
    """Let all ranks code the references for a search of these queries that they share; all have to call it."""
    means = _means(queries, references, k, engine="auto", budget=budget)
    if means is not None:
        kind, plan, products = means
        with start_workers(num_threads()) as workers:
            references.coded(kind, products, plan.tile_rows, budget, workers, ranks)


def _means(
    queries: NDArray[Any], references: References, k: int, *, engine: str, budget: int
) -> tuple[Kind, _Plan, Products] | None:
    """What a search of this shape is made with; None where codes would not pay or not fit."""
    kind = kind_of_code(queries, references.rows, k)
    plan = None if kind is None else _Plan.within(budget, kind.width, queries, k)
    if kind is None or plan is None:
        return None
    work = 2.0 * len(queries) * len(references.rows) * kind.width
    return kind, plan, integer_products(engine, work=work, width=kind.width)


def _search(
    queries: NDArray[Any],
    references: NDArray[Any],
    k: int,
    coded: Coded,
    products: Products,
    plan: _Plan,
    workers: Workers,
    within: NDArray[Any] | None,
) -> TopK:
    """The K nearest references of queries (N, D); `TooMany` if the bound skips too few pairs."""
    codes = encode(coded.quantizer, queries, 0, len(queries), workers)
    best = TopK.empty(len(queries), k, distance_dtype(queries, references))
    bound = Bound.start(queries, references, codes, coded.quantizer.step, best, within)
    tiles, seeds = coded.read(references, products, plan.tile_rows, workers), []
    if within is None:
        seeds = list(_at_least(max(k, min(plan.num_seeds, int(_SEED_SHARE * len(references)))), tiles))
        which = np.concatenate([tile.indices for tile in seeds])
        bound.seed(_nearest_by_code(codes, seeds, k, products, workers), which, workers)
    most = _MOST_COMPARED * len(queries) * len(references)
    compared, held = 0, []
    for tile in itertools.chain(seeds, tiles):
        held.append(_passing(bound, codes, tile, products, workers))
        if num_pairs(held) > plan.num_pairs:
            number, held = bound.narrow(held, workers, most=most - compared)
            compared += number
            if num_pairs(held) > plan.num_pairs // 2:
                compared += bound.compare(held, workers, most=most - compared)
                held = []
    number, held = bound.narrow(held, workers, most=most - compared)
    compared += number + bound.compare(held, workers, most=most - compared - number)
    left = compared / len(queries) / len(references)
    _logger.debug("codes of %d values left %.2g of the pairs", coded.quantizer.width, left)
    return best


def _at_least(num_references: int, tiles: Iterator[CodedTile]) -> Iterator[CodedTile]:
    while num_references > 0:
        tile = next(tiles)
        num_references -= len(tile.indices)
        yield tile


def _nearest_by_code(codes: Codes, tiles: list[CodedTile], k: int, products: Products, workers: Workers) -> TopK:
    """The K nearest by code; indices count the references of these tiles."""
    nearest = TopK.empty(len(codes.values), k, np.int32)
    first = 0
    for tile in tiles:

        def update(start: int, keys: NDArray[Any], first: int = first) -> None:
            nearest.update(start, keys, first)

        _for_keys(codes, tile, products, workers, update)
        first += len(tile.indices)
    return nearest


def _passing(bound: Bound, codes: Codes, tile: CodedTile, products: Products, workers: Workers) -> list[Pairs]:
    """Pairs of all queries with a tile that pass the bound, by chunks of queries."""
    parts: list[Pairs] = []
    _for_keys(codes, tile, products, workers, lambda start, keys: parts.append(bound.passing(start, keys, tile)))
    return [part for part in parts if len(part.keys)]


def _for_keys(
    codes: Codes, tile: CodedTile, products: Products, workers: Workers, consume: Callable[[int, NDArray[Any]], None]
) -> None:
    """Call ``consume(start, keys)`` for chunks of rows of the keys ``floor(|b|^2 / 2) - a.b`` of codes with a tile."""
    for first in range(0, len(codes.values), _BLOCK_ROWS):

        def turn(start: int, found: NDArray[Any], first: int = first) -> None:
            consume(first + start, np.subtract(tile.half_norms, found, out=found))

        for_products(products, workers, codes.values[first : first + _BLOCK_ROWS], [tile.packed], turn)


@dataclass(frozen=True, eq=False)
class Coded:
    """A quantizer of some kind, and all tiles of the references; None where they do not fit: a pass then makes them."""

    kind: Kind
    quantizer: Quantizer
    tiles: list[CodedTile] | None

    def read(
        self, references: NDArray[Any], products: Products, tile_rows: int, workers: Workers
    ) -> Iterator[CodedTile]:
        """All references, tile by tile."""
        if self.tiles is not None:
            yield from self.tiles
            return
        starts = range(0, len(references), tile_rows)
        blocks = (encode(self.quantizer, references, i, min(i + tile_rows, len(references)), workers) for i in starts)
        yield from _tiles(blocks, len(references), self.quantizer, products, tile_rows)


@dataclass(frozen=True, eq=False)
class References:
    """Rows to search among more than once: the codes that one search makes of them serve the next ones too.

    Attributes
    ----------
    rows : uint8 or float, (M, ...)
    """

    rows: NDArray[Any]
    _kept: dict[_Key, Coded] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def of(references: Any) -> References:
        """Those given, or a new one around an array (M, ...) or tensor."""
        return references if isinstance(references, References) else References(as_array(references, "references"))

    def coded(
        self, kind: Kind, products: Products, tile_rows: int, budget: int, workers: Workers, ranks: Ranks = ALONE
    ) -> Coded | None:
        """Codes of this kind, or of a wider one, kept before or made now; None where all rows are the same.

        If several ranks call it, all have to: the first fits, and each codes its part of the rows, where all can be
        kept.
        """
        key = kind.quantizer, products.name
        kept = self._kept.get(key)
        missing = kept is None or kept.kind.width < kind.width
        if not any(ranks.exchange("codes", missing)):
            return kept
        fitted = kind.fit(sample(self.rows, budget), products, workers) if ranks.rank == 0 else None
        quantizer = ranks.exchange("a quantizer", None if fitted is None else fitted.on(products))[0]
        if quantizer is None:
            return None
        quantizer = quantizer.on(products)
        row_bytes = products.value_bytes * quantizer.width + _TILE_VALUES
        tiles = None
        if all(ranks.exchange("room for codes", len(self.rows) * row_bytes <= budget // 8)):
            tiles = list(self._all_tiles(quantizer, products, tile_rows, workers, ranks))
        self._kept[key] = Coded(kind, quantizer, tiles)
        return self._kept[key]

    def _all_tiles(
        self, quantizer: Quantizer, products: Products, tile_rows: int, workers: Workers, ranks: Ranks
    ) -> Iterator[CodedTile]:
        mine, count = ranks.share(len(self.rows)), len(self.rows)
        part = encode(quantizer, self.rows, mine.start, mine.stop, workers)
        codes = Codes(*(ranks.gather(array) for array in (part.values, part.norms, part.errors)))
        blocks = (codes[first : first + tile_rows] for first in range(0, count, tile_rows))
        yield from _tiles(blocks, count, quantizer, products, tile_rows)


def _tiles(
    blocks: Iterable[Codes], count: int, quantizer: Quantizer, products: Products, tile_rows: int
) -> Iterator[CodedTile]:
    """Tiles of codes that come block by block, of `count` references; those with unusual errors are put together."""
    dtype = np.int32 if count < 2**31 else np.int64
    apart: list[tuple[NDArray[Any], Codes]] = []
    first = 0
    for codes in blocks:
        indices = np.arange(first, first + len(codes.errors), dtype=dtype)
        usual = codes.errors <= _USUAL * quantizer.usual_error
        yield from _tile([(indices[usual], codes[usual])], products)
        apart.append((indices[~usual], codes[~usual]))
        first += len(usual)
        if sum(len(some) for some, _ in apart) >= tile_rows:
            yield from _tile(apart, products)
            apart = []
    yield from _tile(apart, products)


def _tile(parts: list[tuple[NDArray[Any], Codes]], products: Products) -> Iterator[CodedTile]:
    """One tile of all these rows and their codes, none where there are no rows."""
    if not sum(len(indices) for indices, _ in parts):
        return
    codes = Codes.joined([codes for _, codes in parts])
    packed, half_norms = products.pack(codes.values), (codes.norms >> 1).astype(np.int32)
    yield CodedTile(np.concatenate([indices for indices, _ in parts]), packed, half_norms, float(codes.errors.max()))
