"""The contract's grid, and the conversions: D* of a small set, dressed up in each parametrisation, comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memgen_eval.diffusion.denoiser import ConvertedDenoiser, from_epsilon, from_flow, from_score, from_v, from_x0
from memgen_eval.diffusion.inputs import check_sigmas, sigma_grid
from memgen_eval.errors import InputError

BETAS = np.linspace(1e-4, 0.02, 1000)
ABAR = np.cumprod(1 - BETAS)
TRAIN = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (9, 2, 3)))


def column(value: Tensor) -> Tensor:
    return value.reshape(-1, 1, 1)


def best(x: Tensor, sigma: Tensor) -> Tensor:
    """D* of nine images, plainly."""
    logits = -((x[:, None] - TRAIN) ** 2).sum(dim=(2, 3)) / (2 * sigma[:, None] ** 2)
    return torch.einsum("bn,nhw->bhw", torch.softmax(logits, dim=1), TRAIN)


def signal(t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t) at a timestep between two: what the schedule interpolates is log sigma."""
    log_sigma = torch.from_numpy(np.interp(t.numpy(), np.arange(1000), np.log((1 - ABAR) / ABAR) / 2))
    sigma = torch.exp(log_sigma)
    return column(1 / torch.sqrt(1 + sigma**2)), column(sigma / torch.sqrt(1 + sigma**2))


def clean_of(x_t: Tensor, a: Tensor, s: Tensor) -> Tensor:
    return best(x_t / a, (s / a).flatten())


def epsilon(x_t: Tensor, t: Tensor) -> Tensor:
    a, s = signal(t)
    return (x_t - a * clean_of(x_t, a, s)) / s


def velocity(x_t: Tensor, t: Tensor) -> Tensor:
    a, s = signal(t)
    return a * epsilon(x_t, t) - s * clean_of(x_t, a, s)


def clean(x_t: Tensor, t: Tensor) -> Tensor:
    return clean_of(x_t, *signal(t))


def score(x_t: Tensor, t: Tensor) -> Tensor:
    a, s = signal(t)
    return (a * clean_of(x_t, a, s) - x_t) / s**2


def exploding_score(x: Tensor, sigma: Tensor) -> Tensor:
    return (best(x, sigma) - x) / column(sigma) ** 2


