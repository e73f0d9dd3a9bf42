"""Training images as rows, and what the built-in denoisers accept at their door."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.errors import InputError

GREY = 127.5  # uint8 u is u / 127.5 - 1 to a denoiser: (u - 127.5) / 127.5, and u - 127.5 is exact in float32
_CHECKED_VALUES = 2**22


def as_images(images: Any, name: str) -> NDArray[Any]:
    """Images as a numpy array (N, ...), uint8 or float32 or float64, without a copy where there is none to make.

    Raises
    ------
    InputError
        For no images, no trailing axis, another type, NaN or infinity.
    """
    if isinstance(images, Tensor):
        images = images.detach().cpu()
        images = (images.float() if images.dtype in (torch.float16, torch.bfloat16) else images).numpy()
    if not isinstance(images, np.ndarray):
        raise InputError(f"{name} is a {type(images).__name__}: give a numpy array or a torch tensor of images")
    if images.ndim < 2 or images.size == 0:
        raise InputError(f"{name} has shape {images.shape}: give at least one image, (N, C, H, W) or (N, D)")
    if images.dtype == np.float16:
        images = images.astype(np.float32)
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise InputError(f"{name} holds {images.dtype}: give uint8 or float in [-1, 1]")
    if images.dtype != np.uint8 and not _finite(images):
        raise InputError(f"{name} holds NaN or infinity: give finite values")
    checked: NDArray[Any] = images
    return checked


def _finite(images: NDArray[Any]) -> bool:
    rows = max(1, _CHECKED_VALUES // math.prod(images.shape[1:]))
    return all(np.isfinite(images[start : start + rows]).all() for start in range(0, len(images), rows))


def levels_of(images: NDArray[Any]) -> float:
    """What one unit of a denoiser's data is in the units of `images` (uint8, shifted by 127.5): 127.5 or 1."""
    return GREY if images.dtype == np.uint8 else 1.0


def centred_rows(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images (B, ...) as float64 rows (B, D): uint8 minus 127.5, floats as they are."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    return rows - GREY if images.dtype == np.uint8 else rows


def check_noisy(x: Tensor, sigma: float | Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sigma as float64 (B,) on the CPU, once x (B, *shape) and sigma (a number, or (B,)) are found usable.

    Raises
    ------
    InputError
        For another shape or type, for NaN or infinity, for a sigma that is not positive.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError(
            f"x is {getattr(x, 'dtype', type(x).__name__)}: give noisy images, [-1, 1] + sigma * eps, as a float tensor"
        )
    if tuple(x.shape[1:]) != shape or x.ndim == 0:
        raise InputError(f"x has shape {tuple(x.shape)}: the training images ask for (B, {', '.join(map(str, shape))})")
    if not torch.isfinite(x).all():
        raise InputError("x holds NaN or infinity: a denoiser needs finite noisy images")
    given = sigma.detach().cpu() if isinstance(sigma, Tensor) else sigma
    levels = torch.as_tensor(given, dtype=torch.float64, device="cpu")  # a number would take the caller's defaults
    if levels.ndim > 1 or (levels.ndim == 1 and len(levels) not in (1, len(x))):
        raise InputError(
            f"sigma has shape {tuple(levels.shape)}: give a number, or one for each of the {len(x)} images"
        )
    if not (torch.isfinite(levels) & (levels > 0)).all():
        raise InputError("sigma holds a value that is not positive and finite: give noise levels above 0")
    return levels.expand(len(x))
