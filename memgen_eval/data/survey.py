"""What one pass over a set of images finds: its checksum, images that stand twice, images of a single colour."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of a set once all of it was read.

    Attributes
    ----------
    checksum : SHA-256 of type, shape and canonical pixels: the same whatever form the images arrived in
    originals : the first image that equals each in every value, itself if there is no earlier one, (N,)
    constant : of a single colour, (N,)
    grey : whether all channels of every image are equal; False for one channel
    minimum, maximum : the darkest and the brightest value, in grey levels
    """

    checksum: str
    originals: NDArray[np.int64]
    constant: Bools
    grey: bool
    minimum: float
    maximum: float

    @property
    def repeats(self) -> Bools:
        """Whether each image equals an earlier one, (N,)."""
        return self.originals < np.arange(len(self.originals))

    @property
    def duplicated(self) -> Bools:
        """Whether each image equals another one, (N,)."""
        return np.bincount(self.originals, minlength=len(self.originals))[self.originals] > 1


def repeats_among(originals: NDArray[np.int64]) -> Bools:
    """Whether each of some images equals an earlier one of them, by what `Survey.originals` holds of them, (B,)."""
    repeats = np.ones(len(originals), dtype=bool)
    repeats[np.unique(originals, return_index=True)[1]] = False
    return repeats


def survey(blocks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Survey:
    """Read blocks (B, C, H, W) of a set of this shape, (N, C, H, W), once."""
    checksum = hashlib.sha256(f"{dtype.name} {shape}\n".encode())
    first: dict[bytes, int] = {}
    originals = np.empty(shape[0], dtype=np.int64)
    lows, highs = np.empty(shape[:2], dtype=dtype), np.empty(shape[:2], dtype=dtype)  # (N, C)
    grey, at = shape[1] > 1, 0
    for block in blocks:
        stored = block.astype(dtype.newbyteorder("<"), copy=False)
        checksum.update(stored.data)
        for i, image in enumerate(stored, start=at):
            originals[i] = first.setdefault(hashlib.sha256(image.data).digest(), i)
        planes = block.reshape(*block.shape[:2], -1)  # (B, C, H * W)
        lows[at : at + len(block)], highs[at : at + len(block)] = planes.min(axis=2), planes.max(axis=2)
        grey = grey and bool((planes == planes[:, :1]).all())
        at += len(block)
    return Survey(
        checksum=checksum.hexdigest(),
        originals=originals,
        constant=(lows == highs).all(axis=1),
        grey=grey,
        minimum=float(lows.min()),
        maximum=float(highs.max()),
    )
