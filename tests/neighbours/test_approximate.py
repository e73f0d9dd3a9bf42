from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from memgen_eval.errors import InputError
from memgen_eval.neighbours import approximate as module
from memgen_eval.neighbours.approximate import approximate_neighbours


@pytest.fixture(scope="module")
def features() -> tuple[Any, Any]:
    """A mixture of 200 Gaussians in 16 dimensions, the queries near references."""
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 3, (200, 16))
    references = (centres[generator.integers(0, 200, 50_000)] + generator.standard_normal((50_000, 16))).astype("f4")
    queries = references[:300] + generator.normal(0, 0.3, (300, 16)).astype("f4")
    return queries, references


def brute_force(queries: Any, references: Any, k: int) -> tuple[Any, Any]:
    squared = np.stack([((references.astype(float) - query) ** 2).sum(axis=1) for query in queries.astype(float)])
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, order, axis=1), order


def test_distances_are_exact_and_the_recall_is_what_it_is(features: Any) -> None:
    pytest.importorskip("faiss", reason="the extra faiss-cpu is not installed")
    queries, references = features
    found = approximate_neighbours(queries, references, 3, num_checked=300)
    table = found.neighbours
    squared, indices = brute_force(queries, references, 3)
    apart = ((references[table.indices].astype(float) - queries[:, None].astype(float)) ** 2).sum(axis=2)
    assert np.allclose(table.squared_distances, apart, rtol=1e-14, atol=0)
    assert (np.diff(table.squared_distances, axis=1) >= 0).all()
    right = (table.indices == indices).all(axis=1)
    assert np.array_equal(np.sort(found.all_found), np.sort(right)) and 0.9 < right.mean() <= 1
    assert (table.squared_distances >= squared * (1 - 1e-12)).all()


def test_a_poor_index_is_told(features: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One list of a thousand: most neighbours lie elsewhere, and the measured recall says so."""
    pytest.importorskip("faiss", reason="the extra faiss-cpu is not installed")
    queries, references = features
    monkeypatch.setattr(module, "NUM_PROBES", 1)
    monkeypatch.setattr(module, "MIN_CANDIDATES", 8)
    monkeypatch.setattr(module, "CANDIDATES_PER_NEIGHBOUR", 2)
    found = approximate_neighbours(queries, references, 4, num_checked=100, seed=3)
    _, indices = brute_force(queries, references, 4)
    right = (found.neighbours.indices == indices).all(axis=1)
    assert len(found.all_found) == 100
    assert abs(found.all_found.mean() - right.mean()) < 0.15 and right.mean() < 0.9


def test_what_it_cannot_do_is_said(features: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, references = features
    if "faiss" in sys.modules or module.installed("faiss"):
        with pytest.raises(InputError, match="100 references: below 50,000 search exactly"):
            approximate_neighbours(queries, references[:100])
    monkeypatch.setattr(module, "installed", lambda package: False)
    with pytest.raises(InputError, match="needs the package faiss"):
        approximate_neighbours(queries, references)
    with pytest.raises(InputError, match="num_checked is 0"):
        approximate_neighbours(queries, references, num_checked=0)
