"""``engine="cuda"``: the keys, their selection in many tiles, what travels when, and when the processor takes over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from numpy.typing import NDArray

from memgen_eval.compute import engines
from memgen_eval.compute.products import SLICE
from memgen_eval.compute.rows import FloatTransform, IntegerTransform, Transform
from memgen_eval.errors import InputError
from memgen_eval.neighbours import candidates, cuda
from memgen_eval.neighbours.candidates import ENGINES, Resources, Scan
from memgen_eval.neighbours.search import nearest_neighbours
from neighbour_checks import same

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_MOST_DEVICE_ROWS", 192)
    monkeypatch.setattr(cuda, "_MOST_BLOCK_ROWS", 40)


def scan(references: NDArray[Any], transform: Transform, keep: int, budget: int) -> Scan:
    return Scan(references, transform, keep, Resources(ENGINES["cuda"], budget))


def brute_force(queries: NDArray[np.uint8], references: NDArray[np.uint8], keep: int) -> tuple[Any, Any]:
    gaps = queries[:, None].astype(np.int64) - references[None]
    squared = (gaps**2).sum(axis=2)
    indices = np.argsort(squared, axis=1, kind="stable")[:, :keep]
    return np.take_along_axis(squared, indices, axis=1), indices


@given(
    seed=st.integers(0, 999),
    sizes=st.tuples(st.integers(1, 50), st.integers(1, 400), st.integers(1, 20)),
    keep=st.integers(1, 400),
    values=st.sampled_from([[0, 255], [7], [126, 127, 128, 129], list(range(256))]),
    tile_rows=st.sampled_from([128, 1024]),
)
@example(seed=0, sizes=(50, 400, 20), keep=3, values=list(range(256)), tile_rows=1024)  # fewer than its groups
@settings(max_examples=80)
def test_integer_keys_give_all_neighbours_in_order(
    seed: int, sizes: tuple[int, int, int], keep: int, values: list[int], tile_rows: int
) -> None:
    num_queries, num_references, width = sizes
    generator = np.random.default_rng(seed)
    queries, references = (
        generator.choice(np.array(values, np.uint8), (count, width)) for count in (num_queries, num_references)
    )
    keep = min(keep, num_references)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "_MOST_DEVICE_ROWS", tile_rows)
        patch.setattr(cuda, "_MOST_BLOCK_ROWS", 32)
        found, keys, norms = cuda.smallest_keys(queries, scan(references, IntegerTransform(), keep, 2**24), DEVICE)
    squared, indices = brute_force(queries, references, keep)
    assert keys.dtype == np.int32 and found.dtype == norms.dtype == np.int64
    assert (found == indices).all()
    assert (keys + norms[:, None] == squared).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_float_keys_are_those_of_the_processor_but_for_rounding(scale: float, small_tiles: None) -> None:
    generator = np.random.default_rng(0)
    queries, references = (scale * generator.normal(size=(count, 30)) for count in (70, 500))
    transform = FloatTransform.around(references, float(max(abs(queries).max(), abs(references).max())))
    indices, keys, norms = cuda.smallest_keys(queries, scan(references, transform, 500, 2**20), DEVICE)
    left, right = transform.apply(queries), transform.apply(references)
    expected = (1 - transform.discount) * transform.norms(right) - 2 * left.astype(np.float64) @ right.T.astype(
        np.float64
    )
    assert keys.dtype == np.float32
    assert np.allclose(norms, transform.norms(left), rtol=1e-12, atol=0)
    assert (np.sort(indices, axis=1) == np.arange(500)).all()
    assert np.allclose(keys, np.take_along_axis(expected, indices, axis=1), rtol=0, atol=1e-6)
    assert (np.diff(keys, axis=1) >= 0).all()
    assert (keys < 0).any() and (keys > 0).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_searches_in_many_tiles_give_the_same_bits(dtype: Any, small_tiles: None) -> None:
    generator = np.random.default_rng(1)
    references = generator.integers(0, 4, (700, 2, 3)).astype(dtype)
    queries = np.concatenate([references[600:], references[:30]])
    for how in ({}, {"flip": True}, {"exclude": np.arange(130)}):
        expected = nearest_neighbours(queries, references, 5, engine="numpy", **how)
        assert same(nearest_neighbours(queries, references, 5, engine="cuda", **how), expected)


def test_callers_settings_change_nothing() -> None:
    generator = np.random.default_rng(2)
    queries, references = (generator.normal(size=(count, 300)).astype(np.float32) for count in (60, 600))
    expected = nearest_neighbours(queries, references, 3, engine="numpy")
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        assert cuda.usable_device(np.float32, width=300) is not None
        assert same(nearest_neighbours(queries, references, 3, engine="cuda"), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_device_of_lower_precision_is_not_used(
    dtype: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def rough(queries: torch.Tensor, prepared: torch.Tensor) -> torch.Tensor:
        products = queries.bfloat16().float() @ prepared.bfloat16().float().t()
        return (products / 256).round().mul(256).to(torch.int32 if queries.dtype == torch.int8 else torch.float32)

    monkeypatch.setattr(cuda, "_device_products", rough)
    monkeypatch.setattr(engines, "is_exact", engines.is_exact.__wrapped__)
    images = np.random.default_rng(0).integers(0, 256, (80, 50)).astype(dtype)
    with caplog.at_level(logging.WARNING, logger="memgen_eval.neighbours"):
        found = nearest_neighbours(images[:5], images, 3, engine="cuda")
    assert "multiplies in lower precision; the processor is used instead" in caplog.text
    assert same(found, nearest_neighbours(images[:5], images, 3, engine="numpy"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("slip", ["a tile", "an index", "the nearest"])
def test_a_device_that_selects_wrongly_is_not_used(
    dtype: Any, slip: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    searched = cuda._smallest

    def wrong(keys: torch.Tensor, first: int, keep: int) -> torch.Tensor:
        if slip == "a tile" and first:
            return searched(keys, 0, keep)  # the rows of the first
        found = searched(keys, first, keep)
        return found + (found & 1 == 0) if slip == "an index" else found[:, 1:]

    monkeypatch.setattr(cuda, "_smallest", wrong)
    width = {"a tile": 51, "an index": 52, "the nearest": 53}[slip]  # a result is kept for each width
    images = np.random.default_rng(0).integers(0, 256, (80, width)).astype(dtype)
    with caplog.at_level(logging.WARNING, logger="memgen_eval.neighbours"):
        found = nearest_neighbours(images[:5], images, 3, engine="cuda")
    assert "finds wrong neighbours; the processor is used instead" in caplog.text
    assert same(found, nearest_neighbours(images[:5], images, 3, engine="numpy"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_a_device_that_fails_is_given_up_with_one_warning(
    dtype: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    images = np.random.default_rng(0).integers(0, 256, (80, 54)).astype(dtype)
    expected = nearest_neighbours(images[:5], images, 3, engine="numpy")
    assert same(nearest_neighbours(images[:5], images, 3, engine="cuda"), expected)
    monkeypatch.setattr(candidates, "_given_up", set())
    monkeypatch.setattr(cuda, "smallest_keys", fail)
    with caplog.at_level(logging.WARNING, logger="memgen_eval.neighbours"):
        for _ in range(2):
            assert same(nearest_neighbours(images[:5], images, 3, engine="cuda"), expected)
    assert caplog.text.count("torch failed on the GPU (OutOfMemoryError: CUDA out of memory. Tried to allocate") == 1


def test_rows_whose_sums_int32_cannot_hold_are_left_to_the_processor(caplog: pytest.LogCaptureFixture) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, SLICE + 1), dtype=np.uint8)
    with caplog.at_level(logging.WARNING, logger="memgen_eval.neighbours"):
        found = nearest_neighbours(images[:3], images, 2, engine="cuda")
    assert "32769 values are too wide" in caplog.text
    assert same(found, nearest_neighbours(images[:3], images, 2, engine="numpy"))


def test_no_gpu_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "gpu", lambda: None)
    with pytest.raises(InputError, match="engine='cuda' needs torch and a GPU that it can use, and finds none"):
        nearest_neighbours(np.zeros((1, 2), np.uint8), np.zeros((3, 2), np.uint8), 1, engine="cuda")
    assert cuda.usable_device.__wrapped__(np.float32, width=3) is None


@pytest.mark.parametrize("budget", [1, 2**20, 2**29, 2**40])
@pytest.mark.parametrize("width", [1, 3072, SLICE])
def test_tiles_and_keys_keep_to_the_budget(budget: int, width: int) -> None:
    plan = cuda.DevicePlan.within(budget, width)
    assert plan.tile_rows % 64 == 0 and 64 <= plan.tile_rows <= 8192
    assert 32 <= plan.block_rows <= 4096
    if plan.tile_rows > 64:
        assert 32 * plan.tile_rows * width <= budget // 2
    if plan.block_rows > 32:
        assert 16 * plan.tile_rows * plan.block_rows <= budget // 2


class Gpu:
    """A stand-in for torch.cuda that writes down what is sent, waited for and finished."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.queue = "working"

    def Stream(self, device: torch.device) -> Gpu:
        return self

    def current_stream(self, device: torch.device) -> Gpu:
        return self

    @contextmanager
    def stream(self, stream: Gpu) -> Iterator[None]:
        self.queue = "copying"
        yield
        self.queue = "working"

    def record_event(self) -> Event:
        return Event(self, self.log[-1])

    def wait_event(self, event: Event) -> None:
        self.log.append(f"wait for: {event.after}")


