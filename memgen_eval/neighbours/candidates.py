"""Candidates of a search, by tiles, and a bound on what was missed; integer candidates are final."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import float_products, integer_products, threads_for
from memgen_eval.compute.products import SLICE, Products, for_products, pack_slices
from memgen_eval.compute.resources import BlockPlan, Workers, plan_blocks, start_workers
from memgen_eval.compute.rows import FloatTransform, IntegerTransform, Transform, chunk_rows, dimension, rows
from memgen_eval.neighbours.topk import TopK

_Best = tuple[slice, TopK, NDArray[Any]]
_logger = logging.getLogger("memgen_eval.neighbours")


@dataclass(frozen=True)
class Proposal:
    """Candidates of each query, the likeliest first.

    Attributes
    ----------
    indices : int64, (N, J)
        Rows of the references.
    lower : float64, (N, J)
        What the squared distances are at least, ascending.
    bound : float64, (N,)
        What the squared distance of any other reference is at least.
    """

    indices: NDArray[np.int64]
    lower: NDArray[np.float64]
    bound: NDArray[np.float64]


def nearest_integers(
    queries: NDArray[Any], references: NDArray[Any], k: int, *, engine: str, budget: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Squared distances and indices of the K nearest references of uint8 rows, exact and in order."""
    squared, indices = (np.empty((len(queries), k), dtype=np.int64) for _ in range(2))
    for mine, best, norms in _best(queries, references, k, transform=IntegerTransform(), engine=engine, budget=budget):
        squared[mine], indices[mine] = best.keys, best.indices
        squared[mine] += norms[:, None]
    return squared, indices


def propose_floats(
    queries: NDArray[Any], references: NDArray[Any], keep: int, *, transform: FloatTransform, engine: str, budget: int
) -> Proposal:
    """`keep` candidates of each query by float32 products, or by faiss, and a rigorous bound on the rest."""
    lower = np.empty((len(queries), keep))
    indices = np.empty((len(queries), keep), dtype=np.int64)
    if engine == "faiss":
        plan = plan_blocks(dimension=dimension(queries), value_bytes=4, keep=keep, budget=budget)
        for mine in _resident(len(queries), plan):
            converted, norms = prepare(queries, mine.start, mine.stop, transform)
            indices[mine], lower[mine] = _ask_faiss(converted, norms, references, keep, transform, plan)
    else:
        for mine, best, norms in _best(queries, references, keep, transform=transform, engine=engine, budget=budget):
            indices[mine], lower[mine] = best.indices, transform.bounds_of_keys(best.keys, norms)
    bound = lower[:, -1] if keep < len(references) else np.full(len(queries), np.inf)
    return Proposal(indices, lower, bound)


def _best(
    queries: NDArray[Any], references: NDArray[Any], keep: int, *, transform: Transform, engine: str, budget: int
) -> Iterator[_Best]:
    """The `keep` smallest keys of some queries after the other, and their squared norms."""
    if engine == "cuda":
        from memgen_eval.neighbours.cuda import usable_device  # imports torch

        device = usable_device(transform.dtype, width=dimension(queries))
        if device is not None:
            return _best_on_device(queries, references, keep, transform, device, budget)
        engine = "auto"
    return _best_by_products(queries, references, keep, transform, engine, budget)


def _best_on_device(
    queries: NDArray[Any], references: NDArray[Any], keep: int, transform: Transform, device: Any, budget: int
) -> Iterator[_Best]:
    from memgen_eval.neighbours.cuda import smallest_keys  # imports torch

    plan = plan_blocks(dimension=dimension(queries), value_bytes=4, keep=keep, budget=budget)
    for mine in _resident(len(queries), plan):
        some = rows(queries, mine.start, mine.stop)
        yield mine, *smallest_keys(some, references, keep, transform=transform, device=device, budget=budget)


def _best_by_products(
    queries: NDArray[Any], references: NDArray[Any], keep: int, transform: Transform, engine: str, budget: int
) -> Iterator[_Best]:
    width = dimension(queries)
    work = 2.0 * len(queries) * len(references) * width
    if isinstance(transform, FloatTransform):
        products = float_products(engine)
    else:
        products = integer_products(engine, work=work, width=width)
    plan = plan_blocks(dimension=width, value_bytes=products.value_bytes, keep=keep, budget=budget)
    with start_workers(threads_for(work)) as workers:
        for mine in _resident(len(queries), plan):
            converted, norms = prepare(queries, mine.start, mine.stop, transform)
            yield mine, _scan(converted, references, keep, transform, products, plan, workers), norms


