"""Preconditioning and loss against the paper's formulas, in float64 and plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reference_models.precond import Preconditioned, edm_loss


class Affine(nn.Module):
    """A network that is a formula: ``2 x + noise``; it keeps what it was given."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        self.seen = x, noise
        return 2 * x + noise[:, None, None, None]


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, 4, 4, generator=generator), torch.tensor([0.002, 0.1, 0.5, 3.0, 80.0])


@pytest.mark.parametrize("sigma_data", [0.5, 0.84])
def test_the_denoiser_is_table_one(sigma_data: float) -> None:
    x, sigma = inputs()
    network = Affine()
    clean = Preconditioned(network, sigma_data=sigma_data)(x, sigma)
    for i, level in enumerate(sigma.double().tolist()):
        root = math.sqrt(level**2 + sigma_data**2)
        network_input = x[i].double().numpy() / root
        network_output = 2 * network_input + math.log(level) / 4
        expected = sigma_data**2 / root**2 * x[i].double().numpy() + level * sigma_data / root * network_output
        np.testing.assert_allclose(network.seen[0][i].numpy(), network_input, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(clean[i].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_it_keeps_the_contract() -> None:
    x, sigma = inputs()
    model = Preconditioned(Affine(), sigma_data=0.5)
    clean = model(x.double(), sigma.double())
    assert clean.shape == x.shape and clean.dtype == torch.float32
    assert torch.equal(clean, model(x, sigma))


class Silent(nn.Module):
    """A network that says nothing."""

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_the_loss_is_weighted_as_in_the_paper() -> None:
    eps, sigma = inputs()
    x0 = torch.rand(eps.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = edm_loss(Preconditioned(Affine(), sigma_data=0.5), x0, sigma=sigma, eps=eps)
    terms = []
    for i, level in enumerate(sigma.double().tolist()):
        clean, noise = x0[i].double().numpy(), eps[i].double().numpy()
        root = math.sqrt(level**2 + 0.25)
        x = clean + level * noise
        predicted = 0.25 / root**2 * x + level * 0.5 / root * (2 * x / root + math.log(level) / 4)
        terms.append((level**2 + 0.25) / (level * 0.5) ** 2 * np.square(predicted - clean).mean())
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("level", [0.01, 0.5, 20.0])
def test_a_silent_network_loses_one_at_every_noise(level: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4000, 1, 8, 8, generator=generator) for _ in range(2))
    loss = edm_loss(Preconditioned(Silent(), sigma_data=0.7), 0.7 * x0, sigma=torch.full((4000,), level), eps=eps)
    assert loss.item() == pytest.approx(1, abs=0.01)  # a mean of 256,000 values of variance 2: six times its error
