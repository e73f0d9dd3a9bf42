"""The right answers, slowly and in other arithmetic than the library's: float64, which is exact on integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1_000
EXTRA = 5  # candidates beyond k that are compared by differences, where products are not exact
ROUNDING = 1e-12  # of sums of thousands of float64 squares, relative


@dataclass(frozen=True)
class Found:
    """Nearest references of each query, by (squared distance, index): squared int64 or float64, both (N, K)."""

    squared: NDArray[Any]
    indices: NDArray[np.int64]


def nearest_integers(queries: NDArray[np.uint8], references: NDArray[np.uint8], k: int) -> Found:
    """The K nearest of uint8 rows (N, D) and (M, D): float64 products of ``value - 128`` are sums of integers."""
    rows = queries.astype(np.float64) - 128
    norms = np.einsum("nd,nd->n", rows, rows)[:, None]
    count = len(references)
    # squared distance and index in one number, which orders them exactly
    best: NDArray[np.int64] = np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, count, BLOCK):
        tile = references[start : start + BLOCK].astype(np.float64) - 128
        squared = norms + np.einsum("md,md->m", tile, tile) - 2 * (rows @ tile.T)
        keys = squared.astype(np.int64) * count + np.arange(start, start + len(tile))
        best = np.concatenate([best, keys], axis=1)
        best = np.partition(best, min(k, best.shape[1]) - 1, axis=1)[:, :k]
    best.sort(axis=1)
    return Found(best // count, best % count)


def nearest_floats(queries: NDArray[np.float32], references: NDArray[np.float32], k: int) -> Found:
    """The K nearest of float rows: candidates by float64 products, compared by float64 differences."""
    kept = min(k + EXTRA, len(references))
    targets = references.astype(np.float64)
    norms = np.einsum("md,md->m", targets, targets)
    squared = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK].astype(np.float64)
        candidates = np.argpartition(norms - 2 * (rows @ targets.T), kept - 1, axis=1)[:, :kept]
        exact = np.stack([np.square(rows - targets[column]).sum(axis=1) for column in candidates.T], axis=1)
        order = np.lexsort((candidates, exact), axis=1)[:, :k]
        squared[start : start + BLOCK] = np.take_along_axis(exact, order, axis=1)
        indices[start : start + BLOCK] = np.take_along_axis(candidates, order, axis=1)
    return Found(squared, indices)


def replicated(found: Found, *, num_references: int, copies: int) -> Found:
    """The K nearest in a training set that is written `copies` times in a row, from those in one copy."""
    num_queries, k = found.indices.shape
    offsets = np.arange(copies) * num_references
    indices = (found.indices[:, :, None] + offsets).reshape(num_queries, -1)
    squared = np.repeat(found.squared, copies, axis=1)
    order = np.lexsort((indices, squared), axis=1)[:, :k]
    return Found(np.take_along_axis(squared, order, axis=1), np.take_along_axis(indices, order, axis=1))


def share_of_right_rows(
    indices: NDArray[np.int64], truth: Found, queries: NDArray[Any], references: NDArray[Any]
) -> float:
    """Share of queries whose neighbours are the true ones, in their order; of several as near, any will do."""
    dtype = np.int32 if truth.squared.dtype == np.int64 else np.float64
    right = np.ones(len(queries), dtype=bool)
    for column in range(indices.shape[1]):
        for start in range(0, len(queries), BLOCK):
            at = slice(start, start + BLOCK)
            gap = queries[at].astype(dtype) - references[indices[at, column]].astype(dtype)
            expected = truth.squared[at, column]
            right[at] &= np.abs(np.square(gap).sum(axis=1) - expected) <= ROUNDING * expected
    return float(right.mean())


def optimal_denoiser(
    train: NDArray[np.uint8], x0: NDArray[np.uint8], eps: NDArray[np.float32], sigmas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """D* of rows ``x0 + sigma * eps`` on [-1, 1], (S, B, D), by two float64 passes over the training set."""
    clean, noise = x0.astype(np.float64) / 127.5 - 1, eps.astype(np.float64)
    noisy = (clean + sigmas[:, None, None] * noise).reshape(-1, clean.shape[1])  # (S * B, D)
    variances = np.repeat(sigmas, len(clean))[:, None] ** 2
    logits = np.empty((len(noisy), len(train)))
    for start in range(0, len(train), BLOCK):
        tile = train[start : start + BLOCK].astype(np.float64) / 127.5 - 1
        squared = np.square(noisy).sum(axis=1)[:, None] + np.square(tile).sum(axis=1) - 2 * (noisy @ tile.T)
        logits[:, start : start + BLOCK] = -squared / (2 * variances)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = np.zeros_like(noisy)
    for start in range(0, len(train), BLOCK):
        mean += weights[:, start : start + BLOCK] @ (train[start : start + BLOCK].astype(np.float64) / 127.5 - 1)
    return mean.reshape(len(sigmas), *clean.shape)
