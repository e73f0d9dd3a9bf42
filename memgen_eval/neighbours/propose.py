"""Candidates of a search, by tiles, and a bound on what was missed; integer candidates are final."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.arrays import dimension
from memgen_eval.neighbours.budget import Plan, plan_blocks
from memgen_eval.neighbours.engines import float_products, integer_products, threads_for
from memgen_eval.neighbours.frames import FloatFrame, Frame, IntegerFrame
from memgen_eval.neighbours.products import Products
from memgen_eval.neighbours.threads import Share, sharing
from memgen_eval.neighbours.tiles import for_keys, key_dtype, make_tile, prepare
from memgen_eval.neighbours.topk import TopK

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
    work = 2.0 * len(queries) * len(references) * dimension(queries)
    products, frame = integer_products(engine, work=work, width=dimension(queries)), IntegerFrame()
    plan = plan_blocks(dimension=dimension(queries), value_bytes=products.value_bytes, keep=k, budget=budget)
    squared, indices = (np.empty((len(queries), k), dtype=np.int64) for _ in range(2))
    with sharing(threads_for(work)) as share:
        for start in range(0, len(queries), plan.resident_rows):
            mine = slice(start, min(start + plan.resident_rows, len(queries)))
            converted, norms = prepare(queries, mine.start, mine.stop, frame)
            best = _scan(converted, references, k, frame, products, plan, share)
            squared[mine], indices[mine] = best.keys, best.indices
            squared[mine] += norms[:, None]
    return squared, indices


def propose_floats(
    queries: NDArray[Any], references: NDArray[Any], keep: int, *, frame: FloatFrame, engine: str, budget: int
) -> Proposal:
    """`keep` candidates of each query by float32 products, or by faiss, and a rigorous bound on the rest."""
    lower = np.empty((len(queries), keep))
    indices = np.empty((len(queries), keep), dtype=np.int64)
    work = 2.0 * len(queries) * len(references) * dimension(queries)
    value_bytes = 4 if engine == "faiss" else float_products(engine).value_bytes
    plan = plan_blocks(dimension=dimension(queries), value_bytes=value_bytes, keep=keep, budget=budget)
    with sharing(threads_for(work)) as share:
        for start in range(0, len(queries), plan.resident_rows):
            mine = slice(start, min(start + plan.resident_rows, len(queries)))
            converted, norms = prepare(queries, mine.start, mine.stop, frame)
            if engine == "faiss":
                indices[mine], lower[mine] = _ask_faiss(converted, norms, references, keep, frame, plan)
            else:
                best = _scan(converted, references, keep, frame, float_products(engine), plan, share)
                indices[mine], lower[mine] = best.indices, frame.bounds_of_keys(best.keys, norms)
    bound = lower[:, -1] if keep < len(references) else np.full(len(queries), np.inf)
    return Proposal(indices, lower, bound)


def _scan(
    converted: NDArray[Any],
    references: NDArray[Any],
    keep: int,
    frame: Frame,
    products: Products,
    plan: Plan,
    share: Share,
) -> TopK:
    """The `keep` smallest keys of prepared queries over all tiles of references."""
    best = TopK.empty(len(converted), keep, key_dtype(frame, converted.shape[1]))
    for first in range(0, len(references), plan.tile_rows):
        tile = make_tile(references, first, min(first + plan.tile_rows, len(references)), frame, products)
        for start in range(0, len(converted), plan.block_rows):

            def select(offset: int, keys: NDArray[Any], start: int = start, first: int = first) -> None:
                best.update(start + offset, keys, first)

            for_keys(products, share, converted[start : start + plan.block_rows], tile, select)
    return best


def _ask_faiss(
    converted: NDArray[Any], norms: NDArray[Any], references: NDArray[Any], keep: int, frame: FloatFrame, plan: Plan
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Candidates by faiss.knn, tile after tile."""
    faiss: Any = importlib.import_module("faiss")
    _logger.debug("proposals: faiss")
    best = TopK.empty(len(converted), keep, np.float32)
    largest = 0.0
    for first in range(0, len(references), plan.tile_rows):
        tile, tile_norms = prepare(references, first, min(first + plan.tile_rows, len(references)), frame)
        largest = max(largest, float(tile_norms.max()))
        for start in range(0, len(converted), plan.block_rows):
            keys, columns = faiss.knn(converted[start : start + plan.block_rows], tile, min(keep, len(tile)))
            best.merge(start, keys, columns + first)
    return best.indices, frame.bounds_of_distances(best.keys, norms, largest)
