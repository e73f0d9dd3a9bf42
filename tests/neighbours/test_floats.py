"""nearest_neighbours on floats: every case against float64 brute force, to the bit, for every engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import oracles
from memgen_eval.compute.products import NUMPY, PRODUCTS, Products
from memgen_eval.compute.rows import FloatTransform
from memgen_eval.errors import InputError
from memgen_eval.neighbours import search
from memgen_eval.neighbours.candidates import Proposal
from memgen_eval.neighbours.distances import may_be_within, row_distances
from memgen_eval.neighbours.search import nearest_neighbours, squared_distances
from neighbour_checks import ENGINES, check, same

Floats = NDArray[Any]


def gaussian(num_rows: int, seed: int = 0, num_values: int = 20) -> Floats:
    return np.random.default_rng(seed).normal(size=(num_rows, num_values))


def sphere() -> Floats:
    points = gaussian(150)
    return np.concatenate([points / np.linalg.norm(points, axis=1, keepdims=True), np.zeros((2, 20))])


def huge_norms() -> Floats:
    points = gaussian(150)
    points[::7] *= 1e30
    return points


def near_duplicates() -> Floats:
    centres = 100 + gaussian(3)
    return np.repeat(centres, 50, axis=0) + 1e-9 * gaussian(150, seed=1)


CASES: dict[str, Callable[[], Floats]] = {
    "gaussian": lambda: gaussian(150),
    "half precision": lambda: gaussian(150).astype(np.float16),
    "single precision": lambda: gaussian(150).astype(np.float32),
    "far from the origin": lambda: 1e8 + gaussian(150),
    "all equal": lambda: np.full((150, 20), 0.1),
    "each thrice": lambda: np.tile(gaussian(50), (3, 1)),
    "near duplicates": near_duplicates,
    "on a sphere": sphere,
    "huge norms": huge_norms,
    "huge": lambda: 1e139 * gaussian(150) / 10,
    "tiny": lambda: 1e-130 * gaussian(150),
    "single-precision denormals": lambda: (1e-42 * gaussian(150)).astype(np.float32),
    "one dimension": lambda: gaussian(150, num_values=1),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_brute_force(case: str, engine: Any) -> None:
    references = CASES[case]()
    queries = np.concatenate([references[[0, 149]], (references[2:4] * references.dtype.type(0.75))])
    found = nearest_neighbours(queries, references, 5, engine=engine)
    assert found.squared_distances.dtype == np.float64
    check(found, queries, references, 5)


@given(
    values=arrays.arrays(np.float32, (24, 3), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=True)),
    k=st.integers(1, 4),
    leave_out=st.booleans(),
    flip=st.booleans(),
)
@settings(max_examples=60)
def test_adversarial_values(values: Floats, k: int, leave_out: bool, flip: bool) -> None:
    if 0 < np.abs(values).max() < 1e-140:
        return
    exclude = np.arange(4) if leave_out else None
    found = nearest_neighbours(values[:4], values, k, exclude=exclude, flip=flip)
    check(found, values[:4], values, k, exclude=exclude, flip=flip)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("num_queries", [1, 19, 20, 64, 100])
def test_distances_next_to_a_large_offset(engine: Any, num_queries: int) -> None:
    references = np.full((3, 64), 1e4, np.float32)
    references[1, 0] += 5
    references[2, 0] += 139
    queries = np.repeat(references[:1], num_queries, axis=0)
    found = nearest_neighbours(queries, references, k=3, engine=engine)
    assert (found.distances == [0, 5, 139]).all()
    assert (found.indices == [0, 1, 2]).all()
    twice = nearest_neighbours(queries, np.concatenate([references, references]), k=4, engine=engine)
    assert (twice.indices == [0, 3, 1, 4]).all()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Queries and candidates of each proposal that is asked for."""
    kept: list[tuple[int, int]] = []
    propose = search.propose

    def watched(queries: Floats, scan: Any) -> Any:
        kept.append((len(queries), scan.keep))
        return propose(queries, scan)

    monkeypatch.setattr(search, "propose", watched)
    return kept


