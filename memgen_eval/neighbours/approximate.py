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
from memgen_eval.neighbours.arrays import as_array, check_pair, chunk_rows, dimension, row_blocks, rows
from memgen_eval.neighbours.exact import distance_dtype, pair_distances
from memgen_eval.neighbours.frames import FloatFrame
from memgen_eval.neighbours.products import installed
from memgen_eval.neighbours.search import nearest_neighbours
from memgen_eval.neighbours.table import Neighbours

MIN_REFERENCES = 50_000  # below them the exact search is quick, and the codes could not be trained
TRAINING_ROWS_PER_LIST = 64
LISTS_PER_ROOT = 4  # lists, times the root of the number of references
NUM_PROBES = 256  # lists that a query looks into: what it costs grows with the root too
CANDIDATES_PER_NEIGHBOUR = 32
MIN_CANDIDATES = 256
VALUES_PER_BYTE = 8  # of a reference, in its code
QUERIES_AT_ONCE = 1024
NUM_CHECKED = 256
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
    num_checked: int = NUM_CHECKED,
    seed: int = 0,
    memory_budget: str | int = "512MiB",
) -> ApproximateNeighbours:
    """The K nearest references of every query among candidates that FAISS IVF with product codes proposes.

    For hundreds of thousands of queries among tens of millions of references or more; below, the exact search
    (`nearest_neighbours`) is cheaper than the index. References are coded in one byte for eight values; candidates are
    compared exactly with the references themselves. Recall is measured, not promised.

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
    To build the index takes ``8 sqrt(M) M D`` operations and more, a query some ``64 sqrt(M)`` codes. Which candidates
    FAISS proposes may depend on its version and number of threads.

    References
    ----------
    .. [1] Jegou, Douze & Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011.
    """
    if num_checked < 1:
        raise InputError(f"num_checked is {num_checked}: check at least one query, or nothing is known of the recall")
    queries, references = as_array(queries, "queries"), as_array(references, "references")
    check_pair(queries, references[:1], flip=False)
    indexed = IndexedReferences.of(references, seed=seed)
    everyone = slice(0, len(queries))
    return indexed.search(queries, k, mine=everyone, num_checked=num_checked, seed=seed, memory_budget=memory_budget)


def check_approximate(num_references: int) -> None:
    """Raise InputError unless `num_references` can be searched approximately here."""
    if not installed("faiss"):
        raise InputError("approximate search needs the package faiss: install the extra faiss-cpu or faiss-gpu")
    if num_references < MIN_REFERENCES:
        raise InputError(
            f"approximate search among {num_references:,} references: below {MIN_REFERENCES:,} search exactly instead"
        )


@dataclass(frozen=True, eq=False)
class IndexedReferences:
    """References, and the FAISS index that proposes candidates among them."""

    references: NDArray[Any]
    frame: FloatFrame
    index: Any

    @classmethod
    def of(cls, references: NDArray[Any], *, seed: int) -> IndexedReferences:
        """Train an index on references drawn with the seed, and code all of them. Raises InputError."""
        check_approximate(len(references))
        frame = FloatFrame.around(references, check_pair(references[:1], references, flip=False))
        return cls(references, frame, _index(references, frame, seed=seed))

    def search(
        self, queries: NDArray[Any], k: int, *, mine: slice, num_checked: int, seed: int, memory_budget: str | int
    ) -> ApproximateNeighbours:
        """Of the queries in `mine`; those to check are drawn among all queries."""
        drawn = np.sort(np.random.default_rng(seed).permutation(len(queries))[:num_checked])
        drawn = drawn[(drawn >= mine.start) & (drawn < mine.stop)]
        exact = nearest_neighbours(queries[drawn], self.references, k, memory_budget=memory_budget)
        found = self._nearest(queries[mine], k)
        chosen = found.squared_distances[drawn - mine.start]
        return ApproximateNeighbours(found, np.asarray((chosen <= exact.squared_distances).all(axis=1)))

    def _nearest(self, queries: NDArray[Any], k: int) -> Neighbours:
        """The K nearest of the candidates by exact distance, ties to the smaller index."""
        squared = np.empty((len(queries), k), dtype=distance_dtype(queries, self.references))
        indices = np.empty((len(queries), k), dtype=np.int64)
        num_candidates = min(max(MIN_CANDIDATES, CANDIDATES_PER_NEIGHBOUR * k), len(self.references))
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            at = slice(start, min(start + QUERIES_AT_ONCE, len(queries)))
            _, candidates = self.index.search(self.frame.convert(rows(queries, at.start, at.stop)), num_candidates)
            which = np.arange(at.start, at.stop)
            squared[at], indices[at] = _decide(queries, which, self.references, candidates.astype(np.int64), k)
        return Neighbours(squared, indices, queries=queries)


def _index(references: NDArray[Any], frame: FloatFrame, *, seed: int) -> Any:
    """An inverted file with product codes, trained on references drawn with the seed, holding all of them."""
    faiss: Any = importlib.import_module("faiss")
    width = dimension(references)
    num_lists = 2 ** round(math.log2(LISTS_PER_ROOT * math.sqrt(len(references))))
    num_bytes = max(count for count in range(1, max(1, width // VALUES_PER_BYTE) + 1) if width % count == 0)
    # np: no polysemous training, which takes minutes and serves a search that is not made here
    index = faiss.index_factory(width, f"IVF{num_lists},PQ{num_bytes}np")
    index.nprobe = NUM_PROBES
    index.train(_training_rows(references, frame, TRAINING_ROWS_PER_LIST * num_lists, seed=seed))
    for _, block in row_blocks(references, chunk_rows(references)):
        index.add(frame.convert(block))
    _logger.debug("approximate search: %d lists, %d probed, %d bytes a reference", num_lists, index.nprobe, num_bytes)
    return index


def _training_rows(references: NDArray[Any], frame: FloatFrame, most: int, *, seed: int) -> NDArray[np.float32]:
    """At most `most` references in order, as the frame has them, (R, D)."""
    count = min(len(references), most)
    drawn = np.sort(np.random.default_rng(seed).choice(len(references), count, replace=False))
    prepared = np.empty((count, dimension(references)), dtype=np.float32)
    for start in range(0, count, chunk_rows(references)):
        some = drawn[start : start + chunk_rows(references)]
        prepared[start : start + len(some)] = frame.convert(references[some].reshape(len(some), -1))
    return prepared


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
