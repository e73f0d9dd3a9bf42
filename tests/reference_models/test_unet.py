"""The UNet: its size, its zero beginning, any side, and that noise level and every pixel are heard."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reference_models.recipes import CIFAR10, DIGITS, Preset
from reference_models.unet import UNet, UNetConfig


def network(preset: Preset, shape: tuple[int, int, int]) -> UNet:
    return UNet(UNetConfig(shape, preset.channels, preset.multipliers, preset.num_blocks, preset.attention_sides))


@pytest.mark.parametrize(("preset", "shape", "num"), [(DIGITS, (1, 8, 8), 450e3), (CIFAR10, (3, 32, 32), 1.65e6)])
def test_number_of_parameters(preset: Preset, shape: tuple[int, int, int], num: float) -> None:
    assert sum(p.numel() for p in network(preset, shape).parameters()) == pytest.approx(num, rel=0.02)


def stirred(shape: tuple[int, int, int]) -> UNet:
    """A network whose zero layers are zero no longer."""
    torch.manual_seed(0)
    unet = UNet(UNetConfig(shape, 16, (1, 2, 2), 2, (2,)))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return unet


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (1, 3, 3)])
def test_any_side(shape: tuple[int, int, int]) -> None:
    out = stirred(shape)(torch.randn(3, *shape), torch.tensor([-1.0, 0.0, 1.0]))
    assert out.shape == (3, *shape)


def test_a_new_network_says_nothing() -> None:
    out = network(DIGITS, (1, 8, 8))(torch.randn(2, 1, 8, 8), torch.zeros(2))
    assert torch.equal(out, torch.zeros_like(out))


def test_noise_level_and_every_pixel_are_heard_image_by_image() -> None:
    unet = stirred((1, 8, 8))
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    noise = torch.tensor([0.1, 0.1], requires_grad=True)
    gradients: tuple[Tensor, ...] = torch.autograd.grad(unet(x, noise)[0].square().sum(), (x, noise))
    assert (gradients[0][0] != 0).all() and gradients[1][0] != 0
    assert (gradients[0][1] == 0).all() and gradients[1][1] == 0