def test_an_offset_common_to_all_costs_nothing(kept: list[tuple[int, int]]) -> None:
    references = 1e6 + gaussian(500)
    queries = 1e6 + gaussian(9, seed=1)
    check(nearest_neighbours(queries, references, 3), queries, references, 3)
    assert kept == [(9, 17)]


def test_many_candidates_need_widening(kept: list[tuple[int, int]]) -> None:
    references = np.concatenate([gaussian(400), np.tile(gaussian(1, seed=5), (60, 1)), gaussian(400, seed=6)])
    queries = np.concatenate([gaussian(1, seed=5) + 1e-3, gaussian(3, seed=7)])
    found = nearest_neighbours(queries, references, 3)
    check(found, queries, references, 3)
    assert kept == [(4, 17), (1, 136)]
    assert found.indices[0].tolist() == [400, 401, 402]


def test_too_many_equal_references_are_searched_exhaustively() -> None:
    references = np.concatenate([gaussian(5), np.tile(gaussian(1, seed=5), (300, 1)), gaussian(5, seed=6)])
    queries = np.concatenate([gaussian(1, seed=5) + 1e-3, gaussian(2, seed=7)])
    check(nearest_neighbours(queries, references, 3, memory_budget="1MiB"), queries, references, 3)


def test_engine_in_lower_precision_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def coarse(queries: Floats, packed: Any) -> Floats:
        bits = queries.view(np.uint32) & np.uint32(0xFFFF0000)  # what bfloat16 keeps
        return NUMPY.multiply(bits.view(np.float32), packed)

    liar = Products("torch", own_threads=True, value_bytes=4, pack=NUMPY.pack, multiply=coarse)
    monkeypatch.setitem(PRODUCTS, "torch", liar)
    references = np.random.default_rng(0).uniform(-1, 1, (500, 30)).astype(np.float32)
    queries = references[:20] + np.float32(0.01)
    with caplog.at_level(logging.WARNING, logger="memgen_eval.neighbours"):
        found = nearest_neighbours(queries, references, 4, engine="torch")
    assert same(found, nearest_neighbours(queries, references, 4))
    assert "torch is set to multiply float32 in lower precision" in caplog.text


def test_candidate_below_its_bound_is_not_believed() -> None:
    references = np.arange(12.0)[:, None]
    queries = np.zeros((1, 1))
    indices = np.array([[0, 1, 2]])
    for lower, bound, believed in (
        ([0, 1, 4], 9, True),
        ([0, 1, 4], 1, False),
        ([0, 1.1, 4], 9, False),
        ([0, 0.5, 0.9], 9, True),
    ):
        proposal = Proposal(indices, np.array([lower], dtype=np.float64), np.array([float(bound)]))
        (squared, found), proven = search._certify(queries, references, 2, proposal)
        assert squared.tolist() == [[0, 1]] and found.tolist() == [[0, 1]]
        assert proven.tolist() == [believed]


def test_bounds_hold_for_every_reference() -> None:
    references = (5 + gaussian(300, num_values=200)) * np.logspace(-6, 6, 300)[:, None]
    queries = 5 + gaussian(40, seed=1, num_values=200)
    transform = FloatTransform.around(references, float(np.abs(references).max()))
    q, y = transform.apply(queries), transform.apply(references)
    exact = squared_distances(queries, references)
    expanded = q.astype(np.float64)[:, None] - y.astype(np.float64)
    keys = ((1 - transform.discount) * transform.norms(y)).astype(np.float32) - 2 * (q @ y.T)
    bounds = transform.bounds_of_keys(keys, transform.norms(q))
    assert (bounds <= exact).all()
    middle = slice(145, 155)
    assert (bounds[:, middle] > 0.9 * exact[:, middle] - 1e-3 * exact.max()).all()
    distances = np.square(expanded).sum(axis=2).astype(np.float32)
    assert (
        transform.bounds_of_distances(distances, transform.norms(q), float(transform.norms(y).max())) <= exact
    ).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pairs_are_ruled_out_only_beyond_their_limit(dtype: Any) -> None:
    generator = np.random.default_rng(0)
    left, right = (generator.normal(size=(200, 700)).astype(dtype) for _ in range(2))
    right[:20] = left[:20]
    rows = np.arange(200)
    exact = row_distances(left, rows, right, rows)
    assert may_be_within(left, rows, right, rows, exact).all()
    ruled_out = ~may_be_within(left, rows, right, rows, exact * 0.999 - 1e-9)
    assert ruled_out.all() == (dtype != np.float64) and ruled_out.any() == (dtype != np.float64)


