from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact
from torch import Tensor, nn

import denoiser_oracles as oracles
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.sampling import Sampler, flow_sigmas, karras_sigmas, sample
from memgen_eval.errors import InputError


def flagged(images: Any, train: Any) -> np.ndarray[Any, Any]:
    """The 1/3 rule by brute force, after rounding to 256 levels."""
    levels = np.rint((np.asarray(images, dtype=np.float64).reshape(len(images), -1) + 1) * 127.5).clip(0, 255)
    known = train.reshape(len(train), -1).astype(np.float64)
    distances = np.sort(np.sqrt(((levels[:, None] - known[None]) ** 2).sum(axis=2)), axis=1)[:, :2]
    return (distances[:, 0] == 0) | (distances[:, 0] < distances[:, 1] / 3)


def test_following_the_optimal_denoiser_gives_training_images(digits: Any) -> None:
    train = np.unique(digits[:600], axis=0)
    samples = sample(OptimalDenoiser(train), 200, (1, 8, 8), seed=1)
    assert samples.dtype == torch.float32 and samples.shape == (200, 1, 8, 8)
    assert flagged(samples, train).mean() > 0.99


def test_following_the_optimal_denoiser_of_cifar10_gives_training_images(cifar10: Any) -> None:
    train = cifar10.train[:300]
    assert flagged(sample(OptimalDenoiser(train), 64, (3, 32, 32)), train).mean() > 0.99


def test_following_the_gaussian_denoiser_copies_no_more_than_held_out_images_do(digits: Any) -> None:
    train, test = digits[:1200], digits[1200:]
    copied = flagged(sample(GaussianDenoiser(train), 400, (1, 8, 8)), train)
    baseline = flagged(oracles.in_model_units(test), train)
    table = [[n, len(hits) - n] for hits in (copied, baseline) for n in [int(hits.sum())]]
    assert fisher_exact(table, alternative="greater").pvalue > 0.05


def gaussian_line(x: Tensor, sigma: Tensor) -> Tensor:
    """The Wiener denoiser of N(0.3, 0.5^2)."""
    shrink = (0.25 / (0.25 + sigma.double() ** 2)).reshape(-1, 1)
    return 0.3 + shrink * (x.double() - 0.3)


