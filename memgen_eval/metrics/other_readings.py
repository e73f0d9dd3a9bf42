"""The ways in which images are read wrongly: turned, mirrored, with channels exchanged, with other grey levels.

Each reading undoes one mistake. Images are (N, C, H, W) in grey levels, uint8 or float32, and stay so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.float32]
RGB = "RGB"
NUM_LEVELS = 256


@dataclass(frozen=True, eq=False)
class Reading:
    """A map from images to images of one shape, and how to say it: "Read upside down, ..."."""

    name: str
    apply: Callable[[Any], Any]


def turned(shape: tuple[int, int, int]) -> list[Reading]:
    """Other orientations, other orders of the channels, and the negative of images of C, H, W."""
    channels, height, width = shape
    readings = [
        Reading("upside down", lambda images: images[:, :, ::-1]),
        Reading("turned by 180 degrees", lambda images: images[:, :, ::-1, ::-1]),
        Reading("as negatives", lambda images: (255 - images).astype(images.dtype)),
    ]
    if height == width > 1:
        readings += [
            Reading("with rows and columns exchanged", lambda images: images.swapaxes(2, 3)),
            Reading("turned by 90 degrees", lambda images: np.rot90(images, 1, axes=(2, 3))),
            Reading("turned by 270 degrees", lambda images: np.rot90(images, 3, axes=(2, 3))),
            Reading("turned by 90 degrees and mirrored", lambda images: np.rot90(images, 1, axes=(2, 3))[..., ::-1]),
        ]
    if channels == len(RGB):
        for order in list(permutations(range(channels)))[1:]:
            name = f"with the channels in the order {''.join(RGB[i] for i in order)}"
            readings.append(Reading(name, partial(np.take, indices=order, axis=1)))
    return readings


def misstored(shape: tuple[int, int, int]) -> list[Reading]:
    """Bytes with a sign taken for bytes without; colour images whose axes were renamed and not moved."""
    channels, height, width = shape
    signed = Reading("as signed bytes", lambda images: ((np.rint(images) + 128) % NUM_LEVELS).astype(images.dtype))
    if channels == 1:
        return [signed]
    return [
        signed,
        Reading(
            "as N C H W, which were taken for N H W C",
            lambda images: np.moveaxis(images, 1, 3).reshape(-1, channels, height, width),
        ),
        Reading(
            "as N H W C, which were taken for N C H W",
            lambda images: np.moveaxis(images.reshape(-1, height, width, channels), 3, 1),
        ),
    ]


def with_levels_of(counts: NDArray[np.int64], own_counts: NDArray[np.int64]) -> list[Reading]:
    """Grey levels mapped to those that `counts` (C, 256) says, channel by channel, from the set's own `own_counts`.

    The map goes from quantile to quantile, so that it undoes any wrong range, offset, scale or gamma; the second one
    undoes it in negatives.
    """
    tables = _level_tables(own_counts, counts)
    negative = _level_tables(own_counts[:, ::-1], counts)[:, ::-1]
    return [
        Reading("with the grey levels of the training set", partial(_mapped, tables)),
        Reading("as negatives with the grey levels of the training set", partial(_mapped, negative)),
    ]


def _level_tables(own: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
    """For each channel the level of `wanted` at the middle of each level's ranks in `own`, (C, 256)."""
    tables = np.empty(own.shape, dtype=np.uint8)
    for channel, (source, target) in enumerate(zip(own, wanted, strict=True)):
        middle = (np.cumsum(source) - source / 2) / source.sum()
        reached = np.cumsum(target) / target.sum()
        tables[channel] = np.searchsorted(reached, middle).clip(0, NUM_LEVELS - 1)
    return tables


def _mapped(tables: NDArray[np.uint8], images: Pixels) -> Pixels:
    levels = np.rint(images).astype(np.uint8)
    found: Pixels = np.stack([table[levels[:, channel]] for channel, table in enumerate(tables)], axis=1)
    return found if images.dtype == np.uint8 else found.astype(np.float32)
