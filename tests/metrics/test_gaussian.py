"""Gaussian structure of samples: closed forms, scipy's matrix square root, what orthogonal maps must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import oracles
from conftest import Cifar10
from memgen_eval.diffusion.moments import leading_directions, moments, principal
from memgen_eval.metrics.gaussian_samples import (
    MatchedSets,
    Sketch,
    _Law,
    _without,
    gaussian_wasserstein,
    measure_gaussian,
    sketch,
    subspace_overlap,
)
from memgen_eval.metrics.left_out import Neighbourhood, groups_of_images
from memgen_eval.results import Estimate, Gaussian
from metric_tables import known

Arrays = NDArray[Any]


def measured(
    samples: Arrays, test: Arrays | None, train: Arrays, other_train: Arrays, *, grey_levels: float = 255.0
) -> Gaussian:
    both = principal(np.concatenate([train, other_train]))
    return measure_gaussian(
        MatchedSets(samples, test, train, other_train), train_moments=both, grey_levels=grey_levels, seed=0
    )


def correlated(seed: int, num_images: int, dimension: int) -> NDArray[np.float64]:
    """Gaussian data with a spectrum that falls like 1/k."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    scales = 100 / np.arange(1, dimension + 1)
    return (np.random.default_rng(seed).standard_normal((num_images, dimension)) * scales) @ turn.T


@pytest.mark.parametrize(
    ("num_images", "shape"), [(250, (1, 8, 8)), (40, (1, 8, 8)), (40, (3, 16, 16)), (2, (1, 8, 8))]
)
def test_a_shift_is_its_own_length(num_images: int, shape: tuple[int, ...]) -> None:
    train = np.random.default_rng(0).integers(0, 246, (num_images, *shape), dtype=np.uint8)
    other = np.random.default_rng(1).integers(0, 246, (num_images, *shape), dtype=np.uint8)
    found = measured(train + np.uint8(5), train, train, other)
    assert found.wasserstein.value == pytest.approx(5 / 255, rel=1e-6)
    assert round(found.wasserstein.value or 0, 6) == 0.019608
    assert found.test_wasserstein.value == pytest.approx(0, abs=1e-6)
    assert found.wasserstein.count == num_images


@pytest.mark.parametrize("num_images", [30, 500])
def test_wasserstein_of_moments_in_all_directions(num_images: int) -> None:
    first, second = correlated(1, num_images, 12), 1.3 * correlated(2, num_images, 12) + 4
    known_moments = moments(first)
    _, directions = leading_directions(known_moments.covariance, 12)
    sketches = [sketch(images, mean=known_moments.mean, directions=directions) for images in (first, second)]
    expected = oracles.gaussian_wasserstein(first, second)
    assert gaussian_wasserstein(*sketches) == pytest.approx(expected, rel=1e-9)
    assert gaussian_wasserstein(*reversed(sketches)) == pytest.approx(expected, rel=1e-9)


def test_wasserstein_of_diagonal_covariances_is_known() -> None:
    rows = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])  # covariance 1/3
    scales = np.array([3.0, 2.0, 0.5])
    one = Sketch(rows, np.zeros(4), 9.0)
    other = Sketch(rows * scales + [0, 0, 2], np.array([0.0, 3.0, 0, 0]), 25.0)
    expected = ((scales - 1) ** 2).sum() / 3 + 4 + 9 + (5 - 3) ** 2
    assert gaussian_wasserstein(one, other) == pytest.approx(np.sqrt(expected), rel=1e-12)


@pytest.mark.parametrize("num_directions", [1, 4, 8])
def test_fewer_directions_give_a_lower_bound_that_loses_little(num_directions: int) -> None:
    first, second = correlated(1, 4000, 12), 1.2 * correlated(2, 4000, 12) + 3
    known_moments = moments(first)
    _, directions = leading_directions(known_moments.covariance, num_directions)
    found = gaussian_wasserstein(
        *(sketch(images, mean=known_moments.mean, directions=directions) for images in (first, second))
    )
    whole = oracles.gaussian_wasserstein(first, second)
    assert 0.97 * whole < found <= whole * (1 + 1e-9)


