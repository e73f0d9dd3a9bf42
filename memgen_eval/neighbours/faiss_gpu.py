"""Candidates by FAISS on GPUs: what of a row the GPU is given, and how far its distances may be from the true ones.

A GPU may round what it multiplies to TF32, numbers of 11 significant bits, and add in any order, so nothing is left to
it to round: rows are rounded here first, and how far each was moved is known. uint8 less 128 has at most 8 significant
bits, and is not moved at all.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute import engines
from memgen_eval.compute.products import installed
from memgen_eval.compute.resources import blocks, start_workers
from memgen_eval.compute.rows import FloatTransform, IntegerTransform, chunk_rows, dimension, read_rows
from memgen_eval.neighbours.candidates import Candidates, Scan
from memgen_eval.neighbours.topk import TopK

MOST_KEPT = 2048  # FAISS does not raise an error but ends the process where more are asked of a GPU
_DROPPED_BITS = np.uint32(13)  # of the 24 significant bits of float32, those that TF32 lacks
_SMALLEST = 2.0**-60  # products of smaller values could be flushed to zero
_UNIT = 2.0**-22  # what adding one term can lose, as a share of the sum of magnitudes
_MARGIN = 1 - 2.0**-40  # the rounding of the bounds themselves, in float64
_TEST_WIDTH, _TEST_REFERENCES, _TEST_KEEP, _TEST_BYTES = 1536, 700, 16, 2**26
_TEST_LARGEST = 2**11 - 1  # of the integers that TF32 holds, all up to this one
_logger = logging.getLogger("memgen_eval.neighbours")


@dataclass(frozen=True, eq=False)
class DeviceRows:
    """Rows as a GPU is given them.

    Attributes
    ----------
    values : float32 that TF32 holds, (B, D)
    norms : their squared norms, float64, (B,)
    errors : upper bounds of the distance of each from the row that it stands for, float64, (B,)
    """

    values: NDArray[np.float32]
    norms: NDArray[np.float64]
    errors: NDArray[np.float64]

    @staticmethod
    def of(array: NDArray[Any], rows: slice, transform: FloatTransform | None) -> DeviceRows:
        """A slice of rows (N, ...), transformed, or less 128 without a transform; a chunk is float64 at a time."""
        values = np.empty((rows.stop - rows.start, dimension(array)), dtype=np.float32)
        norms, errors = np.empty((2, len(values)))
        for chunk in blocks(rows.stop, chunk_rows(array), start=rows.start):
            at, block = slice(chunk.start - rows.start, chunk.stop - rows.start), read_rows(array, chunk)
            if transform is None:
                values[at] = pixels = IntegerTransform().apply(block)
                norms[at], errors[at] = IntegerTransform().norms(pixels), 0
            else:
                values[at], norms[at], errors[at] = _rounded(block, transform)
        return DeviceRows(values, norms, errors)


def _rounded(block: NDArray[Any], transform: FloatTransform) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Values, squared norms and errors of rows (B, D); the errors cover the rounding of all float64 numbers here."""
    exact = np.ldexp(block.astype(np.float64) - transform.centre, transform.exponent)
    values = to_tf32(exact)
    wide = values.astype(np.float64)
    exact -= wide
    norms, squares = (np.einsum("ij,ij->i", array, array) for array in (wide, exact))
    errors = np.sqrt(squares) * (1 + (block.shape[1] + 16) * 2.0**-52)
    return values, norms, errors + 2.0**-51 * (np.sqrt(norms) + errors)