@pytest.mark.parametrize(("solver", "factor"), [("euler", 2), ("heun", 4)])
def test_the_error_falls_with_the_order_of_the_solver(solver: Any, factor: int) -> None:
    """The path of a Gaussian is known: (x - mu) shrinks as the root of l + sigma^2."""
    errors = []
    for num_steps in (64, 128):
        sampler = Sampler(gaussian_line, (1,), num_steps=num_steps, sigma_max=5.0, sigma_min=1e-4, solver=solver)
        start = next(iter(sampler.path(range(40), torch.device("cpu")))).x
        exact = 0.3 + (start - 0.3) * 0.5 / np.sqrt(0.25 + 25)
        errors.append(float((sampler(40).double() - exact).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(factor, rel=0.2)


def ancestral_moments(sigmas: Any) -> tuple[float, float]:
    """Mean and variance of ancestral samples of `gaussian_line`, by the recursion of a linear map and fresh noise."""
    mean, variance = 0.0, sigmas[0] ** 2
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        shrink, kept = 0.25 / (0.25 + sigma**2), (following / sigma) ** 2
        factor = shrink + kept * (1 - shrink)
        mean = 0.3 + factor * (mean - 0.3)
        variance = factor**2 * variance + following**2 * (1 - kept)
    return mean, variance


@pytest.mark.parametrize(("num_steps", "of_the_data"), [(5, 0.9), (300, 0.05)])
def test_ancestral_samples_have_the_moments_of_a_gaussian(num_steps: int, of_the_data: float) -> None:
    sampler = Sampler(gaussian_line, (4000,), num_steps=num_steps, solver="ancestral")
    mean, variance = ancestral_moments(sampler.sigmas.tolist())
    assert mean == pytest.approx(0.3, abs=0.01) and variance == pytest.approx(0.25, rel=of_the_data)
    values = sampler(10).double()
    assert float(values.mean()) == pytest.approx(mean, abs=5 * (variance / values.numel()) ** 0.5)
    assert float(values.var()) == pytest.approx(variance, rel=5 * (2 / values.numel()) ** 0.5)


def test_ancestral_noise_is_fresh_at_every_step_and_belongs_to_an_image() -> None:
    """Around one image, zero: what a step adds to its mean is noise, and x stays as noisy as its level says."""
    sampler = Sampler(lambda x, sigma: torch.zeros_like(x), (5000,), num_steps=4, solver="ancestral")
    *steps, end = sampler.path([7, 8], torch.device("cpu"))
    fresh = [(b.x - (b.sigma / a.sigma) ** 2 * a.x)[0] for a, b in pairwise(steps)]
    stacked = torch.stack([steps[0].x[0], *fresh, steps[2].x[1]])
    assert (abs(np.corrcoef(stacked.numpy()) - np.eye(5)) < 5 / 5000**0.5).all()
    assert all(float(step.x.std()) == pytest.approx(step.sigma, rel=0.05) for step in steps)
    assert float(end.x.abs().max()) < 1e-12


def flow_samples(start: Any, num_steps: int, sigma_max: float) -> Any:
    """Euler's steps of ``dx/dt = E[eps - x0 | x_t]`` for data from N(0.3, 0.5^2), at equal intervals of time."""
    t = sigma_max / (1 + sigma_max)
    x, width = (1 - t) * start, t / num_steps
    for _ in range(num_steps):
        covariance, variance = t - (1 - t) * 0.25, (1 - t) ** 2 * 0.25 + t**2
        x = x - width * (-0.3 + covariance / variance * (x - (1 - t) * 0.3))
        t -= width
    return x


@pytest.mark.parametrize("num_steps", [1, 7, 400])
def test_the_flow_schedule_is_euler_in_the_time_of_a_flow(num_steps: int) -> None:
    sampler = Sampler(gaussian_line, (50,), num_steps=num_steps, solver="euler", schedule="flow")
    start = next(iter(sampler.path(range(20), torch.device("cpu")))).x.numpy()
    found = sampler(20).double().numpy()
    np.testing.assert_allclose(found, flow_samples(start, num_steps, 80.0), atol=2e-5)
    if num_steps == 400:
        assert np.allclose(found, 0.3 + (start - 0.3) * 0.5 / np.sqrt(0.25 + 80**2), atol=0.01)


def test_times_of_a_flow_are_evenly_spaced() -> None:
    assert flow_sigmas(4, sigma_max=9.0) == pytest.approx([9, 0.675 / 0.325, 0.45 / 0.55, 0.225 / 0.775])


def test_one_image_is_reached_exactly_by_every_solver() -> None:
    image = torch.linspace(-1, 1, 12).reshape(3, 2, 2)
    for solver in ("euler", "heun", "ancestral"):
        found = sample(lambda x, sigma: image.expand_as(x), 5, (3, 2, 2), solver=solver, num_steps=3)
        assert torch.allclose(found, image.expand_as(found), atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "num_steps", "nfe"), [("heun", 18, 35), ("heun", 1, 1), ("euler", 18, 18), ("ancestral", 18, 18)]
)
def test_calls_of_the_denoiser_are_counted(solver: Any, num_steps: int, nfe: int) -> None:
    calls = []

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append((tuple(x.shape), x.dtype, tuple(sigma.shape), sigma.dtype))
        return torch.zeros_like(x)

    sampler = Sampler(denoiser, (2,), num_steps=num_steps, solver=solver)
    assert sampler.nfe == nfe
    sampler(5)
    assert calls == [((5, 2), torch.float32, (5,), torch.float32)] * nfe
    assert [step.nfe for step in sampler.path(range(5), torch.device("cpu"))][-1] == nfe


@pytest.mark.parametrize("solver", ["heun", "ancestral"])
def test_noise_belongs_to_an_image_not_to_its_batch(solver: Any) -> None:
    whole = sample(gaussian_line, 10, (1,), seed=4, solver=solver)
    for batch_size in (1, 3, 7):
        assert torch.equal(sample(gaussian_line, 10, (1,), seed=4, solver=solver, batch_size=batch_size), whole)
    assert torch.equal(sample(gaussian_line, 4, (1,), seed=4, solver=solver), whole[:4])
    assert not torch.equal(sample(gaussian_line, 10, (1,), seed=5, solver=solver), whole)
    sampler = Sampler(gaussian_line, (1,), seed=4, solver=solver)
    assert torch.equal(sampler(3, seeds=[8, 2, 5]), whole[[8, 2, 5]])


@pytest.mark.parametrize("solver", ["heun", "ancestral"])
def test_an_image_with_its_own_seed_is_the_same_to_the_byte_in_any_portion(solver: Any) -> None:
    torch.manual_seed(0)
    layer, seen = nn.Linear(300, 300), set()

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        seen.add((len(x), len(sigma)))
        return torch.tanh(layer(x) / (1 + sigma[:, None]))

    sampler = Sampler(denoiser, (300,), num_steps=3, batch_size=16, solver=solver)
    whole = sampler(40, seeds=range(40))
    for size in (1, 7, 40):
        portions = [range(start, min(start + size, 40)) for start in range(0, 40, size)]
        assert torch.equal(torch.cat([sampler(len(own), seeds=own) for own in portions]), whole)
    assert seen == {(16, 16)}
    sampler(3)
    assert seen == {(16, 16), (3, 3)}


def test_a_batch_size_does_not_change_what_the_built_in_denoisers_draw(digits: Any) -> None:
    for denoiser in (OptimalDenoiser(digits[:200]), GaussianDenoiser(digits[:200])):
        whole = sample(denoiser, 20, (1, 8, 8))
        assert torch.allclose(sample(denoiser, 20, (1, 8, 8), batch_size=7), whole, atol=1e-5)


def test_the_schedule_is_karras() -> None:
    sigmas = karras_sigmas(10)
    published = [80.0, 42.415, 21.108, 9.723, 4.06, 1.501, 0.469, 0.116, 0.020, 0.002]
    assert np.allclose(sigmas, published, rtol=0.03, atol=5e-4)
    assert sigmas[0] == pytest.approx(80) and sigmas[-1] == pytest.approx(0.002)


class Net(nn.Module):
    """Dropout and a random number: both disturb a caller whose modes and states are not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.frozen = nn.Dropout(0.5).eval()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.dropout(self.frozen(self.layer(x))) + 0 * torch.rand(1)


def test_modes_and_random_states_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    net = Net()
    random_states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    first = sample(net, 6, (2,))
    assert torch.equal(first, sample(net, 6, (2,)))  # no dropout
    assert net.training and net.dropout.training and not net.frozen.training
    assert random.getstate() == random_states[0]
    assert np.random.get_state()[1].tolist() == random_states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), random_states[2])
    assert torch.is_grad_enabled() and not first.is_inference()


def test_modes_are_restored_when_the_denoiser_fails() -> None:
    net = Net()
    with pytest.raises(InputError, match="denoiser returned a dict"):
        sample(lambda x, sigma: {"mean": net(x, sigma)[:, :1]}, 2, (2,))
    assert net.training and net.dropout.training and not net.frozen.training


def test_no_samples_are_no_samples() -> None:
    assert sample(gaussian_line, 0, (1,)).shape == (0, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "rk4"}, "solver is 'rk4'"),
        ({"schedule": "linear"}, "schedule is 'linear': give one of karras, flow"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"batch_size": 2.0}, "batch_size is 2.0"),
        ({"sigma_min": 90.0}, "sigma_min=90.0"),
        ({"rho": 0.0}, "rho=0.0"),
        ({"denoiser": None}, "denoiser is None"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampler(**({"denoiser": gaussian_line, "shape": (1,)} | settings))


def test_seeds_are_one_for_each_sample() -> None:
    with pytest.raises(InputError, match="seeds holds 2 numbers for 3 samples"):
        Sampler(gaussian_line, (1,))(3, seeds=[1, 2])


def test_a_sampler_says_how_it_draws() -> None:
    told = {
        ("heun", "karras"): "18 steps of heun from noise level 80 to 0.002",
        ("euler", "flow"): "18 steps of euler from noise level 80, evenly spaced in time",
        ("ancestral", "karras"): "18 ancestral steps from noise level 80 to 0.002",
    }
    for (solver, schedule), words in told.items():
        sampler = Sampler(gaussian_line, (1,), solver=solver, schedule=schedule)  # type: ignore[arg-type]
        assert sampler.notes == (f"drawn by following a denoiser: {words}",)
