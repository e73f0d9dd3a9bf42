"""What the probe found, as float64 arrays: all that the families denoiser and gaussian ever see of a model.

S sigmas, N images, P pairs of images. Squares and products are means over an image's values and over its noise draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memgen_eval.diffusion.calling import call_denoiser
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.inputs import NoisedImages
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.distributed import ALONE, Ranks

Floats = NDArray[np.float64]
INPUTS_AT_ONCE = 128
MAX_DIRECTIONS = 256
MIN_INPUTS = 256  # below it no linear distillation
MIX = math.sqrt(0.5)  # keeps the variance of the noise


@dataclass(frozen=True, eq=False)
class Index:
    """Where D lies between D_G and an optimal denoiser D*, (S, N) each.

    Attributes
    ----------
    projection : ``<D - D_G, D* - D_G>``
    span : ``|D* - D_G|^2``
    """

    projection: Floats
    span: Floats


@dataclass(frozen=True, eq=False)
class AgainstGaussian:
    """D beside the Wiener denoiser D_G, (S, N) each.

    Attributes
    ----------
    index : on the line to D* of the whole training set
    matched : on the line to D* of as many images as test has, the noised one among them; None without a test set
    departure : ``|D - D_G|^2``
    gaussian_error : ``|D_G - x0|^2``
    energy : ``|D|^2``
    cosine : between ``D - mu`` and ``D_G - mu``; NaN where one of them is zero
    gaussian_energy : ``|D_G - mu|^2``
    """

    index: Index
    matched: Index | None
    departure: Floats
    gaussian_error: Floats
    energy: Floats
    cosine: Floats
    gaussian_energy: Floats


@dataclass(frozen=True, eq=False)
class AgainstOptimal:
    """D beside D* of the training set and the clean image x0, (S, N) each.

    Attributes
    ----------
    error : ``|D - x0|^2``
    gap : ``|D - D*|^2``
    residual : ``2 <D - D*, D* - x0>``, which is error - gap - optimal_error
    residual_variance : of the residual, were x0 drawn again from what x leaves possible: the square of the residual, as
        many times as the posterior variance exceeds ``|D* - x0|^2``. Rare events that no draw has met are in it.
    """

    error: Floats
    gap: Floats
    residual: Floats
    residual_variance: Floats


@dataclass(frozen=True, eq=False)
class NoisedSet:
    """What was measured on noised images of one set, (S, N) each; the model's parts are None where not measured.

    Attributes
    ----------
    optimal_error : ``|D* - x0|^2``
    effective_neighbours : ``exp(entropy of w)``
    model : D beside D*
    gaussian : D beside D_G
    """

    optimal_error: Floats
    effective_neighbours: Floats
    model: AgainstOptimal | None
    gaussian: AgainstGaussian | None


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
    """Everything measured around one denoiser, or around the data alone.

    Attributes
    ----------
    sigmas : increasing, (S,)
    num_train : images that D* holds
    num_draws : noise draws of each image
    train, test : measured on noised images of the training set and of the test set
    num_matched : images that each D* of `matched` holds
    collapse : for each training image the sigma at which the weight of itself and its duplicates falls through 1/2, to
        1 %; 0 where that lies below the grid, infinite above it; (N,)
    spectrum : eigenvalues of the training set's covariance, data in [-1, 1]; None without D_G
    linearity, projections, path : see there; None where they were not measured
    no_gaussian : why there is no D_G
    notes : what was found odd about the denoiser
    """

    sigmas: Floats
    num_train: int
    num_draws: int
    train: NoisedSet
    test: NoisedSet | None
    num_matched: int | None
    collapse: Floats
    spectrum: Floats | None
    linearity: Linearity | None
    projections: Projections | None
    path: Path | None
    no_gaussian: str | None
    notes: tuple[str, ...]


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
            clean.append(as_rows(found)[: len(rows)])
        return np.concatenate(clean)

    def wiener(self, x: Floats, sigma: float) -> Floats:
        """D_G of noisy rows (B, D)."""
        assert self.gaussian is not None
        given = torch.from_numpy(x.astype(np.float32)).reshape(-1, *self.optimal.shape)
        return as_rows(self.gaussian(given, sigma))


def as_rows(images: torch.Tensor) -> Floats:
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
class Structure:
    """Linearity and projections while they are collected, from the first noise draw and from all of them."""

    num_images: int
    num_draws: int
    cosines: list[list[Floats]]  # (S) of parts
    gaussian_cosines: list[list[Floats]]
    directions: Floats | None  # (D, K)
    projected: Floats  # (2, S, T, K)

    @classmethod
    def of(cls, run: Run, inputs: NoisedImages) -> Structure:
        """Nothing collected yet; without enough inputs for a fit there are no directions."""
        assert run.gaussian is not None
        known, num_sigmas = run.gaussian.spectrum, len(run.sigmas)
        num_directions = min(MAX_DIRECTIONS, len(inputs) // 8, len(known.values)) if len(inputs) >= MIN_INPUTS else 0
        directions = known.directions[:, :num_directions] if num_directions else None
        projected = np.empty((2, num_sigmas, len(inputs), num_directions))
        cosines: list[list[Floats]] = [[] for _ in run.sigmas]
        gaussian_cosines: list[list[Floats]] = [[] for _ in run.sigmas]
        return cls(len(inputs.indices), inputs.num_draws, cosines, gaussian_cosines, directions, projected)

    def add(self, run: Run, place: tuple[int, slice], x: Floats, model: Floats, wiener: Floats) -> None:
        """A chunk of inputs at one sigma: consecutive images of the first draw make pairs."""
        assert run.gaussian is not None
        number, at = place
        sigma = float(run.sigmas[number])
        num_pairs = max(0, min(at.stop, self.num_images) - at.start) // 2
        if num_pairs:
            one, two = slice(0, 2 * num_pairs, 2), slice(1, 2 * num_pairs, 2)
            mixed = MIX * x[one] + MIX * x[two]
            apart = MIX * model[one] + MIX * model[two]
            self.cosines[number].append(np.abs(cosine(run.denoise(mixed, sigma), apart)))
            apart = MIX * wiener[one] + MIX * wiener[two]
            self.gaussian_cosines[number].append(np.abs(cosine(run.wiener(mixed, sigma), apart)))
        if self.directions is not None:
            basis, mean = torch.from_numpy(self.directions), run.gaussian.spectrum.mean
            for side, rows in enumerate((x, model)):
                self.projected[side, number, at] = (torch.from_numpy(rows - mean) @ basis).numpy()

    def result(self, ranks: Ranks, mine: slice) -> tuple[Linearity | None, Projections | None]:
        """What all ranks collected, each of its own inputs; None where there was no pair, or too few inputs."""
        none = np.empty(0)
        model, gaussian = (
            ranks.gather(np.stack([np.concatenate([none, *part]) for part in parts]), axis=1)
            for parts in (self.cosines, self.gaussian_cosines)
        )
        linearity = Linearity(model, gaussian) if model.size else None
        if self.directions is None:
            return linearity, None
        projected = ranks.gather(self.projected[:, :, mine], axis=2)
        _, num_sigmas, _, width = projected.shape
        by_draw = projected.reshape(2, num_sigmas, self.num_draws, self.num_images, width)
        inputs, outputs = by_draw.transpose(0, 1, 3, 2, 4)
        return linearity, Projections(inputs, outputs)