def to_tf32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers below 2^127 rounded to 11 significant bits, halves away from zero; those below 2^-60 to zero."""
    bits = np.where(np.abs(values) < _SMALLEST, 0, values).astype(np.float32).view(np.uint32)
    half = np.uint32(1) << (_DROPPED_BITS - np.uint32(1))
    return ((bits + half) >> _DROPPED_BITS << _DROPPED_BITS).view(np.float32)


def rounding(width: int) -> float:
    """The fraction g of squared norms that summing can take, see `lower_bounds`; infinite from 2 million values."""
    share = (width + 16) * _UNIT
    return share / (1 - share) if share < 0.5 else np.inf


def lower_bounds(
    distances: NDArray[Any], queries: DeviceRows, largest_norm: float, largest_error: float
) -> NDArray[np.float64]:
    """Lower bounds of true squared distances, given those (N, J) that a GPU computed of the nearest references.

    A GPU computes ``|q|^2 + |y|^2 - 2 q.y`` of rows q and y that TF32 holds: products of their values are exact in
    float32, and only sums are rounded. Adding a term, in any order, loses at most ``2^-24`` of the sum of magnitudes
    where it rounds to the nearest float32, and ``2^-23`` where it cuts; tensor cores cut twice, first what is added, to
    the last bit of the largest addend, then the result. So with ``w = 2^-22``, ``n = D + 16`` and
    ``g = n w / (1 - n w)`` no norm is off by more than ``g |q|^2`` or ``g |y|^2``, the product by no more than
    ``g |q| |y| <= g (|q|^2 + |y|^2) / 2``, and the distance, two additions later, by no more than
    ``2 g (|q|^2 + |y|^2)``. The same holds of a sum of squared differences, itself at most ``2 (|q|^2 + |y|^2)``, and
    of a negative distance that is set to zero.

    The rows q and y stand for q' and y', from which they are at most e_q and e_y away:
    ``|q' - y'| >= |q - y| - e_q - e_y``. A reference that was not returned is no nearer than the last that was, by the
    distances computed; so the bound of the last one, with the largest norm and error of all references, holds for it.
    """
    if not np.isfinite(rounding(queries.values.shape[1])):
        return np.zeros(distances.shape)
    taken = 2 * rounding(queries.values.shape[1]) * (queries.norms + largest_norm)
    squared = np.maximum(distances.astype(np.float64) - taken[:, None], 0)
    reach = np.maximum(np.sqrt(squared) - queries.errors[:, None] - largest_error, 0)
    return np.asarray(np.square(reach) * _MARGIN)


@dataclass(frozen=True)
class GpuBlocks:
    """References of a tile, and queries that are searched for in it at once."""

    tile_rows: int
    block_rows: int

    @staticmethod
    def within(budget: int, width: int, *, num_gpus: int, keep: int) -> GpuBlocks:
        """A quarter of the budget for the queries, another for the tiles that lie in the host's memory, one a GPU."""
        tile_rows = budget // 4 // num_gpus // (4 * width)
        block_rows = budget // 4 // (4 * width + 32 * keep)
        return GpuBlocks(max(256, tile_rows), max(64, block_rows))


