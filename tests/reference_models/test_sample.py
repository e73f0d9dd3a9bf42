"""Ways of sampling a trained model: each the same to the byte in whatever portions it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memgen_eval import InputError
from reference_models.precond import Preconditioned
from reference_models.sample import METHODS, draw, sampler_of
from reference_models.unet import UNet, UNetConfig


def model() -> Preconditioned:
    torch.manual_seed(0)
    unet = UNet(UNetConfig((1, 8, 8), 16, (1, 2), 1, (4,)))
    for parameter in unet.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return Preconditioned(unet, sigma_data=0.5).eval()


@pytest.mark.parametrize("method", METHODS)
def test_an_image_is_the_same_among_few_and_many(method: str) -> None:
    sampler = sampler_of(model(), (1, 8, 8), seed=3, method=method, num_steps=4)
    many = np.concatenate(list(draw(sampler, 70)))
    assert many.shape == (70, 8, 8, 1) and len(np.unique(many, axis=0)) == 70
    for num_samples in (1, 66):
        assert np.array_equal(np.concatenate(list(draw(sampler, num_samples))), many[:num_samples])


def test_methods_are_what_they_are_called() -> None:
    found = {name: sampler_of(model(), (1, 8, 8), seed=0, method=name) for name in METHODS}
    assert {name: (sampler.solver, sampler.schedule) for name, sampler in found.items()} == {
        "heun": ("heun", "karras"),
        "euler": ("euler", "karras"),
        "flow": ("euler", "flow"),
        "ancestral": ("ancestral", "karras"),
    }
    assert found["heun"].nfe == 35 and found["flow"].nfe == 250


def test_bad_methods_are_named() -> None:
    with pytest.raises(InputError, match="no way of sampling is called 'ddim': give one of heun, euler, flow"):
        sampler_of(model(), (1, 8, 8), seed=0, method="ddim")
    with pytest.raises(InputError, match="num_steps is 0"):
        sampler_of(model(), (1, 8, 8), seed=0, num_steps=0)
