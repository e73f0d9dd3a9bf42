"""Training images, and the batches that are drawn of them: each a function of seed and step alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.data.images import Images, ImageSet
from memgen_eval.data.sources import load_images
from memgen_eval.errors import InputError
from reference_models.precond import P_MEAN, P_STD

SELECTION_SEED = 0  # the images chosen do not depend on the seed of the training


def training_images(data: str | Path, *, num_images: int | None = None, data_dir: str | Path | None = None) -> ImageSet:
    """The images to train on, uint8 N x C x H x W: all of a set, or `num_images` of it in their original order.

    The same images are chosen for every training seed, a smaller number among those of a larger one: the first of a
    fixed permutation, since the first of a folder with classes would be of one class.

    Parameters
    ----------
    data : str or path
        A known name (``digits``, ``cifar10``), or a file or folder of images.
    num_images : int, optional
        How many of them.
    data_dir : path, optional
        Where named sets lie.

    Raises
    ------
    InputError
        If the set cannot be read, or holds fewer images.
    """
    whole = load_images(data, argument="train", data_dir=data_dir)
    if num_images is None:
        return whole
    if not 1 <= num_images <= len(whole):
        raise InputError(f"--num-images is {num_images}, and {data} holds {len(whole)} images: give 1 to {len(whole)}")
    order = np.random.default_rng(SELECTION_SEED).permutation(len(whole))
    chosen = np.sort(order[:num_images])
    names = None if whole.names is None else [whole.names[i] for i in chosen]
    return load_images(Images(whole.array()[chosen], names=names), argument="train", like=whole.shape)


def to_model(images: Tensor) -> Tensor:
    """Grey levels as the model sees them: uint8 (N, C, H, W) to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step trains on: which images (B,), their noise levels float32 (B,), their noise float32 (B, C, H, W)."""

    indices: NDArray[np.int64]
    sigma: Tensor
    eps: Tensor


def draw_batch(shape: tuple[int, ...], *, batch_size: int, seed: int, step: int) -> Batch:
    """The batch of a step, counted from 0, for images (N, C, H, W)."""
    generator = np.random.default_rng((seed, step))
    log_sigma = P_MEAN + P_STD * generator.standard_normal(batch_size, dtype=np.float32)
    eps = generator.standard_normal((batch_size, *shape[1:]), dtype=np.float32)
    indices = batch_indices(shape[0], batch_size=batch_size, seed=seed, step=step)
    return Batch(indices, torch.from_numpy(np.exp(log_sigma)), torch.from_numpy(eps))


def batch_indices(num_images: int, *, batch_size: int, seed: int, step: int) -> NDArray[np.int64]:
    """Which images a step sees, (B,): epoch after epoch in new orders, each image once an epoch, none left out."""
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = range(places[0] // num_images, places[-1] // num_images + 1)
    orders = [np.random.default_rng((seed, epoch, 1)).permutation(num_images) for epoch in epochs]
    return np.concatenate(orders)[places - epochs[0] * num_images]
