"""Real numbers as int8 digits: their products with uint8 images are sums of integers, the same in every order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.products import Products
from memgen_eval.neighbours.tiles import multiply_slices

MAX_DIGITS = 6  # 46 bits and a sign: what is cut off is below 2^-46 of a row's largest value

Floats = NDArray[np.float64]


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