def _resident(num_queries: int, plan: BlockPlan) -> Iterator[slice]:
    for start in range(0, num_queries, plan.resident_rows):
        yield slice(start, min(start + plan.resident_rows, num_queries))


def _scan(
    converted: NDArray[Any],
    references: NDArray[Any],
    keep: int,
    transform: Transform,
    products: Products,
    plan: BlockPlan,
    workers: Workers,
) -> TopK:
    """The `keep` smallest keys of prepared queries over all tiles of references."""
    best = TopK.empty(len(converted), keep, key_dtype(transform, converted.shape[1]))
    for first in range(0, len(references), plan.tile_rows):
        tile = make_tile(references, first, min(first + plan.tile_rows, len(references)), transform, products)
        for start in range(0, len(converted), plan.block_rows):

            def select(offset: int, keys: NDArray[Any], start: int = start, first: int = first) -> None:
                best.update(start + offset, keys, first)

            for_keys(products, workers, converted[start : start + plan.block_rows], tile, select)
    return best


def _ask_faiss(
    converted: NDArray[Any],
    norms: NDArray[Any],
    references: NDArray[Any],
    keep: int,
    transform: FloatTransform,
    plan: BlockPlan,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Candidates by faiss.knn, tile after tile."""
    faiss: Any = importlib.import_module("faiss")
    _logger.debug("proposals: faiss")
    best = TopK.empty(len(converted), keep, np.float32)
    largest = 0.0
    for first in range(0, len(references), plan.tile_rows):
        tile, tile_norms = prepare(references, first, min(first + plan.tile_rows, len(references)), transform)
        largest = max(largest, float(tile_norms.max()))
        for start in range(0, len(converted), plan.block_rows):
            keys, columns = faiss.knn(converted[start : start + plan.block_rows], tile, min(keep, len(tile)))
            best.merge(start, keys, columns + first)
    return best.indices, transform.bounds_of_distances(best.keys, norms, largest)


@dataclass(frozen=True)
class Tile:
    """References ready to meet queries.

    Attributes
    ----------
    norms : squared norms in the type of the keys, (T,); discounted for floats, see `FloatTransform`
    packed : prepared values, packed in slices of `SLICE` values a row
    """

    norms: NDArray[Any]
    packed: list[Any]


def prepare(array: NDArray[Any], start: int, stop: int, transform: Transform) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows start to stop converted, (B, D), and their squared norms, (B,); only a chunk of rows is held as float64."""
    converted = np.empty((stop - start, dimension(array)), dtype=transform.dtype)
    norms = []
    for first in range(start, stop, chunk_rows(array)):
        last = min(first + chunk_rows(array), stop)
        converted[first - start : last - start] = transform.apply(rows(array, first, last))
        norms.append(transform.norms(converted[first - start : last - start]))
    return converted, np.concatenate(norms)


def make_tile(references: NDArray[Any], start: int, stop: int, transform: Transform, products: Products) -> Tile:
    """References start to stop as a tile."""
    converted, norms = prepare(references, start, stop, transform)
    if isinstance(transform, FloatTransform):
        return Tile(((1 - transform.discount) * norms).astype(np.float32), [products.pack(converted)])
    return Tile(norms.astype(key_dtype(transform, converted.shape[1])), pack_slices(products, converted))


def key_dtype(transform: Transform, width: int) -> Any:
    """Type of the keys: float32, or the smaller integer that holds them."""
    if isinstance(transform, FloatTransform):
        return np.float32
    return np.int32 if width <= SLICE else np.int64


def for_keys(
    products: Products,
    workers: Workers,
    queries: NDArray[Any],
    tile: Tile,
    consume: Callable[[int, NDArray[Any]], None],
) -> None:
    """Call ``consume(start, keys)`` for chunks of rows of the keys (B, T) of prepared queries (B, D)."""
    for_products(products, workers, queries, tile.packed, lambda start, found: consume(start, _keys(found, tile)))


def _keys(products: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """Keys in place of their products."""
    np.multiply(products, -2, out=products)
    np.add(products, tile.norms, out=products)
    return products
