"""Samples drawn by following a denoiser: Karras's schedule, Euler's and Heun's steps, noise per image."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.diffusion.calling import call_denoiser, device_of
from memgen_eval.diffusion.denoiser import Denoiser
from memgen_eval.diffusion.inputs import draw_noises
from memgen_eval.errors import InputError, check_count
from memgen_eval.runtime import check_denoiser, foreign

Solver = Literal["heun", "euler"]
SOLVERS = ("heun", "euler")
NOISE = "samples"  # the set that a sampler's noise is drawn for


def karras_sigmas(
    num_steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> NDArray[np.float64]:
    """Noise levels of a sampler, falling, float64 (T,): evenly spaced in their rho-th root [1]_.

    References
    ----------
    .. [1] Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, equation 5.
    """
    roots = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), num_steps)
    return np.asarray(roots**rho)


@dataclass(frozen=True, eq=False)
class Step:
    """A place on a sampler's path: noisy images (B, ...) at `sigma`, what the denoiser made of them, calls so far."""

    sigma: float
    x: Tensor
    clean: Tensor
    nfe: int


def follow(denoiser: Denoiser, eps: Tensor, sigmas: NDArray[np.float64], *, solver: Solver) -> Iterator[Step]:
    """The path of the probability-flow equation from ``sigmas[0] * eps`` to noise 0: a step a sigma, and the end.

    The last Step has sigma 0 and holds the samples as `x`. Heun's correction is left out on the step to noise 0.
    State in float64 where the device knows it; the denoiser sees float32.
    """
    nfe = 0
    state = eps.to(torch.float32 if eps.device.type == "mps" else torch.float64) * sigmas[0]

    def clean_at(x: Tensor, sigma: float) -> Tensor:
        nonlocal nfe
        nfe += 1
        levels = torch.full((len(x),), sigma, dtype=torch.float32, device=x.device)
        return call_denoiser(denoiser, x.float(), levels).to(x.dtype)

    clean = state
    for sigma, following in zip(sigmas.tolist(), [*sigmas[1:].tolist(), 0.0], strict=True):
        clean = clean_at(state, sigma)
        yield Step(sigma, state, clean, nfe)
        slope = (state - clean) / sigma
        ahead = state + (following - sigma) * slope
        if solver == "heun" and following > 0:
            slope_ahead = (ahead - clean_at(ahead, following)) / following
            ahead = state + (following - sigma) * (slope + slope_ahead) / 2
        state = ahead
    yield Step(0.0, state, clean, nfe)


