"""The centres of images, and what they cover of other images at every shift, as whole numbers.

Averages over squares are rounded to whole numbers so small that sums of their products are exact in float32, in
whatever order they are added: products of matrices give the same bits on every machine and in every batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from memgen_eval.altered.standardized import LEAST_DEVIATION, MIDDLE, averaged_levels, coarse_side
from memgen_eval.altered.views import View, viewed
from memgen_eval.compute.resources import Workers

MOST_SHIFT = 4  # pixels each way
MOST_EXACT = 1024  # products of whole numbers up to 128 whose sum float32 holds
SEEN_AT_ONCE = 64  # images that a thread turns and scales at once: they stay in its cache

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """How images are compared: windows of (h, w) squares, at every shift of up to `shift` pixels each way.

    Attributes
    ----------
    channels, height, width : int
        C, H and W of the images.
    side : int
        Pixels of a square that is averaged.
    shift : int
        Pixels each way.
    """

    channels: int
    height: int
    width: int
    side: int
    shift: int

    @staticmethod
    def of(shape: tuple[int, ...]) -> Geometry:
        """For images (..., C, H, W): an eighth of the smaller side is the largest shift, at most 4 pixels."""
        channels, height, width = shape[-3:]
        return Geometry(channels, height, width, coarse_side(shape), min(MOST_SHIFT, min(height, width) // 8))

    @property
    def shifts(self) -> int:
        """Places of a window along each side."""
        return 2 * self.shift + 1

    @property
    def squares(self) -> tuple[int, int]:
        """Rows and columns of a window, (h, w): pixels that fill no square are cut below and to the right."""
        return (self.height - 2 * self.shift) // self.side, (self.width - 2 * self.shift) // self.side

    @property
    def cut(self) -> int:
        """Columns of pixels that fill no square: by so much the mirrored window lies farther to the right."""
        return (self.width - 2 * self.shift) % self.side

    @property
    def num_values(self) -> int:
        """Values of a window."""
        return self.channels * self.squares[0] * self.squares[1]

    @property
    def unit(self) -> int:
        """Grey levels of a whole number."""
        return 1 if self.num_values < MOST_EXACT else 2

    def levels(self, averages: Floats) -> Floats:
        """Averages over squares as whole numbers."""
        levels: Floats = np.rint((averages - np.float32(MIDDLE)) / np.float32(self.unit))
        return levels

    def lengths(self, sums: Doubles, squares: Doubles) -> Doubles:
        """Lengths about the means of the channels, of sums (..., C) and sums of all squares (...).

        At least that of a deviation of 4 grey levels.
        """
        energy = squares - (sums**2).sum(axis=-1) / (self.num_values // self.channels)
        return np.asarray(np.sqrt(np.maximum(energy, (LEAST_DEVIATION / self.unit) ** 2 * self.num_values)))


@dataclass(frozen=True, eq=False)
class Windows:
    """The centres of images in some views.

    Attributes
    ----------
    values : int16, (N, V, h, C, w)
        Whole numbers.
    sums : float64, (N, V, C)
        Of each channel.
    lengths : float64, (N, V)
    """

    values: NDArray[np.int16]
    sums: Doubles
    lengths: Doubles

    @staticmethod
    def of(images: NDArray[Any], views: tuple[View, ...], geometry: Geometry, workers: Workers) -> Windows:
        """Those of images (N, C, H, W)."""
        (h, w), channels = geometry.squares, geometry.channels
        values = np.empty((len(images), len(views), h, channels, w), dtype=np.int16)
        sums = np.empty((len(images), len(views), channels))
        squares = np.empty((len(images), len(views)))

        def see(rows: slice) -> None:
            for v, view in enumerate(views):
                seen = np.rint(viewed(images[rows], view, border=geometry.shift))
                levels = geometry.levels(averaged_levels(seen, geometry.side))  # (B, C, h, w)
                values[rows, v] = levels.transpose(0, 2, 1, 3)
                sums[rows, v] = levels.sum(axis=(2, 3), dtype=np.float64)
                squares[rows, v] = np.square(levels).sum(axis=(1, 2, 3), dtype=np.float64)

        workers(see, len(images), chunk_rows=SEEN_AT_ONCE)
        return Windows(values, sums, geometry.lengths(sums, squares))


@dataclass(frozen=True, eq=False)
class Covered:
    """What windows cover of images at every place, those of a mirrored window too.

    Attributes
    ----------
    values : float32, (B, s, t, h C w)
        Whole numbers, at s shifts down and t = s + cut shifts to the right.
    sums : float64, (B, s t, C)
        Of each channel.
    lengths : float64, (B, s t)
    """

    values: Floats
    sums: Doubles
    lengths: Doubles

    @staticmethod
    def of(images: NDArray[Any], geometry: Geometry) -> Covered:
        """Those of images (B, C, H, W)."""
        maps = geometry.levels(_averages_everywhere(images, geometry.side))  # (B, C, Y, X)
        sums = _window_sums(maps, geometry)
        squares = _window_sums(np.einsum("bcyx,bcyx->byx", maps, maps)[:, None], geometry)[..., 0]
        return Covered(_covered(maps, geometry), sums, geometry.lengths(sums, squares))


def _averages_everywhere(images: NDArray[Any], side: int) -> Floats:
    """Averages over squares at every place, not only side by side: (B, C, H, W) -> (B, C, Y, X)."""
    whole = images.astype(np.float32) if images.dtype == np.uint8 else np.rint(images)
    rows, columns = (size - side + 1 for size in images.shape[2:])
    across = whole[..., :columns].copy()
    for right in range(1, side):
        across += whole[..., right : right + columns]
    total = across[:, :, :rows].copy()
    for down in range(1, side):
        total += across[:, :, down : down + rows]
    total /= np.float32(side * side)
    return total


def _window_sums(maps: Floats, geometry: Geometry) -> Doubles:
    """Sums over the squares of a window at every place, (B, C, Y, X) -> (B, s t, C); exact in float32."""
    down = _covers(maps.shape[2], geometry.squares[0], geometry.shifts, geometry.side)
    right = _covers(maps.shape[3], geometry.squares[1], geometry.shifts + geometry.cut, geometry.side)
    across = (maps.reshape(-1, maps.shape[3]) @ right.T).reshape(*maps.shape[:3], -1)  # (B, C, Y, t)
    sums = (down @ across).reshape(*maps.shape[:2], -1)  # (B, C, s t)
    return sums.swapaxes(1, 2).astype(np.float64)


@lru_cache
def _covers(size: int, num_squares: int, shifts: int, side: int) -> Floats:
    """Which of the `size` places along a side a window has squares at, at each shift: 1 there, else 0."""
    covers = np.zeros((shifts, size), dtype=np.float32)
    covers[np.arange(shifts)[:, None], np.arange(shifts)[:, None] + np.arange(num_squares) * side] = 1
    return covers


def _covered(maps: Floats, geometry: Geometry) -> Floats:
    """The squares of a window at every place, (B, C, Y, X) -> (B, s, t, h C w).

    First along each row, then row by row: what a window covers is one piece of memory then, and copied as one.
    """
    side, (h, w), size = geometry.side, geometry.squares, geometry.shifts
    along = sliding_window_view(maps, side * (w - 1) + 1, axis=3)[:, :, :, : size + geometry.cut, ::side]
    found = np.empty((len(maps), size, along.shape[3], geometry.num_values), dtype=np.float32)
    for first in range(min(side, size)):  # rows of squares that lie below each other
        rows = np.ascontiguousarray(along[:, :, first::side].transpose(0, 3, 2, 1, 4))  # (B, t, n, C, w)
        for down in range(first, size, side):
            top = down // side
            found[:, down] = rows[:, :, top : top + h].reshape(*found.shape[:1], *found.shape[2:])
    return found
