"""The K nearest references by codes, exact: a bound skips most pairs, the others are compared."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.kept import checksum_of
from memgen_eval.compute.products import PRODUCTS, Products
from memgen_eval.compute.resources import CHUNK_ROWS, TILE_BYTES, Workers, blocks, num_threads, start_workers
from memgen_eval.compute.rows import as_array, dimension, read_rows
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.neighbours.bound import PAIR_BYTES, Bound, CodedTile, TooManyPairsError
from memgen_eval.neighbours.candidates import Resources
from memgen_eval.neighbours.distances import distance_dtype
from memgen_eval.neighbours.quantizers import (
    CodeKind,
    Codes,
    Quantizer,
    are_few,
    encode,
    kind_of_code,
    sample_rows,
)
from memgen_eval.neighbours.topk import TopK

_MOST_TILE_ROWS = 4096
_FEWEST_TILE_ROWS = 256
_INITIAL_FRACTION = 0.12  # of the references: the first radii come from these
_MOST_INITIAL = 2**16
_USUAL = 1.1  # times the usual error: references with larger ones are put into tiles of their own
_TILE_VALUES = 16  # bytes of a reference in a tile beside its code
_logger = logging.getLogger("memgen_eval.neighbours")


@dataclass(frozen=True)
class PruningPlan:
    """How a search by codes is made.

    Attributes
    ----------
    kind : the code
    products : the library that multiplies codes
    budget : bytes
    tile_rows : references of a tile
    num_initial : references that the first radii come from
    resident_rows : queries that are searched for at once
    num_pairs : pairs that may be pending
    """

    kind: CodeKind
    products: Products
    budget: int
    tile_rows: int
    num_initial: int
    resident_rows: int
    num_pairs: int

    def fits(self, num_references: int, width: int) -> bool:
        """Whether the codes of this number of references may be kept."""
        return num_references * (self.products.value_bytes * width + _TILE_VALUES) <= self.budget // 8


def plan_search(
    queries: NDArray[Any], references: NDArray[Any], k: int, resources: Resources, *, limited: bool = False
) -> PruningPlan | None:
    """How to search, `limited` as for `kind_of_code`; None where codes would not pay, or not fit."""
    kind = kind_of_code(queries, references, k, limited=limited)
    if kind is None:
        return None
    products = resources.engine.integers(2.0 * len(queries) * len(references) * kind.width, kind.width)
    return _plan(kind, products, queries, references, k, resources.budget)


def _plan(
    kind: CodeKind, products: Products, queries: NDArray[Any], references: NDArray[Any], k: int, budget: int
) -> PruningPlan | None:
    """How to search with these codes; None where they do not fit."""
    num_queries = len(queries)
    tile_rows = min(_MOST_TILE_ROWS, TILE_BYTES // kind.width, budget // 64 // max(kind.width, CHUNK_ROWS))
    query_bytes = dimension(queries) * queries.itemsize + kind.width + 96 * k
    resident_rows = min(num_queries, budget // 4 // query_bytes)
    if tile_rows < _FEWEST_TILE_ROWS or resident_rows < min(num_queries, _FEWEST_TILE_ROWS):
        return None
    most_initial = min(_MOST_INITIAL, budget // 8 // kind.width, int(_INITIAL_FRACTION * len(references)))
    num_pairs = budget // 8 // PAIR_BYTES
    return PruningPlan(kind, products, budget, tile_rows, max(k, most_initial), resident_rows, num_pairs)


def nearest_by_codes(
    queries: NDArray[Any], references: References, k: int, resources: Resources, within: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """Squared distances and indices of the K nearest references, exact and in order; None where codes do not pay.

    Where `within` (N,) is given, only references of at most this squared distance are looked for: rows with fewer than
    K end in (largest, -1).
    """
    plan = plan_search(queries, references.rows, k, resources, limited=within is not None)
    plan = plan or references.plan_with_kept(queries, k, resources)
    if plan is None:
        return None
    squared = np.empty((len(queries), k), dtype=distance_dtype(queries, references.rows))
    indices = np.empty(squared.shape, dtype=np.int64)
    with start_workers(num_threads()) as workers:
        coded = references.kept(plan) or references.code(plan, workers)
        if coded is None:
            return None
        for rows in blocks(len(queries), plan.resident_rows):
            bound = Bound(read_rows(queries, rows), references.rows, k, coded.quantizer, workers)
            try:
                best = _search(bound, coded.read(plan, workers), plan, None if within is None else within[rows])
            except TooManyPairsError:
                _logger.debug("codes let too many pairs pass: the whole product is taken")
                return None
            squared[rows], indices[rows] = best.keys, best.indices
    return squared, indices


def _search(bound: Bound, tiles: Iterator[CodedTile], plan: PruningPlan, within: NDArray[Any] | None) -> TopK:
    """The K nearest references of all tiles; raises TooManyPairsError if the bound skips too few pairs."""
    initial: list[CodedTile] = []
    if within is None:
        initial = list(_at_least(plan.num_initial, tiles))
        bound.set_initial_radii(initial)
    else:
        bound.squared_radii[:] = within
    for tile in itertools.chain(initial, tiles):
        bound.add(tile)
        if bound.num_pending > plan.num_pairs:
            bound.compare_near()
            if bound.num_pending > plan.num_pairs // 2:
                bound.compare_pending()
    bound.compare_near()
    bound.compare_pending()
    left = bound.num_compared / len(bound.queries) / len(bound.references)
    _logger.debug("codes of %d values left %.2g of the pairs", bound.codes.values.shape[1], left)
    return bound.best


def _at_least(num_references: int, tiles: Iterator[CodedTile]) -> Iterator[CodedTile]:
    while num_references > 0:
        tile = next(tiles)
        num_references -= len(tile.indices)
        yield tile


@dataclass(frozen=True, eq=False)
class CodedReferences:
    """References (M, ...) as codes.

    Attributes
    ----------
    kind : what the quantizer was fitted for
    tiles : all references; None where they do not fit, so that each search makes them anew
    """

    rows: NDArray[Any]
    kind: CodeKind
    quantizer: Quantizer
    tiles: list[CodedTile] | None = None

    def read(self, plan: PruningPlan, workers: Workers) -> Iterator[CodedTile]:
        """All references, tile by tile."""
        if self.tiles is not None:
            return iter(self.tiles)
        parts = (encode(self.quantizer, self.rows, rows, workers) for rows in blocks(len(self.rows), plan.tile_rows))
        return self.make_tiles(parts, plan)

    def make_tiles(self, parts: Iterable[Codes], plan: PruningPlan) -> Iterator[CodedTile]:
        """Tiles of codes that come part by part; references with unusual errors are put together."""
        dtype = np.int32 if len(self.rows) < 2**31 else np.int64
        unusual: list[tuple[NDArray[Any], Codes]] = []
        first = 0
        for codes in parts:
            indices = np.arange(first, first + len(codes.errors), dtype=dtype)
            usual = codes.errors <= _USUAL * self.quantizer.usual_error
            yield from _tile([(indices[usual], codes[usual])], plan.products)
            unusual.append((indices[~usual], codes[~usual]))
            first += len(usual)
            if sum(len(indices) for indices, _ in unusual) >= plan.tile_rows:
                yield from _tile(unusual, plan.products)
                unusual = []
        yield from _tile(unusual, plan.products)


def _tile(parts: list[tuple[NDArray[Any], Codes]], products: Products) -> Iterator[CodedTile]:
    """One tile of all these rows and their codes; none where there are no rows."""
    if any(len(indices) for indices, _ in parts):
        indices, codes = np.concatenate([indices for indices, _ in parts]), Codes.joined([codes for _, codes in parts])
        half_norms = (codes.norms >> 1).astype(np.int32)
        yield CodedTile(indices, products.pack(codes.values), half_norms, float(codes.errors.max()), products)


@dataclass(eq=False)
class References:
    """Rows to search among more than once: the codes that one search makes of them serve the next ones too.

    Attributes
    ----------
    rows : uint8 or float, (M, ...)
    """

    rows: NDArray[Any]
    _kept: dict[tuple[bool, str], CodedReferences] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def of(references: Any) -> References:
        """The references given, or new ones around an array (M, ...) or tensor."""
        return references if isinstance(references, References) else References(as_array(references, "references"))

    @cached_property
    def checksum(self) -> str:
        """A checksum of all rows."""
        return checksum_of(self.rows)

    def kept(self, plan: PruningPlan) -> CodedReferences | None:
        """Codes of the planned kind, or of a wider one, that were made before."""
        coded = self._kept.get(_key(plan))
        return coded if coded is not None and coded.kind.width >= plan.kind.width else None

    def plan_with_kept(self, queries: NDArray[Any], k: int, resources: Resources) -> PruningPlan | None:
        """How to search with codes that were made before, where making them would not pay; None without such codes."""
        library, exact = resources.engine.library, distance_dtype(queries, self.rows) == np.int64
        if not are_few(k, self.rows):
            return None
        for (whole, name), coded in list(self._kept.items()):  # other threads may add to it
            if whole != exact and library in ("auto", name) and coded.tiles is not None:
                return _plan(coded.kind, PRODUCTS[name], queries, self.rows, k, resources.budget)
        return None

    def code(self, plan: PruningPlan, workers: Workers, ranks: Ranks = ALONE) -> CodedReferences | None:
        """Fit a quantizer, code all rows if the codes fit, and keep them; None where all rows are the same.

        All ranks have to call it: the first fits, and each codes its part of the rows.
        """
        fitted = plan.kind.fit(sample_rows(self.rows, plan.budget), plan.products, workers) if ranks.rank == 0 else None
        quantizer = ranks.exchange("a quantizer", fitted)[0]
        if quantizer is None:
            return None
        coded = CodedReferences(self.rows, plan.kind, quantizer.with_products(plan.products))
        if plan.fits(len(self.rows), quantizer.width):
            own = encode(coded.quantizer, self.rows, ranks.shard(len(self.rows)), workers)
            codes = Codes(*(ranks.gather(array) for array in (own.values, own.norms, own.errors)))
            parts = (codes[rows] for rows in blocks(len(self.rows), plan.tile_rows))
            coded = replace(coded, tiles=list(coded.make_tiles(parts, plan)))
        self._kept[_key(plan)] = coded
        return coded


def _key(plan: PruningPlan) -> tuple[bool, str]:
    return plan.kind.num_directions is None, plan.products.name
