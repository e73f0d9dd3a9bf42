"""Images and features that are hard to code in a few int8 values: pairs of queries and references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[Any]
SIZE = 96


def smooth(num_rows: int, seed: int = 0) -> Pixels:
    """Walks along the row: few directions hold most of their variance."""
    steps = np.random.default_rng(seed).normal(size=(num_rows, SIZE)) * 12
    return np.clip(128 + np.cumsum(steps, axis=1), 0, 255).astype(np.uint8)


def noise(num_rows: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (num_rows, SIZE), dtype=np.uint8)


def checkerboards(num_rows: int) -> Pixels:
    boards = np.where(noise(num_rows, 3) > 127, 255, 0).astype(np.uint8)
    boards[0], boards[1], boards[2] = 0, 255, 255 * (np.arange(SIZE) % 2)
    return boards


PIXELS: dict[str, Callable[[], tuple[Pixels, Pixels]]] = {
    "smooth": lambda: (smooth(40, 1), smooth(300)),
    "noise": lambda: (noise(40, 1), noise(300)),
    "checkerboards": lambda: (checkerboards(40), checkerboards(300)),
    "checkerboards by a code of others": lambda: (checkerboards(40), smooth(300)),
    "all but one equal": lambda: (smooth(40), np.concatenate([np.full((299, SIZE), 9, np.uint8), smooth(1)])),
    "copies": lambda: (smooth(40), np.tile(smooth(40), (5, 1))),
    "two values a row": lambda: (noise(40)[:, :2], noise(300)[:, 1:3]),
}


def gaussian(num_rows: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(num_rows, SIZE))


def single(num_rows: int, seed: int = 0) -> Floats:
    """Rows whose squared distances are denormal in float32."""
    return (3e-23 * gaussian(num_rows, seed)[:, :3]).astype(np.float32)


def with_outlier(factor: float) -> tuple[Floats, Floats]:
    references = gaussian(300)
    references[7] *= factor
    return np.concatenate([gaussian(39, 1), references[7:8]]), references


def sphere() -> Floats:
    points = gaussian(300)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def equidistant() -> Floats:
    points = np.zeros((SIZE, SIZE))
    np.fill_diagonal(points, 3.0)
    return np.tile(points, (4, 1))


FLOATS: dict[str, Callable[[], tuple[Floats, Floats]]] = {
    "gaussian": lambda: (gaussian(40, 1), gaussian(300)),
    "half precision": lambda: (gaussian(40, 1).astype(np.float16), gaussian(300).astype(np.float16)),
    "shifted queries": lambda: (5 + gaussian(40, 1), gaussian(300)),
    "far from the origin": lambda: (1e8 + gaussian(40, 1), 1e8 + gaussian(300)),
    "sparse": lambda: (np.maximum(gaussian(40, 1) - 1, 0), np.maximum(gaussian(300) - 1, 0)),
    "heavy tails": lambda: (gaussian(40, 1) ** 9, gaussian(300) ** 9),
    "one far outlier": lambda: with_outlier(1e9),
    "one outlier at the end of the range": lambda: with_outlier(1e137),
    "on a sphere": lambda: (sphere()[:40], sphere()),
    "all equally far": lambda: (equidistant()[:40], equidistant()),
    "huge": lambda: (1e137 * gaussian(40, 1), 1e137 * gaussian(300)),
    "tiny": lambda: (1e-138 * gaussian(40, 1), 1e-138 * gaussian(300)),
    "single-precision squares": lambda: (single(40, 1), single(300)),
    "single-precision denormals": lambda: tuple((1e-42 * gaussian(n, n)).astype(np.float32) for n in (40, 300)),  # type: ignore[dict-item,return-value]
    "one value a row": lambda: (gaussian(40)[:, :1], gaussian(300)[:, 1:2]),
    "pixels and floats": lambda: (smooth(40), smooth(300) + 0.5),
}
