"""Self-test, choice and description of engines, resources, budgets."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from memgen_eval.compute import engines, resources, rows
from memgen_eval.compute.products import NUMKONG, NUMPY, PRODUCTS, TORCH, Products, installed
from memgen_eval.compute.rows import IntegerTransform
from memgen_eval.errors import InputError
from memgen_eval.neighbours import candidates
from memgen_eval.neighbours.search import nearest_neighbours
from neighbour_checks import ENGINES, same


def saturating(queries: Any, packed: Any) -> Any:
    """What `torch._int_mm` does without VNNI: pairs of products of unsigned queries are added in 16 bits."""
    pairs = (queries.astype(np.int64) + 128)[:, None] * packed[None]
    sums = np.clip(pairs[..., 0::2] + pairs[..., 1::2], -(2**15), 2**15 - 1).sum(axis=2)
    return (sums - 128 * packed.sum(axis=1)).astype(np.int32)


WRONG = Products("torch", own_threads=True, value_bytes=2, pack=lambda tile: tile.astype(np.int64), multiply=saturating)


@pytest.mark.parametrize("products", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("dimension", [1, 2, 63, 1024, 3073, 32_768])
def test_integer_products_are_exact(products: Products, dimension: int) -> None:
    if products is TORCH and not engines.is_exact(TORCH):
        pytest.skip("torch saturates on this processor")
    generator = np.random.default_rng(dimension)
    for low in (-128, 127):
        queries, references = (generator.integers(low, 128, (rows, dimension), dtype=np.int8) for rows in (3, 70))
        found = products.multiply(queries, products.pack(references))
        assert found.dtype == np.int32
        assert (found == queries.astype(np.int64) @ references.astype(np.int64).T).all()


def test_self_test_sees_saturation_that_constants_hide(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alternating = np.tile(np.array([-128, 128 - 256], np.int8), (2, 32))
    assert (WRONG.multiply(alternating, WRONG.pack(alternating)) == 64 * 128**2).all()
    assert not engines.is_exact.__wrapped__(WRONG)
    assert engines.is_exact(NUMKONG) and engines.is_exact(NUMPY)
    monkeypatch.setitem(PRODUCTS, "torch", WRONG)
    images = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    with caplog.at_level(logging.WARNING, logger="memgen_eval.neighbours"):
        found = nearest_neighbours(images[:5], images, 3, engine="torch")
    assert "torch gives wrong integer products" in caplog.text
    assert same(found, nearest_neighbours(images[:5], images, 3, engine="numpy"))
    monkeypatch.setattr(engines, "_seconds", lambda candidates, *shape: {products.name: 1.0 for products in candidates})
    assert engines._fastest.__wrapped__(("torch", "numpy"), 50) is NUMPY


def test_every_engine_has_a_name_that_users_may_give() -> None:
    assert set(get_args(engines.EngineName)) == candidates.ENGINES.keys()


def test_fastest_is_taken_for_large_work_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"numkong": 2.0, "torch": 1.0, "numpy": 3.0}
    widths: list[int] = []

    def measure(candidates: list[Products], width: int, *shape: int) -> dict[str, float]:
        widths.append(width)
        return {products.name: seconds[products.name] for products in candidates}

    def chosen(work: float, width: int = 257) -> Products:
        return engines.integer_products("auto", work=work, width=width)

    monkeypatch.setattr(engines, "_seconds", measure)
    monkeypatch.setattr(engines, "is_exact", lambda products: True)
    monkeypatch.setattr(engines, "_fastest", engines._fastest.__wrapped__)
    assert chosen(1e6) is NUMKONG and not widths
    assert chosen(1e13) is TORCH
    seconds["numkong"] = 0.5
    assert chosen(1e13, 10**6) is NUMKONG
    assert chosen(1e13, 768) is NUMKONG
    assert sorted(set(widths)) == [1024, 4096]  # one probe for similar widths, and no row is longer in one
    monkeypatch.delitem(sys.modules, "torch")
    seconds["numkong"] = 2.0
    assert chosen(1e11) is NUMKONG  # not worth importing torch
    monkeypatch.setattr(engines, "installed", lambda package: package == "numpy")
    assert chosen(1e6) is NUMPY
    assert chosen(1e13) is NUMPY


@pytest.mark.parametrize("products", PRODUCTS.values(), ids=PRODUCTS)
def test_float_products_are_float32(products: Products) -> None:
    assert engines.is_float32(products)
    for dimension in (1, 500):
        queries, references = (np.random.default_rng(n).normal(size=(n, dimension)).astype(np.float32) for n in (3, 40))
        found = products.multiply(queries, products.pack(references))
        assert found.dtype == np.float32
        assert np.allclose(found, queries.astype(np.float64) @ references.T.astype(np.float64), rtol=0, atol=1e-3)


def test_callers_autocast_changes_nothing() -> None:
    images = np.random.default_rng(0).normal(size=(600, 300)).astype(np.float32)
    expected = nearest_neighbours(images[:100], images, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert engines.is_float32(TORCH)
        assert same(nearest_neighbours(images[:100], images, 3, engine="torch"), expected)


@pytest.mark.parametrize("width", [1, 257, 3072])
def test_probe_measures(width: int) -> None:
    seconds = engines._seconds([NUMKONG, TORCH], width, 16, 64)
    assert set(seconds) == {"numkong", "torch"}
    assert all(0 < each < math.inf for each in seconds.values())


def test_what_is_hopeless_on_a_piece_is_not_measured_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[set[str], int]] = []

    def measure(candidates: list[Products], width: int, num_queries: int, num_references: int) -> dict[str, float]:
        measured.append(({products.name for products in candidates}, num_queries))
        return {products.name: slower if products is TORCH else 1.0 for products in candidates}

    monkeypatch.setattr(engines, "_seconds", measure)
    for slower, times in ((8.0, 1), (7.9, 2), (0.5, 2)):
        measured.clear()
        chosen = engines._fastest.__wrapped__(("numkong", "torch"), 3072)
        assert chosen is (TORCH if slower < 1 else NUMKONG)
        assert len(measured) == times and measured[0] == ({"numkong", "torch"}, 32)


def test_description_names_library_and_version() -> None:
    name, version = engines.describe_engine(np.uint8, 3072).split()
    assert name in {"numkong", "torch", "numpy"}
    assert version[0].isdigit()
    assert engines.describe_engine(np.float32, 3072) == f"numpy {np.__version__}"


def test_threads_follow_affinity_environment_and_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    limited = SimpleNamespace(info=list)
    monkeypatch.setattr(resources, "thread_pools", lambda: limited)
    assert resources.num_threads() == 64
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert resources.num_threads() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert resources.num_threads() == 64
    limited.info = lambda: [{"user_api": "blas", "num_threads": 3}, {"user_api": "openmp", "num_threads": 1}]
    assert resources.num_threads() == 3


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("num_rows", [0, 1, 17, 1000])
def test_rows_are_shared_out_once_each(count: int, num_rows: int) -> None:
    seen = np.zeros(num_rows, dtype=np.int64)

    def mark(rows: slice) -> None:
        assert rows.stop - rows.start <= resources.CHUNK_ROWS
        seen[rows] += 1

    with resources.start_workers(count) as workers:
        workers(mark, num_rows)
    assert (seen == 1).all()


def test_torch_multiplies_alone_in_each_thread() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    with resources.start_workers(3) as workers:
        workers(lambda rows: seen.append(torch.get_num_threads()), 3 * 64)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


_DISTANCES = """
import sys
import numkong
import numpy as np
from memgen_eval.neighbours.distances import row_distances
for name in sys.argv[1:]:
    numkong.disable_capability(name)