class Event:
    def __init__(self, gpu: Gpu, after: str) -> None:
        self.gpu, self.after = gpu, after

    def synchronize(self) -> None:
        self.gpu.log.append(f"finished: {self.after}")


class Sent:
    def __init__(self, number: int) -> None:
        self.number = number

    def record_stream(self, stream: Gpu) -> None:
        stream.log.append(f"keep {self.number}")


def test_blocks_travel_one_ahead_of_the_work_and_no_farther(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu()

    def send(block: NDArray[Any], device: torch.device) -> Sent:
        assert gpu.queue == "copying"
        gpu.log.append(f"send {block[0]}")
        return Sent(int(block[0]))

    for name in ("Stream", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(gpu, name))
    monkeypatch.setattr(cuda, "to_device", send)
    taken = []
    for block in cuda.one_ahead((np.array([number]) for number in range(5)), torch.device("cuda")):
        taken.append(block.number)
        gpu.log.append(f"work on {block.number}")
    assert taken == [0, 1, 2, 3, 4]
    for number in range(5):
        place: Callable[[str], int] = gpu.log.index
        assert place(f"send {number}") < place(f"wait for: send {number}") < place(f"work on {number}")
        assert place(f"keep {number}") < place(f"work on {number}")
        if number:
            assert place(f"send {number}") < place(f"work on {number - 1}")
        if number >= 3:
            assert place(f"finished: work on {number - 3}") < place(f"send {number}")


def test_no_blocks_and_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(cuda.one_ahead([], DEVICE)) == []
    (only,) = cuda.one_ahead([np.arange(3, dtype=np.uint8)], DEVICE)
    assert only.tolist() == [0, 1, 2] and only.device.type == DEVICE.type
