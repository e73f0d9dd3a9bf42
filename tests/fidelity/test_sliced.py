"""Sliced Wasserstein distance: a shift, its slow twin, scipy's distance along one direction, and its spread."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

import oracles
from memgen_eval.fidelity import sliced
from memgen_eval.fidelity.jackknife import LeftOut
from memgen_eval.fidelity.sliced import Slices, random_directions, sliced_wasserstein

Floats = NDArray[np.float64]


def normal(seed: int, count: int, width: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, width))


def distance(first: Floats, second: Floats, directions: Floats, scale: float = 1.0) -> LeftOut:
    with mock.patch.object(sliced, "random_directions", return_value=[directions]):
        first_slices, second_slices = (Slices.of(rows, seed=0) for rows in (first, second))
    return sliced_wasserstein(first_slices, second_slices, scale=scale)


def directions_of(width: int, seed: int = 0) -> Floats:
    return np.concatenate(list(random_directions(width, seed=seed)), axis=1)


def test_many_blocks_of_directions_and_rows_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(0, 90, 30)
    whole = directions_of(30)
    assert whole.shape == (30, 256) and np.linalg.norm(whole, axis=0) == pytest.approx(np.ones(256))
    expected = Slices.of(rows, seed=0)
    monkeypatch.setattr(sliced, "BLOCK_VALUES", 600)
    found = Slices.of(rows, seed=0)
    assert np.allclose(found.sorted, expected.sorted, rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(sliced, "DIRECTION_VALUES", 3000)
    assert [part.shape for part in random_directions(30, seed=0)] == [(30, 100), (30, 100), (30, 56)]


def test_as_its_slow_twin() -> None:
    directions = directions_of(6, seed=3)
    first, second = normal(0, 20, 6), 1.5 * normal(1, 20, 6) + 0.2
    found = distance(first, second, directions, scale=0.25).value
    assert found == pytest.approx(0.25 * oracles.sliced_wasserstein(first, second, directions), rel=1e-12)


def test_a_shift() -> None:
    """Along a direction a shift is its own length; the root mean square over directions is |shift| / sqrt(D)."""
    directions, shift = directions_of(40), np.full(40, 0.3)
    rows = normal(0, 50, 40)
    along = np.sqrt(np.mean(np.square(shift @ directions)))
    assert distance(rows, rows + shift, directions).value == pytest.approx(along, rel=1e-12)
    assert along == pytest.approx(0.3, rel=0.15)  # of 256 directions


def test_scipy_agrees_along_one_direction() -> None:
    """W1 of a shift and a stretch is at most W2, and equal to it for a shift."""
    stats = pytest.importorskip("scipy.stats")
    first, second = normal(0, 200, 1), normal(1, 200, 1) + 3.0
    one = np.ones((1, 1))
    assert distance(first, first + 3.0, one).value == pytest.approx(
        stats.wasserstein_distance(first[:, 0], first[:, 0] + 3.0)
    )
    assert distance(first, second, one).value >= stats.wasserstein_distance(first[:, 0], second[:, 0])


def test_images_of_bytes_are_read_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 4, 4), dtype=np.uint8)
    others = np.random.default_rng(1).integers(0, 256, (30, 1, 4, 4), dtype=np.uint8)
    directions = directions_of(16)
    flat = [rows.reshape(30, -1).astype(np.float64) for rows in (images, others)]
    assert distance(images, others, directions).value == distance(flat[0], flat[1], directions).value


def test_equal_sets_are_at_no_distance_and_have_no_spread() -> None:
    rows = normal(0, 10, 3)
    found = distance(rows, rows[::-1], directions_of(3))
    assert (found.value, found.variance) == (0.0, 0.0)


def test_the_weight_of_each_image_is_its_derivative() -> None:
    """Adding an image to both sides of a large set changes the square by what its potential says, per weight."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 1)) * 1.5 + 1
    found = distance(first, second, np.ones((1, 1)))
    assert found.without_sample is not None
    image = int(np.argmax(first[:, 0]))
    kept = np.delete(np.sort(first[:, 0]), -1)
    levels = (np.arange(4000 * 3999) + 0.5) / (4000 * 3999)
    x, y = kept[(levels * 3999).astype(int)], np.sort(second[:, 0])[(levels * 4000).astype(int)]
    exact = np.sqrt(np.mean(np.square(x - y)))  # of quantile functions of 3,999 and 4,000 steps
    assert found.without_sample[image] - found.value == pytest.approx(exact - found.value, rel=0.05)


@pytest.mark.parametrize("most", [5, 10**9])
def test_orders_are_stable_whatever_is_equal(most: int) -> None:
    values = np.random.default_rng(0).integers(0, most, (400, 7)).astype(np.float64)
    order, ranked = sliced._ranked(values)
    assert np.array_equal(order, np.argsort(values, axis=0, kind="stable"))
    assert np.array_equal(ranked, np.sort(values, axis=0))
