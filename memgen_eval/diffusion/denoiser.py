"""The contract D(x, sigma), and the conversions of other predictions into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.diffusion.calling import predict
from memgen_eval.errors import InputError

Network = Callable[[Tensor, Tensor], Any]
LOG_SIGMA_ROUNDING = 1e-6  # sigma arrives rounded to float32
TIME_ROUNDING = 1e-3  # steps; a time nearer to a whole step is whole


class Denoiser(Protocol):
    """An estimate of ``E[x0 | x0 + sigma * eps = x]``, data in [-1, 1]."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """From x (B, C, H, W) and sigma (B,) to the clean images (B, C, H, W), float, on the device of x."""
        ...


# Every conversion is x0 = skip * x + out * network(a * x, time): skip and out from a and sigma, float64 (B,) each
Coefficients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
CONVERSIONS: dict[str, Coefficients] = {
    "epsilon": lambda a, sigma: (torch.ones_like(a), -sigma),
    "v": lambda a, sigma: (a**2, -sigma * a),
    "x0": lambda a, _: (torch.zeros_like(a), torch.ones_like(a)),
    "score": lambda a, sigma: (torch.ones_like(a), sigma**2 * a),
    "flow from data": lambda a, sigma: (a, -sigma * a),
    "flow to data": lambda a, sigma: (a, sigma * a),
}
STEPPED = ("epsilon", "v", "x0", "score")  # of networks that count the timesteps of a schedule


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
        given = torch.as_tensor(alphas_cumprod, dtype=torch.float64, device="cpu").detach().numpy()
        kept = given[: int(np.count_nonzero(given))] if given.ndim == 1 else given
        inside = kept.ndim == 1 and kept.size > 1 and bool(((kept > 0) & (kept < 1)).all())
        if not inside or (np.diff(kept) >= 0).any():
            raise InputError(
                f"alphas_cumprod has shape {given.shape} and does not fall strictly inside (0, 1): "
                "give the cumulative products of 1 - beta_t, first timestep first"
            )
        return cls(np.log((1 - kept) / kept) / 2)

    def timesteps(self, sigma: Tensor) -> Tensor:
        """The timestep of each sigma (B,), interpolated in log sigma; whole where it is so to 1e-3.

        Raises
        ------
        InputError
            For a sigma outside the schedule.
        """
        wanted = np.log(sigma.cpu().numpy())
        low, high = self.log_sigmas[0], self.log_sigmas[-1]
        if wanted.min() < low - LOG_SIGMA_ROUNDING or wanted.max() > high + LOG_SIGMA_ROUNDING:
            outside = np.exp(wanted.min() if wanted.min() < low - LOG_SIGMA_ROUNDING else wanted.max())
            raise InputError(
                f"sigma {outside:.4g} is outside the model's schedule: "
                f"give sigmas from {np.exp(low):.4g} to {np.exp(high):.4g}"
            )
        places = np.arange(len(self.log_sigmas), dtype=np.float64)
        times = np.interp(wanted, self.log_sigmas, places)
        whole = np.rint(times)
        return torch.from_numpy(np.where(np.abs(times - whole) < TIME_ROUNDING, whole, times)).to(sigma.device)

    def path(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Variance preserving: ``a = 1 / sqrt(1 + sigma^2)``, and the timestep."""
        return (1 + sigma**2).rsqrt(), self.timesteps(sigma)

    @property
    def sigma_range(self) -> tuple[float, float]:
        """The smallest and the largest noise level."""
        return float(np.exp(self.log_sigmas[0])), float(np.exp(self.log_sigmas[-1]))


