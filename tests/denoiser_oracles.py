"""Slow float64 twins of the denoisers: plain formulas in numpy, sharing no code with the library."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def in_model_units(images: NDArray[Any]) -> Floats:
    """uint8 as x / 127.5 - 1, floats as they are; rows (N, D)."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    return rows / 127.5 - 1 if images.dtype == np.uint8 else rows


def optimal_weights(train: NDArray[Any], x: Floats, sigma: float) -> Floats:
    """Softmax of minus half the squared distances over sigma squared, one noisy row at a time: (B, N)."""
    y = in_model_units(train)
    logits = np.stack([-((y - row) ** 2).sum(axis=1) / (2 * sigma**2) for row in x])
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def optimal(train: NDArray[Any], x: Floats, sigma: float) -> Floats:
    """D* of noisy rows (B, D)."""
    return optimal_weights(train, x, sigma) @ in_model_units(train)


def wiener(train: NDArray[Any], x: Floats, sigma: float) -> Floats:
    """D_G of noisy rows (B, D), by solving with the covariance: no eigenvectors."""
    y = in_model_units(train)
    mean = y.mean(axis=0)
    covariance = np.cov(y.T, bias=True).reshape(y.shape[1], y.shape[1])
    return mean + np.linalg.solve(covariance + sigma**2 * np.eye(len(mean)), (x - mean).T).T @ covariance


def relative_errors(found: Any, expected: Floats) -> Floats:
    """``|found - expected| / |expected|`` of each image, (B,)."""
    rows = np.asarray(found, dtype=np.float64).reshape(expected.shape)
    return np.linalg.norm(rows - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
