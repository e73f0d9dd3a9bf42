"""What denoisers are given: images as rows, noise for each image, grids of noise levels, blocks of fixed shape."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.errors import InputError

HALF_RANGE = 127.5  # a denoiser is given (u - 127.5) / 127.5 for uint8 u, and u - 127.5 is exact in float32
_CHECKED_VALUES = 2**22
NOISE_STEP = 2.0**-17  # float32 holds the multiples in a draw exactly, so that products with integers can be exact too
NUM_SIGMAS = 15
SIGMA_LOW = 0.02
SIGMA_HIGH = 80.0
BLOCK_ROWS = 64  # images that are worked on together; the last block is padded, so that no sum depends on their number


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


def unit_scale(images: NDArray[Any]) -> float:
    """One unit of a denoiser's data in the units of `images`: 127.5 grey levels, or 1 for floats."""
    return HALF_RANGE if images.dtype == np.uint8 else 1.0


def centred_rows(images: NDArray[Any]) -> NDArray[np.float64]:
    """Images (B, ...) as float64 rows (B, D): uint8 minus 127.5, floats as they are."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    return rows - HALF_RANGE if images.dtype == np.uint8 else rows


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
    return (np.rint(values / NOISE_STEP) * NOISE_STEP).astype(np.float32)


def draw_noises(
    shape: tuple[int, ...], indices: NDArray[np.int64], *, seed: int, name: str, draws: Any = 0
) -> NDArray[np.float32]:
    """`draw_noise` of several images, (B, *shape), with one draw or one for each."""
    pairs = zip(indices.tolist(), np.broadcast_to(draws, len(indices)).tolist(), strict=True)
    return np.stack([draw_noise(shape, seed=seed, name=name, index=index, draw=draw) for index, draw in pairs])


def draw_order(num_images: int, *, seed: int, name: str) -> NDArray[np.int64]:
    """A permutation of a set's images; any number of its first entries are a uniform draw without replacement."""
    return np.random.default_rng((seed, zlib.crc32(name.encode()))).permutation(num_images)


@dataclass(frozen=True, eq=False)
class NoisedImages:
    """Input t is image ``indices[t % N]`` of a set (M, ...) with noise draw ``t // N``; T = N * num_draws of them."""

    images: NDArray[Any]
    indices: NDArray[np.int64]
    num_draws: int
    seed: int
    name: str

    def __len__(self) -> int:
        return len(self.indices) * self.num_draws

    def take(self, inputs: NDArray[np.integer[Any]]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Clean images, as they are stored, and standard normal noise of these inputs, (B, ...) each."""
        draws, places = np.divmod(inputs, len(self.indices))
        chosen = self.indices[places]
        noises = draw_noises(self.images.shape[1:], chosen, seed=self.seed, name=self.name, draws=draws)
        return np.array(self.images[chosen]), noises

    def in_model_units(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Images (B, ...) as rows (B, D), data in [-1, 1]."""
        return centred_rows(images) / unit_scale(images)


def sigma_grid() -> NDArray[np.float64]:
    """The usual noise levels, spaced evenly in their logarithm, both ends included, float64 (S,)."""
    return check_sigmas(np.geomspace(SIGMA_LOW, SIGMA_HIGH, NUM_SIGMAS))


def check_sigmas(sigmas: Any) -> NDArray[np.float64]:
    """A grid of noise levels as float64 (S,).

    Raises
    ------
    InputError
        Unless they are one or more numbers, positive and finite in float32, each larger than the one before.
    """
    try:
        grid = np.asarray(sigmas, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"sigmas is {sigmas!r}: give noise levels such as [0.1, 1, 10]") from None
    if grid.ndim != 1 or grid.size == 0:
        raise InputError(f"sigmas has shape {grid.shape}: give a list of at least one noise level")
    with np.errstate(over="ignore", under="ignore"):
        told = grid.astype(np.float32)  # what a denoiser is told
    wrong = grid[~(np.isfinite(told) & (told > 0))]
    if wrong.size:
        raise InputError(
            f"sigmas holds {wrong[0]:g}: noise levels are positive and finite in float32, in units of data in [-1, 1]"
        )
    if (np.diff(told) <= 0).any():
        place = int(np.argmax(np.diff(told) <= 0))
        raise InputError(
            f"sigmas has {grid[place + 1]:g} after {grid[place]:g}: give noise levels in increasing order, each once"
        )
    return grid


def as_told(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounded to float32, in which denoisers are told sigma: the noise has to be of that very size."""
    return sigmas.astype(np.float32).astype(np.float64)


def padded(rows: Tensor, num_rows: int = BLOCK_ROWS) -> Tensor:
    """(B, ...) with zeros after it, (num_rows, ...)."""
    if len(rows) == num_rows:
        return rows
    return torch.cat([rows, rows.new_zeros(num_rows - len(rows), *rows.shape[1:])])


def working_device(device: torch.device) -> torch.device:
    """`device` itself where it knows float64, else the CPU."""
    return torch.device("cpu") if device.type == "mps" else device
