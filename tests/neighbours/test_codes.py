"""Codes of rows: the bound they give holds for every pair, exact distances beside it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from hard_rows import FLOATS, PIXELS, SIZE, Pixels, gaussian, smooth, with_outlier
from memgen_eval.compute.products import NUMKONG, NUMPY, Products
from memgen_eval.compute.resources import start_workers
from memgen_eval.neighbours import bound, quantizers
from memgen_eval.neighbours.pruning import CodedReferences, PruningPlan
from memgen_eval.neighbours.quantizers import (
    CodeKind,
    Codes,
    ProjectedQuantizer,
    Quantizer,
    ScalarQuantizer,
    kind_of_code,
)


def lower_bounds(quantizer: Quantizer, q: Codes, y: Codes) -> NDArray[np.longdouble]:
    """What the codes say that distances are at least, (N, M)."""
    apart = q.values.astype(np.int64)[:, None] - y.values.astype(np.int64)
    squared = np.square(apart).sum(axis=2).astype(np.longdouble)
    return np.longdouble(quantizer.step) * np.sqrt(squared) - q.errors[:, None] - y.errors


def distances(queries: NDArray[Any], references: NDArray[Any]) -> NDArray[np.longdouble]:
    gaps = queries.astype(np.longdouble)[:, None] - references.astype(np.longdouble)
    return np.sqrt(np.square(gaps).sum(axis=2))


def coded(quantizer: Quantizer, rows: NDArray[Any]) -> Codes:
    with start_workers(2) as workers:
        return quantizers.encode(quantizer, rows, slice(0, len(rows)), workers)


def leading(references: Pixels, num_directions: int, products: Products) -> ProjectedQuantizer | None:
    with start_workers(2) as workers:
        return ProjectedQuantizer.fit(references, num_directions, products, workers)


@pytest.mark.parametrize("case", PIXELS)
@pytest.mark.parametrize("products", [NUMKONG, NUMPY], ids=lambda products: products.name)
@pytest.mark.parametrize("num_directions", [1, 20, 500])
def test_leading_codes_bound_distances(case: str, products: Products, num_directions: int) -> None:
    queries, references = PIXELS[case]()
    quantizer = leading(references, num_directions, products)
    assert quantizer is not None and quantizer.width == min(num_directions, references.shape[1]) + 1
    q, y = coded(quantizer, queries), coded(quantizer, references)
    assert (lower_bounds(quantizer, q, y) <= distances(queries, references)).all()
    assert (y.norms == np.square(y.values.astype(np.int64)).sum(axis=1)).all()


@pytest.mark.parametrize("case", FLOATS)
def test_whole_codes_bound_distances(case: str) -> None:
    queries, references = FLOATS[case]()
    quantizer = ScalarQuantizer.fit(references)
    assert quantizer is not None and quantizer.width == references.shape[1]
    with np.errstate(over="ignore"):  # long double squares of the largest values, where they are no wider than double
        q, y = coded(quantizer, queries), coded(quantizer, references)
        assert (lower_bounds(quantizer, q, y) <= distances(queries, references)).all()
        left_out = references.astype(np.longdouble) - quantizer.centre - np.longdouble(quantizer.step) * y.values
        assert (np.sqrt(np.square(left_out).sum(axis=1)) <= y.errors).all()


@given(
    values=arrays.arrays(np.uint8, (12, 6), elements=st.integers(0, 255)),
    basis=arrays.arrays(np.int8, (6, 3), elements=st.integers(-127, 127)),
    step=st.floats(0.1, 100),
)
@settings(max_examples=150)
def test_any_basis_bounds_distances(values: Pixels, basis: NDArray[np.int8], step: float) -> None:
    """The bound asks for no more than a norm that is large enough."""
    norm = float(np.linalg.norm(basis.astype(np.float64), 2)) * (1 + 1e-9) + 1e-9
    quantizer = ProjectedQuantizer(np.ascontiguousarray(basis.T), norm, np.array([3.0, 0, 0, 5]), step, 0, NUMPY)
    found = quantizer.encode(values)
    assert (lower_bounds(quantizer, found, found) <= distances(values, values)).all()
    z = np.column_stack([(values.astype(float) - 128) @ basis / norm, np.zeros(len(values))])
    squared = np.square(values.astype(float) - 128).sum(axis=1) - np.square(z).sum(axis=1)
    z[:, -1] = np.sqrt(np.maximum(squared, 0))
    left_out = z - quantizer.centre / np.array([norm, norm, norm, 1]) - step * found.values
    assert (np.sqrt(np.square(left_out).sum(axis=1)) <= found.errors * (1 + 1e-9) + 1e-5).all()
    assert (found.errors <= np.sqrt(np.square(left_out).sum(axis=1)) * (1 + 1e-9) + 1e-3).all()


@pytest.mark.parametrize("centre", [(0.0, 0.5), (30.0, 5.0), (-1e7, 1.0)])
@pytest.mark.parametrize("step", [0.1, 0.3, 0.7, 1.1])
def test_errors_cover_their_own_rounding(centre: tuple[float, float], step: float) -> None:
    """In exact arithmetic; a row of 128 has coordinates of zero, and nothing but its centre to code."""
    norm = 3.3
    quantizer = ProjectedQuantizer(np.ones((1, 4), np.int8), norm, np.array(centre), step, 0, NUMPY)
    found = quantizer.encode(np.full((1, 4), 128, np.uint8))
    left_out = [
        -Fraction(centre[0]) / Fraction(norm) - Fraction(step) * int(found.values[0, 0]),
        -Fraction(centre[1]) - Fraction(step) * int(found.values[0, 1]),
    ]
    assert Fraction(float(found.errors[0])) ** 2 >= sum(part**2 for part in left_out)


def test_norm_of_the_basis_covers_its_largest_singular_value() -> None:
    quantizer = leading(smooth(300), 20, NUMPY)
    assert quantizer is not None
    largest = np.linalg.norm(quantizer.basis.astype(np.float64), 2)
    assert largest <= quantizer.norm <= largest * (1 + 1e-8)


def test_codes_of_smooth_rows_are_tight() -> None:
    queries, references = smooth(40, 1), smooth(300)
    quantizer = leading(references, 30, NUMKONG)
    assert quantizer is not None
    bounds = lower_bounds(quantizer, coded(quantizer, queries), coded(quantizer, references))
    assert np.median(bounds / distances(queries, references)) > 0.8


def test_errors_are_needed_and_most_are_usual() -> None:
    queries, references = with_outlier(1e9)
    quantizer = ScalarQuantizer.fit(references)
    assert quantizer is not None
    q, y = coded(quantizer, queries), coded(quantizer, references)
    bare = lower_bounds(quantizer, q, y) + q.errors[:, None] + y.errors
    assert (bare > distances(queries, references)).any()
    assert np.flatnonzero(y.errors > 1.1 * quantizer.usual_error).tolist() == [7]
    assert quantizer.usual_error < 1


@pytest.mark.parametrize("share_unusual", [0.0, 0.05, 0.6, 1.0])
def test_every_reference_is_in_one_tile_and_the_unusual_in_others(share_unusual: float) -> None:
    generator = np.random.default_rng(0)
    quantizer = ScalarQuantizer.fit(gaussian(300))
    assert quantizer is not None
    unusual = generator.random(300) < share_unusual
    errors = quantizer.usual_error * np.where(unusual, 2.0, 0.5)
    whole = Codes(generator.integers(-9, 10, (300, SIZE), dtype=np.int8), generator.integers(0, 99, 300), errors)
    blocks = (whole[start : start + 40] for start in range(0, 300, 40))
    plan = PruningPlan(CodeKind(SIZE), NUMPY, 2**20, 40, 300, 300, 300)
    tiles = list(CodedReferences(gaussian(300), plan.kind, quantizer).make_tiles(blocks, plan))
    indices = np.concatenate([tile.indices for tile in tiles])
    assert sorted(indices.tolist()) == list(range(300))
    for tile in tiles:
        assert len(set(unusual[tile.indices])) == 1
        assert tile.error == errors[tile.indices].max()
        assert (tile.half_norms == whole.norms[tile.indices] // 2).all()
        assert (tile.packed[0] == whole.values[tile.indices]).all()
        assert len(tile.indices) < 80


def test_zeros_are_coded_without_error() -> None:
    references = np.maximum(gaussian(300) - 1, 0)
    quantizer = ScalarQuantizer.fit(references)
    assert quantizer is not None
    found = quantizer.encode(np.zeros((1, SIZE)))
    assert found.errors[0] < 1e-12
    assert np.median(quantizer.encode(references).errors) < 0.6 * quantizer.step * np.sqrt(SIZE / 12)


def test_equal_rows_have_no_code() -> None:
    assert ScalarQuantizer.fit(np.full((50, 3), 0.1)) is None
    assert ScalarQuantizer.fit(np.full((50, 3), 0.1) + 1e-150 * gaussian(50)[:, :3]) is None
    assert leading(np.full((50, 3), 7, np.uint8), 2, NUMPY) is None


@pytest.mark.parametrize(
    ("dtype", "num_queries", "num_references", "width", "k", "expected"),
    [
        (np.uint8, 10_000, 50_000, 3072, 5, 257),
        (np.uint8, 10_000, 50_000, 3072, 51, 385),
        (np.uint8, 1000, 50_000, 3072, 5, None),
        (np.uint8, 2000, 50_000, 3072, 5, 257),
        (np.uint8, 2000, 50_000, 3072, 51, None),
        (np.uint8, 400, 500_000, 3072, 5, None),
        (np.uint8, 50_000, 50_000, 512, 5, None),
        (np.uint8, 10_000, 50_000, 40_000, 5, None),
        (np.uint8, 10_000, 50_000, 768, 32, 257),
        (np.uint8, 10_000, 50_000, 768, 33, None),
        (np.float32, 10_000, 50_000, 2048, 5, 2048),
        (np.float16, 10_000, 50_000, 512, 51, 512),
        (np.float32, 10_000, 50_000, 512, 1000, None),
        (np.float32, 10, 50_000, 512, 5, None),
        (np.float64, 100_000, 100_000, 16, 5, None),
    ],
)
def test_shapes_that_are_coded(
    dtype: Any, num_queries: int, num_references: int, width: int, k: int, expected: int | None
) -> None:
    queries, references = (np.broadcast_to(np.zeros((), dtype), (num, width)) for num in (num_queries, num_references))
    kind = kind_of_code(queries, references, k)
    assert (None if kind is None else kind.width) == expected


def test_limits_of_keys_are_rounded_up() -> None:
    """Keys of codes as far apart as the reach are within the limit, for norms of either parity; of farther ones not."""
    a = np.array([[3, -4, 100], [0, 1, 0]])
    b = np.random.default_rng(0).integers(-127, 128, (200, 3))
    squared = np.square(a[:, None] - b).sum(axis=2)
    keys = (np.square(b).sum(axis=1) >> 1) - a @ b.T
    for step in (0.3, 1.0, 7e-5, 3e100):
        for column in range(200):
            reach = step * np.sqrt(squared[:, column].astype(np.float64))
            passing = keys <= bound.key_limits(reach, step, np.square(a).sum(axis=1))[:, None]
            assert passing[squared <= squared[:, column, None]].all()
            assert not passing[squared > squared[:, column, None] + 1].any()
    assert (bound.key_limits(np.array([np.inf, 1e300]), 1e-150, np.zeros(2, np.int64)) == 2**31 - 2).all()
