"""What the exactness tests are for: the usual ways to search fail them on image-like data, ours passes.

All of them expand ``|q|^2 + |y|^2 - 2 q.y`` in float32: bright images have norms near 1e8, where float32 numbers are 8
apart, so that exact copies and copies off by one grey level come out anywhere within several levels, in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memgen_eval.compute.products import installed
from memgen_eval.neighbours.search import nearest_neighbours

Found = tuple[NDArray[Any], NDArray[np.int64]]
Pixels = NDArray[np.uint8]


def expanded(queries: Pixels, references: Pixels, k: int) -> Found:
    q, y = queries.astype(np.float32), references.astype(np.float32)
    squared = np.square(q).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * (q @ y.T)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, order, axis=1), order


def by_faiss(queries: Pixels, references: Pixels, k: int) -> Found:
    import faiss

    return faiss.knn(queries.astype(np.float32), references.astype(np.float32), k)  # type: ignore[no-any-return]


def by_cdist(queries: Pixels, references: Pixels, k: int) -> Found:
    distances = torch.cdist(torch.from_numpy(queries).float(), torch.from_numpy(references).float())
    nearest = distances.topk(k, largest=False)
    return nearest.values.square().numpy(), nearest.indices.numpy()


def ours(queries: Pixels, references: Pixels, k: int) -> Found:
    found = nearest_neighbours(queries, references, k)
    return found.squared_distances, found.indices


def planted() -> tuple[Pixels, Pixels, Found]:
    """64 bright images, each with a copy, one off by one level and one off by two in one value; the truth for k = 3."""
    generator = np.random.default_rng(0)
    queries = generator.integers(170, 250, (64, 3072), dtype=np.uint8)
    off_by_one, off_by_two = queries.copy(), queries.copy()
    off_by_one[:, 5] += 1
    off_by_two[:, 9] += 2
    references = np.concatenate([off_by_two, off_by_one, queries])
    indices = np.arange(64)[:, None] + [128, 64, 0]
    return queries, references, (np.tile([0, 1, 4], (64, 1)), indices)


@pytest.mark.parametrize("search", [expanded, by_faiss, by_cdist, ours])
def test_only_exact_search_passes(search: Callable[[Pixels, Pixels, int], Found]) -> None:
    if search is by_faiss and not installed("faiss"):
        pytest.skip("faiss is not installed")
    queries, references, (squared, indices) = planted()
    found = search(queries, references, 3)
    exact = np.array_equal(found[0], squared) and np.array_equal(found[1], indices)
    assert exact == (search is ours)


def test_real_images(cifar10: Any) -> None:
    """Test images and training images altered by one level against 5,000 training images: float64 sums of integers."""
    train = cifar10.train[:5000].reshape(5000, -1)
    altered = train[:20].copy()
    altered[:, 100] ^= 1
    queries = np.concatenate([cifar10.test[:30].reshape(30, -1), altered])
    found = nearest_neighbours(queries, train, 50)
    q, y = queries.astype(np.float64), train.astype(np.float64)
    exact = np.square(q).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * (q @ y.T)  # integers below 2**53
    order = np.argsort(exact, axis=1, kind="stable")[:, :50]
    assert (found.indices == order).all()
    assert (found.squared_distances == np.take_along_axis(exact, order, axis=1)).all()
    assert found.indices[30:, 0].tolist() == list(range(20)) and (found.squared_distances[30:, 0] == 1).all()
