from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memgen_eval.compute.products import NUMKONG, NUMPY, SLICE, TORCH, pack_slices
from memgen_eval.diffusion import tiles
from memgen_eval.diffusion.tiles import MAX_DIGITS, digit_products, fixed_point, to_digits, undo_digits


def values(rows: Any) -> Any:
    """What digits and exponents stand for, in Python's integers and fractions of a power of two."""
    found = fixed_point(rows)
    whole = sum(256**k * digit.astype(object) for k, digit in enumerate(found.digits))
    return np.array([[float(v) * 2.0 ** int(e) for v in row] for row, e in zip(whole, found.exponents, strict=True)])


def test_integers_and_noise_on_a_grid_are_exact_and_take_few_digits() -> None:
    generator = np.random.default_rng(0)
    grey = generator.integers(-128, 128, (5, 40)).astype(np.float64)
    grey[0] = np.where(np.arange(40) % 2, -128, 127)
    noise = np.rint(generator.standard_normal((5, 40)) * 2**17) / 2**17
    for rows, most in ((grey, 1), (noise, 3), (grey + noise, 4)):
        assert np.array_equal(values(rows), rows)
        assert len(fixed_point(rows).digits) <= most


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 3e5, 1e300])
def test_any_float_loses_less_than_two_to_the_minus_46_of_the_largest(scale: float) -> None:
    rows = np.random.default_rng(1).standard_normal((7, 33)) * scale
    error = np.abs(values(rows) - rows).max(axis=1)
    assert (error <= 2.0**-46 * np.abs(rows).max(axis=1)).all()


def test_a_row_of_zeros_and_rows_of_far_sizes_keep_to_themselves() -> None:
    rows = np.array([[0.0, 0.0], [1e-20, -3e-20], [2.0**40, 1.0], [-128.0, 127.0]])
    assert np.array_equal(values(rows)[[0, 2, 3]], rows[[0, 2, 3]])
    assert np.allclose(values(rows)[1], rows[1], rtol=1e-13, atol=0)
    for row in range(4):
        assert np.array_equal(values(rows[row : row + 1])[0], values(rows)[row])


@pytest.mark.parametrize("step", [2.0**-17, 2.0**-28, 2.0**-44])
def test_short_and_long_numbers_have_the_same_digits(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.rint(np.random.default_rng(3).uniform(-1, 1, (6, 50)) / step) * step
    rows[0] = 0
    found = fixed_point(rows)
    monkeypatch.setattr(tiles, "SHORT_BITS", 0)
    long = fixed_point(rows)
    assert np.array_equal(found.digits, long.digits)
    assert np.array_equal(found.exponents[1:], long.exponents[1:])  # a row of zeros has any
    assert np.array_equal(values(rows), rows)


@pytest.mark.parametrize("dtype", [np.int64, np.uint32])
def test_digits_and_their_sum_undo_each_other(dtype: Any) -> None:
    for count in range(1, 5 if dtype == np.uint32 else MAX_DIGITS + 1):
        most = 127 * ((256**count - 1) // 255)
        least = 0 if dtype == np.uint32 else -128 * ((256**count - 1) // 255)
        whole = np.array([least, least + 1, 0, 1, 127, 128 if count > 1 else 5, most - 1, most], dtype=dtype)
        digits = to_digits(whole, count)
        assert digits.shape == (count, 8) and digits.dtype == np.int8
        assert np.array_equal(undo_digits(digits), whole.astype(np.float64))


@pytest.mark.parametrize("products", [NUMKONG, TORCH, NUMPY], ids=lambda one: one.name)
def test_inner_products_equal_the_integers_across_slices(products: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SLICE > 48
    monkeypatch.setattr("memgen_eval.compute.products.SLICE", 48)
    generator = np.random.default_rng(2)
    rows = np.rint(generator.standard_normal((70, 130)) * 2**17) / 2**17
    images = generator.integers(-128, 128, (29, 130), dtype=np.int8)
    digits = fixed_point(rows)
    parts = digit_products(digits.digits, pack_slices(products, images), products)
    found = np.ldexp(undo_digits(parts), digits.exponents[:, None])
    exact = (rows * 2**17).astype(np.int64) @ images.astype(np.int64).T
    assert np.array_equal(found, exact / 2.0**17)