class Gpus:
    """The GPUs of this process, with memory of their own for as long as this object lives."""

    def __init__(self, temporary_bytes: int) -> None:
        """All that torchrun left to this process; on each, FAISS works within this memory where tiles allow it."""
        self._faiss: Any = importlib.import_module("faiss")
        self.devices = engines.own_gpus(self._faiss.get_num_gpus())
        self._resources = {device: self._reserved(temporary_bytes) for device in self.devices}

    def _reserved(self, temporary_bytes: int) -> Any:
        resources = self._faiss.StandardGpuResources()
        resources.setPinnedMemory(0)  # else 256 MiB of the host's
        resources.setTempMemory(temporary_bytes)
        return resources

    def nearest(
        self, device: int, queries: NDArray[np.float32], tile: NDArray[np.float32], keep: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Squared distances and rows of the `keep` nearest rows of a tile, (B, keep). Raises what FAISS raises."""
        distances, found = self._faiss.knn_gpu(self._resources[device], queries, tile, keep, device=device)
        each_once = (np.diff(np.sort(found, axis=1), axis=1) > 0).all()
        if not (np.isfinite(distances).all() and found.min() >= 0 and found.max() < len(tile) and each_once):
            raise RuntimeError(f"faiss returned rows on GPU {device} that are no neighbours")
        return distances, found


@dataclass(frozen=True, eq=False)
class Searched:
    """The nearest references of a tile to each query, and the largest squared norm and error in the tile."""

    distances: NDArray[np.float32]
    indices: NDArray[np.int64]
    largest_norm: float
    largest_error: float


def proposals(scan: Scan, queries: NDArray[Any]) -> Candidates:
    """The plain search on all GPUs of this process, a tile of references on each at a time."""
    assert isinstance(scan.transform, FloatTransform)
    transform = None if scan.references.dtype == queries.dtype == np.uint8 else scan.transform
    gpus = Gpus(scan.resources.budget)
    plan = GpuBlocks.within(scan.resources.budget, dimension(queries), num_gpus=len(gpus.devices), keep=scan.keep)
    _logger.debug("proposals: faiss on GPUs %s", gpus.devices)
    for rows in blocks(len(queries), plan.block_rows):
        prepared = DeviceRows.of(queries, rows, transform)
        best, largest_norm, largest_error = TopK(len(prepared.norms), scan.keep, np.float32), 0.0, 0.0
        for found in _search(prepared.values, scan, transform, gpus, plan.tile_rows):
            best.merge(slice(0, len(best.keys)), found.distances, found.indices)
            largest_norm = max(largest_norm, found.largest_norm)
            largest_error = max(largest_error, found.largest_error)
        bounds = lower_bounds(best.keys, prepared, largest_norm, largest_error)
        yield rows, best.indices, bounds if transform is None else np.ldexp(bounds, -2 * transform.exponent)


def _search(
    values: NDArray[np.float32], scan: Scan, transform: FloatTransform | None, gpus: Gpus, tile_rows: int
) -> Iterator[Searched]:
    """What is found in each tile of references, in order; each GPU takes one tile in turn."""

    def search(work: tuple[int, slice]) -> Searched:
        device, rows = work
        tile = DeviceRows.of(scan.references, rows, transform)
        distances, found = gpus.nearest(device, values, tile.values, min(scan.keep, len(tile.values)))
        return Searched(distances, found + rows.start, float(tile.norms.max()), float(tile.errors.max()))

    tiles = list(blocks(len(scan.references), tile_rows))
    with start_workers(len(gpus.devices)) as workers:
        for turn in blocks(len(tiles), len(gpus.devices)):
            yield from workers.map(search, zip(gpus.devices, tiles[turn], strict=False))


@functools.cache
def is_usable() -> bool:
    """Whether FAISS finds a GPU, and each of this process's passes the self-test."""
    if not installed("faiss"):
        return False
    gpus = Gpus(_TEST_BYTES)
    wrong = [device for device in gpus.devices if not is_right_on(device, gpus)]
    if wrong:
        _logger.warning("faiss gives wrong distances on GPU %s; the processor is used instead", wrong)
    return bool(gpus.devices) and not wrong


def is_right_on(device: int, gpus: Gpus) -> bool:
    """Self-test: black and white images, copies at large norms, duplicates, values that only TF32 and more hold.

    All are integers, so that the true distances are known. Each distance returned has to be as near to the true one as
    `lower_bounds` says, and nothing nearer may be missing.
    """
    generator = np.random.default_rng(0)
    references = generator.integers(-_TEST_LARGEST, _TEST_LARGEST + 1, (_TEST_REFERENCES, _TEST_WIDTH))
    references[0], references[1], references[2] = -128, 127, 1028  # bfloat16 would make 1024 of it
    references[3:100] = references[3] + generator.integers(-1, 2, (97, _TEST_WIDTH))  # nearly copies
    references[200:300] = references[100:200]
    np.clip(references, -_TEST_LARGEST, _TEST_LARGEST, out=references)
    queries = np.concatenate([references[:20], references[150:350:10], references[-5:] // 16])
    distances, found = gpus.nearest(device, queries.astype(np.float32), references.astype(np.float32), _TEST_KEEP)
    norms = np.square(queries).sum(axis=1)[:, None] + np.square(references).sum(axis=1)
    true = norms - 2 * (queries.astype(np.float64) @ references.T)
    slack = 2 * rounding(_TEST_WIDTH) * norms
    near = np.abs(np.take_along_axis(true, found, axis=1) - distances) <= np.take_along_axis(slack, found, axis=1)
    nearer = true < distances[:, -1:] - slack
    np.put_along_axis(nearer, found, False, axis=1)
    return bool(near.all() and not nearer.any())
