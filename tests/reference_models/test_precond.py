"""Preconditionings and losses against the papers' formulas, in float64 and plain numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memgen_eval import from_flow
from reference_models.precond import Preconditioned, denoising_loss, training_loss

MEAN, STD = 0.2, 0.6  # of Gaussian data


class Affine(nn.Module):
    """A network that is a formula: ``2 x + noise``; it keeps what it was given."""

    def forward(self, x: Tensor, noise: Tensor, *labels: Tensor) -> Tensor:
        self.seen, self.labels = (x, noise), labels
        return 2 * x + noise[:, None, None, None]


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, 4, 4, generator=generator), torch.tensor([0.002, 0.1, 0.5, 3.0, 80.0])


def in_float64(kind: str, x: Any, level: float, sigma_data: float) -> tuple[Any, float, Any]:
    """What the network is given, and the denoiser that `Affine` makes, of one image."""
    if kind == "edm":
        root = math.sqrt(level**2 + sigma_data**2)
        given, noise = x / root, math.log(level) / 4
        return given, noise, sigma_data**2 / root**2 * x + level * sigma_data / root * (2 * given + noise)
    t = level / (1 + level)
    x_t = (1 - t) * x
    return x_t, t, x_t - t * (2 * x_t + t)


@pytest.mark.parametrize("sigma_data", [0.5, 0.84])
@pytest.mark.parametrize("kind", ["edm", "flow"])
def test_the_denoiser_is_the_paper_s(kind: Any, sigma_data: float) -> None:
    x, sigma = inputs()
    network = Affine()
    clean = Preconditioned(network, kind, sigma_data=sigma_data)(x, sigma)
    for i, level in enumerate(sigma.double().tolist()):
        given, noise, expected = in_float64(kind, x[i].double().numpy(), level, sigma_data)
        np.testing.assert_allclose(network.seen[0][i].numpy(), given, rtol=1e-5, atol=1e-6)
        assert float(network.seen[1][i]) == pytest.approx(noise, rel=1e-5)
        np.testing.assert_allclose(clean[i].numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["edm", "flow"])
def test_it_keeps_the_contract(kind: Any) -> None:
    x, sigma = inputs()
    network = Affine()
    model = Preconditioned(network, kind, sigma_data=0.5)
    clean = model(x.double(), sigma.double())
    assert clean.shape == x.shape and clean.dtype == torch.float32 and network.labels == ()
    assert torch.equal(clean, model(x, sigma))
    labels = torch.arange(5)
    assert torch.equal(clean, model(x, sigma, labels)) and network.labels == (labels,)


def test_the_flow_is_that_of_the_library() -> None:
    x, sigma = inputs()
    network = Affine()
    theirs = from_flow(network, data_time=0)(x, sigma)
    assert torch.allclose(Preconditioned(network, "flow", sigma_data=0.5)(x, sigma), theirs, rtol=1e-5, atol=1e-6)


class ExactEDM(nn.Module):
    """EDM's network for independent Gaussian values, solved from the Wiener denoiser."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        sigma = (4 * noise.double()).exp()[:, None, None, None]
        root = (sigma**2 + 0.25).sqrt()
        noisy = x.double() * root
        wiener = MEAN + STD**2 / (STD**2 + sigma**2) * (noisy - MEAN)
        return (wiener - 0.25 / root**2 * noisy) / (sigma * 0.5 / root)


class ExactFlow(nn.Module):
    """``E[eps - x0 | x_t]`` for independent Gaussian values, by regression on x_t."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        t = noise.double()[:, None, None, None]
        variance = (1 - t) ** 2 * STD**2 + t**2
        return -MEAN + (t - (1 - t) * STD**2) / variance * (x.double() - (1 - t) * MEAN)


@pytest.mark.parametrize(("kind", "network"), [("edm", ExactEDM()), ("flow", ExactFlow())])
def test_the_exact_network_of_a_gaussian_is_its_wiener_denoiser(kind: Any, network: nn.Module) -> None:
    x, sigma = inputs()
    wiener = MEAN + STD**2 / (STD**2 + sigma.double() ** 2).reshape(-1, 1, 1, 1) * (x.double() - MEAN)
    clean = Preconditioned(network, kind, sigma_data=0.5)(x, sigma)
    assert torch.allclose(clean.double(), wiener, rtol=0, atol=2e-5)


def test_the_loss_of_edm_is_weighted_as_in_the_paper() -> None:
    eps, sigma = inputs()
    x0 = torch.rand(eps.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = denoising_loss(Preconditioned(Affine(), sigma_data=0.5), x0, sigma=sigma, eps=eps)
    terms = []
    for i, level in enumerate(sigma.double().tolist()):
        clean, noise = x0[i].double().numpy(), eps[i].double().numpy()
        predicted = in_float64("edm", clean + level * noise, level, 0.5)[2]
        terms.append((level**2 + 0.25) / (level * 0.5) ** 2 * np.square(predicted - clean).mean())
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)


def test_the_loss_of_a_flow_is_that_of_its_velocity() -> None:
    eps, sigma = inputs()
    x0 = torch.rand(eps.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = denoising_loss(Preconditioned(Affine(), "flow", sigma_data=0.5), x0, sigma=sigma, eps=eps)
    terms = []
    for i, level in enumerate(sigma.double().tolist()):
        clean, noise, t = x0[i].double().numpy(), eps[i].double().numpy(), level / (1 + level)
        velocity = 2 * ((1 - t) * clean + t * noise) + t
        terms.append(np.square(velocity - (noise - clean)).mean())
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("kind", ["edm", "flow"])
def test_noise_levels_in_training_are_the_papers(kind: Any) -> None:
    z = torch.tensor([-3.0, -0.5, 0.0, 1.0, 2.5])
    shares = [1 / (1 + math.exp(-value)) for value in z.tolist()]
    expected = [math.exp(-1.2 + 1.2 * v) for v in z.tolist()] if kind == "edm" else [t / (1 - t) for t in shares]
    eps, _ = inputs()
    network = Affine()
    model = Preconditioned(network, kind, sigma_data=0.5)
    loss = training_loss(model, eps.tanh(), eps=eps, z=z)
    noise = network.seen[1].double()
    sigma = (4 * noise).exp() if kind == "edm" else noise / (1 - noise)
    np.testing.assert_allclose(sigma.numpy(), expected, rtol=1e-5)
    again = denoising_loss(model, eps.tanh(), eps=eps, sigma=torch.tensor(expected))
    assert loss.item() == pytest.approx(again.item(), rel=1e-5)


class Silent(nn.Module):
    """A network that says nothing."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("level", [0.01, 0.5, 20.0])
@pytest.mark.parametrize(("kind", "expected"), [("edm", 1.0), ("flow", 1.49)])
def test_what_a_silent_network_loses_is_the_same_at_every_noise(kind: Any, expected: float, level: float) -> None:
    """EDM: 1. Flow: the mean square of ``eps - x0``, ``1 + 0.7^2``."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4000, 1, 8, 8, generator=generator) for _ in range(2))
    model = Preconditioned(Silent(), kind, sigma_data=0.7)
    loss = denoising_loss(model, 0.7 * x0, sigma=torch.full((4000,), level), eps=eps)
    assert loss.item() == pytest.approx(expected, rel=0.01)  # a mean of 256,000 values: six times its error
