"""Jacobians against closed forms, and against those that torch writes out in full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import denoiser_oracles as oracles
from memgen_eval import GaussianDenoiser, InputError, OptimalDenoiser, direction_overlap, jacobian_spectrum

SIGMA = 0.7


def noisy(digits: Any, count: int, sigma: float) -> Tensor:
    clean = torch.from_numpy(oracles.in_model_units(digits[:count]).reshape(count, 1, 8, 8)).float()
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


def test_that_of_the_wiener_denoiser_is_its_gain(digits: Any) -> None:
    gaussian = GaussianDenoiser(digits[:600])
    gains = gaussian.spectrum.values / (gaussian.spectrum.values + SIGMA**2)
    found = jacobian_spectrum(gaussian, noisy(digits, 3, SIGMA), SIGMA, num_values=6, num_probes=64)
    assert np.allclose(found.values, gains[:6], rtol=3e-3)
    for directions in found.directions:
        assert np.abs(directions[:, 0] @ gaussian.spectrum.directions[:, 0]) == pytest.approx(1, abs=1e-3)
    assert found.trace.value == pytest.approx(gains.sum(), rel=0.05)
    assert found.effective_rank.value == pytest.approx(gains.sum() ** 2 / (gains**2).sum(), rel=0.1)


def test_that_of_the_optimal_denoiser_is_the_posterior_covariance(digits: Any) -> None:
    train, x = digits[:300], noisy(digits, 2, 1.0)
    found = jacobian_spectrum(OptimalDenoiser(train), x, 1.0, num_values=4)
    rows, y = x.flatten(1).double().numpy(), oracles.in_model_units(train)
    for weights, values in zip(oracles.optimal_weights(train, rows, 1.0), found.values, strict=True):
        centred = y - weights @ y
        assert np.allclose(values, np.linalg.eigvalsh((weights[:, None] * centred).T @ centred)[::-1][:4], atol=4e-3)
    collapsed = jacobian_spectrum(OptimalDenoiser(train), noisy(digits, 2, 0.05), 0.05, num_values=2)
    assert collapsed.values.max() < 1e-3 and collapsed.trace.value == pytest.approx(0, abs=1e-3)


def test_that_of_a_network_is_torchs(digits: Any) -> None:
    weights = torch.randn(64, 64, generator=torch.Generator().manual_seed(1)) / 16

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ weights).reshape(x.shape)

    x = noisy(digits, 2, SIGMA)
    found = jacobian_spectrum(network, x, SIGMA, num_values=60, num_probes=256)
    for image, values, directions in zip(x, found.values, found.directions, strict=True):
        whole = torch.autograd.functional.jacobian(lambda one: network(one[None], torch.ones(1))[0], image)
        left, expected, _ = np.linalg.svd(whole.reshape(64, 64).double().numpy())
        assert np.allclose(values, expected[:60], atol=1e-5)
        assert np.abs(directions[:, 0] @ left[:, 0]) == pytest.approx(1, abs=1e-4)
    assert x.grad is None and weights.grad is None


def test_overlap_of_directions(digits: Any) -> None:
    x = noisy(digits, 4, SIGMA)
    spectra = [
        jacobian_spectrum(GaussianDenoiser(part), x, SIGMA, num_values=4) for part in (digits[:600], digits[600:])
    ]
    assert direction_overlap(spectra[0], spectra[0]).value == pytest.approx(1)
    apart = direction_overlap(*spectra)
    assert apart.value is not None and apart.low is not None and 0.5 < apart.low <= apart.value < 1
    with pytest.raises(InputError, match="same num_values"):
        direction_overlap(spectra[0], jacobian_spectrum(GaussianDenoiser(digits[:600]), x, SIGMA, num_values=3))


def test_a_denoiser_without_gradients_is_refused(digits: Any) -> None:
    with pytest.raises(InputError, match="gives no gradients"):
        jacobian_spectrum(lambda x, sigma: x.detach() / 2, noisy(digits, 1, SIGMA), SIGMA)
