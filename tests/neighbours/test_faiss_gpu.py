"""FAISS on GPUs that the processor stands in for: rounding, orders of summation, failures, shares, and who is asked."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memgen_eval.compute import engines
from memgen_eval.compute.rows import FloatTransform
from memgen_eval.errors import InputError
from memgen_eval.neighbours import candidates, cuda, faiss_gpu
from memgen_eval.neighbours.candidates import ENGINES, Resources
from memgen_eval.neighbours.search import nearest_neighbours
from neighbour_checks import same

ROOT = Path(__file__).parent.parent.parent
find_gpu = engines.gpu  # before `conftest` replaces it
Rounding = Callable[[NDArray[Any]], NDArray[np.float64]]


def to_bits(values: NDArray[Any], bits: int, *, cut: bool = False) -> NDArray[np.float64]:
    """Numbers with so many significant bits: the nearest, halves to even, or what is left when the others are cut."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    scaled = np.ldexp(fraction, bits)
    return np.ldexp(np.trunc(scaled) if cut else np.rint(scaled), exponent - bits)


def as_given(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.astype(np.float64)


def nearest_tf32(values: NDArray[Any]) -> NDArray[np.float64]:
    return to_bits(values, 11)


def cut_tf32(values: NDArray[Any]) -> NDArray[np.float64]:
    return to_bits(values, 11, cut=True)


def bfloat16(values: NDArray[Any]) -> NDArray[np.float64]:
    return to_bits(values, 8)


class Faiss:
    """The parts of the module faiss that a search calls; distances are float32 sums in an order of its own."""

    __version__ = "1.15.1"

    def __init__(self, num_gpus: int = 1, rounded: Rounding = as_given, *, fails_at: int = -1) -> None:
        self.num_gpus, self.rounded, self.fails_at = num_gpus, rounded, fails_at
        self.calls: list[str] = []
        self.devices: list[int] = []
        self.shapes: list[tuple[int, int]] = []
        self.temporary: list[int] = []
        self.spoil: Callable[[Any, Any], tuple[Any, Any]] | None = None
        self.order = np.random.default_rng(0)

    def called(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) - 1 == self.fails_at:
            raise RuntimeError(f"StandardGpuResources: alloc fail\n(cudaMalloc error out of memory [2]) in {name}")

    def get_num_gpus(self) -> int:
        self.called("get_num_gpus")
        return self.num_gpus

    def StandardGpuResources(self) -> Faiss:
        self.called("StandardGpuResources")
        return self

    def setPinnedMemory(self, size: int) -> None:
        self.called("setPinnedMemory")

    def setTempMemory(self, size: int) -> None:
        self.called("setTempMemory")
        self.temporary.append(size)

    def knn_gpu(self, res: Any, xq: Any, xb: Any, k: int, *, device: int) -> tuple[Any, Any]:
        self.called("knn_gpu")
        assert res is self and xq.dtype == xb.dtype == np.float32 and xb.flags.c_contiguous
        assert 0 <= device < self.num_gpus and k <= 2048
        for rows in (xq, xb):
            assert (cut_tf32(rows) == rows).all()  # nothing is left to round
        self.devices.append(device)
        self.shapes.append((len(xq), len(xb)))
        found = self.nearest(self.distances(xq, xb), k)
        return found if self.spoil is None else self.spoil(*found)

    def knn(self, xq: Any, xb: Any, k: int) -> tuple[Any, Any]:
        """On the processor."""
        self.called("knn")
        gaps = xq[:, None].astype(np.float64) - xb[None]
        return self.nearest((gaps**2).sum(axis=2).astype(np.float32), k)

    def distances(self, xq: Any, xb: Any) -> Any:
        """The expanded form, its sums in the order of a shuffle, with products of rounded values."""
        shuffled = self.order.permutation(xq.shape[1])
        left, right = self.rounded(xq)[:, shuffled], self.rounded(xb)[:, shuffled]
        products = np.empty((len(xq), len(xb)), dtype=np.float32)
        for row, query in enumerate(left):
            products[row] = self.summed(query * right)
        norms, others = (self.summed(rows[:, shuffled].astype(np.float64) ** 2) for rows in (xq, xb))
        return np.maximum((norms[:, None] + others) - np.float32(2) * products, np.float32(0))

    @staticmethod
    def summed(terms: Any) -> Any:
        """One after the other: the longest chain of roundings."""
        return np.cumsum(terms.astype(np.float32), axis=1, dtype=np.float32)[:, -1]

    @staticmethod
    def nearest(distances: Any, k: int) -> tuple[Any, Any]:
        indices = np.argsort(distances, axis=1, kind="stable")[:, :k].astype(np.int64)
        return np.take_along_axis(distances, indices, axis=1), indices


class Misleading(Faiss):
    """As wrong as `lower_bounds` allows, so that the nearest seem farther than all others."""

    def distances(self, xq: Any, xb: Any) -> Any:
        left, right = xq.astype(np.float64), xb.astype(np.float64)
        norms = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)
        true = norms - 2 * left @ right.T
        error = 2 * faiss_gpu.rounding(xq.shape[1]) * norms * 0.99
        near = true <= np.partition(true, 3, axis=1)[:, 3:4]
        return np.maximum(np.where(near, true + error, true - error), 0).astype(np.float32)


