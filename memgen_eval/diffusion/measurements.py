"""What the probe found, as float64 arrays: all that the families denoiser and gaussian ever see of a model.

S sigmas, N images, P pairs of images. Squares and products are means over an image's values and over its noise draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memgen_eval.compute.kept import NOWHERE, Arrays, Kept
from memgen_eval.diffusion.calling import call_denoiser
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.inputs import NoisedImages
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.posterior import Posterior
from memgen_eval.distributed import ALONE, Ranks

Floats = NDArray[np.float64]
INPUTS_AT_ONCE = 128
MAX_PROJECTED = 256
MIN_INPUTS = 256  # below it no linear distillation
MIX = math.sqrt(0.5)  # keeps the variance of the noise


@dataclass(frozen=True, eq=False)
class NoisedSet:
    """What was measured on noised images of one set, (S, N) each; None where it was not measured.

    D is the model's denoiser, D* and D_G are those of the training set, mu is its mean. D*' is that of as many images
    as test has, the noised one among them.
    """

    optimal_error: Floats  # |D* - x0|^2
    effective_neighbours: Floats  # exp(entropy of w)
    own_weight: Floats  # of the training images that are identical to x0
    variance: Floats  # of the training images given x: the mean of |D* - x0|^2 over all x0 that x leaves possible
    error: Floats | None = None  # |D - x0|^2
    gap: Floats | None = None  # |D - D*|^2
    residual: Floats | None = None  # 2 <D - D*, D* - x0>, which is error - gap - optimal_error
    residual_variance: Floats | None = None  # see `_residual_variance`
    energy: Floats | None = None  # |D|^2
    gaussian_error: Floats | None = None  # |D_G - x0|^2
    gaussian_energy: Floats | None = None  # |D_G - mu|^2
    cosine: Floats | None = None  # between D - mu and D_G - mu; NaN where one of them is zero
    to_gaussian: Floats | None = None  # |D - D_G|^2
    optimal_to_gaussian: Floats | None = None  # |D* - D_G|^2
    projection: Floats | None = None  # <D - D_G, D* - D_G>
    matched_optimal_to_gaussian: Floats | None = None  # |D*' - D_G|^2
    matched_projection: Floats | None = None  # <D - D_G, D*' - D_G>

    @staticmethod
    def combined(parts: Sequence[NoisedSet], combine: Callable[[Sequence[Floats]], Floats]) -> NoisedSet:
        """One set of several, field by field."""
        columns: Iterator[Any] = zip(*(vars(part).values() for part in parts), strict=True)
        joined: Iterator[Any] = (None if column[0] is None else combine(column) for column in columns)
        return NoisedSet(*joined)


@dataclass(frozen=True, eq=False)
class Linearity:
    """``|cos|`` between D of a mixture of two noisy images and the mixture of D of each, (S, P); the same for D_G."""

    model: Floats
    gaussian: Floats


@dataclass(frozen=True, eq=False)
class Projections:
    """Noisy inputs x and D(x) about the training mean, in the leading K principal directions, (S, N, draws, K)."""

    inputs: Floats
    outputs: Floats


@dataclass(frozen=True, eq=False)
class Path:
    """``|D - D*|^2`` on the sampler's own path: sigmas increasing (T,), gap (T, N)."""

    sigmas: Floats
    gap: Floats


@dataclass(frozen=True, eq=False)
class Probe:
    """Everything measured around one denoiser, or around the data alone; parts are None where not measured."""

    sigmas: Floats  # increasing, (S,)
    num_train: int  # images that D* holds
    num_draws: int  # noise draws of each image
    train: NoisedSet
    test: NoisedSet | None
    num_matched: int | None  # images that each matched D* holds
    collapse: Floats  # see `collapse_sigmas`, (N,)
    spectrum: Floats | None  # eigenvalues of the training set's covariance, data in [-1, 1]
    linearity: Linearity | None
    projections: Projections | None
    path: Path | None
    no_gaussian: str | None  # why there is no D_G
    notes: tuple[str, ...]  # what was found odd about the denoiser