def flow_to_noise(x_t: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x0 + t eps, velocity eps - x0."""
    t = column(t / 1000)
    x0 = clean_of(x_t, 1 - t, t)
    return (x_t - (1 - t) * x0) / t - x0


def flow_to_data(x_t: Tensor, t: Tensor) -> Tensor:
    """x_t = t x0 + (1 - t) eps, velocity x0 - eps."""
    t = column(t)
    x0 = clean_of(x_t, t, 1 - t)
    return x0 - (x_t - t * x0) / (1 - t)


DRESSED: dict[str, Callable[[], ConvertedDenoiser]] = {
    "epsilon": lambda: from_epsilon(epsilon, alphas_cumprod=ABAR),
    "v": lambda: from_v(velocity, alphas_cumprod=torch.from_numpy(ABAR)),
    "x0": lambda: from_x0(clean, alphas_cumprod=list(ABAR)),
    "score": lambda: from_score(score, alphas_cumprod=ABAR),
    "exploding score": lambda: from_score(exploding_score),
    "flow to noise": lambda: from_flow(flow_to_noise, data_time=0, time_scale=1000),
    "flow to data": lambda: from_flow(flow_to_data, data_time=1),
}


@pytest.mark.parametrize("name", DRESSED)
def test_the_optimal_denoiser_comes_back_from_every_parametrisation(name: str) -> None:
    sigma = torch.tensor([0.0123, 0.05, 0.3, 0.9, 2.0, 11.0, 80.0, 150.0], dtype=torch.float64)
    eps = torch.from_numpy(np.random.default_rng(1).standard_normal((8, 2, 3)))
    x = TRAIN[:8] + column(sigma) * eps
    found = DRESSED[name]()(x, sigma)
    assert found.shape == x.shape and found.dtype == torch.float64
    assert (found - best(x, sigma)).abs().max() < 1e-12


def test_float32_in_float32_out() -> None:
    x, sigma = torch.zeros(3, 2, 3), torch.tensor([0.1, 1.0, 10.0])
    seen = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((x_t.dtype, t.dtype, t.shape))
        return torch.zeros_like(x_t)

    assert from_v(network, alphas_cumprod=ABAR)(x, sigma).dtype == torch.float32
    assert seen == [(torch.float32, torch.float32, (3,))]


def test_the_schedules_own_levels_are_whole_timesteps() -> None:
    seen: list[Tensor] = []

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    steps = [0, 3, 500, 999]
    sigma = torch.from_numpy(np.sqrt((1 - ABAR) / ABAR)[steps]).float()  # rounded, as a caller has it
    from_epsilon(network, alphas_cumprod=ABAR)(torch.zeros(4, 2, 3), sigma)
    assert torch.allclose(seen[0], torch.tensor([0.0, 3.0, 500.0, 999.0]), atol=1e-3)


def test_a_sigma_outside_the_schedule_is_an_error() -> None:
    denoiser = from_epsilon(epsilon, alphas_cumprod=ABAR)
    for sigma in (0.002, 200.0):
        with pytest.raises(InputError, match=rf"sigma {sigma:g} is outside the model's schedule.*0\.01 to 157\.4"):
            denoiser(torch.zeros(2, 2, 3), torch.tensor([1.0, sigma]))


def test_a_schedule_that_ends_without_signal_is_accepted() -> None:
    ending = np.append(ABAR, 0.0)
    x, sigma = TRAIN[:1], torch.tensor([0.5], dtype=torch.float64)
    found = from_epsilon(epsilon, alphas_cumprod=ending)(x, sigma)
    assert torch.allclose(found, from_epsilon(epsilon, alphas_cumprod=ABAR)(x, sigma))


@pytest.mark.parametrize("wrong", [ABAR[::-1].copy(), BETAS, ABAR[:1], ABAR[None], np.append(1.0, ABAR), -ABAR])
def test_anything_but_falling_products_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="alphas_cumprod has shape"):
        from_epsilon(epsilon, alphas_cumprod=wrong)


def test_the_time_of_data_is_zero_or_one() -> None:
    with pytest.raises(InputError, match="data_time is 2"):
        from_flow(flow_to_data, data_time=2)


def test_the_grid_is_even_in_the_logarithm() -> None:
    grid = sigma_grid()
    assert len(grid) == 15 and grid[0] == pytest.approx(0.02) and grid[-1] == pytest.approx(80)
    assert np.allclose(np.diff(np.log(grid)), np.log(4000) / 14)


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ([0.0, 1.0], "sigmas holds 0"),
        ([-1.0, 1.0], "sigmas holds -1"),
        ([1.0, np.nan], "sigmas holds nan"),
        ([1.0, np.inf], "sigmas holds inf"),
        ([1e-50, 1.0], "sigmas holds 1e-50.*in float32"),
        ([1.0, 1e40], "sigmas holds 1e\\+40"),
        ([1.0, 0.5], "0.5 after 1"),
        ([1.0, 1.0 + 1e-12], "1 after 1"),
        ([[1.0, 2.0]], "sigmas has shape"),
        ([None], "sigmas holds nan"),
        ([1.0, 1.0], "1 after 1"),
        ([], "sigmas has shape"),
        (3.0, "sigmas has shape"),
        (["a"], "sigmas is"),
        (None, "sigmas"),
    ],
)
def test_a_grid_that_cannot_be_used_is_named(sigmas: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_sigmas(sigmas)


def test_a_grid_is_returned_in_float64() -> None:
    assert check_sigmas(torch.tensor([1, 2])).dtype == np.float64
