"""The training set in blocks that fit a cache, and noisy images that meet them: integers for uint8, else float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.products import Products, multiply_slices, pack_slices
from memgen_eval.compute.resources import CHUNK_ROWS
from memgen_eval.compute.rows import IntegerTransform
from memgen_eval.diffusion.inputs import BLOCK_ROWS

TILE_BYTES = 12 * 2**20
MAX_TILE_ROWS = 4096
MIN_TILE_ROWS = 16
Floats = NDArray[np.float64]
MAX_DIGITS = 6  # 46 bits and a sign: what is cut off is below 2^-46 of a row's largest value
SAME_INTEGER = 0.25  # squared distances of different uint8 images are 1 or more
SAME_FLOAT = 1e-12  # of the squared norms: what rounding leaves of a squared distance of nought


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
    transform = IntegerTransform()
    blocks = (
        block[start : start + CHUNK_ROWS] for block in _blocks(train, 1) for start in range(0, len(block), CHUNK_ROWS)
    )
    return np.concatenate([transform.norms(transform.apply(rows)) for rows in blocks]).astype(np.float64)


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


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Rows ``x[b] = 2^exponents[b] * sum_k 256^k digits[k, b]``.

    Attributes
    ----------
    digits : int8, (M, B, D)
    exponents : int64, (B,)
    """

    digits: NDArray[np.int8]
    exponents: NDArray[np.int64]


def fixed_point(rows: Floats) -> FixedPoint:
    """Rows (B, D), finite: exact where 46 bits suffice, as for integers and for noise on a grid.

    The digits of a row depend on that row alone; those that all rows lack are left out.
    """
    _, largest = np.frexp(np.abs(rows).max(axis=1))  # |rows| < 2^largest
    shift = (8 * MAX_DIGITS - 2) - largest.astype(np.int64)
    whole = np.rint(np.ldexp(rows, shift[:, None])).astype(np.int64)  # (B, D)
    bits = np.bitwise_or.reduce(whole, axis=1)
    zeros = np.where(bits == 0, 0, np.frexp((bits & -bits).astype(np.float64))[1] - 1)  # that all of a row end in
    whole >>= zeros[:, None]
    digits = to_digits(whole, _num_digits(whole))
    return FixedPoint(digits, zeros - shift)


def _num_digits(whole: NDArray[np.int64]) -> int:
    low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
    ones = [(256**count - 1) // 255 for count in range(1, MAX_DIGITS + 1)]  # 1, 257, ...
    return next(count for count, one in enumerate(ones, start=1) if -128 * one <= low and high <= 127 * one)


def to_digits(whole: NDArray[Any], num_digits: int) -> NDArray[np.int8]:
    """Integers as digits from -128 to 127 of base 256, the lowest first: (...) -> (M, ...)."""
    offset = whole.dtype.type(128 * ((256**num_digits - 1) // 255))
    bytes_ = (whole + offset) ^ offset  # each digit plus 128, less 128: in two's complement, a byte
    digits = np.empty((num_digits, *whole.shape), dtype=np.uint8)
    for k in range(num_digits):
        digits[k] = (bytes_ >> whole.dtype.type(8 * k)).astype(np.uint8)
    return digits.view(np.int8)


def digit_products(rows: FixedPoint, packed: list[Any], products: Products) -> NDArray[Any]:
    """Products of the digits of rows (B, D) with the images of a packed tile, (M, B, T), int32 or int64."""
    num_digits, num_rows, width = rows.digits.shape
    found = multiply_slices(products, rows.digits.reshape(num_digits * num_rows, width), packed)
    return found.reshape(num_digits, num_rows, -1)


def undo_digits(digits: NDArray[Any]) -> Floats:
    """``sum_k 256^k digits[k]``, (M, ...) -> (...); exact below 2^53, for each term is a whole number."""
    total: Floats = digits[-1].astype(np.float64)
    for digit in digits[-2::-1]:
        total *= 256
        total += digit
    return total


@dataclass(frozen=True, eq=False)
class Seen:
    """What one noisy image, ``x0 + sigma eps``, has seen of a tile.

    Attributes
    ----------
    squared : float64, (T,)
        ``|x0 - y|^2`` of the tile's images.
    along : float64, (T,), or None
        ``<eps, y>``; None for no noise.
    copies : int64, (C,)
        Images of the tile that are x0 itself.
    """

    squared: Floats
    along: Floats | None
    copies: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Met:
    """Noisy images that have met a tile; what one of them has seen is computed when it is asked for.

    Attributes
    ----------
    x0, eps : products with the tile's images
        float64 (Q, T) for float tiles, and of digits, (M, Q, T), for integer ones; `eps` may be None.
    """

    queries: Queries
    tile: Tile
    x0: NDArray[Any]
    eps: NDArray[Any] | None

    def seen(self, row: int) -> Seen:
        """By one of them; of uint8 images the squared distances are whole numbers, and that of a copy is 0."""
        norms = self.queries.norms[row] + self.tile.norms
        squared = norms - 2 * _values(self.x0, self.queries.x0, row)
        along = None if self.eps is None else _values(self.eps, self.queries.eps, row)
        same = SAME_FLOAT * norms if isinstance(self.tile, FloatTile) else SAME_INTEGER
        return Seen(squared, along, np.flatnonzero(squared <= same))


@dataclass(frozen=True, eq=False)
class Queries:
    """Up to 64 clean images (Q, D) in the units of the tiles, their noise, which may be None, and squared norms of x0.

    For integer tiles both are digits; for float tiles both are padded to 64 rows, so that no product depends on Q.
    `first` says which image of the pass comes first.
    """

    first: int
    x0: Any
    eps: Any
    norms: Floats

    @staticmethod
    def of(first: int, x0: Floats, eps: Floats | None, *, integers: bool) -> Queries:
        """Rows prepared for tiles of this kind."""
        prepare = fixed_point if integers else _padded
        return Queries(first, prepare(x0), None if eps is None else prepare(eps), np.einsum("qd,qd->q", x0, x0))

    def meet(self, tile: Tile, products: Products) -> Met:
        """All of them with all images of a tile."""
        if isinstance(tile, FloatTile):
            return Met(self, tile, self.x0 @ tile.rows.T, None if self.eps is None else self.eps @ tile.rows.T)
        x0 = digit_products(self.x0, tile.packed, products)
        eps = None if self.eps is None else digit_products(self.eps, tile.packed, products)
        return Met(self, tile, x0, eps)


def _values(products: NDArray[Any], rows: Any, row: int) -> Floats:
    """Products of one row with a tile, (T,)."""
    if isinstance(rows, FixedPoint):
        return np.asarray(np.ldexp(undo_digits(products[:, row]), rows.exponents[row]))
    return np.asarray(products[row])


def _padded(rows: Floats) -> Floats:
    return np.concatenate([rows, np.zeros((BLOCK_ROWS - len(rows), rows.shape[1]))])