def test_pairs_whose_float32_distance_overflows_or_vanishes_are_not_ruled_out() -> None:
    generator, rows = np.random.default_rng(0), np.arange(50)
    for factor in (1e30, 1e19, 1e-19, 1e-22, 3e-23, 1e-30):
        left, right = (factor * generator.normal(size=(50, 8)).astype(np.float32) for _ in range(2))
        exact = row_distances(left, rows, right, rows)
        assert may_be_within(left, rows, right, rows, exact).all()


def test_no_bound_where_float32_sums_have_none() -> None:
    transform = FloatTransform(np.zeros(2**23), 0)
    assert transform.discount == 1
    assert (transform.bounds_of_keys(np.ones((1, 2), np.float32), np.ones(1)) == -np.inf).all()


def test_batches_and_memory_never_change_a_bit() -> None:
    references = gaussian(3000, num_values=300)
    queries = gaussian(50, seed=3, num_values=300)
    expected = nearest_neighbours(queries, references, 4)
    for budget in ("1MiB", "1GiB"):
        assert same(nearest_neighbours(queries, references, 4, memory_budget=budget), expected)
    for row in (0, 49):
        one = nearest_neighbours(queries[row : row + 1], references, 4)
        assert one.squared_distances.tolist() == expected.squared_distances[row : row + 1].tolist()
    matrix = squared_distances(queries, references)
    assert (np.take_along_axis(matrix, expected.indices, axis=1) == expected.squared_distances).all()
    assert (squared_distances(queries[7:8], references[5:6]) == matrix[7, 5]).all()


def test_uint8_with_floats_is_float() -> None:
    queries = np.random.default_rng(0).integers(0, 256, (5, 8), dtype=np.uint8)
    references = queries[::-1].astype(np.float32) + np.float32(0.25)
    found = nearest_neighbours(queries, references, 2)
    check(found, queries, references, 2)
    assert found.squared_distances[:, 0].tolist() == [0.5] * 5


def test_bfloat16_tensors_with_graph() -> None:
    values = torch.linspace(-1, 1, 24).reshape(6, 4).to(torch.bfloat16).requires_grad_()
    found = nearest_neighbours(values, values, 2)
    check(found, values.detach().float().numpy(), values.detach().float().numpy(), 2)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, ["references", "row 3", "NaN"]),
        (np.inf, ["references", "row 3", "infinity"]),
        (-np.inf, ["references", "row 3"]),
        (1e200, ["1e+200", "scale"]),
    ],
)
def test_values_that_cannot_be_compared(value: float, words: list[str]) -> None:
    references = np.ones((5, 2))
    references[3, 1] = value
    with pytest.raises(InputError) as caught:
        nearest_neighbours(np.ones((1, 2)), references, 1)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_whose_squares_all_vanish() -> None:
    with pytest.raises(InputError, match="1e-200"):
        nearest_neighbours(np.full((1, 2), 1e-200), np.zeros((3, 2)), 1)
    assert nearest_neighbours(np.zeros((1, 2)), np.zeros((3, 2)), 1).squared_distances.tolist() == [[0.0]]


def test_log_names_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="memgen_eval.neighbours"):
        nearest_neighbours(gaussian(2), gaussian(3), 1)
        nearest_neighbours(np.zeros((1, 2), np.uint8), np.zeros((3, 2), np.uint8), 1, engine="numkong")
    assert "float products: numpy" in caplog.text
    assert "integer products: numkong" in caplog.text
    assert oracles.squared_distance(np.zeros(2), np.ones(2)) == 2
