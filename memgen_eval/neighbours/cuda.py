"""The smallest keys of every query over tiles of references, on a torch device: only the best of them leave it."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from memgen_eval.compute import engines
from memgen_eval.compute.products import SLICE, Products
from memgen_eval.compute.resources import blocks
from memgen_eval.compute.rows import FloatTransform, IntegerTransform, Transform, dimension, row_blocks
from memgen_eval.neighbours.candidates import ENGINES, Resources, Scan

_GROUP = 64  # columns, whose smallest key is looked at first
_MULTIPLE = 8  # of which lengths of rows are multiples: int8 products on CUDA take no others
_FEWEST_QUERIES = 32  # of queries: int8 products on CUDA take no fewer than 17
_MOST_DEVICE_ROWS, _MOST_BLOCK_ROWS = 8192, 4096
_KEY_BYTES = 16  # of a product, its key and temporaries
_ROW_BYTES = 32  # of a value while it is prepared, as float64 or int32, and of its copies
_LARGEST_KEY = torch.iinfo(torch.int32).max
_LOWER_HALF = 2**32 - 1  # the bits of an int64 that hold an index
_IN_USE = 2  # blocks whose work may be unfinished when another one is sent
_TEST_SHAPE, _TEST_KEEP, _TEST_BUDGET = (1500, 24), 70, 2**20  # tiles of 640 rows
_logger = logging.getLogger("memgen_eval.neighbours")


@dataclass(frozen=True)
class DevicePlan:
    """References of a tile, and queries that are multiplied with it at once."""

    tile_rows: int
    block_rows: int

    @staticmethod
    def within(budget: int, width: int) -> DevicePlan:
        """Shapes for rows of this many values, such that tile and keys each take at most half of the budget."""
        tile_rows = min(_MOST_DEVICE_ROWS, max(_GROUP, budget // 2 // (_ROW_BYTES * width) // _GROUP * _GROUP))
        block_rows = budget // 2 // (_KEY_BYTES * tile_rows)
        return DevicePlan(tile_rows, min(_MOST_BLOCK_ROWS, max(_FEWEST_QUERIES, block_rows)))


@dataclass(frozen=True)
class DeviceTile:
    """References on a device.

    Attributes
    ----------
    prepared : int8 or float32, (T, P): T a multiple of 64 and P of 8, padded with zeros
    norms : squared norms in the type of the keys, (T,); those of padding are the largest value
    first : index of the first reference
    """

    prepared: Tensor
    norms: Tensor
    first: int

    @staticmethod
    def of(block: Tensor, first: int, transform: Transform) -> DeviceTile:
        """Rows (T, D) as they came, from `first` on."""
        prepared, norms = transformed(block, transform)
        padded = _padded_rows(prepared, _GROUP)
        key_type = torch.int32 if prepared.dtype == torch.int8 else torch.float32
        largest = _LARGEST_KEY if prepared.dtype == torch.int8 else float("inf")
        norms = ((1 - transform.discount) * norms).to(key_type)
        return DeviceTile(padded, torch.nn.functional.pad(norms, (0, len(padded) - len(norms)), value=largest), first)


def smallest_keys(
    queries: NDArray[Any], scan: Scan, device: torch.device
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Of each query (N, D) the references with the smallest keys, ties to the smaller index; the keys; its norm.

    Keys are those of `candidates`, int32 of uint8 rows, float32 of float rows. A tile travels to the device while the
    one before is multiplied.
    """
    plan = DevicePlan.within(scan.resources.budget, dimension(scan.references))
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        prepared, norms = transformed(to_device(queries, device), scan.transform)
        best = nearest_codes(prepared, read_tiles(scan, plan.tile_rows, device), scan.keep, plan.block_rows)
        keys, indices = decoded(best, prepared.dtype)
        return indices.cpu().numpy(), keys.cpu().numpy(), norms.cpu().numpy()


def read_tiles(scan: Scan, tile_rows: int, device: torch.device) -> Iterator[DeviceTile]:
    """All references, tile by tile."""
    first = 0
    for block in one_ahead((block for _, block in row_blocks(scan.references, tile_rows)), device):
        yield DeviceTile.of(block, first, scan.transform)
        first += len(block)