def test_what_lies_outside_by_hand() -> None:
    images = np.array([[1.0, 5, 0], [3, 7, 0], [2, 6, 6]])
    found = sketch(images, mean=np.array([0.0, 1, 0]), directions=np.array([[1.0], [0], [0]]))
    assert found.inside[:, 0].tolist() == [1, 3, 2]
    assert found.outside_mean == pytest.approx([0, 5, 2])
    assert found.outside_variance == pytest.approx(images[:, 1:].var(axis=0).sum())


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [([0, 1], [0, 1], 1.0), ([0, 1], [1, 0], 1.0), ([0, 1], [2, 3], 0.0), ([0, 1], [1, 2], 0.5)],
)
def test_overlap_of_axes(first: list[int], second: list[int], overlap: float) -> None:
    axes = np.eye(5)
    assert subspace_overlap(axes[:, first], axes[:, second]) == overlap


def test_overlap_is_the_mean_squared_cosine_of_principal_angles() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.linalg.qr(rng.standard_normal((9, 3)))[0] for _ in range(2))
    cosines = np.linalg.svd(first.T @ second)[1]
    assert subspace_overlap(first, second) == pytest.approx((cosines**2).mean(), rel=1e-12)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    assert subspace_overlap(first @ turn, second) == pytest.approx(subspace_overlap(first, second), rel=1e-12)
    draws = [np.linalg.qr(rng.standard_normal((20, 5)))[0] for _ in range(400)]
    random = np.mean([subspace_overlap(a, b) for a, b in zip(draws[::2], draws[1::2], strict=True)])
    assert random == pytest.approx(5 / 20, abs=0.02)


def family(scale: float = 1.0, turn: Arrays | None = None, *, grey_levels: float = 255.0) -> Gaussian:
    sets = [correlated(seed, 200, 48) for seed in range(1, 5)]
    sets[0] = sets[0] * 1.1 + 2
    turned = [scale * (images if turn is None else images @ turn) for images in sets]
    return measured(*turned, grey_levels=grey_levels)


FIGURES = ("wasserstein", "test_wasserstein", "subspace_overlap", "test_subspace_overlap")


@pytest.mark.parametrize("name", FIGURES)
def test_orthogonal_maps_and_units_change_nothing(name: str) -> None:
    turn = np.linalg.qr(np.random.default_rng(9).standard_normal((48, 48)))[0]
    expected = known(getattr(family(), name))
    assert known(getattr(family(turn=turn), name)) == pytest.approx(expected, rel=1e-6)
    assert known(getattr(family(scale=0.01, grey_levels=2.55), name)) == pytest.approx(expected, rel=1e-6)


def test_worse_samples_are_farther_and_turned_away() -> None:
    train, other, test = correlated(3, 300, 48), correlated(4, 300, 48), correlated(5, 300, 48)
    noise = np.random.default_rng(0).standard_normal((300, 48)) * 30
    good, bad = measured(test, test, train, other), measured(noise, test, train, other)
    assert known(bad.wasserstein)[1] > known(good.wasserstein)[2]
    assert known(bad.subspace_overlap)[2] < known(bad.test_subspace_overlap)[1]
    assert good.wasserstein.value == good.test_wasserstein.value


def test_the_notes_say_the_directions_and_the_halves_of_train() -> None:
    train, other, test = correlated(3, 100, 20), correlated(4, 100, 20), correlated(5, 100, 20)
    found = measured(test, test, train, other)
    halves = measured(other, test, train, other).wasserstein.value
    assert found.wasserstein.notes == ("20 directions", f"two halves of train: {halves:.4g}")
    assert found.test_wasserstein.notes == ("20 directions",)
    alone = measured(test, None, train, other)
    assert alone.test_wasserstein.value == halves
    assert alone.test_wasserstein.notes[1] == "the other half of train: no test set was given"


@pytest.mark.parametrize("num_images", [2, 3, 4, 7])
def test_few_images_give_finite_figures_or_none(num_images: int) -> None:
    sets = [np.random.default_rng(seed).integers(0, 256, (num_images, 1, 6, 6), dtype=np.uint8) for seed in range(4)]
    found = measured(*sets)
    assert np.isfinite(known(found.wasserstein)).all()
    assert (found.subspace_overlap.value is None) == (num_images < 4)
    if num_images < 4:
        assert found.subspace_overlap.notes == ("needs four images of each set",)


