"""The search by codes: on every kind of data the same bits as brute force and as the whole product."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.typing import NDArray

from hard_rows import FLOATS, PIXELS, SIZE, equidistant, gaussian, noise, smooth, sphere
from memgen_eval.compute.products import NUMPY
from memgen_eval.compute.resources import start_workers
from memgen_eval.neighbours import bound, candidates, pruning, quantizers, search
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.search import nearest_neighbours
from memgen_eval.neighbours.topk import Neighbours
from neighbour_checks import ENGINES, EVERYTHING_CODED, check, same

Found = tuple[NDArray[Any], NDArray[np.int64]]


@pytest.fixture
def everything_coded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Searches of any size take quantizers, in small tiles; whether each was answered by them."""
    for module, name, value in EVERYTHING_CODED:
        monkeypatch.setattr(module, name, value)
    answered: list[bool] = []
    by_codes = pruning.nearest_by_codes

    def watched(*arguments: Any, **how: Any) -> Found | None:
        found = by_codes(*arguments, **how)
        answered.append(found is not None)
        return found

    monkeypatch.setattr(search, "nearest_by_codes", watched)
    return answered


@pytest.mark.parametrize("k", [1, 4, 33])
@pytest.mark.parametrize("case", PIXELS)
def test_pixels_against_brute_force(case: str, k: int, everything_coded: list[bool]) -> None:
    queries, references = PIXELS[case]()
    queries = np.concatenate([queries[:8], references[:3]])
    found = nearest_neighbours(queries, references, k)
    assert everything_coded == [True]
    assert found.squared_distances.dtype == np.int64
    check(found, queries, references, k)


@pytest.mark.parametrize("k", [1, 4, 33])
@pytest.mark.parametrize("case", FLOATS)
def test_floats_against_brute_force(case: str, k: int, everything_coded: list[bool]) -> None:
    queries, references = FLOATS[case]()
    queries = np.concatenate([queries[:4], queries[-2:], references[:3].astype(queries.dtype)])
    found = nearest_neighbours(queries, references, k)
    assert everything_coded == [True]
    check(found, queries, references, k)


@given(
    kind=st.sampled_from(["few values", "steps", "noise", "floats on a grid", "floats"]),
    seed=st.integers(0, 999),
    sizes=st.tuples(st.integers(1, 8), st.integers(2, 250)),
    width=st.integers(1, 40),
    k=st.integers(1, 9),
    leave_out=st.booleans(),
    flip=st.booleans(),
)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_shape_against_brute_force(
    kind: str,
    seed: int,
    sizes: tuple[int, int],
    width: int,
    k: int,
    leave_out: bool,
    flip: bool,
    everything_coded: list[bool],
) -> None:
    generator = np.random.default_rng(seed)
    rows = {
        "few values": lambda n: generator.choice(np.array([3, 4, 255], np.uint8), (n, width)),
        "steps": lambda n: (generator.integers(0, 9, (n, 1)) + np.arange(width)).astype(np.uint8),
        "noise": lambda n: generator.integers(0, 256, (n, width), dtype=np.uint8),
        "floats on a grid": lambda n: generator.integers(-2, 3, (n, width)).astype(np.float32),
        "floats": lambda n: generator.normal(size=(n, width)) ** 5,
    }[kind]
    queries, references = rows(sizes[0]), rows(sizes[1])
    exclude = generator.integers(0, sizes[1], sizes[0]) if leave_out else None
    k = min(k, sizes[1] - leave_out)
    found = nearest_neighbours(queries, references, k, exclude=exclude, flip=flip)
    check(found, queries, references, k, exclude=exclude, flip=flip)


def takes_codes(engine: candidates.Engine) -> bool:
    """Whether large searches multiply codes, which those on a GPU do not."""
    return engine.takes_codes and not engine.gpus


@pytest.mark.parametrize("engine", [e for e in ENGINES if takes_codes(candidates.ENGINES[str(e.values[0])])])
def test_every_engine_and_budget_gives_the_same_bits(engine: Any, everything_coded: list[bool]) -> None:
    for queries, references in (PIXELS["smooth"](), FLOATS["gaussian"]()):
        expected = nearest_neighbours(queries, references, 3, engine="cuda")
        for budget in ("1MiB", "1GiB"):
            assert same(nearest_neighbours(queries, references, 3, engine=engine, memory_budget=budget), expected)
    assert everything_coded == [True] * 4


