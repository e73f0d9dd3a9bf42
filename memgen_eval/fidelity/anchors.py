"""Sets whose novelty and fidelity bound those of any model: copies, unseen images, Gaussian samples, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.resources import single_thread
from memgen_eval.compute.rows import dimension, row_blocks
from memgen_eval.diffusion.moments import FLOAT_ROWS, MAX_DIMENSION
from memgen_eval.metrics.novelty import NO_MEDIAN, median_ratio
from memgen_eval.metrics.resampling import resampled_medians
from memgen_eval.results import GREY_LEVELS, Estimate

NUM_ANCHOR_IMAGES, FEWEST_ANCHOR_IMAGES = 256, 64
MOST_VALUES = 2**27  # of all images of an anchor


def drawn_images(train: NDArray[Any], *, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Gaussian images, unless a covariance would be too large to speak of, and noise, by the names of their anchors."""
    gaussian = {"gaussian": gaussian_images(train, seed=seed)} if dimension(train) <= MAX_DIMENSION else {}
    return gaussian | {"noise": noise_images(train.shape[1:], seed=seed)}


def gaussian_images(train: NDArray[Any], *, seed: int) -> NDArray[np.uint8]:
    """Images (M, ...) of the Gaussian with mean and 1/n covariance of train, rounded and clipped to grey levels.

    ``mean + sum_i w_i (y_i - mean) / sqrt(n)``, w of independent standard normal numbers: no covariance is formed.
    """
    count, generator = num_anchor_images(train.shape[1:]), np.random.default_rng((seed, 0))
    total, drawn, weights = np.zeros(dimension(train)), np.zeros((count, dimension(train))), np.zeros(count)
    with single_thread():
        for _, rows in row_blocks(train, FLOAT_ROWS):
            block = rows.astype(np.float32)
            own = generator.standard_normal((count, len(rows)), dtype=np.float32)
            drawn += own @ block
            weights += own.sum(axis=1, dtype=np.float64)
            total += block.sum(axis=0, dtype=np.float64)
    mean = total / len(train)
    values = mean + (drawn - np.outer(weights, mean)) / math.sqrt(len(train))
    return np.clip(np.rint(values), 0, GREY_LEVELS).astype(np.uint8).reshape(count, *train.shape[1:])


def noise_images(shape: tuple[int, ...], *, seed: int) -> NDArray[np.uint8]:
    """Images (M, ...) of independent grey levels, all equally likely."""
    return np.random.default_rng((seed, 1)).integers(0, 256, (num_anchor_images(shape), *shape), dtype=np.uint8)


def num_anchor_images(shape: tuple[int, ...]) -> int:
    """How many images are drawn for an anchor: 256, and fewer of large ones."""
    return max(FEWEST_ANCHOR_IMAGES, min(NUM_ANCHOR_IMAGES, MOST_VALUES // math.prod(shape)))


@dataclass(frozen=True, eq=False)
class BaselineMedian:
    """The baseline's distances to the nearest training image, (M,), and medians of resamples of them, (R,)."""

    distances: NDArray[Any]
    resampled: NDArray[np.float64]
    seed: int

    @staticmethod
    def of(distances: NDArray[Any], *, seed: int) -> BaselineMedian:
        """With the resamples of a seed."""
        return BaselineMedian(distances, resampled_medians(distances, seed=(seed, 1)), seed)

    def ratio(self, distances: NDArray[Any]) -> Estimate:
        """The median of other distances over that of the baseline, as `novelty.distance_ratio`."""
        count, middle = min(len(distances), len(self.distances)), float(np.median(self.distances))
        if middle == 0:
            return Estimate.undefined(NO_MEDIAN, count=count)
        resampled = resampled_medians(distances, seed=(self.seed, 0)), self.resampled
        found = median_ratio((float(np.median(distances)), middle), resampled, count=count)
        if found.value is None or found.low is None or found.high is None:
            return found
        return replace(found, low=min(found.low, found.value), high=max(found.high, found.value))