@dataclass(frozen=True, eq=False)
class Sampler:
    """A denoiser as a sampler: called with a number of samples, and with their seeds where they have their own.

    Image i depends on `seed` and i (or on its own seed) alone, up to what the denoiser makes of another batch size.
    Where seeds are given, as `evaluate` does, every call of the denoiser sees `batch_size` images, missing ones filled
    up by repetition: an image is then the same to the byte in whatever portions it is asked for.

    Parameters
    ----------
    denoiser : Denoiser
        ``D(x, sigma)``.
    shape : tuple of int
        Of an image, such as (3, 32, 32).
    seed : int
        Of the noise.
    num_steps, sigma_min, sigma_max, rho
        Karras's schedule.
    solver : "heun" or "euler"
        Heun's second-order steps call the denoiser twice.
    batch_size : int
        Images to a call of the denoiser, the most if no seeds are given.
    device : torch.device or str, optional
        Where the denoiser is called; its parameters' device otherwise.
    """

    denoiser: Denoiser
    shape: tuple[int, ...]
    seed: int = 0
    num_steps: int = 18
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    solver: Solver = "heun"
    batch_size: int = 64
    device: Any = None

    def __post_init__(self) -> None:
        """Refuse what no schedule can follow."""
        if self.denoiser is None:
            raise InputError("denoiser is None: give a callable D(x, sigma)")
        check_denoiser(self.denoiser)
        if self.solver not in SOLVERS:
            raise InputError(f"solver is {self.solver!r}: give one of {', '.join(SOLVERS)}")
        for name in ("num_steps", "batch_size"):
            object.__setattr__(self, name, check_count(name, getattr(self, name)))
        if not (0 < self.sigma_min < self.sigma_max < float("inf") and self.rho > 0):
            raise InputError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}, rho={self.rho}: "
                "give 0 < sigma_min < sigma_max, and rho > 0"
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """Of the samples, up to excursions."""
        return -1.0, 1.0

    @property
    def name(self) -> str:
        """For messages."""
        return type(self).__name__

    @property
    def notes(self) -> tuple[str, ...]:
        """How samples are drawn."""
        ends = f"from noise level {self.sigma_max:.4g} to {self.sigma_min:.4g}"
        return (f"drawn by following a denoiser: {self.num_steps} steps of {self.solver} {ends}",)

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """Noise levels of the path, falling, (T,)."""
        return karras_sigmas(self.num_steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho)

    @property
    def nfe(self) -> int:
        """Calls of the denoiser for a batch: 2 T - 1 for Heun, T for Euler."""
        return 2 * self.num_steps - 1 if self.solver == "heun" else self.num_steps

    def __call__(self, num_samples: int, *, seeds: Sequence[int] | None = None) -> Tensor:
        """Draw samples, float32 (N, *shape) on the CPU; `seeds` are N, one for each. In [-1, 1] up to excursions."""
        own = list(range(num_samples)) if seeds is None else [int(seed) for seed in seeds]
        if len(own) != num_samples:
            raise InputError(f"seeds holds {len(own)} numbers for {num_samples} samples: give one for each")
        device = device_of(self.denoiser, self.device)
        batches = []
        with foreign(self.denoiser):
            for start in range(0, num_samples, self.batch_size):
                block = own[start : start + self.batch_size]
                filled = block if seeds is None else np.resize(block, self.batch_size).tolist()
                (last,) = deque(self.path(filled, device), maxlen=1)
                batches.append(last.x[: len(block)].float().cpu())
        return torch.cat(batches) if batches else torch.empty(0, *self.shape, dtype=torch.float32, device="cpu")

    def path(self, seeds: Sequence[int], device: torch.device) -> Iterator[Step]:
        """Every step of the samples with these seeds, one batch; to be called inside `foreign`."""
        eps = draw_noises(self.shape, np.asarray(seeds, dtype=np.int64), seed=self.seed, name=NOISE)
        return follow(self.denoiser, torch.from_numpy(eps).to(device), self.sigmas, solver=self.solver)


def sample(
    denoiser: Denoiser,
    num_samples: int,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    num_steps: int = 18,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    solver: Solver = "heun",
    batch_size: int = 64,
    device: Any = None,
) -> Tensor:
    """Samples that a denoiser leads to, by the deterministic sampler of EDM.

    ``dx = (x - D(x; sigma)) / sigma dsigma`` from noise at sigma_max to 0, on Karras's schedule. Image i starts from
    noise that depends on `seed` and i alone. The denoiser is called ``2 num_steps - 1`` times a batch by Heun,
    `num_steps` times by Euler (`Sampler.nfe`; `Sampler` takes the same arguments and is a sampler for `evaluate`).

    Parameters
    ----------
    denoiser : Denoiser
        ``D(x, sigma)``, x float32 of B images, sigma (B,).
    num_samples : int
        N.
    shape : tuple of int
        Of an image, such as (3, 32, 32).
    seed, num_steps, sigma_min, sigma_max, rho, solver, batch_size, device
        As in `Sampler`.

    Returns
    -------
    float32, N images, on the CPU
        In [-1, 1] up to the denoiser's excursions.

    Raises
    ------
    InputError
        For a schedule that cannot be followed, or a denoiser that returns anything but finite images of the shape of x.

    References
    ----------
    .. [1] Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022.
    """
    sampler = Sampler(denoiser, tuple(shape), seed, num_steps, sigma_min, sigma_max, rho, solver, batch_size, device)
    return sampler(num_samples)