@pytest.mark.parametrize("fits", [True, False])
def test_codes_serve_the_next_searches(
    fits: bool, everything_coded: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrower search takes the wider codes; a wider one, and floats, make their own. All are made once if kept."""
    if not fits:
        monkeypatch.setattr(pruning, "_TILE_VALUES", 2**30)
    blocks: list[int] = []
    encode = pruning.encode

    def counted(quantizer: Any, array: Any, part: slice, workers: Any) -> Any:
        blocks.append(part.stop - part.start if array is rows else 0)
        return encode(quantizer, array, part, workers)

    monkeypatch.setattr(pruning, "encode", counted)
    queries, rows = PIXELS["smooth"]()
    references = References(rows)
    made = []
    for some, k in ((queries, 2), (queries[::-1], 30), (queries, 3), (queries.astype(np.float32), 3)):
        check(nearest_neighbours(some[:9], references, k), some[:9], rows, k)
        made.append(sum(blocks))
    once = len(rows)
    assert made == [once, 2 * once, 2 * once if fits else 3 * once, (3 if fits else 4) * once]
    assert {type(kept.quantizer) for kept in references._kept.values()} == {
        quantizers.ProjectedQuantizer,
        quantizers.ScalarQuantizer,
    }
    assert everything_coded == [True] * 4


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_codes_that_are_there_serve_searches_too_small_to_make_them(
    dtype: type, everything_coded: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, rows = (array.astype(dtype) for array in PIXELS["smooth"]())
    references = References(rows)
    nearest_neighbours(queries, references, 3, engine="numkong")
    monkeypatch.setattr(quantizers, "_FEWEST_ROWS", 10**9)
    for k, how in ((5, {"engine": "auto"}), (33, {"engine": "numkong", "flip": True}), (2, {"engine": "numpy"})):
        check(nearest_neighbours(queries[:3], references, k, **how), queries[:3], rows, k, flip=k == 33)
    check(nearest_neighbours(queries[:3], rows, 5), queries[:3], rows, 5)
    check(nearest_neighbours(queries[:3].astype(np.float64), rows[:290], 5), queries[:3], rows[:290], 5)
    monkeypatch.setattr(quantizers, "_REFERENCES_PER_NEIGHBOUR", len(rows))
    check(nearest_neighbours(queries[:3], references, 2), queries[:3], rows, 2)
    assert everything_coded == [True, True, True, True, False, False, False, False]


@pytest.mark.parametrize("coded", [True, False])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("leave_out", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_nearest_within_a_limit(
    dtype: type, leave_out: bool, flip: bool, coded: bool, request: pytest.FixtureRequest
) -> None:
    """A limit at the nearest distance itself, just below it and above it, at nothing, and none at all."""
    answered: list[bool] = request.getfixturevalue("everything_coded") if coded else []
    queries, rows = (array.astype(dtype) for array in PIXELS["smooth"]())
    queries = np.concatenate([queries[:20], rows[:4], rows[4:8, ::-1]])
    excluded = np.arange(len(queries)) if leave_out else None
    nearest = nearest_neighbours(queries, rows, 1, exclude=excluded, flip=flip, engine="cuda")
    squared, index = nearest.squared_distances[:, 0].astype(np.float64), Index(References(rows))
    for limits in (squared, np.nextafter(squared, -1), 1.1 * squared, 0 * squared, np.full(len(queries), np.inf)):
        found = index.nearest_within(queries, limits, exclude=excluded, flip=flip)
        near = found.squared_distances[:, 0] <= limits
        assert near.tolist() == (squared <= limits).tolist()
        assert same(found[near], nearest[near])
    assert index.nearest_within(queries[:0], squared[:0]).indices.shape == (0, 1)
    assert answered == [True] * (10 if flip else 5) * coded


def test_ties_at_the_last_neighbour_go_to_the_smaller_index(everything_coded: list[bool]) -> None:
    """References at three distances only, each in all tiles, so that pairs at the radius must not be skipped."""
    generator = np.random.default_rng(0)
    order = generator.permutation(np.repeat([1, 2, 3], 200))
    for dtype in (np.uint8, np.float32):
        references = np.zeros((600, SIZE), dtype)
        references[np.arange(600), generator.integers(0, SIZE, 600)] = order
        queries = np.zeros((5, SIZE), dtype)
        for k in (1, 5, 90):
            found = nearest_neighbours(queries, references, k)
            assert (found.indices == np.flatnonzero(order == 1)[:k]).all()
            assert (found.squared_distances == 1).all()
    assert everything_coded == [True] * 6


def test_pairs_at_the_radius_are_compared(everything_coded: list[bool]) -> None:
    """Codes without error, where the bound is the distance: a pair at the radius must pass, one beyond it must not."""
    references = np.zeros((300, 16))
    references[:, 0] = np.random.default_rng(0).permutation(np.arange(300) % 3) + 1
    quantizer = quantizers.ScalarQuantizer(np.zeros(16), 1.0, 1e-9)
    codes_of = quantizer.encode(references)
    half_norms, error = (codes_of.norms >> 1).astype(np.int32), float(codes_of.errors.max())
    tile = bound.CodedTile(np.arange(300), NUMPY.pack(codes_of.values), half_norms, error, NUMPY)
    with start_workers(1) as workers:
        state = bound.Bound(np.zeros((2, 16)), references, 4, quantizer, workers)
    state.squared_radii[:] = 4, 9
    pairs = state.passing(tile, slice(0, 2))
    for row, radius in enumerate((2, 3)):
        passing = pairs.references[pairs.queries == row]
        assert set(np.flatnonzero(references[:, 0] <= radius)) <= set(passing)
    assert not (references[pairs.references[pairs.queries == 0], 0] > 2).any()


@pytest.mark.parametrize("limit", ["_MOST_PASSING", "_MOST_COMPARED"])
def test_codes_that_skip_too_little_give_way(
    limit: str,
    everything_coded: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bound, limit, 0.01)
    for queries, references in (
        (noise(20), noise(300, 1)),
        (equidistant()[:20], equidistant()),
        (sphere()[:20], sphere()),
    ):
        with caplog.at_level(logging.DEBUG, logger="memgen_eval.neighbours"):
            found = nearest_neighbours(queries, references, 5)
        check(found, queries, references, 5)
    assert everything_coded == [False] * 3
    assert caplog.text.count("too many pairs pass") == 3


def test_full_store_of_pairs_is_emptied(everything_coded: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    compare = bound.Bound.compare

    def watched(self: Any, pairs: Any) -> None:
        held.append(sum(map(len, pairs)))
        compare(self, pairs)

    monkeypatch.setattr(bound.Bound, "compare", watched)
    monkeypatch.setattr(pruning, "PAIR_BYTES", 2**17)
    queries, references = smooth(60, 1), smooth(2000)
    found = nearest_neighbours(queries, references, 3, memory_budget="32MiB")
    check(Neighbours(found.squared_distances[:4], found.indices[:4]), queries[:4], references, 3)
    assert len(held) > 4 and max(held) < 60 * 70 + 32
    assert everything_coded == [True]


@pytest.mark.parametrize("kind", ["pixels", "floats"])
def test_memory_stays_near_the_budget(
    kind: str, everything_coded: list[bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pruning, "_MOST_TILE_ROWS", 4096)
    rows = np.repeat(smooth(4000), 16, axis=1)
    if kind == "floats":
        rows = rows[:, :1024].astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    queries = rows[:500].copy()
    peaks = {}
    for budget in (24, 96):
        tracemalloc.start()
        nearest_neighbours(queries, mapped, 2, engine="numpy", memory_budget=f"{budget}MiB")
        peaks[budget] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    assert everything_coded == [True, True]
    assert peaks[24] < 32 and peaks[96] < 96, peaks


def test_queries_come_in_blocks_and_any_order(everything_coded: list[bool]) -> None:
    queries, references = gaussian(900, 3), gaussian(500)
    whole = nearest_neighbours(queries, references, 3)
    parts = nearest_neighbours(queries[::-1], references, 3, memory_budget="1MiB")
    assert same(Neighbours(parts.squared_distances[::-1], parts.indices[::-1]), whole)


def test_small_budgets_and_equal_rows_take_the_whole_product(everything_coded: list[bool]) -> None:
    queries, references = smooth(20, 1), smooth(300)
    check(nearest_neighbours(queries, references, 5, memory_budget=1000), queries, references, 5)
    equal = np.full((300, SIZE), 7, np.uint8)
    check(nearest_neighbours(queries, equal, 5), queries, equal, 5)
    assert everything_coded == [False, False]


def test_large_searches_take_codes(caplog: pytest.LogCaptureFixture) -> None:
    centres = 3 * np.random.default_rng(0).normal(size=(200, 320)).astype(np.float32)
    rows = np.random.default_rng(1).normal(size=(100, 200, 320)).astype(np.float32) + centres
    references, queries = rows[:90].reshape(-1, 320), rows[90:].reshape(-1, 320)
    with caplog.at_level(logging.DEBUG, logger="memgen_eval.neighbours"):
        found = nearest_neighbours(queries, references, 3, engine="numkong")
    assert "codes of 320 values left" in caplog.text
    assert same(found, nearest_neighbours(queries, references, 3, engine="cuda"))
