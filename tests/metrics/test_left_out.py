"""Near repeats: linked as by the distances of all pairs, which are computed only where it may matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memgen_eval.metrics import left_out

Rows = NDArray[Any]


def linked_by_all(rows: Rows, tolerance: float) -> NDArray[np.int64]:
    """The first and the last row within the tolerance of each, from every distance."""
    found = []
    for start in range(0, len(rows), left_out.BLOCK_IMAGES):
        near = left_out._squared_distances(rows, start) <= tolerance**2
        near[np.arange(len(near)), start + np.arange(len(near))] = True
        found += [(np.flatnonzero(row)[0], np.flatnonzero(row)[-1]) for row in near]
    return np.array(found).T


def spread_out(seed: int, count: int, width: int) -> Rows:
    return (np.random.default_rng(seed).normal(size=(count, width)) * np.linspace(9, 1, width)).astype(np.float32)


def repeated(seed: int, count: int, width: int, distance: float, *, copies: int = 3) -> Rows:
    """Rows beside others that lie in all directions at about this distance."""
    generator = np.random.default_rng(seed)
    away = generator.normal(size=(count, width))
    away *= distance * generator.uniform(0.9, 1.1, (count, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    return (spread_out(seed, count // copies + 1, width)[np.arange(count) // copies] + away).astype(np.float32)


def far_out(seed: int, count: int) -> Rows:
    rows = repeated(seed, count, 24, 1.0)
    rows[::50] *= 1000
    return rows


SETS = {
    "spread out": (spread_out(0, 1300, 40), 2.0),
    "some repeats": (repeated(4, 1300, 40, 0.01, copies=2), 1.0),
    "repeats": (repeated(0, 1300, 40, 1.0), 1.4142),
    "pairs within rounding": (repeated(1, 700, 24, 1e-3, copies=2), 1.4142e-3),
    "far out": (far_out(0, 700), 1.0),
    "few coordinates": (spread_out(2, 900, 3), 0.1),
    "all alike": (repeated(3, 700, 24, 0.1, copies=700), 1.0),
    "equal": (np.ones((600, 5), np.float32), 0.0),
    "one": (np.ones((1, 5), np.float32), 1.0),
}


@pytest.mark.parametrize("name", SETS)
def test_links_are_those_of_all_pairs(name: str) -> None:
    rows, tolerance = SETS[name]
    expected = linked_by_all(rows, tolerance)
    found, unclear = left_out._links(rows, tolerance)
    known = np.ones(len(rows), dtype=bool)
    for start in unclear:
        known[start : start + left_out.BLOCK_IMAGES] = False
    assert np.array_equal(found[:, known], expected[:, known])
    assert known.all() or name not in ("spread out", "some repeats", "few coordinates", "one")
    assert not known.any() or name not in ("equal", "all alike")
    if name in ("repeats", "some repeats"):
        assert 0.1 < (expected[0] != np.arange(len(rows))).mean() < 0.9


@pytest.mark.parametrize("name", SETS)
def test_clusters_are_those_of_the_links(name: str) -> None:
    rows, tolerance = SETS[name]
    centred = (rows - rows.mean(axis=0)).astype(np.float32)
    first, last = linked_by_all(centred, tolerance)
    number = np.arange(len(rows))
    for _ in range(len(rows)):  # the smallest row that can be reached
        before = number.copy()
        for other in (first, last):
            np.minimum.at(number, other, number)
            number = np.minimum(number, number[other])
        if np.array_equal(before, number):
            break
    _, expected = np.unique(number, return_inverse=True)
    _, found = np.unique(left_out._clusters(rows, tolerance), return_inverse=True)
    assert len(set(zip(found.tolist(), expected.tolist(), strict=True))) == found.max() + 1 == expected.max() + 1
