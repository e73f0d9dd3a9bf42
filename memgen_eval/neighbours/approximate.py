"""Beyond exact search: FAISS IVF proposes, exact distances decide, and recall is measured against the exact search."""

from __future__ import annotations

import importlib
import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.errors import InputError
from memgen_eval.neighbours.arrays import as_array, check_pair, dimension, row_blocks, rows
from memgen_eval.neighbours.exact import pair_distances
from memgen_eval.neighbours.frames import FloatFrame
from memgen_eval.neighbours.products import installed
from memgen_eval.neighbours.search import nearest_neighbours
from memgen_eval.neighbours.table import Neighbours

MIN_REFERENCES = 50_000  # below them the exact search is quick, and the codes could not be trained
TRAINING_ROWS_PER_LIST = 64
LISTS_PER_ROOT = 4  # lists: so many times the root of the number of references
PROBED_SHARE = 1 / 32  # of the lists that a query looks into
MIN_PROBES = 16
CANDIDATES_PER_NEIGHBOUR = 32
MIN_CANDIDATES = 256
VALUES_PER_BYTE = 8  # of a reference, in its code
QUERIES_AT_ONCE = 1024
_logger = logging.getLogger("memgen_eval.neighbours")


@dataclass(frozen=True, eq=False)
class ApproximateNeighbours:
    """Neighbours found, with exact distances, and how many are missed.

    Attributes
    ----------
    neighbours : Neighbours, (N, K)
        The nearest among the candidates: distances are exact, and at least those of the true neighbours.
    all_found : bool, (Q,)
        For queries drawn with the seed, whether all K neighbours are those of the exact search.
    """

    neighbours: Neighbours
    all_found: NDArray[np.bool_]


def approximate_neighbours(
    queries: Any,
    references: Any,
    k: int = 2,
    *,
    num_checked: int = 256,
    seed: int = 0,
    memory_budget: str | int = "512MiB",
) -> ApproximateNeighbours:
    """The K nearest references of every query among candidates that FAISS IVF with product codes proposes.

    For feature sets that are too large for the exact search (`nearest_neighbours`). References are coded in one byte
    for eight values; candidates are compared exactly with the references themselves. Recall is measured, not promised.

    Parameters
    ----------
    queries : float or uint8, (N, ...)
    references : float or uint8, (M, ...), M of 50,000 or more
        Array or memory map; it is read by blocks, its codes (M D / 8 bytes) are held.
    k : int
        Number of neighbours, at least 1.
    num_checked : int
        Queries, drawn with the seed, that are searched exactly too; all where there are fewer.
    seed : int
        Of the queries checked and of the references on which the index is trained.
    memory_budget : str or int
        Of the exact search.

    Returns
    -------
    ApproximateNeighbours

    Raises
    ------
    InputError
        Without faiss, for fewer references, or as `nearest_neighbours` raises it.

    Notes
    -----
    Which candidates FAISS proposes may depend on its version and number of threads.

    References
    ----------
    .. [1] Jegou, Douze & Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011.
    """
    queries, references = as_array(queries, "queries"), as_array(references, "references")
    largest = check_pair(queries, references, flip=False)
    if not installed("faiss"):
        raise InputError("approximate search needs the package faiss: install the extra faiss-cpu or faiss-gpu")
    if len(references) < MIN_REFERENCES:
        raise InputError(
            f"references holds {len(references):,} rows: below {MIN_REFERENCES:,} use the exact nearest_neighbours"
        )
    drawn = np.sort(np.random.default_rng(seed).permutation(len(queries))[:num_checked])
    exact = nearest_neighbours(queries[drawn], references, k, memory_budget=memory_budget)
    frame = FloatFrame.around(references, largest)
    found = _search(_index(references, frame, seed=seed), queries, references, k, frame)
    all_found = np.asarray((found.squared_distances[drawn] <= exact.squared_distances).all(axis=1))
    return ApproximateNeighbours(found, all_found)


def _index(references: NDArray[Any], frame: FloatFrame, *, seed: int) -> Any:
    """An inverted file with product codes, trained on references drawn with the seed, holding all of them."""
    faiss: Any = importlib.import_module("faiss")
    width = dimension(references)
    num_lists = 2 ** round(math.log2(LISTS_PER_ROOT * math.sqrt(len(references))))
    num_bytes = max(count for count in range(1, max(1, width // VALUES_PER_BYTE) + 1) if width % count == 0)
    index = faiss.index_factory(width, f"IVF{num_lists},PQ{num_bytes}")
    index.nprobe = max(MIN_PROBES, round(num_lists * PROBED_SHARE))
    some = np.random.default_rng(seed).choice(
        len(references), min(len(references), TRAINING_ROWS_PER_LIST * num_lists), replace=False
    )
    index.train(frame.convert(references[np.sort(some)].reshape(len(some), width)))
    for _, block in row_blocks(references, max(1, 2**24 // width)):
        index.add(frame.convert(block))
    _logger.debug("approximate search: %d lists, %d probed, %d bytes a reference", num_lists, index.nprobe, num_bytes)
    return index


def _search(index: Any, queries: NDArray[Any], references: NDArray[Any], k: int, frame: FloatFrame) -> Neighbours:
    """The K nearest of the candidates by exact distance, ties to the smaller index."""
    parts = []
    num_candidates = min(max(MIN_CANDIDATES, CANDIDATES_PER_NEIGHBOUR * k), len(references))
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, len(queries))
        _, candidates = index.search(frame.convert(rows(queries, start, stop)), num_candidates)
        parts.append(_decide(queries, np.arange(start, stop), references, candidates.astype(np.int64), k))
    squared, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Neighbours(squared, indices, queries=queries)


def _decide(
    queries: NDArray[Any], which: NDArray[np.int64], references: NDArray[Any], candidates: NDArray[np.int64], k: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """K of the candidates (B, J); -1, where lists held fewer, counts as infinitely far."""
    squared = pair_distances(queries, which, references, np.maximum(candidates, 0))
    missing = candidates < 0
    squared[missing] = np.iinfo(np.int64).max if squared.dtype == np.int64 else np.inf
    order = np.lexsort((candidates, squared), axis=1)[:, :k]
    chosen = np.take_along_axis(candidates, order, axis=1)
    if (chosen < 0).any():
        raise InputError(f"fewer than k={k} candidates were found for a query: give a smaller k")
    return np.take_along_axis(squared, order, axis=1), chosen
