"""Products of every query with every reference of a tile, by several libraries, each imported only when used."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import Workers, blocks

SLICE = 32_768  # products of int8: their sum, doubled and added to a norm, stays within int32
_MANY_ROWS = 1_024  # what a library shares among its threads at once
EXACT_FLOAT32_TERMS = 1_024  # products of int8: their sum is at most 2**24: exact in float32 in any order


@dataclass(frozen=True)
class Products:
    """A library that multiplies.

    Attributes
    ----------
    name : the library, as it is imported and as it is installed
    own_threads : whether `multiply` uses all processors by itself; if not, it releases the GIL
    value_bytes : bytes that one packed value of a reference takes
    pack : prepares a tile (T, D) for many products: int8 with D <= `SLICE`, or float32
    multiply : products (B, T) of queries (B, D) with a packed tile: exact int32 of int8, float32 of float32; writable
    any_strides : whether int8 may be a view of any strides: no copy is made of it
    """

    name: str
    own_threads: bool
    value_bytes: int
    pack: Callable[[NDArray[Any]], Any]
    multiply: Callable[[NDArray[Any], Any], NDArray[Any]]
    any_strides: bool = False

    def callers(self, workers: Workers) -> Workers:
        """The workers that call `multiply`: a single one, for more rows, where the library has threads of its own."""
        return Workers(1, map, chunk_rows=_MANY_ROWS) if self.own_threads else workers


def _numkong_pack(references: NDArray[Any]) -> Any:
    import numkong

    return numkong.dots_pack(np.ascontiguousarray(references))


def _numkong_multiply(queries: NDArray[Any], packed: Any) -> NDArray[Any]:
    import numkong

    products = np.asarray(numkong.dots_packed(queries, packed))
    return products.astype(np.float32) if products.dtype.kind == "f" else products


def _torch_pack(references: NDArray[Any]) -> Any:
    import torch

    columns = torch.from_numpy(_two_columns(references)).t()  # D x T
    return columns if columns.dtype == torch.int8 else columns.contiguous()  # a view multiplies int8 as fast


def _torch_multiply(queries: NDArray[Any], packed: Any) -> NDArray[Any]:
    import torch

    rows = torch.from_numpy(_two_columns(queries))
    if rows.dtype == torch.int8:
        return np.asarray(torch._int_mm(rows, packed).numpy())
    with torch.autocast("cpu", enabled=False):  # the caller's would multiply in bfloat16
        return np.asarray((rows @ packed).numpy())


def _two_columns(rows: NDArray[Any]) -> NDArray[Any]:
    """Single values beside a zero: `torch._int_mm` (2.14) reads a matrix of one row with the wrong stride."""
    return np.pad(rows, ((0, 0), (0, 1))) if rows.shape[1] == 1 else rows


def _numpy_pack(references: NDArray[Any]) -> Any:
    width = references.shape[1]
    slices = blocks(width, EXACT_FLOAT32_TERMS if references.dtype == np.int8 else width)
    return [np.ascontiguousarray(references[:, columns], dtype=np.float32) for columns in slices]


def _numpy_multiply(queries: NDArray[Any], packed: Any) -> NDArray[Any]:
    if queries.dtype != np.int8:
        return np.asarray(queries @ packed[0].T)
    total = np.zeros((len(queries), len(packed[0])), dtype=np.int32)
    for columns, tile in zip(blocks(queries.shape[1], EXACT_FLOAT32_TERMS), packed, strict=True):
        total += (queries[:, columns].astype(np.float32) @ tile.T).astype(np.int32)
    return total


NUMKONG = Products("numkong", own_threads=False, value_bytes=2, pack=_numkong_pack, multiply=_numkong_multiply)
TORCH = Products(
    "torch", own_threads=False, value_bytes=2, pack=_torch_pack, multiply=_torch_multiply, any_strides=True
)
NUMPY = Products("numpy", own_threads=True, value_bytes=5, pack=_numpy_pack, multiply=_numpy_multiply)
PRODUCTS = {products.name: products for products in (NUMKONG, TORCH, NUMPY)}


@functools.cache
def installed(package: str) -> bool:
    """Whether `package` can be imported; does not import it."""
    return importlib.util.find_spec(package) is not None


def pack_slices(products: Products, rows: NDArray[Any]) -> list[Any]:
    """Rows (T, D), packed for products over D; int8 in slices whose sums int32 holds."""
    size = SLICE if rows.dtype == np.int8 else rows.shape[1]
    return [products.pack(np.ascontiguousarray(rows[:, columns])) for columns in blocks(rows.shape[1], size)]


def multiply_slices(products: Products, queries: NDArray[Any], packed: list[Any]) -> NDArray[Any]:
    """Products (B, T) of queries (B, D) with packed slices of (T, D); int64 where there are several."""
    if len(packed) == 1:
        return products.multiply(queries, packed[0])
    total: Any = 0
    for columns, part in zip(blocks(queries.shape[1], SLICE), packed, strict=True):
        total = total + products.multiply(np.ascontiguousarray(queries[:, columns]), part).astype(np.int64)
    return np.asarray(total)
