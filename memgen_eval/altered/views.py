"""Images turned and scaled, as altered copies are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class View(NamedTuple):
    """An image turned by `turn` degrees and scaled by `scale`, about its centre, before it is compared."""

    turn: float
    scale: float


VIEWS = (View(0, 1), View(0, 7 / 8), View(0, 8 / 7), View(-8, 1), View(8, 1))


def viewed(images: NDArray[Any], view: View, *, border: int = 0) -> Floats:
    """Images, (B, C, H, W), turned and scaled about their centres, with their edges repeated beyond them.

    `border` pixels are cut from each side of what is seen, (B, C, h, w).
    """
    height, width = images.shape[2:]
    inside = slice(border, height - border), slice(border, width - border)
    if view == View(0, 1):
        return images[:, :, *inside].astype(np.float32)
    pixels = np.ascontiguousarray(images.reshape(-1, height * width).T, dtype=np.float32)  # (H W, B C)
    sources, weights = _taps(height, width, view)  # (4, H, W) each
    shape = height - 2 * border, width - 2 * border
    seen: Floats = np.zeros((shape[0] * shape[1], pixels.shape[1]), dtype=np.float32)  # (h w, B C)
    for source, weight in zip(sources, weights, strict=True):
        tap = pixels[source[inside].ravel()]  # whole rows
        tap *= weight[inside].reshape(-1, 1)
        seen += tap
    return seen.T.reshape(*images.shape[:2], *shape)


def _taps(height: int, width: int, view: View) -> tuple[Rows, Floats]:
    """The four pixels from which each pixel of a turned and scaled image comes, and their bilinear weights."""
    angle, centre = np.deg2rad(view.turn), (np.array([height, width]) - 1) / 2
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / view.scale
    grid = np.indices((height, width)).reshape(2, -1)  # (2, H W)
    places = np.clip(inverse @ (grid - centre[:, None]) + centre[:, None], 0, [[height - 1], [width - 1]])
    corner = np.minimum(places.astype(np.int64), [[max(height - 2, 0)], [max(width - 2, 0)]])
    down, right = places - corner
    first = corner[0] * width + corner[1]
    sources = np.stack([first, first + 1, first + width, first + width + 1])
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    shape = 4, height, width
    return sources.reshape(shape), weights.astype(np.float32).reshape(shape)