def transformed(block: Tensor, transform: Transform) -> tuple[Tensor, Tensor]:
    """What `transform` makes of rows (B, D), padded to (B, P), and their squared norms, int64 or float64, (B,)."""
    if isinstance(transform, FloatTransform):
        centre = torch.from_numpy(transform.centre).to(block.device)
        prepared = ((block.double() - centre) * 2.0**transform.exponent).float()
        norms = prepared.double().square().sum(dim=1)
    else:
        prepared = block.bitwise_xor(128).view(torch.int8)
        norms = prepared.int().square().sum(dim=1)
    return _padded_rows(prepared, 1), norms


def nearest_codes(queries: Tensor, tiles: Iterator[DeviceTile], keep: int, block_rows: int) -> Tensor:
    """Codes of the `keep` smallest keys of prepared queries (N, P), in order, int64, (N, keep).

    A code holds a key above the index of its reference, so that codes are ordered as (key, index).
    """
    best = torch.full((len(queries), keep), torch.iinfo(torch.int64).max, device=queries.device)
    for tile in tiles:
        for rows in blocks(len(queries), block_rows):
            found = _smallest(_device_keys(queries[rows], tile), tile.first, keep)
            best[rows] = torch.cat([best[rows], found], dim=1).topk(keep, largest=False, sorted=True).values
    return best


@functools.cache
def usable_device(dtype: DTypeLike, *, width: int) -> torch.device | None:
    """The GPU, if it passes the self-test for rows of `width` int8 or float32 values; None: use the processor."""
    device: torch.device | None = engines.gpu()
    if device is None:
        return None
    products, integers = products_on(device), np.dtype(dtype) == np.int8
    if integers and width > SLICE:
        _logger.warning("rows of %d values are too wide for %s; the processor is used instead", width, products.name)
        return None
    if not (engines.is_exact(products) if integers else engines.is_float32(products)):
        _logger.warning("%s multiplies in lower precision; the processor is used instead", products.name)
        return None
    if not finds_all(device, dtype):
        _logger.warning("%s finds wrong neighbours; the processor is used instead", products.name)
        return None
    _logger.debug("products: %s", products.name)
    return device


def finds_all(device: torch.device, dtype: DTypeLike) -> bool:
    """Self-test of the selection: several tiles, black against white images, copies and many ties."""
    generator, integers = np.random.default_rng(0), np.dtype(dtype) == np.int8
    references = generator.choice(np.array([0, 1, 255], np.uint8), _TEST_SHAPE)
    references[0], references[1], references[700:900] = 0, 255, references[500:700]
    queries = np.concatenate([references[:20], references[690:710], references[-3:]])
    true = np.square(queries[:, None].astype(np.int64) - references).sum(axis=2)
    transform: Transform = IntegerTransform() if integers else FloatTransform(np.zeros(_TEST_SHAPE[1]), -9)
    rows = references if integers else references.astype(np.float32)
    scan = Scan(rows, transform, _TEST_KEEP, Resources(ENGINES["cuda"], _TEST_BUDGET))
    found, keys, norms = smallest_keys(queries.astype(rows.dtype), scan, device)
    bounds, distances = transform.bounds_of_keys(keys, norms), np.take_along_axis(true, found, axis=1)
    if integers:
        first = np.argsort(true, axis=1, kind="stable")[:, :_TEST_KEEP]
        return np.array_equal(found, first) and np.array_equal(bounds, distances)
    np.put_along_axis(true, found, np.iinfo(np.int64).max, axis=1)
    each_once = (np.diff(np.sort(found, axis=1), axis=1) > 0).all()
    return bool(each_once and (bounds <= distances).all() and (true.min(axis=1) >= bounds[:, -1]).all())


def products_on(device: torch.device) -> Products:
    """Products of arrays of the host by the code of a search, to be tested before the device is used."""

    def pack(references: NDArray[Any]) -> Any:
        return to_device(references, device)

    def multiply(queries: NDArray[Any], packed: Any) -> NDArray[Any]:
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            left, right = (_padded_rows(rows, _GROUP) for rows in (to_device(queries, device), packed))
            return _device_products(left, right)[: len(queries), : len(packed)].cpu().numpy().copy()

    return Products(f"torch on {device}", own_threads=True, value_bytes=1, pack=pack, multiply=multiply)


