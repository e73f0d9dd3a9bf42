"""Samples of a trained model, drawn in blocks of one size: an image depends on the seed and its number alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.diffusion.sampling import Sampler
from memgen_eval.errors import InputError
from memgen_eval.shell import check_writable, write_whole
from reference_models.precond import Preconditioned

BLOCK = 64  # images to a call of the model
SUFFIXES = (".npz", ".safetensors")


def sampler_of(denoiser: Preconditioned, image_shape: tuple[int, int, int], *, seed: int) -> Sampler:
    """EDM's deterministic sampler, 18 steps of Heun: what `evaluate` is given as samples."""
    return Sampler(denoiser, image_shape, seed=seed, batch_size=BLOCK)


def draw(
    denoiser: Preconditioned, image_shape: tuple[int, int, int], num_samples: int, *, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Samples as grey levels, uint8 (B, H, W, C), a block at a time.

    Image i starts from the noise that `evaluate` gives it for the same seed, and is the same whatever their number:
    the last block is drawn whole and cut.
    """
    sampler = sampler_of(denoiser, image_shape, seed=seed)
    for start in range(0, num_samples, BLOCK):
        images = sampler(BLOCK, seeds=range(seed + start, seed + start + BLOCK))
        yield to_grey_levels(images)[: num_samples - start]


def to_grey_levels(images: Tensor) -> NDArray[np.uint8]:
    """From float (B, C, H, W), clipped to [-1, 1], to the nearest of 256 levels, uint8 (B, H, W, C)."""
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())


def check_samples_path(path: Path) -> None:
    """Find out, before anything is drawn, whether samples can be written there. Raises InputError if not."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: samples are written as .npz or .safetensors; give a name that ends in one of them")
    check_writable(path)


def write_samples(path: Path, images: NDArray[np.uint8]) -> None:
    """Write uint8 (N, H, W, C) as .npz (`arr_0`) or .safetensors (`samples`), whole or not at all."""
    check_samples_path(path)
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import save

        write_whole(path, save({"samples": torch.from_numpy(np.ascontiguousarray(images))}))
        return
    buffer = io.BytesIO()
    np.savez(buffer, images)
    write_whole(path, buffer.getvalue())
