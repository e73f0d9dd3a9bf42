"""Noise that depends on seed, set, image and draw alone, and which images of a set are drawn."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

GRID = 2.0**-17  # on it float32 holds all of a draw exactly, so that products with integers can be exact too


def draw_noise(shape: tuple[int, ...], *, seed: int, name: str, index: int, draw: int = 0) -> NDArray[np.float32]:
    """Standard normal noise of one image, in multiples of 2^-17.

    Parameters
    ----------
    shape : tuple of int
        Of the image.
    seed, name, index, draw
        The run's seed, the set, the image's index in it (from 0), and which of its draws.
    """
    key = (seed, zlib.crc32(name.encode()), index, draw)
    values = np.random.default_rng(key).standard_normal(shape)
    return (np.rint(values / GRID) * GRID).astype(np.float32)


def draw_noises(
    shape: tuple[int, ...], indices: NDArray[np.int64], *, seed: int, name: str, draw: int = 0
) -> NDArray[np.float32]:
    """`draw_noise` of several images, (B, *shape)."""
    return np.stack([draw_noise(shape, seed=seed, name=name, index=int(i), draw=draw) for i in indices])


def draw_order(num_images: int, *, seed: int, name: str) -> NDArray[np.int64]:
    """A permutation of a set's images; any number of its first entries are a uniform draw without replacement."""
    return np.random.default_rng((seed, zlib.crc32(name.encode()))).permutation(num_images)
