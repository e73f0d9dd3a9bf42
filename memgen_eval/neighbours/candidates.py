"""Candidates of a search: the references with the smallest keys, found tile by tile, and a bound on all others.

A key, ``|y|^2 - 2 q.y``, is a squared distance less ``|q|^2``. Keys of uint8 rows are exact: so are their candidates.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import (
    WORTH_A_GPU,
    EngineName,
    chosen_engine,
    describe_engine,
    float_products,
    integer_products,
    may_have_gpu,
    threads_for,
)
from memgen_eval.compute.products import PRODUCTS, Products, multiply_slices, pack_slices
from memgen_eval.compute.resources import BlockPlan, blocks, budget_bytes, plan_blocks, start_workers
from memgen_eval.compute.rows import FloatTransform, Transform, chunk_rows, dimension, read_rows
from memgen_eval.errors import one_line
from memgen_eval.neighbours.topk import TopK

# float32 queries (B, D), references (T, D) and K to squared distances and rows of references, (B, K), nearest first
Knn = Callable[[NDArray[Any], NDArray[Any], int], tuple[NDArray[Any], NDArray[Any]]]
Candidates = Iterator[tuple[slice, NDArray[np.int64], NDArray[Any]]]  # rows of queries, indices, lower bounds
FindCandidates = Callable[["Scan", NDArray[Any]], Candidates]
_logger = logging.getLogger("memgen_eval.neighbours")


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
            if scan.within is not None:
                best.admit_up_to(scan.within[rows] - norms)
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
    """Products and selection on the current GPU of torch."""
    from memgen_eval.neighbours.cuda import smallest_keys, usable_device  # imports torch

    device = usable_device(scan.transform.dtype, width=dimension(queries))
    assert device is not None
    for rows in blocks(len(queries), scan.plan(value_bytes=4).resident_rows):
        indices, keys, norms = smallest_keys(read_rows(queries, rows), scan, device)
        yield rows, indices, scan.transform.bounds_of_keys(keys, norms)


def _cuda_serves(dtype: np.dtype[Any], width: int) -> bool:
    from memgen_eval.neighbours.cuda import usable_device  # imports torch

    return usable_device(dtype, width=width) is not None


def _by_faiss_on_gpus(scan: Scan, queries: NDArray[Any]) -> Candidates:
    """All GPUs of this process; FAISS takes no more candidates there than its largest number."""
    from memgen_eval.neighbours.faiss_gpu import MOST_KEPT, proposals

    yield from proposals(scan, queries) if scan.keep <= MOST_KEPT else _by_knn(_faiss_knn, scan, queries)


def _faiss_serves(dtype: np.dtype[Any], width: int) -> bool:
    from memgen_eval.neighbours.faiss_gpu import is_usable

    del dtype, width
    return may_have_gpu() and is_usable()  # what was found out before a fork is not true in it


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
    gpus : what is used instead, the first that serves
    least_work : operations of a search below which none of them is
    """

    library: str
    candidates: FindCandidates
    takes_codes: bool = True
    exact_integers: bool = True
    gpus: tuple[Gpu, ...] = ()
    least_work: float = 0

    def products(self, transform: Transform, work: float, width: int) -> Products:
        """The library that multiplies transformed rows of `width` values in `work` operations."""
        return float_products(self.library) if transform.dtype == np.float32 else self.integers(work, width)

    def integers(self, work: float, width: int) -> Products:
        """The library that multiplies rows of `width` int8 values in `work` operations."""
        return integer_products(self.library, work=work, width=width)


class GpuError(Exception):
    """A library failed on a GPU; its own error is the cause."""


_given_up: set[str] = set()  # packages that failed in this process


@dataclass(frozen=True)
class Gpu:
    """A way to find candidates on GPUs, until something fails there.

    Attributes
    ----------
    package : what is imported
    engine : how; its candidates raise GpuError
    serves : whether rows of a type, int8 or float32, and a width can be searched there: a GPU is found, and passes its
        self-test
    """

    package: str
    engine: Engine
    serves: Callable[[np.dtype[Any], int], bool]

    def is_usable(self, dtype: np.dtype[Any], width: int) -> bool:
        """Whether it serves, and has not failed before."""
        try:
            return self.package not in _given_up and self.serves(dtype, width)
        except Exception as error:  # noqa: BLE001 - a broken package or driver raises anything at all
            self.give_up(error)
            return False

    def give_up(self, error: Exception) -> None:
        """Use the processor from now on, and say so once."""
        if self.package not in _given_up:
            what = "%s failed on the GPU (%s); the processor is used from now on"
            _logger.warning(what, self.package, one_line(error.__cause__ or error))
        _given_up.add(self.package)


