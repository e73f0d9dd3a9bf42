"""Candidates of a search: the references with the smallest keys, found tile by tile, and a bound on all others.

A key, ``|y|^2 - 2 q.y``, is a squared distance less ``|q|^2``. Keys of uint8 rows are exact: so are their candidates.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import EngineName, check_engine, float_products, integer_products, threads_for
from memgen_eval.compute.products import PRODUCTS, Products, multiply_slices, pack_slices
from memgen_eval.compute.resources import BlockPlan, blocks, budget_bytes, plan_blocks, start_workers
from memgen_eval.compute.rows import FloatTransform, Transform, chunk_rows, dimension, read_rows
from memgen_eval.neighbours.topk import TopK

# float32 queries (B, D), references (T, D) and K to squared distances and rows of references, (B, K), nearest first
Knn = Callable[[NDArray[Any], NDArray[Any], int], tuple[NDArray[Any], NDArray[Any]]]
Candidates = Iterator[tuple[slice, NDArray[np.int64], NDArray[Any]]]  # rows of queries, indices, lower bounds


def _by_products(scan: Scan, queries: NDArray[Any]) -> Candidates:
    """The plain search: every query is multiplied with every reference, a tile of references at a time."""
    transform, width = scan.transform, dimension(queries)
    work = 2.0 * len(queries) * len(scan.references) * width
    products = scan.resources.engine.products(transform, work, width)
    plan = scan.plan(products.value_bytes)
    with start_workers(threads_for(work)) as workers:
        for rows in blocks(len(queries), plan.resident_rows):
            prepared, norms = prepare(queries, rows, transform)
            best = TopK(len(prepared), scan.keep, transform.key_dtype(width))
            for tile_rows in blocks(len(scan.references), plan.tile_rows):
                tile = ReferenceTile.of(scan.references, tile_rows, transform, products)
                search = partial(tile.search, prepared, best)
                products.callers(workers)(search, len(prepared), block_rows=plan.block_rows)
            yield rows, best.indices, transform.bounds_of_keys(best.keys, norms)


@dataclass(frozen=True, eq=False)
class ReferenceTile:
    """References ready to be multiplied with queries.

    Attributes
    ----------
    first : row of the first reference
    norms : squared norms in the type of the keys, (T,); of floats, less what rounding can take, see `FloatTransform`
    packed : prepared values, packed in slices by `products`
    """

    first: int
    norms: NDArray[Any]
    packed: list[Any]
    products: Products

    @staticmethod
    def of(references: NDArray[Any], rows: slice, transform: Transform, products: Products) -> ReferenceTile:
        """Some rows of the references."""
        prepared, norms = prepare(references, rows, transform)
        norms = ((1 - transform.discount) * norms).astype(transform.key_dtype(prepared.shape[1]))
        return ReferenceTile(rows.start, norms, pack_slices(products, prepared), products)

    def keys(self, queries: NDArray[Any]) -> NDArray[Any]:
        """Keys of prepared queries (B, D), (B, T)."""
        keys = multiply_slices(self.products, queries, self.packed)
        np.multiply(keys, -2, out=keys)
        np.add(keys, self.norms, out=keys)
        return keys

    def search(self, queries: NDArray[Any], best: TopK, rows: slice) -> None:
        """Enter the keys of a slice of the queries into the best so far."""
        best.update(rows, self.keys(queries[rows]), self.first)


def prepare(array: NDArray[Any], rows: slice, transform: Transform) -> tuple[NDArray[Any], NDArray[Any]]:
    """A slice of rows transformed, (B, D), and their squared norms, (B,); only a chunk is held as float64 at a time."""
    prepared = np.empty((rows.stop - rows.start, dimension(array)), dtype=transform.dtype)
    norms = []
    for chunk in blocks(rows.stop, chunk_rows(array), start=rows.start):
        part = prepared[chunk.start - rows.start : chunk.stop - rows.start]
        part[:] = transform.apply(read_rows(array, chunk))
        norms.append(transform.norms(part))
    return prepared, np.concatenate(norms)


def _by_cuda(scan: Scan, queries: NDArray[Any]) -> Candidates:
    """Products and selection on the GPU; on the processor where the GPU is not exact."""
    from memgen_eval.neighbours.cuda import smallest_keys, usable_device  # imports torch

    device = usable_device(scan.transform.dtype, width=dimension(queries))
    if device is None:
        yield from _by_products(scan, queries)
        return
    for rows in blocks(len(queries), scan.plan(value_bytes=4).resident_rows):
        indices, keys, norms = smallest_keys(read_rows(queries, rows), scan, device)
        yield rows, indices, scan.transform.bounds_of_keys(keys, norms)


def _by_knn(knn: Knn, scan: Scan, queries: NDArray[Any]) -> Candidates:
    """The plain search of another library, whose float32 distances are trusted no farther than their rounding."""
    assert isinstance(scan.transform, FloatTransform)
    plan = scan.plan(value_bytes=4)
    for rows in blocks(len(queries), plan.resident_rows):
        prepared, norms = prepare(queries, rows, scan.transform)
        best, largest = TopK(len(prepared), scan.keep, np.float32), 0.0
        for tile_rows in blocks(len(scan.references), plan.tile_rows):
            tile, tile_norms = prepare(scan.references, tile_rows, scan.transform)
            largest = max(largest, float(tile_norms.max()))
            for block in blocks(len(prepared), plan.block_rows):
                distances, columns = knn(prepared[block], tile, min(scan.keep, len(tile)))
                best.merge(block, distances, columns + tile_rows.start)
        yield rows, best.indices, scan.transform.bounds_of_distances(best.keys, norms, largest)


def _faiss_knn(queries: NDArray[Any], references: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    faiss: Any = importlib.import_module("faiss")
    found: tuple[NDArray[Any], NDArray[Any]] = faiss.knn(queries, references, k)
    return found


@dataclass(frozen=True)
class Engine:
    """A way to find candidates.

    Attributes
    ----------
    library : what multiplies on the processor, "auto" for the fastest
    candidates : yields the candidates of all queries, block by block
    takes_codes : whether large searches multiply codes first, see `pruning`
    exact_integers : whether keys of uint8 rows are exact
    """

    library: str
    candidates: Callable[[Scan, NDArray[Any]], Candidates]
    takes_codes: bool = True
    exact_integers: bool = True

    def products(self, transform: Transform, work: float, width: int) -> Products:
        """The library that multiplies transformed rows of `width` values in `work` operations."""
        return float_products(self.library) if transform.dtype == np.float32 else self.integers(work, width)

    def integers(self, work: float, width: int) -> Products:
        """The library that multiplies rows of `width` int8 values in `work` operations."""
        return integer_products(self.library, work=work, width=width)


ENGINES: dict[str, Engine] = {
    **{library: Engine(library, _by_products) for library in ("auto", *PRODUCTS)},
    "faiss": Engine("auto", partial(_by_knn, _faiss_knn), takes_codes=False, exact_integers=False),
    "cuda": Engine("auto", _by_cuda, takes_codes=False),
}


@dataclass(frozen=True)
class Resources:
    """What a search may use: an engine, and bytes beyond its arguments and its result."""

    engine: Engine
    budget: int

    @staticmethod
    def of(engine: EngineName, memory_budget: str | int) -> Resources:
        """Resources as users name them."""
        check_engine(engine)
        return Resources(ENGINES[engine], budget_bytes(memory_budget))


@dataclass(frozen=True, eq=False)
class Scan:
    """A search for `keep` candidates among references (M, ...), which `transform` prepares."""

    references: NDArray[Any]
    transform: Transform
    keep: int
    resources: Resources

    def plan(self, value_bytes: int) -> BlockPlan:
        """Shapes of blocks, where a prepared value takes this number of bytes."""
        width, budget = dimension(self.references), self.resources.budget
        return plan_blocks(dimension=width, value_bytes=value_bytes, keep=self.keep, budget=budget)


@dataclass(frozen=True)
class Proposal:
    """Candidates of each query, the likeliest first.

    Attributes
    ----------
    indices : int64, (N, J)
        Rows of the references.
    lower : int64 or float64, (N, J)
        Lower bounds of the squared distances, ascending; of exact keys the squared distances themselves.
    bound : float64, (N,)
        A lower bound of the squared distance of any other reference.
    """

    indices: NDArray[np.int64]
    lower: NDArray[Any]
    bound: NDArray[np.float64]


def propose(queries: NDArray[Any], scan: Scan) -> Proposal:
    """`keep` candidates of each query, and a rigorous bound on the rest."""
    indices = np.empty((len(queries), scan.keep), dtype=np.int64)
    lower = np.empty(indices.shape, dtype=scan.transform.distance_dtype)
    for rows, *found in scan.resources.engine.candidates(scan, queries):
        indices[rows], lower[rows] = found
    bound = lower[:, -1] if scan.keep < len(scan.references) else np.full(len(queries), np.inf)
    return Proposal(indices, lower, bound)
