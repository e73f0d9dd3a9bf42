"""D and D_G called on rows of noisy images, in blocks of one size, and products of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memgen_eval.diffusion.calling import call_denoiser
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.measurements import Floats
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.distributed import ALONE, Ranks

INPUTS_AT_ONCE = 128


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
