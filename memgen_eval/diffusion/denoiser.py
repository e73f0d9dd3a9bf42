"""The contract D(x, sigma), and the conversions of other predictions into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.errors import InputError

Network = Callable[[Tensor, Tensor], Tensor]


class Denoiser(Protocol):
    """An estimate of ``E[x0 | x0 + sigma * eps = x]``, data in [-1, 1]."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """From x (B, C, H, W) and sigma (B,) to the clean images (B, C, H, W), float, on the device of x."""
        ...


@dataclass(frozen=True)
class Coefficients:
    """One row of the table of conversions: ``x0 = skip * x + out * network(scale * x, time)``, each float64 (B,)."""

    scale: Tensor
    skip: Tensor
    out: Tensor
    time: Tensor


@dataclass(frozen=True)
class ConvertedDenoiser:
    """A network of another parametrisation as a denoiser D(x, sigma); see `from_epsilon` and its neighbours."""

    model: Network
    coefficients: Callable[[Tensor], Coefficients]

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """From x (B, ...) and sigma (B,) to the clean images (B, ...)."""
        row = self.coefficients(sigma.double())
        scale, skip, out = (c.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) for c in (row.scale, row.skip, row.out))
        return skip * x + out * self.model(scale * x, row.time.to(x.dtype))


@dataclass(frozen=True, eq=False)
class Schedule:
    """A variance-preserving schedule, ``x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps``, seen from sigma.

    ``log_sigmas`` (T,), increasing, are those of ``x_t / sqrt(abar_t)``.
    """

    log_sigmas: NDArray[np.float64]

    @classmethod
    def of(cls, alphas_cumprod: Any) -> Schedule:
        """From abar_t of each timestep, (T,); trailing zeros (no signal left) are beyond every sigma.

        Raises
        ------
        InputError
            Unless the values fall strictly, inside (0, 1).
        """
        given = torch.as_tensor(alphas_cumprod).detach().to("cpu", torch.float64).numpy()
        kept = given[: int(np.count_nonzero(given))] if given.ndim == 1 else given
        inside = kept.ndim == 1 and kept.size > 1 and bool(((kept > 0) & (kept < 1)).all())
        if not inside or (np.diff(kept) >= 0).any():
            raise InputError(
                f"alphas_cumprod has shape {given.shape} and does not fall strictly inside (0, 1): "
                "give the cumulative products of 1 - beta_t, first timestep first"
            )
        return cls(np.log((1 - kept) / kept) / 2)

    def timesteps(self, sigma: Tensor) -> Tensor:
        """The timestep of each sigma (B,), interpolated in log sigma: whole at the schedule's own levels.

        Raises
        ------
        InputError
            For a sigma outside the schedule.
        """
        wanted = np.log(sigma.cpu().numpy())
        slack = 1e-6  # sigma arrives rounded to float32
        low, high = self.log_sigmas[0], self.log_sigmas[-1]
        if wanted.min() < low - slack or wanted.max() > high + slack:
            outside = np.exp(wanted.min() if wanted.min() < low - slack else wanted.max())
            raise InputError(
                f"sigma {outside:.4g} is outside the model's schedule: "
                f"give sigmas from {np.exp(low):.4g} to {np.exp(high):.4g}"
            )
        places = np.arange(len(self.log_sigmas), dtype=np.float64)
        return torch.from_numpy(np.interp(wanted, self.log_sigmas, places)).to(sigma.device)


def from_epsilon(model: Network, *, alphas_cumprod: Any) -> ConvertedDenoiser:
    """The denoiser of a network that predicts the noise of a variance-preserving diffusion.

    ``x0 = x - sigma * model(x / sqrt(1 + sigma^2), t)``.

    Parameters
    ----------
    model : callable
        From x_t (B, ...) and t (B,) to eps (B, ...). t is interpolated where sigma lies between two timesteps: a
        network that looks timesteps up in a table has to round it.
    alphas_cumprod : array, (T,)
        Cumulative products of ``1 - beta_t``.
    """
    schedule = Schedule.of(alphas_cumprod)

    def coefficients(sigma: Tensor) -> Coefficients:
        a = (1 + sigma**2).rsqrt()
        return Coefficients(scale=a, skip=torch.ones_like(sigma), out=-sigma, time=schedule.timesteps(sigma))

    return ConvertedDenoiser(model, coefficients)


def from_v(model: Network, *, alphas_cumprod: Any) -> ConvertedDenoiser:
    """The denoiser of a network that predicts ``v = sqrt(abar) eps - sqrt(1 - abar) x0``.

    ``x0 = x / (1 + sigma^2) - sigma / sqrt(1 + sigma^2) * model(x / sqrt(1 + sigma^2), t)``.
    Parameters as in `from_epsilon`.
    """
    schedule = Schedule.of(alphas_cumprod)

    def coefficients(sigma: Tensor) -> Coefficients:
        a = (1 + sigma**2).rsqrt()
        return Coefficients(scale=a, skip=a**2, out=-sigma * a, time=schedule.timesteps(sigma))

    return ConvertedDenoiser(model, coefficients)


def from_x0(model: Network, *, alphas_cumprod: Any) -> ConvertedDenoiser:
    """The denoiser of a network that predicts x0 of a variance-preserving diffusion; as in `from_epsilon`."""
    schedule = Schedule.of(alphas_cumprod)

    def coefficients(sigma: Tensor) -> Coefficients:
        a = (1 + sigma**2).rsqrt()
        return Coefficients(scale=a, skip=torch.zeros_like(a), out=torch.ones_like(a), time=schedule.timesteps(sigma))

    return ConvertedDenoiser(model, coefficients)


def from_score(model: Network, *, alphas_cumprod: Any = None) -> ConvertedDenoiser:
    """The denoiser of a score network, ``grad log p_t``.

    Variance preserving, with `alphas_cumprod` and t as in `from_epsilon`:
    ``x0 = x + sigma^2 / sqrt(1 + sigma^2) * model(x / sqrt(1 + sigma^2), t)``. Variance exploding, without:
    ``x0 = x + sigma^2 * model(x, sigma)``.
    """
    if alphas_cumprod is None:
        return ConvertedDenoiser(model, _exploding_score)
    schedule = Schedule.of(alphas_cumprod)

    def coefficients(sigma: Tensor) -> Coefficients:
        a = (1 + sigma**2).rsqrt()
        return Coefficients(scale=a, skip=torch.ones_like(a), out=sigma**2 * a, time=schedule.timesteps(sigma))

    return ConvertedDenoiser(model, coefficients)


def _exploding_score(sigma: Tensor) -> Coefficients:
    one = torch.ones_like(sigma)
    return Coefficients(scale=one, skip=one, out=sigma**2, time=sigma)


def from_flow(model: Network, *, data_time: Literal[0, 1], time_scale: float = 1.0) -> ConvertedDenoiser:
    """The denoiser of a velocity network on the straight path between data and noise.

    ``data_time=0``: ``x_t = (1 - t) x0 + t eps``, velocity ``eps - x0`` (Stable Diffusion 3, diffusers);
    ``data_time=1``: ``x_t = t x0 + (1 - t) eps``, velocity ``x0 - eps`` (Lipman et al. 2023, torchcfm).

    Parameters
    ----------
    model : callable
        From x_t (B, ...) and time (B,) to the velocity (B, ...).
    data_time : 0 or 1
        The time at which the path is data. The wrong one turns the velocity round.
    time_scale : float
        What the network's time is multiplied by: 1000 for diffusers' models.
    """
    if data_time not in (0, 1):
        raise InputError(f"data_time is {data_time!r}: give 0 or 1, the time at which the path is data")
    sign = -1.0 if data_time == 0 else 1.0

    def coefficients(sigma: Tensor) -> Coefficients:
        a = 1 / (1 + sigma)  # the share of data in x_t
        time = 1 - a if data_time == 0 else a
        return Coefficients(scale=a, skip=a, out=sign * sigma * a, time=time_scale * time)

    return ConvertedDenoiser(model, coefficients)
