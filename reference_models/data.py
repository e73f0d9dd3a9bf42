"""Training images, and the batches that are drawn of them: each a function of seed and step alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.data.datasets import test_split
from memgen_eval.data.images import Images, ImageSet
from memgen_eval.data.sources import load_images
from memgen_eval.errors import InputError, check_count

SELECTION_SEED = 0  # the images chosen do not depend on the seed of the training
LUMA = (299, 587, 114)  # thousandths
REDUCED_AT_ONCE = 1024  # images

Half = Literal["first", "second"]
HALVES = ("first", "second")


@dataclass(frozen=True)
class Selection:
    """Which images of a set a model is trained on, and how they are reduced; the same for every training seed.

    The set is put into one fixed random order, since the first images of a folder with classes would be of one class.
    The first `num_images` of that order are taken, so a smaller number is a part of a larger one. The two halves of the
    order share no image. The chosen images keep the order in which the set has them.

    Parameters
    ----------
    data : str
        A known name (``digits``, ``cifar10``), or a file or folder of images.
    num_images : int, optional
        How many of the set or of its half; all by default.
    half : {"first", "second"}, optional
        Of the fixed order; with an odd number of images the last one is in neither half.
    side : int, optional
        Reduce images, which have to be square, to this side in pixels: a new pixel is the mean over its area, parts of
        old pixels counted by their area.
    grey : bool
        Reduce three channels to one, ITU-R BT.601's luma ``0.299 R + 0.587 G + 0.114 B``.

    Raises
    ------
    InputError
        For a number below 1, or a half of another name.

    Notes
    -----
    Luma and mean are one sum of products of integers, rounded once, halves up: ``floor(sum / weights + 1 / 2)``.
    """

    data: str
    num_images: int | None = None
    half: Half | None = None
    side: int | None = None
    grey: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not isinstance(self.grey, bool):
            raise InputError(f"data is {self.data!r} and grey is {self.grey!r}, expected a text, and True or False")
        if self.half is not None and self.half not in HALVES:
            raise InputError(f"half is {self.half!r}, expected one of {', '.join(HALVES)}")
        for name in ("num_images", "side"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))

    def train(self, data_dir: str | Path | None = None) -> ImageSet:
        """The images to train on, uint8 (N, C, H, W).

        Raises
        ------
        InputError
            If the set cannot be read, holds fewer images, or has images that cannot be reduced so.
        """
        whole = load_images(self.data, argument="train", data_dir=data_dir)
        chosen = self._chosen(len(whole))
        return self._reduced(whole, chosen, argument="train")

    def test(self, data_dir: str | Path | None = None) -> ImageSet | None:
        """The held-out images that a named set brings, all of them, reduced alike; None where the set brings none."""
        name = test_split(self.data)
        if name is None:
            return None
        return self._reduced(load_images(name, argument="test", data_dir=data_dir), None, argument="test")

    def _chosen(self, num_images: int) -> NDArray[np.int64] | None:
        """The indices of the images, rising; None for all of them."""
        most = num_images if self.half is None else num_images // 2
        if self.num_images is not None and self.num_images > most:
            what = self.data if self.half is None else f"the {self.half} half of {self.data}"
            raise InputError(f"--num-images is {self.num_images}, and {what} holds {most} images: give 1 to {most}")
        if self.half is None and self.num_images is None:
            return None
        order = np.random.default_rng(SELECTION_SEED).permutation(num_images)
        first = most if self.half == "second" else 0
        return np.sort(order[first : first + (self.num_images or most)])

    def _reduced(self, whole: ImageSet, chosen: NDArray[np.int64] | None, *, argument: str) -> ImageSet:
        """These images of a set, in canonical form."""
        if chosen is None and self.side is None and not self.grey:
            return whole
        indices = np.arange(len(whole)) if chosen is None else chosen
        parts = [indices[start : start + REDUCED_AT_ONCE] for start in range(0, len(indices), REDUCED_AT_ONCE)]
        pixels = np.concatenate([reduced(whole.take(part), side=self.side, grey=self.grey) for part in parts])
        names = None if whole.names is None else [whole.names[i] for i in indices]
        return load_images(Images(pixels, names=names), argument=argument, like=pixels.shape[1:])


def reduced(pixels: NDArray[np.uint8], *, side: int | None, grey: bool) -> NDArray[np.uint8]:
    """Images (N, C, H, W) as grey levels (N, 1 or C, side, side): area average and luma, as `Selection` defines them.

    Raises
    ------
    InputError
        If the images are not square, or smaller than `side`.
    """
    _, channels, height, width = pixels.shape
    sums, weights = pixels.astype(np.float64), 1  # integers below 2**53: float64 is exact
    if grey and channels == 3:
        sums, weights = np.einsum("nchw,c->nhw", sums, np.array(LUMA, dtype=np.float64))[:, None], sum(LUMA)
    if side is not None:
        if height != width or side > height:
            raise InputError(
                f"--side is {side}, and the images are {height} x {width}: only square ones are made smaller"
            )
        overlaps = area_overlaps(side, height)
        sums, weights = overlaps @ sums @ overlaps.T, weights * height * width
    return ((2 * sums.astype(np.int64) + weights) // (2 * weights)).astype(np.uint8)


def area_overlaps(num_new: int, num_old: int) -> NDArray[np.float64]:
    """How much of each old pixel lies in each new one along a side, in parts of an old one, (new, old).

    The unit is ``1 / num_new`` of an old pixel: all entries are whole, and each row sums to `num_old`.
    """
    new, old = np.arange(num_new)[:, None] * num_old, np.arange(num_old)[None] * num_new
    common = np.minimum(new + num_old, old + num_new) - np.maximum(new, old)
    overlaps: NDArray[np.float64] = np.maximum(common, 0).astype(np.float64)
    return overlaps


def to_model(images: Tensor) -> Tensor:
    """Grey levels as the model sees them: uint8 (N, C, H, W) to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step trains on.

    Attributes
    ----------
    indices : int64, (B,)
        Which images.
    z : float32, (B,)
        Their noise levels, standard normal: a parametrization makes sigma of it.
    eps : float32, (B, C, H, W)
        Their noise, standard normal.
    flips : bool, (B,)
        Which of them are mirrored, if flips are asked for.
    """

    indices: NDArray[np.int64]
    z: Tensor
    eps: Tensor
    flips: Tensor


def draw_batch(shape: tuple[int, ...], *, batch_size: int, seed: int, step: int) -> Batch:
    """The batch of a step, counted from 0, for images (N, C, H, W)."""
    generator = np.random.default_rng((seed, step))
    z = generator.standard_normal(batch_size, dtype=np.float32)
    eps = generator.standard_normal((batch_size, *shape[1:]), dtype=np.float32)
    flips = generator.random(batch_size) < 0.5
    indices = batch_indices(shape[0], batch_size=batch_size, seed=seed, step=step)
    return Batch(indices, torch.from_numpy(z), torch.from_numpy(eps), torch.from_numpy(flips))


def batch_indices(num_images: int, *, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Which images a step sees, (B,): epoch after epoch in new orders, each image once an epoch, none left out."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = range(places[0] // num_images, places[-1] // num_images + 1)
    orders = [np.random.default_rng((seed, epoch, 1)).permutation(num_images) for epoch in epochs]
    return np.concatenate(orders)[places - epochs[0] * num_images]
