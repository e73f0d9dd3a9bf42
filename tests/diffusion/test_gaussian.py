from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import denoiser_oracles as oracles
from memgen_eval.diffusion import gaussian as module
from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.inputs import check_noisy
from memgen_eval.errors import InputError

SIGMAS = [0.002, 0.05, 0.7, 4.0, 80.0]


def worst_error(denoiser: GaussianDenoiser, test: Any, sigma: float) -> float:
    generator = np.random.default_rng(0)
    clean = np.concatenate([oracles.in_model_units(images[:6]) for images in (denoiser.train, test)])
    x = np.concatenate(
        [clean + sigma * generator.standard_normal(clean.shape), generator.uniform(-9, 9, clean[:3].shape)]
    )
    x = x.astype(np.float32)
    found = denoiser(torch.from_numpy(x).reshape(-1, *denoiser.shape), sigma)
    assert found.dtype == torch.float32
    expected = oracles.wiener(denoiser.train, x.astype(np.float64), sigma)
    return float(oracles.relative_errors(found, expected).max())


@pytest.mark.parametrize("sigma", SIGMAS)
def test_equals_the_plain_formula_on_real_digits(digits: Any, sigma: float) -> None:
    assert worst_error(GaussianDenoiser(digits[:1500]), digits[1500:], sigma) < 1e-5


@pytest.mark.parametrize("num_train", [20, 31])
def test_fewer_images_than_dimensions_go_through_their_products(digits: Any, num_train: int) -> None:
    denoiser = GaussianDenoiser(digits[:num_train])
    assert len(denoiser.spectrum.values) == num_train - 1
    assert max(worst_error(denoiser, digits[1500:], sigma) for sigma in SIGMAS) < 1e-5


def test_equals_the_plain_formula_on_real_cifar10(cifar10: Any) -> None:
    quarters = cifar10.train[:1500, :, 8:24, 8:24]  # d = 768: through the covariance
    few = cifar10.train[:200]  # d = 3,072: through the images
    for train, test in ((quarters, cifar10.test[:, :, 8:24, 8:24]), (few, cifar10.test)):
        denoiser = GaussianDenoiser(train)
        assert max(worst_error(denoiser, test, sigma) for sigma in (0.002, 0.7, 80.0)) < 1e-5


def test_both_decompositions_agree(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few = digits[:30]
    through_products = module.spectrum(few)
    monkeypatch.setattr(module, "MAX_ROWS_AT_ONCE", 0)
    through_covariance = module.spectrum(few)
    assert np.allclose(through_products.values, through_covariance.values, rtol=1e-9)
    assert np.allclose(
        np.abs(np.sum(through_products.directions * through_covariance.directions, axis=0)), 1, atol=1e-6
    )


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_floats_are_taken_as_they_are(scale: float) -> None:
    train = np.random.default_rng(0).normal(scale, 1, (400, 3, 2, 2)).astype(np.float32)
    assert worst_error(GaussianDenoiser(train), train[:20], 0.5) < 1e-5


def test_one_dimension_and_one_image() -> None:
    line = np.random.default_rng(0).normal(0.3, 2, (500, 1))
    x = torch.linspace(-3, 3, 7)[:, None]
    variance, mean = line.var(), line.mean()
    expected = mean + variance / (variance + 0.25) * (x.numpy() - mean)
    assert np.abs(GaussianDenoiser(line)(x, 0.5).numpy() - expected).max() < 1e-6
    image = np.full((3, 1, 2, 2), 51, dtype=np.uint8)  # three times the same: no variance at all
    found = GaussianDenoiser(image)(torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0)), 0.5)
    assert torch.allclose(found, torch.full_like(found, 51 / 127.5 - 1))


def test_the_mean_error_on_the_training_set_is_the_trace_of_what_is_left(digits: Any) -> None:
    """tr(S - S (S + s^2)^-1 S), exactly, averaged over noise: checked over training images and 40 draws."""
    sigma, train = 0.7, digits[:1000]
    y = oracles.in_model_units(train)
    covariance = np.cov(y.T, bias=True)
    expected = np.trace(covariance - covariance @ np.linalg.solve(covariance + sigma**2 * np.eye(64), covariance))
    x = np.concatenate([y + sigma * np.random.default_rng(i).standard_normal(y.shape) for i in range(40)])
    found = GaussianDenoiser(train)(torch.from_numpy(x).reshape(-1, 1, 8, 8), sigma).double().numpy().reshape(-1, 64)
    errors = ((found - np.tile(y, (40, 1))) ** 2).sum(axis=1)
    assert abs(errors.mean() - expected) < 5 * errors.std() / np.sqrt(len(errors))
    assert abs(errors.mean() / expected - 1) < 0.01


def test_an_image_is_denoised_to_the_same_bits_whatever_stands_beside_it(digits: Any) -> None:
    denoiser = GaussianDenoiser(digits[:1000])
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(256, 1, 8, 8)).astype(np.float32))
    whole = denoiser(x, 0.8)
    assert torch.equal(denoiser(x[:1], 0.8), whole[:1])
    assert torch.equal(denoiser(x[:7], 0.8), whole[:7])


def test_every_image_may_have_its_own_sigma(digits: Any) -> None:
    denoiser, x = GaussianDenoiser(digits[:500]), torch.zeros(2, 1, 8, 8)
    together = denoiser(x, torch.tensor([0.1, 10.0]))
    assert torch.allclose(together[0], denoiser(x[:1], 0.1)[0], atol=1e-6)
    assert torch.allclose(together[1], denoiser(x[1:], 10.0)[0], atol=1e-6)


def test_large_images_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"12,289 values.*64 x 64 x 3"):
        GaussianDenoiser(np.zeros((2, 12_289), dtype=np.uint8))
    with pytest.raises(InputError, match="12,288"):
        module.spectrum(np.zeros((2, 12_289), dtype=np.uint8))


def test_the_decomposition_is_made_once(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = GaussianDenoiser(digits[:100])
    first = denoiser.spectrum
    monkeypatch.setattr(module, "spectrum", None)
    assert denoiser.spectrum is first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.1, np.float64(0.1), torch.tensor(0.1, dtype=torch.float64)])
def test_a_sigma_is_taken_in_full_whatever_the_callers_default_type(sigma: Any, dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        levels = check_noisy(torch.zeros(2, 3, dtype=torch.float32), sigma, (3,))
    finally:
        torch.set_default_dtype(torch.float32)
    assert levels.dtype == torch.float64 and levels.tolist() == [0.1, 0.1]
