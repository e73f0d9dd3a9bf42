"""The blocks' arithmetic beside diffusers' with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from reference_models.unet import Attention, Block

pytest.importorskip("diffusers")
FEATURES = 32


def copied(target: nn.Module, source: nn.Module) -> None:
    """Give a layer another's weights; a convolution of one pixel is a linear layer."""
    for name, weight in source.named_parameters():
        target.get_parameter(name).data.copy_(weight.data.reshape(target.get_parameter(name).shape))


def random_weights(module: nn.Module) -> None:
    """No weight is zero or one, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(("width_in", "width"), [(16, 16), (16, 32), (48, 32)])
def test_a_block_is_that_of_diffusers(width_in: int, width: int) -> None:
    from diffusers.models.resnet import ResnetBlock2D

    torch.manual_seed(0)
    ours = Block(width_in, width, num_features=FEATURES)
    random_weights(ours)
    theirs = ResnetBlock2D(
        in_channels=width_in,
        out_channels=width,
        temb_channels=FEATURES,
        groups=width_in // 8,
        groups_out=width // 8,
        eps=1e-5,
        time_embedding_norm="scale_shift",
    )
    copied(theirs.norm1, ours.first[0])
    copied(theirs.conv1, ours.first[2])
    copied(theirs.time_emb_proj, ours.modulate)
    copied(theirs.norm2, ours.norm)
    copied(theirs.conv2, ours.second)
    if width_in != width:
        copied(theirs.conv_shortcut, ours.skip)
    x, features = torch.randn(3, width_in, 6, 5), torch.randn(3, FEATURES)
    assert close(ours(x, functional.silu(features)), theirs(x, features))


@pytest.mark.parametrize(("width", "num_heads"), [(32, 1), (128, 2)])
def test_attention_is_that_of_diffusers(width: int, num_heads: int) -> None:
    from diffusers.models.attention_processor import Attention as Theirs

    torch.manual_seed(0)
    ours = Attention(width)
    random_weights(ours)
    theirs = Theirs(
        width,
        heads=num_heads,
        dim_head=width // num_heads,
        norm_num_groups=width // 8,
        eps=1e-5,
        bias=True,
        residual_connection=True,
    )
    copied(theirs.group_norm, ours.norm)
    for layer, part in zip((theirs.to_q, theirs.to_k, theirs.to_v), range(3), strict=True):
        rows = slice(part * width, (part + 1) * width)
        layer.weight.data.copy_(ours.project_in.weight.data[rows].flatten(1))
        layer.bias.data.copy_(ours.project_in.bias.data[rows])
    copied(theirs.to_out[0], ours.project_out)
    x = torch.randn(3, width, 4, 5)
    assert close(ours(x), theirs(x))
