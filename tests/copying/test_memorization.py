"""The ratio rule and its kin: whole-number twins, ties, null rates known in closed form, planted copies."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

import oracles
from memgen_eval import memorization_ratio
from memgen_eval.copying import memorization
from memgen_eval.copying.copy_rules import (
    CURVE_THRESHOLDS,
    CopyRules,
    carlini_ratio,
    copied,
    largest_patch_distances,
    ratio_curve,
    relatively_near,
    repeated,
    surely_or_perhaps_near,
)
from memgen_eval.copying.memorization import search
from memgen_eval.errors import InputError
from memgen_eval.metrics.ratios import distance_ratios, ratio_below, undefined_ratios
from memgen_eval.neighbours import index as index_module
from memgen_eval.neighbours.duplicates import distinct_neighbours, without_duplicates
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.search import nearest_neighbours
from metric_tables import brute_force, copying, known, smooth_images, table, torus

LARGEST = 256 * 256 * 3 * 255**2  # all black against all white, 256 x 256 x 3
SENTINEL = 2**63 - 1  # the second neighbour of a copy where all else duplicates the first
squares = st.integers(0, LARGEST)


def below(first: int, second: int, threshold: float = 1 / 3) -> bool:
    return bool(ratio_below(np.array([first]), np.array([second]), threshold)[0])


@given(squares, squares, st.integers(1, 29))
def test_the_rule_in_whole_numbers(first: int, second: int, thirtieths: int) -> None:
    assert below(first, second) == oracles.is_copy(first, second, Fraction(1, 3))
    assert below(first, second, thirtieths / 30) == oracles.is_copy(first, second, Fraction(thirtieths, 30))


@given(st.integers(1, LARGEST // 9), st.sampled_from([(1, 3), (1, 2), (2, 3), (3, 10), (29, 30)]))
def test_a_tie_is_no_copy(scale: int, threshold: tuple[int, int]) -> None:
    p, q = threshold
    first, second = scale * p * p, scale * q * q  # d1/d2 is p/q exactly
    assert not below(first, second, p / q)
    assert below(first, second + 1, p / q)
    assert not below(first + 1, second, p / q)
    assert below(first - 1, second, p / q)


def test_nothing_overflows() -> None:
    assert below(LARGEST // 10, LARGEST) and not below(LARGEST // 9 + 1, LARGEST)
    assert below(LARGEST, SENTINEL) and below(LARGEST, SENTINEL, 1 / 30) and not below(LARGEST, LARGEST)
    assert all(below(LARGEST, SENTINEL, j / 30) and not below(SENTINEL, SENTINEL, j / 30) for j in range(1, 30))
    mixed = ratio_below(np.array([0, 5, LARGEST, 5]), np.array([0, 45, SENTINEL, 46]), 1 / 3)
    assert mixed.tolist() == [True, False, True, True]


@given(squares, squares, st.floats(0.01, 0.99))
def test_thresholds_that_are_no_small_fraction(first: int, second: int, threshold: float) -> None:
    left, right = Fraction(first), Fraction(threshold) ** 2 * second
    if first and abs(left - right) <= right / 10**14:
        return  # within the rounding of two square roots
    assert below(first, second, threshold) == (first == 0 or left < right)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_nothing_over_nothing_is_a_copy(dtype: type) -> None:
    two = table([[0, 0], [0, 4], [1, 9], [1, 10], [4, 4]], dtype=dtype)
    assert copied(two, threshold=1 / 3).tolist() == [True, True, False, True, False]
    ratios = [0, 0, 1 / 3, math.sqrt(0.1), 1]
    assert distance_ratios(two).tolist() == pytest.approx(ratios, rel=1e-15)
    ends = binomtest(3, 5).proportion_ci(0.95, method="exact")
    assert known(memorization_ratio(two)) == pytest.approx((0.6, ends.low, ends.high), abs=1e-12)


@pytest.mark.parametrize(("dtype", "endless"), [(np.int64, SENTINEL), (np.float64, math.inf)])
def test_a_training_set_of_duplicates(dtype: type, endless: float) -> None:
    """Within the tolerance a copy, else undefined: counted as none, and said so."""
    lone = table(np.array([[0, endless], [7, endless], [50, 50], [9, 100]], dtype=dtype), dtype=dtype)
    lone.indices[:3, 1] = -1
    assert copied(lone, threshold=1 / 3).tolist() == [True, True, False, True]
    assert undefined_ratios(lone).tolist() == [False, False, True, False]
    assert distance_ratios(lone).tolist() == pytest.approx([0, 0, 1, 0.3])
    ratio = memorization_ratio(lone)
    assert ratio.value == 0.75
    assert len(ratio.notes) == 1 and ratio.notes[0].startswith("1 images have no training neighbour beside duplicates")


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_null_rate_of_a_perfect_sampler(dimension: int) -> None:
    """In locally uniform density V1/V2 is uniform: P(d1/d2 < c) = c**d."""
    neighbours, _ = torus(4000, 2000, dimension, seed=dimension)
    for threshold in (1 / 3, 1 / 2, 0.8):
        null = threshold**dimension
        spread = math.sqrt(null * (1 - null) / 4000)
        assert memorization_ratio(neighbours, threshold=threshold).value == pytest.approx(null, abs=5 * spread)
    assert np.median(distance_ratios(neighbours)) == pytest.approx(2 ** (-1 / dimension), abs=0.03)


@pytest.mark.parametrize(("noise", "rate"), [(0.0, 1.0), (0.2, 1.0), (0.3, 0.961), (0.4, 0.214), (0.5, 0.003)])
def test_planted_copies_are_found_until_noise_hides_them(noise: float, rate: float) -> None:
    """The rates of noisy copies of 64-dimensional Gaussian data, n = 2,000, as independently tabulated."""
    rng = np.random.default_rng(5)
    train = rng.standard_normal((2000, 64))
    fresh, copies = rng.standard_normal((200, 64)), train[:300] + noise * rng.standard_normal((300, 64))
    flagged = copied(brute_force(np.concatenate([fresh, copies]), train), threshold=1 / 3)
    assert not flagged[:200].any()
    assert flagged[200:].mean() == pytest.approx(rate, abs=0.06)


def test_the_curve_is_the_ratio_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    two = table(np.sort(rng.integers(0, 50, (200, 2)), axis=1))
    curve = ratio_curve(two)
    assert curve.x is not None and curve.x.values == CURVE_THRESHOLDS and 1 / 3 in CURVE_THRESHOLDS
    assert curve.value is not None and curve.low is not None and curve.high is not None
    assert list(curve.value) == sorted(curve.value)
    for at, *found in zip(CURVE_THRESHOLDS, curve.value, curve.low, curve.high, strict=True):
        expected = sum(oracles.is_copy(a, b, Fraction(round(30 * at), 30)) for a, b in two.squared_distances.tolist())
        assert found[0] == expected / 200
        assert tuple(found) == known(memorization_ratio(two, threshold=at))


def test_identical_is_equal_in_every_value() -> None:
    known_set = copying(table([[0, 4], [1, 9]]), tolerance=1.0)
    assert known_set.identical.tolist() == [True, False]
    assert known_set.near_identical.tolist() == [True, True] and len(known_set) == 2


def test_no_samples() -> None:
    nothing = table(np.zeros((0, 51)))
    for figure in (memorization_ratio(nothing), carlini_ratio(relatively_near(nothing)), ratio_curve(nothing)):
        assert figure.value is None and figure.notes == ("no images to count",)
    assert distance_ratios(nothing).shape == (0,)


def test_what_cannot_be_a_ratio() -> None:
    with pytest.raises(InputError, match="one column, expected two"):
        memorization_ratio(table([[1], [2]]))
    for threshold in (0, 1, -1 / 3, math.nan):
        with pytest.raises(InputError, match="threshold"):
            memorization_ratio(table([[1, 2]]), threshold=threshold)


def test_carlini_counts_a_ratio_of_one() -> None:
    """With d1 = 49 and 49 others at 99 the mean is 98: a ratio of exactly 1."""
    far = 10**6  # the 51st: it does not count
    rows = [[49, *[99] * 49], [49, *[98] * 49], [0, *[0] * 49], [0, *[98] * 49], [99, *[99] * 49]]
    assert carlini_ratio(relatively_near(table(np.square([[*row, far] for row in rows])))).value == 0.6


def test_carlini_needs_more_than_50_training_images() -> None:
    assert carlini_ratio(relatively_near(table(np.zeros((3, 50))))).notes == ("needs more than 50 training images",)


def spread_images(count: int, seed: int) -> NDArray[np.uint8]:
    """Smooth images of one channel and 8 pixels a side, of which many lie near others."""
    return smooth_images(count, (1, 8, 8), seed)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("num_some", [51, 1_000])
@pytest.mark.parametrize("num_train", [2, 50, 51, 52, 60, 1_500])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("leave_out", [True, False])
def test_few_neighbours_decide_as_51_do(
    leave_out: bool, dtype: type, num_train: int, num_some: int, flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of fresh images, of copies under more and more noise, and of images whose copies the training set holds."""
    monkeypatch.setattr(index_module, "SOME_ROWS", num_some)
    train = spread_images(num_train, 0)
    train[: num_train // 8] = train[num_train // 4 : num_train // 4 + num_train // 8]  # held twice
    noise = np.linspace(0, 40, num_train)[:, None, None, None] * np.random.default_rng(1).normal(size=train.shape)
    noisy = np.rint(train + noise).clip(0, 255)
    excluded = np.arange(num_train) if leave_out else None
    images = (noisy if leave_out else np.concatenate([noisy, spread_images(50, 2), noisy[..., ::-1]])).astype(dtype)
    index, rules = Index(References(train.astype(dtype))), CopyRules(1 / 3, 3.0, flip)
    looked_for: list[int] = []
    whole = Index.search

    def counted(own: Index, queries: Any, k: int, **how: Any) -> Any:
        looked_for.extend([len(queries)] if own is index and k > 50 else [])
        return whole(own, queries, k, **how)

    monkeypatch.setattr(Index, "search", counted)
    found = memorization.copying(search(images, index, excluded=excluded), index, rules)
    available = num_train - leave_out
    expected = nearest_neighbours(images, index.rows, min(51, available), exclude=excluded, flip=flip)
    near = relatively_near(expected)
    if available <= 50:
        assert near is None and found.relatively_near is None and not looked_for
        return
    assert near is not None and found.relatively_near is not None
    assert found.relatively_near.tolist() == near.tolist()
    if num_train > 100:
        assert 20 < near.sum() < len(near) - 20 and 0 < sum(looked_for) < 0.8 * len(images)
    distinct = distinct_neighbours(expected, index.rows, tolerance=3.0)
    assert (found.distinct.indices == distinct.indices).all()
    assert (found.distinct.squared_distances == distinct.squared_distances).all()


@pytest.mark.parametrize(("nearest", "near"), [(48, True), (49, True), (50, False)])
def test_a_ratio_of_one_is_not_decided_by_bounds(nearest: int, near: bool) -> None:
    """One training image at 49 and all others at 99: the nearest 50 have a mean of 98."""
    train = np.zeros((60, 1, 8, 8), dtype=np.uint8)
    train.reshape(60, 64)[np.arange(60), np.arange(60)] = [nearest, *[99] * 59]
    index = Index(References(train))
    table = search(np.zeros((1, 1, 8, 8), np.uint8), index)
    surely, perhaps = surely_or_perhaps_near(table, np.array([[nearest, *[99.0] * 49]]))
    assert (surely.tolist(), perhaps.tolist()) == ([nearest < 49], [nearest < 50])
    known_set = memorization.copying(table, index, CopyRules(1 / 3, 0.0, flip=False))
    assert known_set.relatively_near is not None and known_set.relatively_near.tolist() == [near]


def test_left_out_with_its_duplicates_the_nearest_are_those_of_a_wide_search() -> None:
    train = np.repeat(spread_images(40, 0), 3, axis=0)
    index, rules, rows = Index(References(train)), CopyRules(1 / 3, 1.0, flip=False), np.arange(120)
    found = memorization.copying(search(train, index, excluded=rows), index, rules, apart=True)
    expected = without_duplicates(nearest_neighbours(train, train, 51, exclude=rows), tolerance=1.0)
    assert found.plain.indices.shape == (120, 49) and (found.plain.indices == expected.indices).all()
    assert found.relatively_near is None


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (1, 7, 9), (3, 2, 5), (1, 1, 1)])
def test_the_worst_patch(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (5, *shape), dtype=np.uint8) for _ in range(2))
    worst = largest_patch_distances(first, second)
    gaps = first.astype(float) - second.astype(float)
    whole = np.sqrt((gaps**2).mean(axis=(1, 2, 3)))
    assert (worst >= whole - 1e-9).all() and (worst <= np.abs(gaps).max(axis=(1, 2, 3)) + 1e-9).all()
    constant = largest_patch_distances(np.full((1, *shape), 9.0), np.full((1, *shape), 4.0))
    assert constant.tolist() == [5.0]


def test_one_wrong_pixel_stands_in_one_patch() -> None:
    first, second = np.zeros((1, 3, 32, 32), np.uint8), np.zeros((1, 3, 32, 32), np.uint8)
    second[0, 1, 17, 9] = 200
    assert largest_patch_distances(first, second)[0] == pytest.approx(200 / math.sqrt(3 * 8 * 8))


def test_repeats_are_nearer_to_each_other() -> None:
    to_others, to_baseline = table([[0], [0], [1], [1], [4]]), table([[0], [9], [9], [10], [1]])
    repeats = repeated(to_others, to_baseline, threshold=1 / 3)
    assert repeats.value == 0.6 and repeats.count == 5
