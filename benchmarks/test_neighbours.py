"""Exact search beside FAISS, scikit-learn and torch: every distance and index of ours is right, this is the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import OURS
from benchmarks.data import NUM_TRAIN, ImageSets, features
from benchmarks.machine import Peaks
from benchmarks.peers import SEARCHES
from benchmarks.stopwatch import Stopwatch
from benchmarks.truth import ROUNDING, Found, nearest_floats, nearest_integers, share_of_right_rows

K = 5
TURNS = range(3)
NUM_REFERENCES = (1_000, 5_000, 20_000, 50_000)
FEATURES = (("mixture", 512, 10_000), ("relu", 512, 10_000), ("mixture", 2_048, 4_000), ("relu", 2_048, 4_000))


@dataclass(frozen=True)
class Case:
    """Rows to search, the right answer, and operations and bytes of one product of all with all."""

    name: str
    queries: NDArray[Any]
    references: NDArray[Any]
    truth: Found

    @property
    def title(self) -> str:
        """Name and sizes."""
        return f"{self.name}: {len(self.queries):,} x {len(self.references):,} x {self.queries.shape[1]:,}, k = {K}"

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 2.0 * len(self.queries) * self.references.size

    @property
    def num_bytes(self) -> int:
        """Of both sets."""
        return self.queries.nbytes + self.references.nbytes


@pytest.fixture(scope="module", params=NUM_REFERENCES)
def image_case(request: pytest.FixtureRequest, images: ImageSets) -> Case:
    """The test images against the first training images, as many as asked for."""
    queries, references = images.test.reshape(len(images.test), -1), images.train[: request.param]
    references = references.reshape(len(references), -1)
    return Case(images.name, queries, references, nearest_integers(queries, references, K))


@pytest.fixture(scope="module", params=FEATURES, ids=lambda case: f"{case[0]}-{case[1]}")
def feature_case(request: pytest.FixtureRequest) -> Case:
    """Float features."""
    kind, dimension, num_queries = request.param
    references, queries = features(kind, dimension, num_train=NUM_TRAIN, num_queries=num_queries)
    return Case(f"{kind} features", queries, references, nearest_floats(queries, references, K))


@pytest.fixture(scope="module")
def _warm(images: ImageSets) -> None:
    """Imports, threads and self-tests come before the first timing."""
    for dtype in (np.uint8, np.float32):
        rows = images.train[:1_000].reshape(1_000, -1).astype(dtype)
        for search in SEARCHES.values():
            search(rows[:256], rows, K)


@pytest.mark.usefixtures("_warm")
@pytest.mark.parametrize("method", SEARCHES)
@pytest.mark.parametrize("turn", TURNS)
def test_images(image_case: Case, turn: int, method: str, peaks: Peaks, stopwatch: Stopwatch) -> None:
    """uint8 images, preparation included."""
    case = image_case
    floor = peaks.floor(integer=case.operations, num_bytes=case.num_bytes)
    found = _timed(case, method, floor, stopwatch)
    if method == OURS:
        assert np.array_equal(found.squared, case.truth.squared)
        assert np.array_equal(found.indices, case.truth.indices)
        stopwatch.note(answer="exact")


@pytest.mark.usefixtures("_warm")
@pytest.mark.parametrize("method", [OURS, "faiss.knn"])
@pytest.mark.parametrize("turn", TURNS)
def test_features(feature_case: Case, turn: int, method: str, peaks: Peaks, stopwatch: Stopwatch) -> None:
    """float32 features."""
    case = feature_case
    floor = peaks.floor(floating=case.operations, num_bytes=case.num_bytes)
    found = _timed(case, method, floor, stopwatch)
    if method == OURS:
        assert (np.abs(found.squared - case.truth.squared) <= ROUNDING * case.truth.squared).all()
        assert share_of_right_rows(found.indices, case.truth, case.queries, case.references) == 1
        stopwatch.note(answer="exact")


def _timed(case: Case, method: str, floor: float, stopwatch: Stopwatch) -> Found:
    """What a method found; of a peer, how much of it is right."""
    search = SEARCHES[method]
    found = stopwatch(lambda: search(case.queries, case.references, K), case=case.title, method=method, floor=floor)
    if method != OURS:
        share = share_of_right_rows(found.indices, case.truth, case.queries, case.references)
        copies = case.truth.squared[:, 0] == 0
        apart = int((found.squared[copies, 0] != 0).sum())
        assert share > 0.9  # it did the same work
        wrong = f"; {apart} of {copies.sum()} copies at a distance" if copies.any() else ""
        stopwatch.note(answer=f"{share:.3%} of rows right{wrong}")
    return found