def _failing_as_one(by: FindCandidates) -> FindCandidates:
    """The same candidates; whatever a library raises becomes the cause of a GpuError."""

    def find(scan: Scan, queries: NDArray[Any]) -> Candidates:
        try:
            yield from by(scan, queries)
        except Exception as error:
            raise GpuError from error

    return find


TORCH_GPU = Gpu("torch", Engine("auto", _failing_as_one(_by_cuda), takes_codes=False), _cuda_serves)
FAISS_GPU = Gpu(
    "faiss",
    Engine("auto", _failing_as_one(_by_faiss_on_gpus), takes_codes=False, exact_integers=False),
    _faiss_serves,
)
ENGINES: dict[str, Engine] = {
    "auto": Engine("auto", _by_products, gpus=(TORCH_GPU, FAISS_GPU), least_work=WORTH_A_GPU),
    **{library: Engine(library, _by_products) for library in PRODUCTS},
    "faiss": Engine("auto", partial(_by_knn, _faiss_knn), takes_codes=False, exact_integers=False, gpus=(FAISS_GPU,)),
    "cuda": Engine("auto", _by_products, gpus=(TORCH_GPU,)),
}


@dataclass(frozen=True)
class Resources:
    """What a search may use: an engine, and bytes beyond its arguments and its result."""

    engine: Engine
    budget: int

    @staticmethod
    def of(engine: EngineName | None, memory_budget: str | int) -> Resources:
        """Resources as users name them."""
        return Resources(ENGINES[chosen_engine(engine)], budget_bytes(memory_budget))

    def gpus_for(self, queries: NDArray[Any], references: NDArray[Any]) -> Iterator[Gpu]:
        """What can search on GPUs, where the search is worth it."""
        both_uint8, num_pairs = queries.dtype == references.dtype == np.uint8, len(queries) * len(references)
        return self._gpus(np.dtype(np.uint8 if both_uint8 else np.float32), num_pairs, dimension(references))

    def _gpus(self, dtype: np.dtype[Any], num_pairs: int, width: int) -> Iterator[Gpu]:
        """The same by the type, number and width of rows; nothing is imported to look for a GPU without a driver."""
        least = self.engine.least_work
        if least and (2.0 * num_pairs * width < least or not may_have_gpu()):
            return
        dtype = np.dtype(np.int8) if dtype == np.uint8 else np.dtype(np.float32)
        yield from (gpu for gpu in self.engine.gpus if gpu.is_usable(dtype, width))

    def takes_codes_for(self, queries: NDArray[Any], references: NDArray[Any]) -> bool:
        """Whether a search will multiply codes, if these pay."""
        gpu = next(self.gpus_for(queries, references), None)
        return (self.engine if gpu is None else gpu.engine).takes_codes

    def described(self, dtype: np.dtype[Any], num_pairs: int, width: int) -> str:
        """Name and version of what searches this number of pairs of rows of a type, uint8 or float."""
        gpu = next(self._gpus(dtype, num_pairs, width), None)
        if gpu is not None:
            return f"{_versioned(gpu.package)} on the GPU"
        on_faiss = self.engine is ENGINES["faiss"]
        return _versioned("faiss") if on_faiss else describe_engine(dtype, width, library=self.engine.library)


def _versioned(package: str) -> str:
    return f"{package} {importlib.import_module(package).__version__}"


@dataclass(frozen=True, eq=False)
class Scan:
    """A search for `keep` candidates among references (M, ...), which `transform` prepares.

    Where `within`, squared distances (N,), is given for exact keys, an index of -1 may stand for what lies beyond.
    """

    references: NDArray[Any]
    transform: Transform
    keep: int
    resources: Resources
    within: NDArray[np.int64] | None = None

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
    """`keep` candidates of each query, and a rigorous bound on the rest. Raises GpuError if a GPU fails."""
    indices = np.empty((len(queries), scan.keep), dtype=np.int64)
    lower = np.empty(indices.shape, dtype=scan.transform.distance_dtype)
    for rows, *found in scan.resources.engine.candidates(scan, queries):
        indices[rows], lower[rows] = found
    bound = lower[:, -1] if scan.keep < len(scan.references) else np.full(len(queries), np.inf)
    return Proposal(indices, lower, bound)
