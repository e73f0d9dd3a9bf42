"""D_G: the Wiener denoiser, the best affine one, from the mean and covariance of the training set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.compute.kept import Arrays, Kept
from memgen_eval.compute.resources import single_thread
from memgen_eval.diffusion.inputs import (
    BLOCK_ROWS,
    HALF_RANGE,
    as_images,
    centred_rows,
    check_noisy,
    padded,
    unit_scale,
    working_device,
)
from memgen_eval.diffusion.moments import MAX_DIMENSION, TOO_LARGE, decompose, descending, moments
from memgen_eval.errors import InputError

MAX_ROWS_AT_ONCE = 8192  # a training set of fewer images than half its dimensions is decomposed through their products

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Of a set in [-1, 1]: mean (D,), eigenvalues of the 1/n covariance above rounding, descending (R,), and (D, R)."""

    mean: Floats
    values: Floats
    directions: Floats


def spectrum(images: NDArray[Any]) -> Spectrum:
    """Decompose the covariance of images, (N, ...) uint8 or float, in float64 on one thread.

    Cost: N D^2 + about 10 D^3 operations: some ten seconds for 32 x 32 x 3. Where N < D/2, N^2 D + 10 N^3.

    Raises
    ------
    InputError
        For more than 12,288 values an image.
    """
    dimension = math.prod(images.shape[1:])
    if dimension > MAX_DIMENSION:
        raise InputError(f"images hold {dimension:,} values each: {TOO_LARGE}")
    levels = unit_scale(images)
    through_images = 2 * len(images) < dimension and len(images) <= MAX_ROWS_AT_ONCE
    mean, values, directions = decompose(centred_rows(images)) if through_images else _from_covariance(images)
    return Spectrum(mean / levels, values / levels**2, directions)


def _from_covariance(images: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    from scipy.linalg import eigh

    known = moments(images)
    with single_thread():
        values, directions = eigh(known.covariance, driver="evd")
    mean = known.mean - HALF_RANGE if images.dtype == np.uint8 else known.mean
    return mean, *descending(values, directions)


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    """The Wiener denoiser, ``D_G(x; sigma) = mu + U diag(l / (l + sigma^2)) U^T (x - mu)`` [1]_.

    mu and ``U diag(l) U^T`` are mean and 1/n covariance of the training set. It is the optimal denoiser of Gaussian
    data, and the best affine one of any data. Relative error of an image at most 1e-5 for sigma from 0.002 to 80.

    Parameters
    ----------
    train : uint8 or float, (N, ...)
        uint8 is mapped by ``x / 127.5 - 1``, floats are taken as they are. Any trailing shape, (N, 1) too.

    Raises
    ------
    InputError
        For a training set that is empty, of another type, not finite, or of more than 12,288 values an image.

    Notes
    -----
    The decomposition is made at the first use and kept: see `spectrum`. Cost of B noisy images: 4 B D^2 operations.

    References
    ----------
    .. [1] Li, Dai & Qu, "Understanding Generalizability of Diffusion Models Requires Rethinking the Hidden Gaussian
       Structure", NeurIPS 2024, equation 6.
    """

    train: Any

    def __post_init__(self) -> None:
        """Check the training set once."""
        object.__setattr__(self, "train", as_images(self.train, "train"))
        dimension = math.prod(self.shape)
        if dimension > MAX_DIMENSION:
            raise InputError(f"train holds images of {dimension:,} values: {TOO_LARGE}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an image."""
        return tuple(self.train.shape[1:])

    @cached_property
    def spectrum(self) -> Spectrum:
        """Mean, eigenvalues and eigenvectors, data in [-1, 1]."""
        return spectrum(self.train)

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """D_G(x; sigma) for x float (B, ...), sigma a number or (B,); float32 on the device of x."""
        sigmas = check_noisy(x, sigma, self.shape)
        rows = x.detach().to(working_device(x.device)).double().flatten(1)
        mean, values, directions = (
            torch.from_numpy(part).to(rows.device)
            for part in (self.spectrum.mean, self.spectrum.values, self.spectrum.directions)
        )
        clean = torch.empty_like(rows)
        for start in range(0, len(rows), BLOCK_ROWS):
            at = slice(start, start + BLOCK_ROWS)
            num_rows = len(rows[at])
            shrink = values / (values + sigmas[at].to(rows.device)[:, None] ** 2)  # (B, R)
            coordinates = (padded(rows[at] - mean) @ directions)[:num_rows] * shrink
            clean[at] = mean + (padded(coordinates) @ directions.T)[:num_rows]
        return clean.float().reshape(x.shape).to(x.device)


def with_kept_spectrum(gaussian: GaussianDenoiser, kept: Kept) -> GaussianDenoiser:
    """The same denoiser, its decomposition read where it was kept, for a key that holds the training set."""
    if kept.active:

        def make() -> Arrays:
            known = gaussian.spectrum
            return known.mean, known.values, known.directions

        vars(gaussian)["spectrum"] = Spectrum(*kept.block(make, "spectrum"))  # type: ignore[arg-type]
    return gaussian
