"""Approximate search beside the exact one: its distances are exact, and the recall it tells is the true one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import OURS
from benchmarks.data import features
from benchmarks.peers import SEARCHES
from benchmarks.stopwatch import Stopwatch
from benchmarks.truth import ROUNDING, Found, nearest_floats, share_of_right_rows
from memgen_eval import approximate_neighbours

K = 2
NUM_REFERENCES, DIMENSION, NUM_QUERIES = 100_000, 512, 1_000
NUM_CHECKED = 256  # by the search itself
TURNS = range(3)


@dataclass(frozen=True)
class Case:
    """Rows to search, and the right answer."""

    title: str
    queries: NDArray[Any]
    references: NDArray[Any]
    truth: Found


@pytest.fixture(scope="module", params=["mixture", "relu"])
def case(request: pytest.FixtureRequest) -> Case:
    """Features in clusters far apart, and in none."""
    references, queries = features(request.param, DIMENSION, num_train=NUM_REFERENCES, num_queries=NUM_QUERIES)
    title = f"{request.param} features: {NUM_QUERIES:,} x {NUM_REFERENCES:,} x {DIMENSION}, k = {K}, index included"
    return Case(title, queries, references, nearest_floats(queries, references, K))


@pytest.mark.parametrize("turn", TURNS)
def test_exact(case: Case, turn: int, stopwatch: Stopwatch) -> None:
    """The exact search of the same."""
    found = stopwatch(lambda: SEARCHES[OURS](case.queries, case.references, K), case=case.title, method=OURS)
    assert share_of_right_rows(found.indices, case.truth, case.queries, case.references) == 1
    stopwatch.note(answer="exact")


@pytest.mark.parametrize("turn", TURNS)
def test_approximate(case: Case, turn: int, stopwatch: Stopwatch) -> None:
    """Index, search and measurement of the recall."""
    pytest.importorskip("faiss", reason="the extra faiss-cpu is not installed")
    queries, references = case.queries, case.references
    found = stopwatch(
        lambda: approximate_neighbours(queries, references, K, num_checked=NUM_CHECKED),
        case=case.title,
        method="approximate_neighbours",
    )
    table, true = found.neighbours, case.truth.squared
    gaps = queries[:, None].astype(np.float64) - references[table.indices]
    assert np.allclose(table.squared_distances, np.square(gaps).sum(axis=2), rtol=ROUNDING, atol=0)
    assert (table.squared_distances >= true * (1 - ROUNDING)).all()
    right = np.asarray((table.squared_distances <= true * (1 + ROUNDING)).all(axis=1))
    drawn = np.sort(np.random.default_rng(0).permutation(NUM_QUERIES)[:NUM_CHECKED])
    assert np.array_equal(found.all_found, right[drawn])
    assert right.mean() > 0.9
    stopwatch.note(answer=f"{right.mean():.1%} of rows right, told {found.all_found.mean():.1%}")
