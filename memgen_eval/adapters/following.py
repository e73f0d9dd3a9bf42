"""Samples of a network without a sampling loop of its own: drawn by following its denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from memgen_eval.adapters.networks import ForeignNetwork, Sides
from memgen_eval.diffusion.sampling import Sampler

LOWEST, HIGHEST, NUM_STEPS = 0.002, 80.0, 18  # of EDM's schedule


@dataclass(frozen=True, eq=False)
class FollowingSampler:
    """Samples of a class-conditional network: noise and class of each image depend on its seed alone."""

    network: ForeignNetwork
    sampler: Sampler

    @property
    def value_range(self) -> tuple[float, float]:
        """Of the samples, up to excursions."""
        return self.sampler.value_range

    @property
    def name(self) -> str:
        """For messages."""
        return self.network.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed."""
        assert self.network.labels is not None
        return (*self.sampler.notes, self.network.labels.account)

    def __call__(self, num_samples: int, *, seeds: Sequence[int]) -> Tensor:
        """Draw samples, float32 (N, C, H, W) on the CPU; `seeds` are N, one for each."""
        assert self.network.labels is not None
        batches, size = [], self.sampler.batch_size
        for start in range(0, num_samples, size):
            block = seeds[start : start + size]
            filled = np.resize(np.asarray(block, dtype=np.int64), size).tolist()  # as `Sampler` does
            denoiser = self.network.told(self.network.labels.of_seeds(filled))
            batches.append(replace(self.sampler, denoiser=denoiser)(size, seeds=filled)[: len(block)])
        return torch.cat(batches)


def followed(network: ForeignNetwork, like: Sides | None, num_steps: int | None) -> Sampler | FollowingSampler | None:
    """A sampler of a network, by Heun's steps within the noise levels it knows; None if nothing says its shape."""
    shape = network.shape or like
    if shape is None:
        return None
    low, high = network.denoiser.sigma_range or (LOWEST, HIGHEST)
    sampler = Sampler(
        network.denoiser,
        tuple(shape),
        num_steps=num_steps or NUM_STEPS,
        sigma_min=max(low, LOWEST),
        sigma_max=min(high, HIGHEST),
    )
    return sampler if network.labels is None else FollowingSampler(network, sampler)