@dataclass(frozen=True, eq=False)
class Run:
    """What is compared, how, by whom: the denoiser sees `batch_size` images a call, the last block padded."""

    denoiser: Any
    optimal: OptimalDenoiser
    gaussian: GaussianDenoiser | None
    sigmas: Floats
    batch_size: int
    device: torch.device
    ranks: Ranks = ALONE
    kept: Kept = NOWHERE

    @property
    def chunk(self) -> int:
        """Inputs that are worked on together, for one reading of the training set: whole batches of the denoiser."""
        return self.batch_size * max(1, INPUTS_AT_ONCE // self.batch_size)

    def denoise(self, x: Floats, sigma: float) -> Floats:
        """D of noisy rows (B, D), in blocks of `batch_size`; what pads the last block repeats its images."""
        clean = []
        for start in range(0, len(x), self.batch_size):
            rows = x[start : start + self.batch_size]
            filled = np.resize(rows, (self.batch_size, rows.shape[1])).astype(np.float32)
            given = torch.from_numpy(filled).to(self.device).reshape(-1, *self.optimal.shape)
            levels = torch.full((self.batch_size,), sigma, dtype=torch.float32, device=self.device)
            found = call_denoiser(self.denoiser, given, levels)
            clean.append(float64_rows(found)[: len(rows)])
        return np.concatenate(clean)

    def denoise_gaussian(self, x: Floats, sigma: float) -> Floats:
        """D_G of noisy rows (B, D)."""
        assert self.gaussian is not None
        given = torch.from_numpy(x.astype(np.float32)).reshape(-1, *self.optimal.shape)
        return float64_rows(self.gaussian(given, sigma))


def float64_rows(images: torch.Tensor) -> Floats:
    """Images (B, ...) as float64 rows (B, D) on the CPU."""
    rows: Floats = images.detach().cpu().double().reshape(len(images), -1).numpy()
    return rows


def dot(first: Floats, second: Floats) -> Floats:
    """Mean of the products of each row's values, (B, D) -> (B,), summed in one order on any number of threads."""
    return np.asarray(np.einsum("bd,bd->b", first, second) / first.shape[1])


def cosine(first: Floats, second: Floats) -> Floats:
    """Cosine between rows, (B, D) -> (B,); NaN where one of them is zero."""
    norms = np.sqrt(dot(first, first) * dot(second, second))
    undefined = np.full(len(norms), np.nan)
    return np.asarray(np.divide(dot(first, second), norms, out=undefined, where=norms > 0))


@dataclass(frozen=True, eq=False)
class Denoised:
    """Noisy images at one sigma, and what the denoisers make of them, (B, D) each; None where there is no denoiser."""

    number: int  # of the sigma in the grid
    posterior: Posterior  # given x, of the whole training set
    clean: Floats
    x: Floats
    optimal: Floats  # D*
    model: Floats | None  # D
    gaussian: Floats | None  # D_G
    matched: Floats | None  # D*'


def measure_inputs(found: Denoised, mean: Floats | None) -> NoisedSet:
    """All figures of some noisy images at one sigma, (B,) each; `mean` of the training set, (D,)."""
    clean, optimal, model, gaussian = found.clean, found.optimal, found.model, found.gaussian
    posterior, optimal_error = found.posterior, dot(optimal - clean, optimal - clean)
    assert posterior.variance is not None
    known = NoisedSet(optimal_error, posterior.effective_neighbours, posterior.own_weight, posterior.variance)
    if model is None:
        return known
    residual = 2 * dot(model - optimal, optimal - clean)
    known = replace(
        known,
        error=dot(model - clean, model - clean),
        gap=dot(model - optimal, model - optimal),
        residual=residual,
        residual_variance=_residual_variance(residual, posterior.variance, optimal_error),
        energy=dot(model, model),
    )
    if gaussian is None or mean is None:
        return known
    known = replace(
        known,
        gaussian_error=dot(gaussian - clean, gaussian - clean),
        gaussian_energy=dot(gaussian - mean, gaussian - mean),
        cosine=cosine(model - mean, gaussian - mean),
        to_gaussian=dot(model - gaussian, model - gaussian),
        optimal_to_gaussian=dot(optimal - gaussian, optimal - gaussian),
        projection=dot(model - gaussian, optimal - gaussian),
    )
    if found.matched is None:
        return known
    return replace(
        known,
        matched_optimal_to_gaussian=dot(found.matched - gaussian, found.matched - gaussian),
        matched_projection=dot(model - gaussian, found.matched - gaussian),
    )


def _residual_variance(residual: Floats, variance: Floats, optimal_error: Floats) -> Floats:
    """Of the residual, were x0 drawn again from what x leaves possible.

    The square of the residual times the posterior variance over ``|D* - x0|^2``: rare events that no draw has met count
    too. Exact, whichever x0 was drawn, where x leaves two images possible.
    """
    ratio = np.divide(variance, optimal_error, out=np.ones(len(residual)), where=optimal_error > 0)
    return np.asarray(residual**2 * ratio)


class Structure:
    """Linearity, from the first noise draw, and projections, from all of them, while they are collected."""

    def __init__(self, run: Run, inputs: NoisedImages) -> None:
        """Before the first chunk of inputs; without enough inputs for a fit there are no directions."""
        assert run.gaussian is not None
        self.run, self.num_images, self.num_draws = run, len(inputs.indices), inputs.num_draws
        spectrum, num_sigmas = run.gaussian.spectrum, len(run.sigmas)
        enough = len(inputs) >= MIN_INPUTS
        num_directions = min(MAX_PROJECTED, len(inputs) // 8, len(spectrum.values)) if enough else 0
        self.mean = spectrum.mean
        self.directions = spectrum.directions[:, :num_directions] if num_directions else None  # (D, K)
        self.projected = np.empty((2, num_sigmas, len(inputs), num_directions))
        self.cosines: list[list[Floats]] = [[np.empty(0)] for _ in run.sigmas]  # (S) of parts
        self.gaussian_cosines: list[list[Floats]] = [[np.empty(0)] for _ in run.sigmas]

    def measure(self, at: slice, found: Denoised) -> Arrays:
        """Of a chunk of inputs at one sigma: cosines of D and of D_G, and projections of x and D, (2, B, K).

        Consecutive images of the first draw make pairs.
        """
        assert found.model is not None and found.gaussian is not None
        sigma, num_pairs = float(self.run.sigmas[found.number]), max(0, min(at.stop, self.num_images) - at.start) // 2
        parts: list[Floats | None] = [None, None, None]
        if num_pairs:
            mixed = _mixed_pairs(found.x, num_pairs)
            pairs = ((self.run.denoise, found.model), (self.run.denoise_gaussian, found.gaussian))
            for side, (denoise, clean) in enumerate(pairs):
                parts[side] = np.abs(cosine(denoise(mixed, sigma), _mixed_pairs(clean, num_pairs)))
        if self.directions is not None:
            basis = torch.from_numpy(self.directions)
            parts[2] = np.stack([(torch.from_numpy(r - self.mean) @ basis).numpy() for r in (found.x, found.model)])
        return tuple(parts)

    def add(self, at: slice, number: int, parts: Arrays) -> None:
        """Add what was measured of a chunk of inputs at one sigma."""
        model, gaussian, projected = parts
        for held, cosines in ((self.cosines, model), (self.gaussian_cosines, gaussian)):
            held[number] += [] if cosines is None else [cosines]
        if projected is not None:
            self.projected[:, number, at] = projected

    def result(self) -> tuple[Linearity | None, Projections | None]:
        """What all ranks collected, each of its own inputs; None where there was no pair, or too few inputs."""
        model, gaussian = (
            self.run.ranks.gather(np.stack([np.concatenate(parts) for parts in cosines]), axis=1)
            for cosines in (self.cosines, self.gaussian_cosines)
        )
        linearity = Linearity(model, gaussian) if model.size else None
        if self.directions is None:
            return linearity, None
        mine = self.run.ranks.shard(self.num_images * self.num_draws, self.run.chunk)
        projected = self.run.ranks.gather(self.projected[:, :, mine], axis=2)
        _, num_sigmas, _, width = projected.shape
        by_draw = projected.reshape(2, num_sigmas, self.num_draws, self.num_images, width)
        inputs, outputs = by_draw.transpose(0, 1, 3, 2, 4)
        return linearity, Projections(inputs, outputs)


def _mixed_pairs(rows: Floats, num_pairs: int) -> Floats:
    """Each of the first rows (B, D) mixed with its neighbour, (P, D)."""
    return MIX * rows[: 2 * num_pairs : 2] + MIX * rows[1 : 2 * num_pairs : 2]