def _device_keys(queries: Tensor, tile: DeviceTile) -> Tensor:
    """Keys ``|y|^2 - 2 q.y`` as int32 in their order, (B, T)."""
    keys = torch.sub(tile.norms, _device_products(queries, tile.prepared), alpha=2)
    return keys if keys.dtype == torch.int32 else _ordered(keys.view(torch.int32))


def _device_products(queries: Tensor, prepared: Tensor) -> Tensor:
    """Products of queries (B, P) with references (T, P), exact int32 of int8, float32 of float32, (B, T)."""
    if queries.dtype != torch.int8:
        return queries @ prepared.t()
    missing = max(0, _FEWEST_QUERIES - len(queries))
    return torch._int_mm(torch.nn.functional.pad(queries, (0, 0, 0, missing)), prepared.t())[: len(queries)]


def _padded_rows(rows: Tensor, multiple: int) -> Tensor:
    """Rows with zeros added, so that their number is a multiple of `multiple`, and their length of 8."""
    return torch.nn.functional.pad(rows, (0, -rows.shape[1] % _MULTIPLE, 0, -len(rows) % multiple))


def _smallest(keys: Tensor, first: int, keep: int) -> Tensor:
    """Codes of the `keep` smallest keys (B, T) of each row, or of all; column c stands for index first + c.

    They lie in the `keep` groups whose least keys are smallest, of equal ones the first: each of as many other groups
    would hold a key that comes before.
    """
    groups = keys.view(len(keys), -1, _GROUP)  # (B, G, 64)
    if groups.shape[1] > keep:
        chosen = _coded(groups.amin(dim=2), torch.arange(groups.shape[1], device=keys.device))
        group = chosen.topk(keep, largest=False).values & _LOWER_HALF  # (B, keep)
        keys = groups.gather(1, group[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
        column = (group[:, :, None] * _GROUP + torch.arange(_GROUP, device=keys.device)).flatten(1)
    else:
        column = torch.arange(keys.shape[1], device=keys.device)
    return _coded(keys, first + column).topk(min(keep, keys.shape[1]), largest=False).values


def _coded(keys: Tensor, indices: Tensor) -> Tensor:
    return (keys.long() << 32) | indices


def decoded(codes: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Keys, int32 of int8 rows or float32, and indices, int64."""
    keys = (codes >> 32).int()
    return keys if dtype == torch.int8 else _ordered(keys).view(torch.float32), codes & _LOWER_HALF


def _ordered(bits: Tensor) -> Tensor:
    """The bits of float32 numbers as integers of the same order; its own inverse."""
    return bits ^ ((bits >> 31) & _LARGEST_KEY)


def to_device(block: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on the device; where that is a GPU, by way of pinned memory, and without waiting for it."""
    kind = torch.from_numpy(block[:0].copy()).dtype
    staged = torch.empty(block.shape, dtype=kind, device="cpu", pin_memory=device.type == "cuda")
    staged.numpy()[...] = block
    return staged.to(device, non_blocking=True)


def one_ahead(blocks: Iterable[NDArray[Any]], device: torch.device) -> Iterator[Tensor]:
    """The blocks on the device, in order; a GPU receives each one while it works on the one before.

    Whoever takes a block has to enqueue all work on it before asking for the next.
    """
    if device.type != "cuda":
        yield from (to_device(block, device) for block in blocks)
        return
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    working = torch.cuda.current_stream(device)
    coming: tuple[Tensor, torch.cuda.Event] | None = None
    used: deque[torch.cuda.Event] = deque()
    for block in blocks:
        if len(used) == _IN_USE:
            used.popleft().synchronize()  # so that no more blocks than these lie on the device
        with torch.cuda.stream(copying):
            sent = to_device(block, device), copying.record_event()
        if coming is not None:
            yield _received(*coming, working)
            used.append(working.record_event())
        coming = sent
    if coming is not None:
        yield _received(*coming, working)


def _received(block: Tensor, arrival: torch.cuda.Event, working: torch.cuda.Stream) -> Tensor:
    """A block that the working stream may use, and that is not overwritten before it has."""
    working.wait_event(arrival)
    block.record_stream(working)
    return block
