"""How linear the denoiser is, and its best affine fit: collected while the probe runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from memgen_eval.diffusion.measurements import Floats, Linearity, Projections
from memgen_eval.diffusion.noised import NoisedImages
from memgen_eval.diffusion.runs import Run, cosine
from memgen_eval.distributed import Ranks

MAX_DIRECTIONS = 256
MIN_INPUTS = 256  # below it no linear distillation
MIX = math.sqrt(0.5)  # keeps the variance of the noise


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