generator = np.random.default_rng(0)
for width in (1, 63, 3072, 32769):
    left, right = (generator.integers(0, 256, (5, width), dtype=np.uint8) for _ in range(2))
    left[0], right[0] = 0, 255
    exact = np.square(left.astype(np.int64) - right).sum(axis=1)
    assert (row_distances(left, np.arange(5), right, np.arange(5)) == exact).all()
"""


def test_distances_of_pixels_are_exact_without_any_capability() -> None:
    numkong = pytest.importorskip("numkong")
    names = [name for name, present in numkong.get_capabilities().items() if present and name != "serial"]
    for absent in ([], names):
        subprocess.run([sys.executable, "-c", _DISTANCES, *absent], check=True)


def test_an_error_in_a_thread_is_raised() -> None:
    def fail(rows: slice) -> None:
        raise RuntimeError(f"rows {rows.start} to {rows.stop}")

    with resources.start_workers(2) as workers, pytest.raises(RuntimeError, match="rows 0 to"):
        workers(fail, 40)


_SEARCH = """
import hashlib, io, logging, sys
import numpy as np
from memgen_eval.neighbours import quantizers
from memgen_eval.neighbours.candidates import ENGINES
from memgen_eval.neighbours.search import nearest_neighbours
log = io.StringIO()
logging.basicConfig(level=logging.DEBUG, stream=log)
if sys.argv[1] == "coded":
    for name in ('_LEADING_WORK', '_WHOLE_WORK', '_FEWEST_ROWS', '_VALUES_PER_DIRECTION'):
        setattr(quantizers, name, 0)
