"""Whether a set of images looks like the training set: its grey levels, its contrast, its orientation and channels.

Copies are found among images that were read rightly. A wrong range, exchanged channels or a turned image hides them
all, so sets that cannot be the same kind of picture are found here, from a few thousand images of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import single_thread

LOOKED_AT = 2048  # images of a set, spread evenly
LOW, HIGH = 0.01, 0.99  # the quantiles between which a set occupies grey levels
LEAST_FILLED = 2 / 3  # of the other set's grey levels
LEAST_CONTRAST = 1 / 2  # of the other set's
GRID_BLOCKS = 4  # blocks a side that orientation is judged by
FEWEST_IMAGES = 10  # of both sets, for their grey levels
MIN_TURNED = 30  # for their orientation
MIN_IMAGES_A_VALUE = 4  # for a covariance
RIDGE = 1e-2  # of the mean variance
SIGNIFICANT = 6.0  # standard errors
LEAST_GAIN = 1 / 2  # of what the training set itself loses by the same map
Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8] | NDArray[np.float32]
RGB = "RGB"
NUM_LEVELS = 256


@dataclass(frozen=True, eq=False)
class Appearance:
    """How the images of a set look.

    Attributes
    ----------
    counts : pixels of each grey level, (C, 256)
    contrast : median over images of the standard deviation of a channel's values, in grey levels
    blocks : means of 4 x 4 blocks of each channel, (B, C, 4, 4), or of fewer where there are fewer pixels
    """

    counts: NDArray[np.int64]
    contrast: float
    blocks: Floats

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def ends(self) -> NDArray[np.int64]:
        """The grey levels at the quantiles 1 %, 50 % and 99 %, channel by channel, (C, 3)."""
        reached = np.cumsum(self.counts, axis=1) / self.counts.sum(axis=1, keepdims=True)
        return np.stack([np.searchsorted(channel, (LOW, 0.5, HIGH)) for channel in reached])


def appearance(images: NDArray[Any]) -> Appearance:
    """How these images look, (B, C, H, W) in grey levels."""
    levels = np.rint(images).astype(np.uint8)
    counts = [np.bincount(levels[:, channel].ravel(), minlength=NUM_LEVELS) for channel in range(levels.shape[1])]
    contrasts = images.reshape(*images.shape[:2], -1).std(axis=2, dtype=np.float64).mean(axis=1)
    return Appearance(np.stack(counts), float(np.median(contrasts)), block_means(images))


def spread_evenly(num_images: int, most: int = LOOKED_AT) -> NDArray[np.int64]:
    """The indices of at most `most` images, spread evenly over a set."""
    return np.unique(np.linspace(0, num_images - 1, min(num_images, most)).round().astype(np.int64))


@dataclass(frozen=True)
class Mismatch:
    """Grey levels that two sets do not share: `narrower` is whether the first set fills fewer, `words` say how."""

    narrower: bool
    words: str


def level_mismatch(own: Appearance, train: Appearance) -> Mismatch | None:
    """Where one set fills less than two thirds of the grey levels that the other fills, or lies on one side of them.

    Between the quantiles 1 % and 99 % of each channel; on one side: wholly above or below the other's median. Fewer
    than ten images of either set cannot tell.
    """
    if min(len(own), len(train)) < FEWEST_IMAGES:
        return None
    for channel, ((low, _, high), (train_low, middle, train_high)) in enumerate(
        zip(own.ends.tolist(), train.ends.tolist(), strict=True)
    ):
        width, train_width = high - low, train_high - train_low
        one_sided = low > middle or high < middle
        if one_sided or min(width, train_width) < LEAST_FILLED * max(width, train_width):
            where = "" if len(own.counts) == 1 else f" in channel {channel}"
            words = (
                f"98 % of their values{where} are grey levels {low} to {high}, of the training set's {train_low} to "
            )
            return Mismatch(width <= train_width, f"{words}{train_high}")
    return None


def is_flat(own: Appearance, train: Appearance) -> bool:
    """Whether the contrast of the median image is less than half of what it is in the training set."""
    return min(len(own), len(train)) >= FEWEST_IMAGES and own.contrast < LEAST_CONTRAST * train.contrast


def better_reading(own: Appearance, train: Appearance, readings: list[Reading]) -> str | None:
    """The name of the reading by which the images resemble the training set much more; None if there is none.

    Readings are those that commute with means of blocks (`turned`). Images are summed up by the means of their blocks,
    and scored by the logarithm of a t-like density with the mean and covariance of the training set's. A reading is
    better if it raises the mean score of the set by more than half of what it costs the training set itself, both by
    at least six standard errors.
    """
    if len(own) < MIN_TURNED or len(train) < MIN_IMAGES_A_VALUE * train.blocks[0].size:
        return None
    rows, gains = train.blocks.reshape(len(train), -1), {}  # (M, F)
    with single_thread():  # sums of products depend on the number of threads
        mean, covariance = rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))
        spread = np.trace(covariance) / len(mean)
        if spread == 0:
            return None
        whiten = np.linalg.inv(np.linalg.cholesky(covariance + RIDGE * spread * np.eye(len(mean))))

        def score(blocks: Floats) -> Floats:
            white = (blocks.reshape(len(blocks), -1) - mean) @ whiten.T
            return np.asarray(-np.log1p((white**2).mean(axis=1)))

        own_score, train_score = score(own.blocks), score(train.blocks)
        for reading in readings:
            gain, cost = score(reading.apply(own.blocks)) - own_score, train_score - score(reading.apply(train.blocks))
            if _is_clear(gain) and _is_clear(cost) and gain.mean() > LEAST_GAIN * cost.mean():
                gains[reading.name] = float(gain.mean())
    return max(gains, key=gains.__getitem__, default=None)


def _is_clear(differences: Floats) -> bool:
    """Whether the mean is above 0 by six standard errors."""
    return bool(differences.mean() > SIGNIFICANT * differences.std(ddof=1) / np.sqrt(len(differences)))


def block_means(images: NDArray[Any]) -> Floats:
    """Means over a grid of 4 x 4 blocks, fractions of pixels included, (B, C, H, W) -> (B, C, 4, 4)."""
    rows, columns = (_block_averages(size) for size in images.shape[2:])
    return np.asarray(rows @ images.astype(np.float64) @ columns.T)


def _block_averages(size: int) -> Floats:
    """The matrix of averages over at most four blocks of equal width, (G, size)."""
    num_blocks = min(GRID_BLOCKS, size)
    edges = np.linspace(0, size, num_blocks + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(overlap.clip(0) * num_blocks / size)


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
