"""The training set in blocks that fit a cache, as D* reads it: integers where it is uint8, float64 where it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.frames import IntegerFrame
from memgen_eval.neighbours.products import Products
from memgen_eval.neighbours.threads import CHUNK_ROWS
from memgen_eval.neighbours.tiles import pack_slices

TILE_BYTES = 12 * 2**20
MAX_TILE_ROWS = 4096
MIN_TILE_ROWS = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IntegerTile:
    """Training images minus 128.

    Attributes
    ----------
    rows : int8, (T, D)
    norms : float64, (T,), whole numbers
    packed : the rows, for products over D
    mixing : their transpose, for products over T
    """

    rows: NDArray[np.int8]
    norms: Floats
    packed: list[Any]
    mixing: Any


@dataclass(frozen=True, eq=False)
class FloatTile:
    """Training images as they are, (T, D), and their squared norms, (T,)."""

    rows: Floats
    norms: Floats


Tile = IntegerTile | FloatTile


def integer_tiles(train: NDArray[np.uint8], norms: Floats, products: Products) -> Iterator[IntegerTile]:
    """All images of a uint8 training set (N, ...) with their norms (N,), packed for both kinds of product."""
    start = 0
    for block in _blocks(train, 1):
        rows = np.bitwise_xor(block, 128).view(np.int8)
        yield IntegerTile(rows, norms[start : start + len(rows)], pack_slices(products, rows), products.pack(rows.T))
        start += len(rows)


def integer_norms(train: NDArray[np.uint8]) -> Floats:
    """Squared norms of the rows of all tiles, (N,), whole numbers."""
    frame = IntegerFrame()
    blocks = (
        block[start : start + CHUNK_ROWS] for block in _blocks(train, 1) for start in range(0, len(block), CHUNK_ROWS)
    )
    return np.concatenate([frame.norms(frame.convert(rows)) for rows in blocks]).astype(np.float64)


def float_tiles(train: NDArray[Any]) -> Iterator[FloatTile]:
    """All images of a float training set (N, ...)."""
    for block in _blocks(train, 8):
        rows = block.astype(np.float64)
        yield FloatTile(rows, np.einsum("td,td->t", rows, rows))


def _blocks(train: NDArray[Any], value_bytes: int) -> Iterator[NDArray[Any]]:
    """Blocks (T, D) whose shape depends on D alone."""
    dimension = math.prod(train.shape[1:])
    num_rows = max(MIN_TILE_ROWS, min(MAX_TILE_ROWS, TILE_BYTES // (value_bytes * dimension)))
    for start in range(0, len(train), num_rows):
        block = np.asarray(train[start : start + num_rows])
        yield np.ascontiguousarray(block.reshape(len(block), dimension))
