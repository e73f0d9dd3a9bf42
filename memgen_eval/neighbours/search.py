"""Exact nearest neighbours: an engine proposes, this file decides."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import EngineName
from memgen_eval.compute.resources import CHUNK_ROWS, MIN_BLOCK_ROWS, blocks
from memgen_eval.compute.rows import (
    FloatTransform,
    IntegerTransform,
    as_array,
    check_pair,
    dimension,
    largest_of,
    mirrored,
)
from memgen_eval.errors import InputError
from memgen_eval.neighbours.candidates import GpuError, Proposal, Resources, Scan, propose
from memgen_eval.neighbours.distances import block_distances, distance_dtype, pair_distances, squared_distances
from memgen_eval.neighbours.pruning import References, nearest_by_codes
from memgen_eval.neighbours.topk import Neighbours, TopK

__all__ = [
    "both_orientations",
    "merge_orientations",
    "mirrored",
    "nearest_neighbours",
    "nearest_within",
    "squared_distances",
]

_EXTRA_CANDIDATES = 14
_WIDENINGS = (1, 8)  # times the first number of candidates; queries still unproven are compared with every reference
_EXHAUSTIVE_BYTES = 2**25
SquaredAndIndices = tuple[NDArray[Any], NDArray[np.int64]]


def nearest_neighbours(
    queries: Any,
    references: Any,
    k: int = 2,
    *,
    exclude_self: bool = False,
    exclude: Any = None,
    flip: bool = False,
    engine: EngineName | None = None,
    memory_budget: str | int = "512MiB",
) -> Neighbours:
    """The K nearest references of every query, by exact Euclidean distance.

    References are ordered by ``(squared distance, index)`` and the first K returned. uint8 arrays are compared in
    integers, floats by the float64 sum of squared float64 differences (one whose square underflows counts as none).
    0: an identical reference. Engine, memory budget, threads and the other queries never change a bit of the result.

    Parameters
    ----------
    queries : uint8 or float, (N, ...)
        numpy array, memory map or torch tensor. If only one of both is float, the other is taken as float.
    references : uint8 or float, (M, ...)
        With the trailing shape of the queries. A memory map is read by tiles.
    k : int
        Number of neighbours, from 1 to M (to M - 1 where a reference is left out).
    exclude_self : bool
        Query i is reference i, and not its own neighbour.
    exclude : int64, (N,), optional
        The reference that each query leaves out; not together with `exclude_self`.
    flip : bool
        The last axis is the width; the distance to a reference is the smaller of both orientations. `flipped` says
        where the mirrored one is strictly smaller. A left-out reference is left out in both.
    engine : {"auto", "numkong", "torch", "faiss", "numpy", "cuda"}, optional
        Who proposes candidates: "cuda" is torch on the current GPU, "faiss" its GPUs where it has any. "auto" takes
        these two, in this order, for large searches where there is a GPU that passes a self-test, and otherwise the
        fastest measured on this machine's processor. By default the environment's MEMGEN_ENGINE, else "auto". What
        fails on a GPU is done on the processor, with one warning.
    memory_budget : str or int
        Bytes held at once beyond the arguments and the result, such as "512MiB"; at least 16 rows of each are held.

    Returns
    -------
    Neighbours
        squared_distances int64 (both uint8) or float64, indices int64, (N, K), in the units of the arrays; with the
        queries and exclusions, so that `distinct_neighbours` can widen the search.

    Raises
    ------
    InputError
        If the arrays cannot be compared, hold NaN or infinity, or have fewer than K references.

    Notes
    -----
    At most one product of N M D multiplications (two with `flip`). Large searches multiply int8 codes instead, which
    bound distances from below: some hundred values of a uint8 row, all of a float row; they then compare exactly the
    pairs that the bound leaves, and multiply everything where it leaves more than 1.5 %. A query with more than some
    hundred float references at almost the same distance costs M D float64 operations more.
    """
    queries, references = as_array(queries, "queries"), References.of(references)
    resources, num_references = Resources.of(engine, memory_budget), len(references.rows)
    search = Search(references, resources, largest=check_pair(queries, references.rows, flip=flip))
    excluded = _exclusions(len(queries), num_references, exclude_self=exclude_self, exclude=exclude)
    k = _check_k(k, num_references, excluded is not None)
    plain = Neighbours(*search.nearest(queries, k, excluded), queries=queries, excluded=excluded)
    return search.with_mirrored(plain) if flip else plain


def both_orientations(
    plain: Neighbours, references: Any, *, engine: EngineName | None = None, memory_budget: str | int = "512MiB"
) -> Neighbours:
    """The K nearest references by the smaller distance of both orientations, given those of one.

    The result is that of ``nearest_neighbours(..., flip=True)``; what is farther than the K-th neighbour in the first
    orientation is not looked for in the other.

    Parameters
    ----------
    plain : Neighbours, (N, K)
        With its queries, (N, ..., W).
    references : uint8 or float, (M, ..., W), or References
        Those that were searched.

    Returns
    -------
    Neighbours
        With the queries, exclusions and factor of `plain`; `flipped` where the mirrored orientation is strictly nearer.
    """
    assert plain.queries is not None
    references = References.of(references)
    largest = check_pair(plain.queries, references.rows, flip=True)
    return Search(references, Resources.of(engine, memory_budget), largest=largest).with_mirrored(plain)


def nearest_within(
    queries: Any,
    references: Any,
    limits: NDArray[Any],
    *,
    exclude: NDArray[np.int64] | None = None,
    flip: bool = False,
    engine: EngineName | None = None,
    memory_budget: str | int = "512MiB",
) -> Neighbours:
    """The nearest reference, if its squared distance is at most a limit; where it is not, any or none may be named.

    The smaller the limits, the more pairs are skipped. None is the largest distance, and the index -1.

    Parameters
    ----------
    queries : uint8 or float, (N, ...)
    references : uint8 or float, (M, ...), or References
    limits : float64, (N,)
        In the squared units of the arrays.
    exclude, flip, engine, memory_budget
        As for `nearest_neighbours`.
    """
    queries, references = as_array(queries, "queries"), References.of(references)
    search = Search(references, Resources.of(engine, memory_budget), check_pair(queries, references.rows, flip=flip))
    dtype = distance_dtype(queries, references.rows)
    within = np.clip(np.floor(limits), 0, 2.0**62).astype(dtype) if dtype == np.int64 else np.maximum(limits, 0)
    plain = Neighbours(*search.nearest(queries, 1, exclude, within=within), queries=queries, excluded=exclude)
    return search.with_mirrored(plain, within=within) if flip else plain


def merge_orientations(plain: Neighbours, mirror: Neighbours) -> Neighbours:
    """The K nearest references by the smaller distance of both orientations, from two searches with the same K.

    They are among the K nearest of either: any other reference has K before it in the orientation that counts. The
    result is that of ``nearest_neighbours(..., flip=True)``.

    Parameters
    ----------
    plain : Neighbours, (N, K)
        Of the queries.
    mirror : Neighbours, (N, K)
        Of the mirrored queries, with the same references left out; -1 and the largest distance may stand for those that
        are farther than the K-th of `plain`.

    Returns
    -------
    Neighbours
        With the queries, exclusions and factor of `plain`; `flipped` where the mirrored orientation is strictly nearer.
    """
    pairs = ((plain.squared_distances, mirror.squared_distances), (plain.indices, mirror.indices))
    squared, indices = (np.concatenate(pair, axis=1) for pair in pairs)
    flipped = np.zeros(indices.shape, dtype=bool)
    flipped[:, plain.indices.shape[1] :] = True
    order = np.lexsort((flipped, squared, indices), axis=1)
    squared, indices, flipped = (np.take_along_axis(array, order, axis=1) for array in (squared, indices, flipped))
    repeated = np.zeros(indices.shape, dtype=bool)
    repeated[:, 1:] = indices[:, 1:] == indices[:, :-1]  # the same reference in its farther orientation
    order = np.lexsort((indices, squared, repeated), axis=1)[:, : plain.indices.shape[1]]
    squared, indices, flipped = (np.take_along_axis(array, order, axis=1) for array in (squared, indices, flipped))
    return replace(plain, squared_distances=squared, indices=indices, flipped=flipped)


def _exclusions(num_queries: int, num_references: int, *, exclude_self: bool, exclude: Any) -> NDArray[np.int64] | None:
    if exclude is None:
        if exclude_self and num_queries != num_references:
            raise InputError(
                f"exclude_self=True with {num_queries} queries and {num_references} references: "
                "give the same set twice, or exclude="
            )
        return np.arange(num_queries) if exclude_self else None
    if exclude_self:
        raise InputError("exclude_self and exclude are both given: give one of them")
    excluded = np.asarray(exclude)
    if excluded.shape != (num_queries,) or (num_queries > 0 and excluded.dtype.kind not in "iu"):
        raise InputError(
            f"exclude is {excluded.dtype} of shape {excluded.shape}: give one integer a query, ({num_queries},)"
        )
    if num_queries > 0 and not 0 <= excluded.min() <= excluded.max() < num_references:
        raise InputError(
            f"exclude names rows {excluded.min()} to {excluded.max()}: references have rows 0 to {num_references - 1}"
        )
    return excluded.astype(np.int64)


def _check_k(k: int, num_references: int, leaves_out: bool) -> int:
    try:
        k = operator.index(k)
    except TypeError:
        raise InputError(f"k={k!r} is not an integer: give a number of neighbours") from None
    available = num_references - leaves_out
    if not 1 <= k <= available:
        left = f"{num_references} references, one left out" if leaves_out else f"{num_references} references"
        raise InputError(f"k={k} neighbours of {left}: give k from 1 to {available}, or more references")
    return k


@dataclass(frozen=True, eq=False)
class Search:
    """References, and what every search among them may use; `largest` is the largest magnitude in all arrays."""

    references: References
    resources: Resources
    largest: float

    def nearest(
        self,
        queries: NDArray[Any],
        k: int,
        excluded: NDArray[np.int64] | None,
        within: NDArray[Any] | None = None,
    ) -> SquaredAndIndices:
        """The K nearest in one orientation; (largest, -1) may stand for any whose squared distance exceeds `within`."""
        if excluded is None:
            return self._nearest(queries, k, within)
        return _leave_out(*self._nearest(queries, k + 1, within), excluded)

    def with_mirrored(self, plain: Neighbours, within: NDArray[Any] | None = None) -> Neighbours:
        """The neighbours by the smaller distance of both orientations, given those of one, as `nearest` has them."""
        assert plain.queries is not None
        k, farthest = plain.indices.shape[1], plain.squared_distances[:, -1]
        farthest = farthest if within is None else np.minimum(farthest, within)
        squared, indices = self.nearest(mirrored(plain.queries), k, plain.excluded, within=farthest)
        return merge_orientations(plain, replace(plain, squared_distances=squared, indices=indices))

    def _nearest(self, queries: NDArray[Any], k: int, within: NDArray[Any] | None) -> SquaredAndIndices:
        """On a GPU where one serves; where it fails, all over again on the processor."""
        if len(queries) == 0:
            dtype = distance_dtype(queries, self.references.rows)
            return np.empty((0, k), dtype=dtype), np.empty((0, k), dtype=np.int64)
        for gpu in self.resources.gpus_for(queries, self.references.rows):
            try:
                return replace(self, resources=replace(self.resources, engine=gpu.engine))._found(queries, k, within)
            except GpuError as error:
                gpu.give_up(error)
        return self._found(queries, k, within)

    def _found(self, queries: NDArray[Any], k: int, within: NDArray[Any] | None) -> SquaredAndIndices:
        """By codes where these pay; else the candidates themselves where keys are exact; else by proof."""
        references, engine = self.references.rows, self.resources.engine
        found = nearest_by_codes(queries, self.references, k, self.resources, within) if engine.takes_codes else None
        if found is not None:
            return found
        if distance_dtype(queries, references) == np.int64 and engine.exact_integers:
            proposal = propose(queries, Scan(references, IntegerTransform(), k, self.resources, within))
            return np.where(proposal.indices < 0, largest_of(np.int64), proposal.lower), proposal.indices
        return self._decide(queries, k)

    def _decide(self, queries: NDArray[Any], k: int) -> SquaredAndIndices:
        """Propose, compare exactly, prove that nothing nearer was missed; widen where that cannot be proved."""
        references = self.references.rows
        transform = FloatTransform.around(references, self.largest)
        squared = np.empty((len(queries), k), dtype=distance_dtype(queries, references))
        indices = np.empty((len(queries), k), dtype=np.int64)
        open_rows = np.arange(len(queries))
        for times in _WIDENINGS:
            keep = min(times * (k + _EXTRA_CANDIDATES), len(references))
            unproven = queries if len(open_rows) == len(queries) else queries[open_rows]
            proposal = propose(unproven, Scan(references, transform, keep, self.resources))
            found, proven = _certify(unproven, references, k, proposal)
            squared[open_rows[proven]], indices[open_rows[proven]] = found[0][proven], found[1][proven]
            open_rows = open_rows[~proven]
            if len(open_rows) == 0:
                return squared, indices
        squared[open_rows], indices[open_rows] = _exhaust(queries[open_rows], references, k)
        return squared, indices


def _certify(
    queries: NDArray[Any], references: NDArray[Any], k: int, proposal: Proposal
) -> tuple[SquaredAndIndices, NDArray[np.bool_]]:
    """The K nearest among the candidates, and for which queries no other reference can be among the K nearest.

    A candidate nearer than its engine said it could be takes the engine's word from it: nothing is proven then.
    """
    margin = 1 + (dimension(queries) + 16) * 2.0**-51  # covers the rounding of float64 sums
    everyone = np.arange(len(queries))
    dtype = distance_dtype(queries, references)
    exact = np.full(proposal.indices.shape, largest_of(dtype), dtype=dtype)
    exact[:, :k] = pair_distances(queries, everyone, references, proposal.indices[:, :k])
    next_lower = proposal.lower[:, k] if exact.shape[1] > k else proposal.bound
    close = everyone[next_lower <= exact[:, :k].max(axis=1) * margin]
    exact[close, k:] = pair_distances(queries, close, references, proposal.indices[close, k:])
    order = np.lexsort((proposal.indices, exact), axis=1)[:, :k]
    squared, indices = np.take_along_axis(exact, order, axis=1), np.take_along_axis(proposal.indices, order, axis=1)
    trusted = (proposal.lower <= exact * margin).all(axis=1)
    return (squared, indices), trusted & (squared[:, -1] * margin < proposal.bound)


def _exhaust(queries: NDArray[Any], references: NDArray[Any], k: int) -> SquaredAndIndices:
    """Every query against every reference: slow, and needs no proof."""
    best = TopK(len(queries), k, distance_dtype(queries, references))
    tile_rows = max(MIN_BLOCK_ROWS, min(4096, _EXHAUSTIVE_BYTES // (8 * dimension(references))))
    for tile in blocks(len(references), tile_rows):
        for rows in blocks(len(queries), CHUNK_ROWS):
            best.update(rows, block_distances(queries[rows], references[tile], flip=False), tile.start)
    return best.keys, best.indices


def _leave_out(squared: NDArray[Any], indices: NDArray[np.int64], excluded: NDArray[np.int64]) -> SquaredAndIndices:
    """K of K + 1 neighbours: without the excluded one, or without the last where it is not among them."""
    dropped = indices == excluded[:, None]
    dropped[~dropped.any(axis=1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return squared[~dropped].reshape(shape), indices[~dropped].reshape(shape)
