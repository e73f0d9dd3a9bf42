"""The UNet: its zero beginning, any side, and that noise level, class and every pixel are heard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_models.presets import PRESETS
from reference_models.unet import Attention, UNet, UNetConfig, norm


def stirred(shape: tuple[int, int, int], num_classes: int = 0, dropout: float = 0.0) -> UNet:
    """A network whose zero layers are zero no longer."""
    torch.manual_seed(0)
    unet = UNet(UNetConfig(shape, 16, (1, 2, 2), 2, (2,), num_classes, dropout))
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if not name.startswith("classes"):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return unet


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (1, 3, 3)])
def test_any_side(shape: tuple[int, int, int]) -> None:
    out = stirred(shape)(torch.randn(3, *shape), torch.tensor([-1.0, 0.0, 1.0]))
    assert out.shape == (3, *shape)


def test_a_new_network_says_nothing() -> None:
    out = UNet(PRESETS["digits"].unet((1, 8, 8)))(torch.randn(2, 1, 8, 8), torch.zeros(2))
    assert torch.equal(out, torch.zeros_like(out))


def test_noise_level_and_every_pixel_are_heard_image_by_image() -> None:
    unet = stirred((1, 8, 8))
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    noise = torch.tensor([0.1, 0.1], requires_grad=True)
    gradients: tuple[Tensor, ...] = torch.autograd.grad(unet(x, noise)[0].square().sum(), (x, noise))
    assert (gradients[0][0] != 0).all() and gradients[1][0] != 0
    assert (gradients[0][1] == 0).all() and gradients[1][1] == 0


def test_every_image_hears_its_class() -> None:
    unet = stirred((1, 8, 8), num_classes=3)
    x, noise = torch.randn(1, 1, 8, 8).expand(4, 1, 8, 8), torch.zeros(4)
    out = unet(x, noise, torch.tensor([2, 0, -1, 2]))
    assert torch.equal(out[0], out[3]) and not torch.allclose(out[0], out[1], atol=1e-3)
    assert torch.allclose(out[2], unet(x, noise)[2], atol=1e-6)
    with pytest.raises(IndexError):
        unet(x, noise, torch.tensor([3, 0, 0, 0]))


def test_the_class_that_is_none_stays_silent_in_training() -> None:
    unet = stirred((1, 8, 8), num_classes=3)
    assert unet.classes is not None
    unet(torch.randn(4, 1, 8, 8), torch.zeros(4), torch.tensor([2, 0, -1, 2])).square().sum().backward()
    torch.optim.Adam(unet.parameters(), lr=0.1).step()
    assert (unet.classes.weight[0] == 0).all()


def test_dropout_is_of_training_alone() -> None:
    unet, plain = stirred((1, 8, 8), dropout=0.5), stirred((1, 8, 8))
    x, noise = torch.randn(2, 1, 8, 8), torch.zeros(2)
    assert not torch.allclose(unet(x, noise), unet(x, noise), atol=1e-3)
    assert torch.equal(unet.eval()(x, noise), plain(x, noise))


@pytest.mark.parametrize(("width", "heads"), [(16, 1), (64, 1), (96, 1), (128, 2), (160, 2), (200, 2), (384, 6)])
def test_heads_are_of_64_channels_or_a_little_more(width: int, heads: int) -> None:
    assert Attention(width).num_heads == heads


def test_norms_keep_the_precision_of_their_input() -> None:
    """On a GPU, where there is one: autocast widens there, and not on a CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    layer = norm(16)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = 3 + torch.randn(3, 16, 4, 4).bfloat16()
    scale, shift = (values.detach().double().numpy()[:, None, None] for values in (layer.weight, layer.bias))
    layer.to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        narrow, wide = layer(x.to(device)), layer(x.float().to(device))
    groups = x.double().numpy().reshape(3, 2, -1)  # of 8 channels
    centred = groups - groups.mean(axis=2, keepdims=True)
    normal = (centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)).reshape(x.shape)
    assert (narrow.dtype, wide.dtype) == (torch.bfloat16, torch.float32)
    np.testing.assert_allclose(wide.detach().cpu().numpy(), scale * normal + shift, rtol=0, atol=1e-5)
    np.testing.assert_allclose(narrow.detach().float().cpu().numpy(), scale * normal + shift, rtol=0, atol=0.1)