def test_all_directions_together_tell_nothing() -> None:
    found = measured(*[correlated(seed, 200, 32) for seed in range(4)])
    assert found.subspace_overlap.value is found.test_subspace_overlap.value is None
    assert found.subspace_overlap.notes == ("all directions of 32 values coincide",)


def test_constant_images() -> None:
    flat = [np.full((20, 1, 4, 4), level, dtype=np.uint8) for level in (13, 3, 3, 3)]
    found = measured(*flat)
    assert found.wasserstein.value == pytest.approx(10 / 255, rel=1e-9) and found.test_wasserstein.value == 0
    assert found.wasserstein.low is None and "nearly repeat" in found.wasserstein.notes[0]


def test_what_could_not_be_measured_says_why() -> None:
    nothing = Gaussian.undefined("too few")
    assert {getattr(nothing, name) for name in FIGURES} == {Estimate.undefined("too few")}


@pytest.mark.parametrize(("size", "low", "high"), [(434, 0.050, 0.062), (10_000, 0.0140, 0.0165)])
def test_fresh_photographs_read_what_their_number_makes_of_them(
    cifar10: Cifar10, size: int, low: float, high: float
) -> None:
    """The figure is biased by size: hence all of them at one size."""
    rng = np.random.default_rng(0)
    train, test = cifar10.train[rng.permutation(50_000)[:size]], cifar10.test[rng.permutation(10_000)[:size]]
    some = cifar10.train[::50].reshape(1000, -1).astype(np.float64)
    directions = np.linalg.svd(some - some.mean(axis=0), full_matrices=False)[2][: min(256, size // 4)].T
    first, second = (sketch(images, mean=some.mean(axis=0), directions=directions) for images in (test, train))
    assert low < gaussian_wasserstein(first, second) / (255 * np.sqrt(3072)) < high


def test_moments_of_the_images_that_are_left_are_those_of_these_images_alone() -> None:
    generator = np.random.default_rng(5)
    images, directions = generator.normal(40, 3, (60, 7)), np.linalg.qr(generator.standard_normal((7, 3)))[0]
    mean, out = images.mean(axis=0) + 1, generator.integers(0, 60, 9)
    out, left = np.unique(out), np.delete(np.arange(60), out)
    whole, expected = (sketch(rows, mean=mean, directions=directions) for rows in (images, images[left]))
    rest = _without(whole, images[out], mean, directions, count=60)
    np.testing.assert_allclose(rest.outside_mean, expected.outside_mean, atol=1e-9)
    assert rest.outside_variance == pytest.approx(expected.outside_variance)
    law = _Law.of(whole.inside).without(rest.inside, 60)
    np.testing.assert_allclose(law.mean, expected.inside.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(law.covariance, np.cov(expected.inside.T, bias=True), rtol=1e-9, atol=1e-9)


def test_near_repeats_are_left_out_together() -> None:
    generator = np.random.default_rng(6)
    originals, reference = generator.standard_normal((2, 150, 12))
    drawn = generator.permutation(np.repeat(np.arange(150), 3))
    images = originals[drawn] + 1e-3 * generator.standard_normal((450, 12))
    near = Neighbourhood.of(reference)
    groups = groups_of_images(images, near, seed=0)
    assert set(groups.tolist()) == set(range(100))
    assert all(len(set(groups[drawn == number].tolist())) == 1 for number in range(150))
    faint = groups_of_images(1e-3 * originals, near, seed=0)  # of low contrast, and no repeats
    assert np.bincount(faint).tolist() == np.bincount(groups_of_images(originals, near, seed=0)).tolist()
    assert set(groups_of_images(np.zeros((9, 12)), near, seed=0).tolist()) == {0}


def test_repeats_widen_the_interval_as_if_they_were_not_there() -> None:
    train, other, test = correlated(3, 200, 48), correlated(4, 200, 48), correlated(5, 200, 48)
    once, twice = test[:100], np.concatenate([test[:100], test[:100] + 1e-4])
    single, double = measured(once, None, train[:100], other[:100]), measured(twice, None, train, other)
    for name in ("wasserstein", "subspace_overlap"):
        widths = [high - low for _, low, high in (known(getattr(found, name)) for found in (single, double))]
        assert widths[1] > 0.75 * widths[0]
    assert "jackknife over 100 groups" in double.wasserstein.method