@dataclass(frozen=True)
class ConvertedDenoiser:
    """A network of another parametrisation as a denoiser D(x, sigma); see `from_epsilon` and its neighbours.

    Attributes
    ----------
    model : the network
    name : the call that made this denoiser, for messages
    row : of the table of conversions
    path : from sigma (B,) to a, the factor of x in the network's input, and its time
    schedule : of its timesteps; None where its time is continuous
    sigma_range : the smallest and the largest noise level that it was trained on; None where all are
    """

    model: Network
    name: str
    row: Coefficients
    path: Callable[[Tensor], tuple[Tensor, Tensor]]
    schedule: Schedule | None = None
    sigma_range: tuple[float, float] | None = None

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """From x (B, ...) and sigma (B,) to the clean images (B, ...)."""
        return self.clean(x, sigma, self.predict(x, sigma))

    def predict(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the network itself returns; twice as many channels as x has where it predicts a variance too."""
        a, time = self.path(sigma.double())
        what = f"the network in {self.name}"
        return predict(self.model, _like(a, x) * x, time.to(x.dtype), what=what, in_steps=self.schedule is not None)

    def clean(self, x: Tensor, sigma: Tensor, prediction: Tensor) -> Tensor:
        """The clean images (B, ...) that a prediction stands for; of twice as many channels the first half counts."""
        skip, out = self._coefficients(x, sigma)
        if prediction.shape != x.shape:
            prediction = prediction[:, : x.shape[1]]
        return skip * x + out * prediction

    def target(self, x: Tensor, sigma: Tensor, x0: Tensor) -> Tensor:
        """The prediction (B, ...) that stands for the clean images x0."""
        skip, out = self._coefficients(x, sigma)
        return (x0 - skip * x) / out

    def others(self) -> Iterator[ConvertedDenoiser]:
        """Yield the same network in every other conversion that its time allows."""
        found, steps = [], 1.0
        if self.schedule is not None:
            found = [_stepped(self.model, row, self.schedule) for row in STEPPED]
            steps = float(len(self.schedule.log_sigmas))
        found += [from_flow(self.model, data_time=0, time_scale=steps), from_flow(self.model, data_time=1)]
        return (other for other in found if other.name != self.name)

    def _coefficients(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        a, _ = self.path(sigma.double())
        skip, out = self.row(a, sigma.double())
        return _like(skip, x), _like(out, x)


@dataclass(frozen=True)
class LimitedDenoiser:
    """A denoiser with the smallest and the largest noise level that it can be asked for."""

    denoiser: Denoiser
    sigma_range: tuple[float, float]

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """From x (B, ...) and sigma (B,) to the clean images (B, ...)."""
        return self.denoiser(x, sigma)


def _like(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient (B,) in the type of x, to be multiplied with it."""
    return coefficient.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _stepped(model: Network, row: str, schedule: Schedule) -> ConvertedDenoiser:
    return ConvertedDenoiser(model, f"from_{row}", CONVERSIONS[row], schedule.path, schedule, schedule.sigma_range)


def from_epsilon(model: Network, *, alphas_cumprod: Any) -> ConvertedDenoiser:
    """The denoiser of a network that predicts the noise of a variance-preserving diffusion.

    ``x0 = x - sigma * model(x / sqrt(1 + sigma^2), t)``.

    Parameters
    ----------
    model : callable
        From x_t (B, C, ...) and t (B,) to eps (B, C, ...), or to an object that holds it as `sample`, or alone in a
        tuple or dict. Of 2 C channels the first C are taken, the others are a learned variance. t is a float: whole
        at the schedule's own noise levels, interpolated between two. A network that takes integers alone gets the
        nearest; one that turns t into integers itself should round it.
    alphas_cumprod : array, (T,)
        Cumulative products of ``1 - beta_t``.
    """
    return _stepped(model, "epsilon", Schedule.of(alphas_cumprod))


def from_v(model: Network, *, alphas_cumprod: Any) -> ConvertedDenoiser:
    """The denoiser of a network that predicts ``v = sqrt(abar) eps - sqrt(1 - abar) x0``.

    ``x0 = x / (1 + sigma^2) - sigma / sqrt(1 + sigma^2) * model(x / sqrt(1 + sigma^2), t)``.
    Parameters as in `from_epsilon`.
    """
    return _stepped(model, "v", Schedule.of(alphas_cumprod))


def from_x0(model: Network, *, alphas_cumprod: Any) -> ConvertedDenoiser:
    """The denoiser of a network that predicts x0 of a variance-preserving diffusion; as in `from_epsilon`."""
    return _stepped(model, "x0", Schedule.of(alphas_cumprod))


def from_score(model: Network, *, alphas_cumprod: Any = None) -> ConvertedDenoiser:
    """The denoiser of a score network, ``grad log p_t``.

    Variance preserving, with `alphas_cumprod` and t as in `from_epsilon`:
    ``x0 = x + sigma^2 / sqrt(1 + sigma^2) * model(x / sqrt(1 + sigma^2), t)``. Variance exploding, without:
    ``x0 = x + sigma^2 * model(x, sigma)``.
    """
    if alphas_cumprod is None:
        return ConvertedDenoiser(
            model, "from_score", CONVERSIONS["score"], lambda sigma: (torch.ones_like(sigma), sigma)
        )
    return _stepped(model, "score", Schedule.of(alphas_cumprod))


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

    def path(sigma: Tensor) -> tuple[Tensor, Tensor]:
        a = 1 / (1 + sigma)  # the share of data in x_t
        return a, time_scale * (1 - a if data_time == 0 else a)

    row = CONVERSIONS["flow from data" if data_time == 0 else "flow to data"]
    scale = "" if time_scale == 1 else f", time_scale={time_scale:g}"
    return ConvertedDenoiser(model, f"from_flow(data_time={data_time}{scale})", row, path)
