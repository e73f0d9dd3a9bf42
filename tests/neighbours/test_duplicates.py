"""distinct_neighbours and neighbours_within against brute force, however few columns the table has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

import oracles
from memgen_eval.errors import InputError
from memgen_eval.neighbours import duplicates
from memgen_eval.neighbours.duplicates import NO_NEIGHBOUR, distinct_neighbours, neighbours_within
from memgen_eval.neighbours.search import nearest_neighbours
from memgen_eval.neighbours.topk import Neighbours
from neighbour_checks import same

MOST = 2**63 - 1
Pixels = NDArray[Any]


def clustered(seed: int, num_rows: int, num_clusters: int, spread: int, dtype: Any) -> Pixels:
    generator = np.random.default_rng(seed)
    centres = generator.integers(20, 230, (num_clusters, 2, 3))
    noise = generator.integers(0, spread + 1, (num_rows, 2, 3))
    return (centres[generator.integers(0, num_clusters, num_rows)] + noise).astype(dtype)


@given(
    seed=st.integers(0, 999),
    num_references=st.integers(2, 60),
    num_clusters=st.sampled_from([1, 2, 30]),
    spread=st.sampled_from([0, 1, 3]),
    k=st.integers(1, 4),
    tolerance=st.sampled_from([0.0, 1.0, 2.0, 5.0, 200.0]),
    flip=st.booleans(),
    leave_out=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.float32]),
    wider=st.sampled_from([2, 8, 64]),
    tile=st.sampled_from([6 * 16, 2**22]),
)
@settings(max_examples=120)
def test_brute_force(
    seed: int,
    num_references: int,
    num_clusters: int,
    spread: int,
    k: int,
    tolerance: float,
    flip: bool,
    leave_out: bool,
    dtype: Any,
    wider: int,
    tile: int,
) -> None:
    references = clustered(seed, num_references, num_clusters, spread, dtype)
    queries = np.concatenate([references[:2], clustered(seed, 3, num_clusters, spread + 2, dtype)])
    exclude = np.random.default_rng(seed).integers(0, num_references, 5) if leave_out else None
    k = min(k, num_references - leave_out)
    table = nearest_neighbours(queries, references, k, exclude=exclude, flip=flip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_WIDER", wider)
        patch.setattr(duplicates, "_EXHAUSTED_VALUES", tile)
        patch.setattr(duplicates, "_QUERY_ROWS", 3)
        found = distinct_neighbours(table, references, tolerance=tolerance)
        rows, indices = neighbours_within(table, references, radius=tolerance)
    assert (found.indices[:, 0] == table.indices[:, 0]).all()
    assert (found.squared_distances[:, 0] == table.squared_distances[:, 0]).all()
    assert found.squared_distances.dtype == table.squared_distances.dtype
    pairs = []
    for row, query in enumerate(queries):
        left_out = None if exclude is None else int(exclude[row])
        expected = oracles.second_distinct(query, references, tolerance, exclude=left_out, flip=flip)
        assert (found.squared_distances[row, 1], found.indices[row, 1]) == expected
        ranked = oracles.nearest(query, references, num_references, exclude=left_out, flip=flip)
        pairs += sorted((row, index) for squared, index, _ in ranked if squared < tolerance**2)
        if flip:
            assert found.flipped is not None
            flipped = {index: mirrored for _, index, mirrored in ranked}
            assert found.flipped[row].tolist() == [flipped.get(int(i), False) for i in found.indices[row]]
    assert list(zip(rows.tolist(), indices.tolist(), strict=True)) == pairs


def test_default_blocks_and_widening_on_many_duplicates() -> None:
    """Each image 100 times, a table of two columns: 64 neighbours do not reach past the duplicates."""
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    references = np.tile(images, (100, 1, 1))
    table = nearest_neighbours(images, references, 2)
    assert (table.squared_distances == 0).all()
    found = distinct_neighbours(table, references, tolerance=0)
    others = nearest_neighbours(images, images, 1, exclude_self=True)
    assert (found.squared_distances[:, 1] == others.squared_distances[:, 0]).all()
    assert (found.indices[:, 1] == others.indices[:, 0]).all()
    assert (found.indices[:, 0] == np.arange(30)).all()


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, MOST), (np.float64, np.inf)])
@pytest.mark.parametrize("num_references", [1, 2, 70, 300])
def test_all_references_alike(dtype: Any, most: Any, num_references: int) -> None:
    references = np.full((num_references, 4), 100, dtype)
    queries = np.array([[100, 100, 100, 100], [100, 100, 100, 103], [100, 100, 100, 104]], dtype)
    found = distinct_neighbours(nearest_neighbours(queries, references, 1), references, tolerance=3)
    assert found.squared_distances.tolist() == [[0, most], [9, most], [16, 16]]
    assert (found.indices == [0, NO_NEIGHBOUR]).all()
    assert found.flipped is None


def test_only_the_left_out_reference_is_distinct() -> None:
    references = np.array([[0], [0], [9]], np.uint8)
    table = nearest_neighbours(references[2:], references, 2, exclude=[2])
    assert distinct_neighbours(table, references, tolerance=0).indices.tolist() == [[0, NO_NEIGHBOUR]]
    assert neighbours_within(table, references, radius=100)[1].tolist() == [0, 1]


def test_tolerance_is_in_the_units_of_the_distances() -> None:
    references = np.array([[10], [14], [30]], np.uint8)
    table = nearest_neighbours(np.array([[10]], np.uint8), references, 3)
    assert distinct_neighbours(table, references, tolerance=4).indices.tolist() == [[0, 2]]
    assert distinct_neighbours(table, references, tolerance=3.999).indices.tolist() == [[0, 1]]
    scaled = table.scaled(0.5)
    assert distinct_neighbours(scaled, references, tolerance=2).indices.tolist() == [[0, 2]]
    assert distinct_neighbours(scaled, references, tolerance=1.999).indices.tolist() == [[0, 1]]
    assert distinct_neighbours(scaled, references, tolerance=2).distances.tolist() == [[0, 10]]
    assert neighbours_within(scaled, references, radius=2)[1].tolist() == [0]
    assert neighbours_within(scaled, references, radius=2.001)[1].tolist() == [0, 1]
    assert neighbours_within(scaled, references, radius=0)[1].tolist() == []


def test_mirrored_duplicates_are_duplicates() -> None:
    generator = np.random.default_rng(0)
    references = generator.integers(0, 256, (20, 3, 6, 6), dtype=np.uint8)
    references[5] = references[3][..., ::-1]
    table = nearest_neighbours(references[3:4], references, 2, flip=True)
    assert table.indices.tolist() == [[3, 5]]
    assert distinct_neighbours(table, references, tolerance=0).indices[0, 1] not in (3, 5)
    unflipped = nearest_neighbours(references[3:4], references, 2)
    assert same(distinct_neighbours(unflipped, references, tolerance=0), unflipped)


def test_no_queries() -> None:
    references = np.zeros((3, 2), np.uint8)
    table = nearest_neighbours(np.zeros((0, 2), np.uint8), references, 1)
    assert distinct_neighbours(table, references, tolerance=1).indices.shape == (0, 2)
    assert [len(part) for part in neighbours_within(table, references, radius=1)] == [0, 0]


@pytest.mark.parametrize("tolerance", [-1, np.nan, np.inf])
def test_tolerance_that_is_no_distance(tolerance: float) -> None:
    references = np.zeros((3, 2), np.uint8)
    table = nearest_neighbours(references, references, 1)
    with pytest.raises(InputError, match="tolerance"):
        distinct_neighbours(table, references, tolerance=tolerance)
    with pytest.raises(InputError, match="radius"):
        neighbours_within(table, references, radius=tolerance)


def test_tables_that_do_not_fit() -> None:
    references = np.arange(8, dtype=np.uint8).reshape(4, 2)
    table = nearest_neighbours(references, references, 1)
    with pytest.raises(InputError, match="reference 3 and references have 2 rows"):
        distinct_neighbours(table, references[:2], tolerance=0)
    with pytest.raises(InputError, match="float32"):
        distinct_neighbours(table, references.astype(np.float32), tolerance=0)
    with pytest.raises(InputError, match="queries"):
        distinct_neighbours(replace(table, queries=None), references, tolerance=0)
    with pytest.raises(InputError, match="queries"):
        neighbours_within(replace(table, queries=None), references, radius=5)
    whole = nearest_neighbours(references, references, 4)
    bare = Neighbours(whole.squared_distances, whole.indices)
    assert same(distinct_neighbours(bare, references, tolerance=0), distinct_neighbours(whole, references, tolerance=0))
