"""Images of a set with their noise: the inputs of a probe, one after the other, whole noise draws at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.diffusion.inputs import centred_rows, levels_of
from memgen_eval.diffusion.noise import draw_noise


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
        noises = [
            draw_noise(self.images.shape[1:], seed=self.seed, name=self.name, index=int(index), draw=int(draw))
            for index, draw in zip(chosen, draws, strict=True)
        ]
        return np.array(self.images[chosen]), np.stack(noises)

    def in_model_units(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Images (B, ...) as rows (B, D), data in [-1, 1]."""
        return centred_rows(images) / levels_of(images)