Install = Callable[[Faiss], Faiss]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a stand-in for faiss and its driver in place; nothing has been tested or has failed yet."""
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(engines, "_DRIVERS", (os.devnull,))
    monkeypatch.setattr(faiss_gpu, "_TEST_WIDTH", 200)
    monkeypatch.setattr(faiss_gpu, "_TEST_REFERENCES", 360)
    monkeypatch.setattr(candidates, "_given_up", set())
    for module in (engines, faiss_gpu):
        monkeypatch.setattr(module, "installed", lambda package: True)

    def put(faiss: Faiss) -> Faiss:
        monkeypatch.setitem(sys.modules, "faiss", faiss)
        faiss_gpu.is_usable.cache_clear()
        candidates._given_up.clear()
        return faiss

    yield put
    faiss_gpu.is_usable.cache_clear()


def rows_of(kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Queries, copies among them, and references with duplicates."""
    generator = np.random.default_rng(3)
    references = generator.integers(0, 256, (300, 3, 13)).astype(np.uint8)
    references[200:220] = references[:20]
    queries = np.concatenate([references[190:215], generator.integers(0, 256, (12, 3, 13)).astype(np.uint8)])
    if kind == "uint8":
        return queries, references
    if kind == "far from the origin":  # copies whose norms hide their distances
        return 1000 + queries / 255, 1000 + references / 255
    if kind == "outlier":
        moved = references.astype(np.float32)
        moved[7] *= 1e4
        return queries.astype(np.float32), moved
    return (queries / 255).astype(kind), (references / 255).astype(kind)


KINDS = ["uint8", "float16", "float32", "float64", "far from the origin", "outlier"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounded", [as_given, nearest_tf32, cut_tf32])
def test_any_rounding_and_order_give_the_same_bits(kind: str, rounded: Rounding, install: Install) -> None:
    queries, references = rows_of(kind)
    for how in ({}, {"flip": True}, {"exclude": np.arange(len(queries))}):
        faiss = install(Faiss(rounded=rounded))
        expected = nearest_neighbours(queries, references, 4, engine="numpy", **how)
        assert same(nearest_neighbours(queries, references, 4, engine="faiss", **how), expected)
        assert "knn_gpu" in faiss.calls and "knn" not in faiss.calls


@pytest.mark.parametrize("kind", ["uint8", "float32", "outlier"])
def test_errors_as_large_as_the_bound_allows_mislead_nobody(kind: str, install: Install) -> None:
    queries, references = rows_of(kind)
    install(Misleading())
    expected = nearest_neighbours(queries, references, 4, engine="numpy")
    assert same(nearest_neighbours(queries, references, 4, engine="faiss"), expected)


class Hiding(Faiss):
    """The two nearest are told to be the farthest: no bound sees it."""

    def distances(self, xq: Any, xb: Any) -> Any:
        found = ((xq[:, None].astype(np.float64) - xb[None]) ** 2).sum(axis=2)
        nearest = np.argsort(found, axis=1)[:, :2]
        np.put_along_axis(found, nearest, found.max(axis=1, keepdims=True), axis=1)
        return found.astype(np.float32)


def test_the_self_test_is_what_guards_against_hidden_neighbours(install: Install) -> None:
    queries, references = rows_of("uint8")
    expected = nearest_neighbours(queries, references, 4, engine="numpy")
    faiss = install(Hiding())
    assert same(nearest_neighbours(queries, references, 4, engine="faiss"), expected)
    assert faiss.calls.count("knn_gpu") == 1
    faiss = install(Hiding())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_gpu, "is_right_on", lambda device, gpus: True)
        assert not same(nearest_neighbours(queries, references, 4, engine="faiss"), expected)