generator = np.random.default_rng(0)
walks = 128 + np.cumsum(generator.normal(scale=9, size=(1700, 400)), axis=1)
references, queries = np.split(np.clip(walks, 0, 255).astype(np.uint8), [1500])
queries = np.concatenate([references[:100], queries])
digest = hashlib.sha256()
for engine in sys.argv[2:]:
    for scale in (1, np.float32(1 / 127.5)):
        found = nearest_neighbours(queries * scale, references * scale, 5, engine=engine)
        digest.update(found.squared_distances.tobytes() + found.indices.tobytes())
    print(engine, digest.hexdigest())
    digest = hashlib.sha256()
    assert log.getvalue().count("values left") == (2 if sys.argv[1] == "coded" and ENGINES[engine].takes_codes else 0)
    log.truncate(0)
"""


def test_one_and_two_threads_give_the_same_bits() -> None:
    names = [str(param.values[0]) for param in ENGINES if not any(mark.args[0] for mark in param.marks)]
    names.remove("cuda")
    digests = set()
    for count, way in (("1", "whole"), ("2", "whole"), ("1", "coded"), ("2", "coded")):
        run = subprocess.run(
            [sys.executable, "-c", _SEARCH, way, *names],
            env=os.environ | {"OMP_NUM_THREADS": count},
            capture_output=True,
            text=True,
            check=True,
        )
        lines = run.stdout.split("\n")[:-1]
        assert [line.split()[0] for line in lines] == names
        digests |= {line.split()[1] for line in lines}
    assert len(digests) == 1
    assert digests != {hashlib.sha256().hexdigest()}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 2**20),
        ("1GiB", 2**30),
        ("1.5 GB", 1_500_000_000),
        ("2k", 2048),
        ("10B", 10),
        (4096, 4096),
        (" 3 TiB ", 3 * 2**40),
        ("7", 7),
        (np.int64(9), 9),
    ],
)
def test_budgets(text: Any, size: int) -> None:
    assert resources.budget_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1GiB", "1 EiB", "0", 0, -5, True, None, "nan", "1e9", "٣", 0.5, "0.1B"])
def test_budgets_that_are_none(text: Any) -> None:
    with pytest.raises(InputError, match="memory_budget="):
        resources.budget_bytes(text)


@pytest.mark.parametrize("size", [1, 2**20, 2**29, 2**40])
@pytest.mark.parametrize("dimension", [1, 2, 3072, 196_608])
def test_blocks_have_rows_and_fit(size: int, dimension: int) -> None:
    plan = resources.plan_blocks(dimension=dimension, value_bytes=2, keep=50, budget=size)
    assert plan.tile_rows >= 16 and plan.block_rows >= 16 and plan.resident_rows >= plan.block_rows
    held = 4 * plan.tile_rows * dimension + 12 * plan.tile_rows * plan.block_rows
    held += plan.resident_rows * (2 * dimension + 600)
    minimum = 16 * (6 * dimension + 12 * 16 + 600)
    assert held <= max(2 * size, minimum)


@pytest.mark.parametrize("has_numkong", [False, True])
@pytest.mark.parametrize("shape", [(33, 3072), (5, 67), (3, 70_000), (4, 1), (0, 5)])
def test_norms_of_bytes_are_exact(shape: tuple[int, int], has_numkong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_numkong and not installed("numkong"):
        pytest.skip("numkong is not installed")
    monkeypatch.setattr(rows, "installed", lambda package: has_numkong)
    values = np.random.default_rng(0).integers(-128, 128, shape, dtype=np.int8)
    values[:1] = -128
    expected = np.square(values.astype(np.int64)).sum(axis=1)
    for given in (values, np.asfortranarray(values)):
        assert np.array_equal(IntegerTransform().norms(given), expected)
