"""A uint8 training set in tiles that fit a cache, and noisy images as digits, whose products with a tile are exact.

In reading order: `IntegerTile`, `FixedPoint` and the digits of its numbers, `TileDistances`, `IntegerBlock`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.products import Products, multiply_slices, pack_slices
from memgen_eval.compute.resources import CHUNK_ROWS, TILE_BYTES
from memgen_eval.compute.rows import IntegerTransform, dimension, row_blocks

MAX_TILE_ROWS = 4096
MIN_TILE_ROWS = 16
Floats = NDArray[np.float64]
MAX_DIGITS = 6  # 46 bits and a sign: what is cut off is below 2^-46 of a row's largest value
SHORT_BITS = 30  # and a sign: int32 holds the numbers of most blocks, and is faster than int64
BELOW_ONE = 0.25  # squared distances of different uint8 images are 1 or more


@dataclass(frozen=True, eq=False)
class IntegerTile:
    """Training images minus 128."""

    rows: NDArray[np.int8]  # (T, D)
    norms: Floats  # squared, whole numbers, (T,)
    packed: list[Any]  # the rows, for products over D
    packed_columns: Any  # their transpose, for products over T


def integer_tiles(train: NDArray[np.uint8], norms: Floats, products: Products) -> Iterator[IntegerTile]:
    """All images of a uint8 training set (N, ...) with their norms (N,), packed for both kinds of product."""
    for start, block in row_blocks(train, tile_rows(train, value_bytes=1)):
        rows = IntegerTransform().apply(block)
        yield IntegerTile(rows, norms[start : start + len(rows)], pack_slices(products, rows), products.pack(rows.T))


def integer_norms(train: NDArray[np.uint8]) -> Floats:
    """Squared norms of the rows of all tiles, (N,), whole numbers."""
    transform = IntegerTransform()
    norms = [transform.norms(transform.apply(block)) for _, block in row_blocks(train, CHUNK_ROWS)]
    return np.concatenate(norms).astype(np.float64)


def tile_rows(train: NDArray[Any], *, value_bytes: int) -> int:
    """Images of a tile: a function of D alone."""
    return max(MIN_TILE_ROWS, min(MAX_TILE_ROWS, TILE_BYTES // (value_bytes * dimension(train))))


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Rows ``x[b] = 2^exponents[b] * sum_k 256^k digits[k, b]``."""

    digits: NDArray[np.int8]  # (M, B, D)
    exponents: NDArray[np.int64]  # (B,)


def fixed_point(rows: Floats) -> FixedPoint:
    """Rows (B, D), finite: exact where 46 bits suffice, as for integers and for noise on a grid.

    The digits of a row depend on that row alone; those that all rows lack are left out.
    """
    _, largest = np.frexp(np.abs(rows).max(axis=1))  # |rows| < 2^largest
    for size, dtype in ((SHORT_BITS, np.int32), (8 * MAX_DIGITS - 2, np.int64)):
        shift = size - largest.astype(np.int64)
        scaled = np.ldexp(rows, shift[:, None])
        whole = np.rint(scaled).astype(dtype)  # (B, D)
        if (whole == scaled).all():
            break
    bits = np.bitwise_or.reduce(whole, axis=1)
    lowest = np.frexp((bits & -bits).astype(np.float64))[1] - 1
    zeros = np.where(bits == 0, 0, lowest).astype(dtype)  # trailing zero bits that all values of a row share
    whole >>= zeros[:, None]
    digits = to_digits(whole.view(np.uint32) if dtype == np.int32 else whole, _num_digits(whole))
    return FixedPoint(digits, zeros - shift)


def _num_digits(whole: NDArray[Any]) -> int:
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


def digit_products(digits: NDArray[np.int8], packed: list[Any], products: Products) -> NDArray[Any]:
    """Products of digits of rows, (M, B, D), with the images of a packed tile, (M, B, T), int32 or int64."""
    num_digits, num_rows, width = digits.shape
    found = multiply_slices(products, digits.reshape(num_digits * num_rows, width), packed)
    return found.reshape(num_digits, num_rows, -1)


def undo_digits(digits: NDArray[Any]) -> Floats:
    """``sum_k 256^k digits[k]``, (M, ...) -> (...); exact below 2^53, for each term is a whole number."""
    total: Floats = digits[-1].astype(np.float64)
    for digit in digits[-2::-1]:
        total *= 256
        total += digit
    return total


@dataclass(frozen=True, eq=False)
class TileDistances:
    """One noisy image, ``x0 + sigma eps``, beside the images y of a tile."""

    squared: Floats  # |x0 - y|^2, (T,)
    along_noise: Floats | None  # <eps, y>, (T,); None for no noise
    copies: NDArray[np.intp]  # images of the tile that are x0 itself, (C,)

    def logits(self, sigma: Floats, memory: Floats) -> Floats:
        """``-|x0 + sigma eps - y|^2 / (2 sigma^2)`` up to a constant for each sigma (S,), (S, T), in memory."""
        logits: Floats = np.multiply.outer(-0.5 / sigma**2, self.squared, out=memory[0])
        if self.along_noise is not None:
            logits += np.multiply.outer(1 / sigma, self.along_noise, out=memory[1])
        return logits


@dataclass(frozen=True, eq=False)
class IntegerBlock:
    """Noisy images ``x0 + sigma eps`` that meet every tile together; x0 in the units of the tiles."""

    x0: FixedPoint  # (Q, D)
    eps: FixedPoint | None  # (Q, D); None for no noise
    norms: Floats  # squared, of x0, (Q,)

    @classmethod
    def of(cls, x0: Floats, eps: Floats | None) -> IntegerBlock:
        """From rows (Q, D)."""
        return cls(fixed_point(x0), None if eps is None else fixed_point(eps), np.einsum("qd,qd->q", x0, x0))

    def distances(self, tile: IntegerTile, products: Products) -> Iterator[tuple[int, TileDistances]]:
        """Yield the number of each image, and its distances to a tile's images, whose squares are whole numbers."""
        both = [self.x0] if self.eps is None else [self.x0, self.eps]
        found = digit_products(np.concatenate([rows.digits for rows in both]), tile.packed, products)  # (M, Q, T)
        x0_products, eps_products = np.split(found, [len(self.x0.digits)])
        for row, norm in enumerate(self.norms):
            squared = norm + tile.norms - 2 * _row_products(x0_products, self.x0, row)
            along = None if self.eps is None else _row_products(eps_products, self.eps, row)
            yield row, TileDistances(squared, along, np.flatnonzero(squared <= BELOW_ONE))


def _row_products(products: Any, rows: FixedPoint, row: int) -> Floats:
    """Products of one of the rows with the images of a tile, (T,), from those of its digits, (M, Q, T)."""
    return np.asarray(undo_digits(products[:, row]) * np.ldexp(1.0, rows.exponents[row]))