def test_every_value_of_uint8_less_128_is_one_of_tf32() -> None:
    values = np.arange(256.0) - 128
    assert (nearest_tf32(values) == values).all() and (cut_tf32(values) == values).all()
    assert (faiss_gpu.to_tf32(values) == values).all()
    rows = faiss_gpu.DeviceRows.of(np.arange(256, dtype=np.uint8)[:, None], slice(0, 256), None)
    assert (rows.values[:, 0] == values).all() and (rows.norms == values**2).all() and (rows.errors == 0).all()


def test_rounding_to_tf32_is_to_the_nearest() -> None:
    values = np.random.default_rng(0).normal(size=5000) * 2.0 ** np.random.default_rng(1).integers(-50, 50, 5000)
    assert (faiss_gpu.to_tf32(values) == nearest_tf32(values.astype(np.float32))).all()
    assert faiss_gpu.to_tf32(np.array([2.0**-61, -1e-30, 1 + 2.0**-11, -1 - 2.0**-11])).tolist() == [
        0,
        0,
        1 + 2.0**-10,
        -1 - 2.0**-10,
    ]


def test_errors_of_rows_are_bounds() -> None:
    references = np.random.default_rng(0).normal(size=(50, 30)) * 10.0 ** np.arange(-20, 10)
    transform = FloatTransform.around(references, float(np.abs(references).max()))
    rows = faiss_gpu.DeviceRows.of(references, slice(3, 40), transform)
    exact = np.ldexp(references[3:40].astype(np.longdouble) - transform.centre, transform.exponent)
    moved = np.sqrt(((exact - rows.values) ** 2).sum(axis=1))
    assert (moved > 0).all() and (moved <= rows.errors).all() and (rows.errors < 1.001 * moved + 1e-14).all()
    assert np.allclose(rows.norms, (rows.values.astype(np.longdouble) ** 2).sum(axis=1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("width", [1, 50, 1024, 4000])
@pytest.mark.parametrize("rounded", [as_given, cut_tf32])
def test_bounds_hold_for_float32_sums(width: int, rounded: Rounding) -> None:
    generator = np.random.default_rng(width)
    left, right = (generator.normal(size=(count, width)) for count in (6, 40))
    right[:6] = left * (1 + 1e-4)
    largest = float(max(np.abs(left).max(), np.abs(right).max()))
    transform = FloatTransform.around(right, largest)
    queries, references = (faiss_gpu.DeviceRows.of(rows, slice(0, len(rows)), transform) for rows in (left, right))
    distances = Faiss(rounded=rounded).distances(queries.values, references.values)
    bounds = faiss_gpu.lower_bounds(distances, queries, float(references.norms.max()), float(references.errors.max()))
    true = ((left[:, None].astype(np.longdouble) - right[None]) ** 2).sum(axis=2)
    assert (np.ldexp(bounds, -2 * transform.exponent) <= true).all()
    assert (np.ldexp(bounds, -2 * transform.exponent) > 0.9 * true).mean() > 0.8  # and they are worth something


def test_there_is_no_bound_for_millions_of_values() -> None:
    assert faiss_gpu.rounding(2**21 - 17) < 1.1 and faiss_gpu.rounding(2**21) == np.inf
    rows = faiss_gpu.DeviceRows(np.zeros((2, 2**21), np.float32), np.zeros(2), np.zeros(2))
    assert (faiss_gpu.lower_bounds(np.ones((2, 3), np.float32), rows, 1.0, 0.0) == 0).all()


def count_warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.levelno >= logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("num_gpus", [1, 2])
def test_whatever_call_fails_the_processor_takes_over(
    kind: str, num_gpus: int, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    queries, references = rows_of(kind)
    expected = nearest_neighbours(queries, references, 4, engine="numpy")

    def search_twice() -> None:
        for _ in range(2):
            found = nearest_neighbours(queries, references, 4, engine="faiss", memory_budget="1MiB")
            assert same(found, expected)

    whole = install(Faiss(num_gpus))
    search_twice()
    assert count_warnings(caplog) == 0
    assert set(whole.calls) == {
        "get_num_gpus",
        "StandardGpuResources",
        "setPinnedMemory",
        "setTempMemory",
        "knn_gpu",
    }
    for number, name in enumerate(whole.calls):
        caplog.clear()
        faiss = install(Faiss(num_gpus, fails_at=number))
        search_twice()
        assert faiss.calls[number] == name
        assert "knn" in faiss.calls and "knn_gpu" not in faiss.calls[faiss.calls.index("knn") :]
        assert count_warnings(caplog) == 1
        assert "faiss failed on the GPU (RuntimeError: StandardGpuResources: alloc fail (cudaMalloc" in caplog.text
        assert "the processor is used from now on" in caplog.text


def without_neighbours(distances: Any, indices: Any) -> tuple[Any, Any]:
    return distances, np.where(np.arange(indices.shape[1]) == 2, -1, indices)


def nan(distances: Any, indices: Any) -> tuple[Any, Any]:
    return np.where(np.arange(indices.shape[1]) == 2, np.nan, distances), indices


def beyond(distances: Any, indices: Any) -> tuple[Any, Any]:
    return distances, indices + 1000


def twice(distances: Any, indices: Any) -> tuple[Any, Any]:
    return distances, np.repeat(indices[:, :1], indices.shape[1], axis=1)


@pytest.mark.parametrize("spoil", [without_neighbours, nan, beyond, twice])
def test_answers_that_are_none_count_as_failures(
    spoil: Callable[[Any, Any], tuple[Any, Any]], install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    queries, references = rows_of("float32")
    expected = nearest_neighbours(queries, references, 4, engine="numpy")
    faiss = install(Faiss())
    assert faiss_gpu.is_usable()
    faiss.spoil = spoil
    assert same(nearest_neighbours(queries, references, 4, engine="faiss"), expected)
    assert "faiss returned rows on GPU 0 that are no neighbours" in caplog.text and "knn" in faiss.calls


def too_far(distances: Any, indices: Any) -> tuple[Any, Any]:
    return distances * 1.01 + 1, indices


def others(distances: Any, indices: Any) -> tuple[Any, Any]:
    return distances, indices ^ 1


@pytest.mark.parametrize("spoil", [None, too_far, others])
def test_the_self_test_sees_lower_precision_and_wrong_answers(
    spoil: Any, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    queries, references = rows_of("float32")
    expected = nearest_neighbours(queries, references, 4, engine="numpy")
    faiss = install(Faiss(2, as_given if spoil else bfloat16))
    faiss.spoil = spoil
    for _ in range(2):
        assert same(nearest_neighbours(queries, references, 4, engine="faiss"), expected)
    assert faiss.calls.count("knn_gpu") == 2  # the self-test of each GPU
    assert "faiss gives wrong distances on GPU [0, 1]; the processor is used instead" in caplog.text
    assert count_warnings(caplog) == 1


def test_a_nearer_reference_that_is_missing_fails_the_self_test(install: Install) -> None:
    class Forgetful(Faiss):
        def distances(self, xq: Any, xb: Any) -> Any:
            found = super().distances(xq, xb)
            found[:, 150] = np.finfo(np.float32).max
            return found

    faiss = install(Forgetful())
    assert not faiss_gpu.is_usable() and faiss.calls.count("knn_gpu") == 1


@pytest.mark.parametrize("rounded", [as_given, nearest_tf32, cut_tf32])
def test_what_is_right_passes_the_whole_self_test(rounded: Rounding, install: Install) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_gpu, "_TEST_WIDTH", 1536)
        install(Faiss(rounded=rounded))
        assert faiss_gpu.is_usable()


@pytest.mark.parametrize(
    ("num_gpus", "variables", "devices"),
    [
        (1, {}, {0}),
        (3, {}, {0, 1, 2}),
        (4, {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, {1, 3}),
        (2, {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, {1}),
        (1, {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, {0}),
    ],
)
def test_references_are_shared_by_the_gpus_of_this_process(
    num_gpus: int, variables: dict[str, str], devices: set[int], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    references = np.random.default_rng(0).integers(0, 256, (1500, 40), dtype=np.uint8)
    queries = np.concatenate([references[::50], 255 - references[::100]])
    expected = nearest_neighbours(queries, references, 3, engine="numpy")
    faiss = install(Faiss(num_gpus))
    assert same(nearest_neighbours(queries, references, 3, engine="faiss", memory_budget="128KiB"), expected)
    assert set(faiss.devices) == devices
    searched = faiss.shapes[len(devices) :]  # after the self-tests
    assert sum(rows for _, rows in searched) == 1500 and len(searched) >= 6  # each reference once
    assert max(rows for _, rows in searched) == 256
    assert set(faiss.temporary) == {2**26, 2**17}


@pytest.mark.parametrize("budget", [1, 2**20, 2**29, 2**50])
@pytest.mark.parametrize("num_gpus", [1, 8])
def test_blocks_keep_to_the_budget(budget: int, num_gpus: int) -> None:
    plan = faiss_gpu.GpuBlocks.within(budget, 3072, num_gpus=num_gpus, keep=16)
    assert plan.tile_rows >= 256 and plan.block_rows >= 64
    assert plan.tile_rows == 256 or 4 * 3072 * plan.tile_rows * num_gpus <= budget // 4
    assert plan.block_rows == 64 or 4 * 3072 * plan.block_rows <= budget // 4


def test_more_candidates_than_faiss_takes_on_a_gpu_are_sought_on_the_processor(install: Install) -> None:
    references = np.random.default_rng(0).integers(0, 256, (2500, 4), dtype=np.uint8)
    expected = nearest_neighbours(references[:3], references, 2100, engine="numpy")
    faiss = install(Faiss())
    assert same(nearest_neighbours(references[:3], references, 2100, engine="faiss"), expected)
    assert faiss.calls.count("knn_gpu") == 1 and "knn" in faiss.calls and not candidates._given_up


def test_without_gpus_faiss_searches_on_the_processor(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    queries, references = rows_of("float32")
    expected = nearest_neighbours(queries, references, 4, engine="numpy")
    faiss = install(Faiss(num_gpus=0))
    assert same(nearest_neighbours(queries, references, 4, engine="faiss"), expected)
    assert set(faiss.calls) == {"get_num_gpus", "knn"} and count_warnings(caplog) == 0


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_are_hidden_are_not_looked_for(
    hidden: str, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss = install(Faiss())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not candidates.FAISS_GPU.is_usable(np.dtype(np.float32), 3) and faiss.calls == []


def test_without_faiss_nothing_is_asked_of_it(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = install(Faiss())
    monkeypatch.setattr(faiss_gpu, "installed", lambda name: False)
    assert not faiss_gpu.is_usable() and faiss.calls == []


@pytest.fixture
def automatic_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every search is worth a GPU."""
    monkeypatch.setitem(ENGINES, "auto", replace(ENGINES["auto"], least_work=1))


def test_auto_takes_torch_then_faiss_then_the_processor(
    install: Install, automatic_gpus: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queries, references = rows_of("float32")
    expected = nearest_neighbours(queries, references, 4, engine="numpy")
    faiss, used = install(Faiss()), []
    resources = Resources.of("auto", "512MiB")

    def found() -> list[str]:
        used.clear()
        faiss.calls.clear()
        assert same(nearest_neighbours(queries, references, 4), expected)
        return sorted({*used, *(["faiss"] if "knn_gpu" in faiss.calls else [])})

    searched = cuda.smallest_keys
    monkeypatch.setattr(cuda, "smallest_keys", lambda *given: used.append("torch") or searched(*given))
    described = resources.described(np.dtype(np.float32), 1000, 39)
    assert found() == ["torch"] and described == f"torch {torch.__version__} on the GPU"

    def fail(*given: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda, "smallest_keys", fail)
    assert found() == ["faiss"]
    assert "torch failed on the GPU (OutOfMemoryError: CUDA out of memory); the processor is used" in caplog.text
    assert resources.described(np.dtype(np.float32), 1000, 39) == "faiss 1.15.1 on the GPU"
    faiss.fails_at = 1
    assert found() == [] and count_warnings(caplog) == 2
    assert found() == [] and count_warnings(caplog) == 2
    assert resources.described(np.dtype(np.float32), 1000, 39) == f"numpy {np.__version__}"
    assert Resources.of("faiss", 1).described(np.dtype(np.uint8), 1000, 39) == "faiss 1.15.1"


def test_a_gpu_that_cannot_even_be_tested_is_given_up(
    install: Install, automatic_gpus: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(dtype: Any, *, width: int) -> Any:
        raise RuntimeError("CUDA driver initialization failed")

    faiss = install(Faiss(0))
    monkeypatch.setattr(cuda, "usable_device", broken)
    queries, references = rows_of("uint8")
    expected = nearest_neighbours(queries, references, 4, engine="numpy")
    assert same(nearest_neighbours(queries, references, 4), expected)
    assert "torch failed on the GPU (RuntimeError: CUDA driver initialization failed)" in caplog.text
    assert "knn_gpu" not in faiss.calls


def test_small_searches_are_worth_no_gpu(install: Install) -> None:
    faiss = install(Faiss())
    resources, dtype = Resources.of("auto", "512MiB"), np.dtype(np.uint8)
    assert "GPU" not in resources.described(dtype, 1000, 3072) and faiss.calls == []
    assert "GPU" in resources.described(dtype, 10_000 * 50_000, 3072)
    assert not resources.takes_codes_for(np.zeros((10**4, 3072), np.uint8), np.zeros((10**4, 3072), np.uint8))


def test_the_variable_chooses_where_nothing_is_given(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, references = rows_of("uint8")
    faiss = install(Faiss())
    monkeypatch.setenv("MEMGEN_ENGINE", "faiss")
    for given, calls in ((None, True), ("numpy", False), ("auto", False)):
        faiss.calls.clear()
        nearest_neighbours(queries, references, 2, engine=given)
        assert ("knn_gpu" in faiss.calls) == calls
    monkeypatch.setenv("MEMGEN_ENGINE", "fast")
    with pytest.raises(InputError, match=r"^MEMGEN_ENGINE='fast' is unknown: choose one of auto, numkong"):
        nearest_neighbours(queries, references, 2)
    with pytest.raises(InputError, match=r"^engine='' is unknown: choose one of auto, numkong"):
        nearest_neighbours(queries, references, 2, engine="")  # type: ignore[arg-type]
    monkeypatch.setenv("MEMGEN_ENGINE", "")
    nearest_neighbours(queries, references, 2)


def test_a_driver_that_does_not_fit_is_no_gpu() -> None:
    def unusable() -> int:
        raise RuntimeError("The NVIDIA driver on your system is too old")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "current_device", unusable)
        assert find_gpu() is None
        patch.setattr(torch.cuda, "current_device", lambda: 2)
        assert find_gpu() == torch.device("cuda", 2)


_LOOKING = """
import sys
from dataclasses import replace
import numpy as np
from memgen_eval.compute import engines
from memgen_eval.neighbours.candidates import ENGINES
from memgen_eval.neighbours.search import nearest_neighbours
engines._DRIVERS = ()
ENGINES["auto"] = replace(ENGINES["auto"], least_work=1)
rows = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
nearest_neighbours(rows, rows, 2)
nearest_neighbours(rows / 255, rows / 255, 2)
assert not {"torch", "faiss"} & set(sys.modules), set(sys.modules)
"""


def test_looking_for_a_gpu_imports_nothing() -> None:
    subprocess.run([sys.executable, "-c", _LOOKING], cwd=ROOT, check=True)
