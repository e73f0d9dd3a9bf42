"""Samples drawn by following a denoiser: Euler's, Heun's and ancestral steps on two schedules, noise per image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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

Solver = Literal["heun", "euler", "ancestral"]
Spacing = Literal["karras", "flow"]
SOLVERS, SPACINGS = ("heun", "euler", "ancestral"), ("karras", "flow")
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


def flow_sigmas(num_steps: int, *, sigma_max: float = 80.0) -> NDArray[np.float64]:
    """Noise levels of a sampler, falling, float64 (T,): evenly spaced in a flow's time ``t = sigma / (1 + sigma)``.

    With the end at noise 0, Euler's steps on them are Euler's steps of rectified flow [1]_ on ``num_steps`` equal
    intervals of time.

    References
    ----------
    .. [1] Liu, Gong and Liu, "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow",
       ICLR 2023, section 2.
    """
    times = np.linspace(sigma_max / (1 + sigma_max), 0, num_steps + 1)[:-1]
    return np.asarray(times / (1 - times))


@dataclass(frozen=True, eq=False)
class Step:
    """A place on a sampler's path: noisy images (B, ...) at `sigma`, what the denoiser made of them, calls so far."""

    sigma: float
    x: Tensor
    clean: Tensor
    nfe: int


def follow(
    denoiser: Denoiser, draw: Callable[[int], Tensor], sigmas: NDArray[np.float64], *, solver: Solver
) -> Iterator[Step]:
    """A path from ``sigmas[0] * draw(0)`` to noise 0: a step a sigma, and the end.

    Euler and Heun follow the probability-flow equation; Heun's correction is left out on the step to noise 0. An
    ancestral step to `s` draws from the posterior of x at `s`, given x at `sigma` and ``x0 = D(x, sigma)``, with mean
    ``x0 + (s / sigma)^2 (x - x0)`` and variance ``s^2 (1 - (s / sigma)^2)`` [1]_; step i takes its noise from
    ``draw(i + 1)``. The last Step has sigma 0 and holds the samples as `x`.
    State in float64 where the device knows it; the denoiser sees float32.

    References
    ----------
    .. [1] Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, equations 6 and 7, with x divided by
       the root of alpha bar.
    """
    nfe = 0
    eps = draw(0)
    state = eps.to(torch.float32 if eps.device.type == "mps" else torch.float64) * sigmas[0]

    def clean_at(x: Tensor, sigma: float) -> Tensor:
        nonlocal nfe
        nfe += 1
        levels = torch.full((len(x),), sigma, dtype=torch.float32, device=x.device)
        return call_denoiser(denoiser, x.float(), levels).to(x.dtype)

    clean = state
    for place, (sigma, following) in enumerate(zip(sigmas.tolist(), [*sigmas[1:].tolist(), 0.0], strict=True)):
        clean = clean_at(state, sigma)
        yield Step(sigma, state, clean, nfe)
        slope = (state - clean) / sigma
        ahead = state + (following - sigma) * slope
        if solver == "heun" and following > 0:
            slope_ahead = (ahead - clean_at(ahead, following)) / following
            ahead = state + (following - sigma) * (slope + slope_ahead) / 2
        elif solver == "ancestral" and following > 0:
            kept = (following / sigma) ** 2
            fresh = draw(place + 1).to(state.dtype)
            ahead = clean + kept * (state - clean) + following * (1 - kept) ** 0.5 * fresh
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
        The schedule; `sigma_min` and `rho` are Karras's alone.
    solver : "heun", "euler" or "ancestral"
        Heun's second-order steps call the denoiser twice. Ancestral steps add fresh noise: each image its own.
    batch_size : int
        Images to a call of the denoiser, the most if no seeds are given.
    device : torch.device or str, optional
        Where the denoiser is called; its parameters' device otherwise.
    schedule : "karras" or "flow"
        Noise levels as `karras_sigmas` spaces them, or `flow_sigmas`; with Euler's steps the latter samples a flow.
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
    schedule: Spacing = "karras"

    def __post_init__(self) -> None:
        """Refuse what no schedule can follow."""
        if self.denoiser is None:
            raise InputError("denoiser is None: give a callable D(x, sigma)")
        check_denoiser(self.denoiser)
        for name, known in (("solver", SOLVERS), ("schedule", SPACINGS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}: give one of {', '.join(known)}")
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
        kind = "ancestral steps" if self.solver == "ancestral" else f"steps of {self.solver}"
        start = f"drawn by following a denoiser: {self.num_steps} {kind} from noise level {self.sigma_max:.4g}"
        return (
            (f"{start}, evenly spaced in time",) if self.schedule == "flow" else (f"{start} to {self.sigma_min:.4g}",)
        )

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """Noise levels of the path, falling, (T,)."""
        if self.schedule == "flow":
            return flow_sigmas(self.num_steps, sigma_max=self.sigma_max)
        return karras_sigmas(self.num_steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho)

    @property
    def nfe(self) -> int:
        """Calls of the denoiser for a batch: 2 T - 1 for Heun, T for the others."""
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
        images = np.asarray(seeds, dtype=np.int64)

        def draw(place: int) -> Tensor:
            noises = draw_noises(self.shape, images, seed=self.seed, name=NOISE, draws=place)
            return torch.from_numpy(noises).to(device)

        return follow(self.denoiser, draw, self.sigmas, solver=self.solver)


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
    schedule: Spacing = "karras",
) -> Tensor:
    """Samples that a denoiser leads to, by the deterministic sampler of EDM unless another is asked for.

    ``dx = (x - D(x; sigma)) / sigma dsigma`` from noise at sigma_max to 0, on Karras's schedule. The noise of image i
    depends on `seed` and i alone. The denoiser is called ``2 num_steps - 1`` times a batch by Heun, `num_steps` times
    by the other solvers (`Sampler.nfe`; `Sampler` takes the same arguments and is a sampler for `evaluate`).

    Parameters
    ----------
    denoiser : Denoiser
        ``D(x, sigma)``, x float32 of B images, sigma (B,).
    num_samples : int
        N.
    shape : tuple of int
        Of an image, such as (3, 32, 32).
    seed, num_steps, sigma_min, sigma_max, rho, solver, batch_size, device, schedule
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
    return Sampler(
        denoiser,
        tuple(shape),
        seed=seed,
        num_steps=num_steps,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        rho=rho,
        solver=solver,
        batch_size=batch_size,
        device=device,
        schedule=schedule,
    )(num_samples)
