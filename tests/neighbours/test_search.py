"""nearest_neighbours on uint8 images: integers, ties, exclusion, orientation, budgets, engines, bad input."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

import oracles
from memgen_eval.compute.rows import row_blocks
from memgen_eval.errors import InputError
from memgen_eval.neighbours import search, topk
from memgen_eval.neighbours.search import merge_orientations, mirrored, nearest_neighbours, squared_distances
from memgen_eval.neighbours.topk import Neighbours
from neighbour_checks import ENGINES, check, same

Pixels = NDArray[np.uint8]


def few_values(seed: int, num_rows: int, values: list[int], shape: tuple[int, ...] = (2, 3)) -> Pixels:
    return np.random.default_rng(seed).choice(np.array(values, dtype=np.uint8), (num_rows, *shape))


KINDS: dict[str, Callable[[int, int], Pixels]] = {
    "random": lambda seed, n: few_values(seed, n, list(range(256))),
    "extreme": lambda seed, n: few_values(seed, n, [0, 255]),
    "duplicated": lambda seed, n: few_values(seed, 5, [3, 4, 200])[np.random.default_rng(seed).integers(0, 5, n)],
    "constant": lambda seed, n: few_values(0, n, [77]),
    "clustered": lambda seed, n: few_values(seed, n, [126, 127, 128, 129]),
}


@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 999),
    sizes=st.tuples(st.integers(1, 6), st.integers(2, 90)),
    k=st.integers(1, 9),
    flip=st.booleans(),
    leave_out=st.booleans(),
    engine=st.sampled_from(["auto", "numpy"]),
)
@settings(max_examples=120)
def test_integer_brute_force(
    kind: str, seed: int, sizes: tuple[int, int], k: int, flip: bool, leave_out: bool, engine: Any
) -> None:
    queries, references = KINDS[kind](seed, sizes[0]), KINDS[kind](seed + 1, sizes[1])
    exclude = np.random.default_rng(seed).integers(0, sizes[1], sizes[0]) if leave_out else None
    k = min(k, sizes[1] - leave_out)
    found = nearest_neighbours(queries, references, k, exclude=exclude, flip=flip, engine=engine)
    assert found.squared_distances.dtype == found.indices.dtype == np.int64
    check(found, queries, references, k, exclude=exclude, flip=flip)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("flip", [False, True])
def test_every_engine_gives_the_same_bits(bright: tuple[Pixels, Pixels], engine: Any, flip: bool) -> None:
    queries, references = bright
    expected = nearest_neighbours(queries, references, 3, flip=flip, engine="numpy")
    for budget in ("1MiB", "1GiB", 1):
        found = nearest_neighbours(queries, references, 3, flip=flip, engine=engine, memory_budget=budget)
        assert same(found, expected)
    assert (expected.squared_distances[:150, 0] == 0).all()
    assert (expected.squared_distances[150:, 0] == 1).all()
    assert expected.indices[50:100, :2].tolist() == [[i, i + 300] for i in range(50)]


def test_copies_against_integer_brute_force(bright: tuple[Pixels, Pixels]) -> None:
    queries, references = bright[0][::45], bright[1]
    check(nearest_neighbours(queries, references, 3, flip=True), queries, references, 3, flip=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_many_tiles_many_neighbours(engine: Any) -> None:
    generator = np.random.default_rng(3)
    queries = generator.integers(0, 4, (100, 5), dtype=np.uint8)  # at most 46 different distances: ties everywhere
    references = generator.integers(0, 4, (20_000, 5), dtype=np.uint8)
    found = nearest_neighbours(queries, references, 50, engine=engine, memory_budget="1MiB")
    exact = ((queries[:, None].astype(np.int64) - references.astype(np.int64)) ** 2).sum(axis=2)
    order = np.argsort(exact, axis=1, kind="stable")[:, :50]
    assert (found.indices == order).all()
    assert (found.squared_distances == np.take_along_axis(exact, order, axis=1)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_images_whose_sums_overflow(engine: Any) -> None:
    shape = (256, 256, 3)
    references = np.stack([np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), np.full(shape, 254, np.uint8)])
    references[2, 0, 0, 0] = 255
    found = nearest_neighbours(references[:2], references, 3, engine=engine)
    d = 256 * 256 * 3
    dark, light = 255**2 * d, 254**2 * (d - 1) + 255**2
    assert found.squared_distances.tolist() == [[0, light, dark], [0, d - 1, dark]]
    assert found.indices.tolist() == [[0, 2, 1], [1, 2, 0]]
    assert squared_distances(references[:1], references).tolist() == [[0, dark, light]]


def test_exclude_self_is_leave_one_out(bright: tuple[Pixels, Pixels]) -> None:
    references = bright[1][::8]
    found = nearest_neighbours(references, references, 4, exclude_self=True)
    check(found, references, references, 4, exclude=np.arange(len(references)))
    rows = np.array([3, 40, 7])
    subset = nearest_neighbours(references[rows], references, 4, exclude=rows)
    assert (subset.indices == found.indices[rows]).all()
    everyone = nearest_neighbours(references, references, len(references) - 1, exclude_self=True)
    assert (np.sort(np.column_stack([everyone.indices, np.arange(50)]), axis=1) == np.arange(50)).all()


def test_mirrored_copies_are_found_and_marked() -> None:
    references = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    symmetric = references[0] // 2 + references[0][..., ::-1] // 2
    references[1] = symmetric
    queries = np.concatenate([references[10:15], references[20:25, :, :, ::-1], symmetric[None]])
    found = nearest_neighbours(queries, references, 2, flip=True)
    assert found.flipped is not None
    assert (found.squared_distances[:, 0] == 0).all()
    assert found.indices[:, 0].tolist() == [10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 1]
    assert found.flipped[:, 0].tolist() == [False] * 5 + [True] * 5 + [False]
    assert nearest_neighbours(queries, references, 2).flipped is None
    check(found, queries, references, 2, flip=True)


def test_two_searches_merged_are_one_with_flip(bright: tuple[Pixels, Pixels]) -> None:
    queries, references = bright
    exclude = np.arange(len(queries))
    plain = nearest_neighbours(queries, references, 5, exclude=exclude)
    mirror = nearest_neighbours(mirrored(queries), references, 5, exclude=exclude)
    merged = merge_orientations(plain.scaled(2.0), mirror.scaled(2.0))
    both = nearest_neighbours(queries, references, 5, exclude=exclude, flip=True)
    assert same(merged, both)
    assert merged.factor == 2.0
    assert merged.queries is queries and merged.excluded is not None


def test_other_queries_and_layout_change_nothing(bright: tuple[Pixels, Pixels]) -> None:
    queries, references = bright
    whole = nearest_neighbours(queries, references, 7)
    for rows in (np.arange(1), np.arange(19), np.arange(64)[::-1]):
        part = nearest_neighbours(queries[rows], references, 7)
        assert same(part, Neighbours(whole.squared_distances[rows], whole.indices[rows]))
    transposed = nearest_neighbours(queries.transpose(0, 3, 1, 2), references.transpose(0, 3, 1, 2), 7)
    assert same(transposed, whole)


def test_memory_maps_and_tensors(bright: tuple[Pixels, Pixels], tmp_path: Path) -> None:
    queries, references = bright
    expected = nearest_neighbours(queries, references, 2)
    np.save(tmp_path / "references.npy", references)
    mapped = np.load(tmp_path / "references.npy", mmap_mode="r")
    assert same(nearest_neighbours(queries, mapped, 2, memory_budget="1MiB"), expected)
    assert same(nearest_neighbours(mapped[:10], references, 2), nearest_neighbours(references[:10], references, 2))
    tensors = nearest_neighbours(torch.from_numpy(queries), torch.from_numpy(references), 2)
    assert same(tensors, expected)
    assert isinstance(tensors.queries, np.ndarray)


def test_result_carries_what_a_wider_search_needs() -> None:
    queries = np.zeros((2, 4), np.uint8)
    found = nearest_neighbours(queries, np.zeros((3, 4), np.uint8), 1, exclude=[0, 2])
    assert found.queries is queries
    assert found.excluded is not None and found.excluded.tolist() == [0, 2]
    assert found.indices.tolist() == [[1], [0]]


def test_no_queries_give_an_empty_table() -> None:
    for dtype, squared in ((np.uint8, np.int64), (np.float32, np.float64)):
        for flip in (False, True):
            found = nearest_neighbours(np.zeros((0, 2, 2), dtype), np.zeros((5, 2, 2), dtype), 3, flip=flip)
            assert found.indices.shape == found.squared_distances.shape == (0, 3)
            assert found.squared_distances.dtype == squared


def test_squared_distances_of_both_orientations() -> None:
    queries, references = few_values(0, 5, [0, 9, 255]), few_values(1, 7, [0, 9, 255])
    for left, right in ((queries, references), (queries.astype(np.float32), references.astype(np.float64))):
        for flip in (False, True):
            found = squared_distances(left, right, flip=flip)
            expected = [
                [
                    min(
                        oracles.squared_distance(q, r),
                        oracles.squared_distance(q, r[..., ::-1]) if flip else np.inf,
                    )
                    for r in right
                ]
                for q in left
            ]
            assert found.tolist() == expected
    assert squared_distances(queries[:0], references).shape == (0, 7)


def test_memory_stays_near_the_budget(tmp_path: Path) -> None:
    import tracemalloc

    references = np.random.default_rng(0).integers(0, 256, (6000, 3072), dtype=np.uint8)
    np.save(tmp_path / "references.npy", references)
    mapped = np.load(tmp_path / "references.npy", mmap_mode="r")
    queries = references[:300].copy()
    peaks = {}
    for budget in (8, 64):
        tracemalloc.start()
        nearest_neighbours(queries, mapped, 2, engine="numpy", memory_budget=f"{budget}MiB")
        peaks[budget] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    assert peaks[8] < 16 and peaks[64] < 64, peaks


GOOD = np.zeros((4, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("queries", "references", "options", "words"),
    [
        (GOOD, GOOD, {"k": 5}, ["k=5", "4 references"]),
        (GOOD, GOOD, {"k": 4, "exclude_self": True}, ["k=4", "4 references", "left out", "1 to 3"]),
        (GOOD, GOOD, {"k": 0}, ["k=0"]),
        (GOOD, GOOD, {"k": 1.5}, ["k=1.5"]),
        (GOOD, GOOD[:0], {"k": 1}, ["k=1", "0 references"]),
        (GOOD, np.zeros((4, 4), np.uint8), {}, ["(2, 2)", "(4,)"]),
        (GOOD, GOOD.astype(np.int64), {}, ["references", "int64"]),
        (GOOD.tolist(), GOOD, {}, ["queries", "list"]),
        (np.zeros((3, 0), np.uint8), np.zeros((3, 0), np.uint8), {}, ["queries", "(3, 0)"]),
        (np.uint8(3), GOOD, {}, ["queries"]),
        (GOOD[:3], GOOD, {"exclude_self": True}, ["exclude_self", "3 queries", "4 references"]),
        (GOOD, GOOD, {"exclude_self": True, "exclude": [0, 1, 2, 3]}, ["exclude_self", "exclude"]),
        (GOOD, GOOD, {"exclude": [0, 1, 2]}, ["exclude", "(4,)"]),
        (GOOD, GOOD, {"exclude": [0.0, 1.0, 2.0, 3.0]}, ["exclude", "float64"]),
        (GOOD, GOOD, {"exclude": [0, 1, 2, 4]}, ["exclude", "4", "0 to 3"]),
        (GOOD, GOOD, {"exclude": [0, -1, 2, 3]}, ["exclude", "-1"]),
        (np.zeros(3, np.uint8), np.zeros(3, np.uint8), {"flip": True}, ["flip"]),
        (GOOD, GOOD, {"engine": "fast"}, ["engine='fast'", "numkong"]),
        (GOOD, GOOD, {"memory_budget": "lots"}, ["memory_budget='lots'"]),
    ],
)
def test_bad_input_is_one_line(queries: Any, references: Any, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        nearest_neighbours(queries, references, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memgen_eval.compute.engines.installed", lambda package: False)
    with pytest.raises(InputError, match="faiss"):
        nearest_neighbours(GOOD, GOOD, engine="faiss")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
@pytest.mark.parametrize("k", [1, 3, 64, 70])
def test_running_selection_over_tiles(dtype: Any, k: int) -> None:
    keys = np.random.default_rng(k).integers(-20, 20, (9, 1111)).astype(dtype)
    best = topk.TopK(9, k, dtype)
    edges = [0, 5, 69, 70, 500, 1111]
    for start, stop in pairwise(edges):
        best.update(slice(0, 4), np.ascontiguousarray(keys[:4, start:stop]), start)
        best.update(slice(4, 9), np.ascontiguousarray(keys[4:, start:stop]), start)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    assert (best.indices == order).all()
    assert (best.keys == np.take_along_axis(keys, order, axis=1)).all()


def test_rows_are_read_by_blocks() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    blocks = list(row_blocks(array, 3))
    assert [start for start, _ in blocks] == [0, 3]
    assert (np.concatenate([block for _, block in blocks]) == array.reshape(4, 6)).all()
    assert search.mirrored(array)[0, 0].tolist() == [2, 1, 0]
