"""Exact search on a GPU beside float32 searches there, images on the device: skipped where torch finds none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import OURS
from benchmarks.data import ImageSets
from benchmarks.machine import gpu_floor
from benchmarks.stopwatch import Stopwatch
from benchmarks.truth import Found, share_of_right_rows
from memgen_eval.compute.rows import IntegerTransform
from memgen_eval.neighbours.cuda import DeviceTile, decoded, nearest_codes, transformed
from memgen_eval.neighbours.search import nearest_neighbours

K = 5
TILE_ROWS, BLOCK_ROWS = 8192, 4096
PEER_ROWS = 4096
Search = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def ours(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """int8 products, and the selection where they are: what ``engine="cuda"`` does with each tile."""
    with torch.inference_mode():
        transform = IntegerTransform()
        wanted, norms = transformed(queries, transform)
        starts = range(0, len(references), TILE_ROWS)
        tiles = (DeviceTile.of(references[first : first + TILE_ROWS], first, transform) for first in starts)
        keys, indices = decoded(nearest_codes(wanted, tiles, k, BLOCK_ROWS), torch.int8)
        return keys + norms[:, None], indices


def torch_float32(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The expanded form in float32, and `topk`, in blocks of queries."""
    targets = references.float()
    norms = targets.square().sum(dim=1)
    parts = []
    for start in range(0, len(queries), PEER_ROWS):
        rows = queries[start : start + PEER_ROWS].float()
        squared = torch.addmm(norms, rows, targets.T, alpha=-2).add_(rows.square().sum(dim=1, keepdim=True))
        parts.append(squared.topk(k, largest=False))
    squared, indices = (torch.cat([part[side] for part in parts]) for side in (0, 1))
    return squared, indices


def faiss_flat(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """FAISS's brute force in float32, with images and results on the device."""
    faiss: Any = importlib.import_module("faiss")
    importlib.import_module("faiss.contrib.torch_utils")  # so that FAISS takes tensors
    squared, indices = faiss.knn_gpu(faiss.StandardGpuResources(), queries.float(), references.float(), k)
    return squared, indices


def cuvs_brute_force(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """NVIDIA's brute force in float32, its index made anew, as each of the others prepares its references."""
    brute_force: Any = importlib.import_module("cuvs.neighbors.brute_force")
    index = brute_force.build(references.float(), metric="sqeuclidean")
    squared, indices = (torch.as_tensor(part, device="cuda") for part in brute_force.search(index, queries.float(), k))
    return squared, indices


SEARCHES: dict[str, Search] = {
    OURS: ours,
    "torch float32": torch_float32,
    "FAISS GPU flat": faiss_flat,
    "cuVS brute force": cuvs_brute_force,
}
NEEDED = {"FAISS GPU flat": "faiss", "cuVS brute force": "cuvs"}


def skip_what_is_missing(method: str) -> None:
    """Skip a peer whose package is not here; faiss-cpu finds no GPU."""
    if method in NEEDED:
        module = pytest.importorskip(NEEDED[method], reason=f"{NEEDED[method]} is not installed")
        if method == "FAISS GPU flat" and module.get_num_gpus() == 0:
            pytest.skip("faiss finds no GPU: install the extra faiss-gpu")


@pytest.fixture(scope="module")
def expected(images: ImageSets) -> Found:
    """What the processor finds."""
    found = nearest_neighbours(images.train, images.train, K)
    return Found(found.squared_distances, found.indices)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("method", SEARCHES)
@pytest.mark.parametrize("turn", range(5))
def test_training_set_against_itself(
    images: ImageSets, expected: Found, turn: int, method: str, stopwatch: Stopwatch
) -> None:
    """All with all, after a warm-up."""
    skip_what_is_missing(method)
    rows = torch.from_numpy(images.train.reshape(len(images.train), -1)).cuda()
    name = torch.cuda.get_device_name()

    def search() -> tuple[Tensor, Tensor]:
        found = SEARCHES[method](rows, rows, K)
        torch.cuda.synchronize()
        return found

    if turn == 0:
        search()
    floor = gpu_floor(name, "int8", 2.0 * len(rows) * rows.numel())
    case = f"{images.name} on {name}: {len(rows):,} x {len(rows):,} x {rows.shape[1]:,}, k = {K}"
    squared, indices = (part.cpu().numpy() for part in stopwatch(search, case=case, method=method, floor=floor))
    if method == OURS:
        assert np.array_equal(squared, expected.squared)
        assert np.array_equal(indices, expected.indices)
        stopwatch.note(answer="exact")
    else:
        flat = images.train.reshape(len(images.train), -1)
        share = share_of_right_rows(indices, expected, flat, flat)
        assert share > 0.9  # it did the same work
        stopwatch.note(answer=f"{share:.3%} of rows right")
