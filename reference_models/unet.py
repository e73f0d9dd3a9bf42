"""The UNet of DDPM++ and EDM at any size: residual blocks that hear of the noise level, attention at chosen sides.

Shapes: B images, C channels, H x W pixels, F features of the noise level and the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Layer = TypeVar("Layer", bound=nn.Module)
HEAD_WIDTH = 64  # channels


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet.

    Parameters
    ----------
    image_shape : (C, H, W)
        Of an image.
    channels : int
        Of the first level, a multiple of 8.
    multipliers : tuple of int
        Channels of each level, in multiples of `channels`; each level halves the side of the one before.
    num_blocks : int
        Residual blocks of a level on the way down, and as many on the way up.
    attention_sides : tuple of int
        Sides of an image, in pixels, at which blocks attend.
    num_classes : int
        Labels run from 0 to ``num_classes - 1``; 0: the network takes none.
    dropout : float
        Share of the values that each block leaves out in training, in [0, 1).
    """

    image_shape: tuple[int, int, int]
    channels: int
    multipliers: tuple[int, ...]
    num_blocks: int
    attention_sides: tuple[int, ...] = ()
    num_classes: int = 0
    dropout: float = 0.0


class UNet(nn.Module):
    """From images (B, C, H, W) and a number for each image's noise level (B,) to (B, C, H, W).

    Zero at the start: every block begins as the identity, and the last convolution as zero.

    References
    ----------
    .. [1] Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, appendix B.
    .. [2] Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021: DDPM++.
    .. [3] Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, appendix F.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        image_channels, side = config.image_shape[0], max(config.image_shape[1:])
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        attends = [math.ceil(side / 2**level) in config.attention_sides for level in range(len(widths))]
        levels = list(zip(widths, attends, strict=True))
        num_features = 4 * config.channels
        block = partial(Block, num_features=num_features, dropout=config.dropout)

        self.embedding = NoiseEmbedding(config.channels, num_features)
        self.classes = nn.Embedding(config.num_classes + 1, num_features, padding_idx=0) if config.num_classes else None
        self.stem = nn.Conv2d(image_channels, config.channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width = config.channels
        for level, (wide, attend) in enumerate(levels):
            for place in range(config.num_blocks):
                halve = level > 0 and place == 0
                self.down.append(block(width, wide, attend=attend, halve=halve))
                width = wide
        self.middle = block(width, width, attend=attends[-1])
        for wide, attend in reversed(levels):
            for _ in range(config.num_blocks):
                self.up.append(block(width + wide, wide, attend=attend))
                width = wide
        self.head = nn.Sequential(norm(width), nn.SiLU(), zero(nn.Conv2d(width, image_channels, 3, padding=1)))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """From x (B, C, H, W), noise (B,) and integer labels (B,), -1 or None for no class, to (B, C, H, W)."""
        features = self.embedding(noise)  # (B, F)
        if labels is not None:
            assert self.classes is not None, "labels for a network without classes"
            features = features + self.classes(labels + 1)  # of which row 0, that of no class, is and stays 0
        features = functional.silu(features)
        x = self.stem(x)
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x, features)
            skips.append(x)
        x = self.middle(x, features)
        for block in self.up:
            skip = skips.pop()
            if x.shape[2:] != skip.shape[2:]:
                x = functional.interpolate(x, size=skip.shape[2:])
            x = block(torch.cat([x, skip], dim=1), features)
        out: Tensor = self.head(x)
        return out


class NoiseEmbedding(nn.Module):
    """From a number for each image (B,) to features (B, F), through sines and cosines of it."""

    def __init__(self, num_waves: int, num_features: int) -> None:
        super().__init__()
        self.num_waves = num_waves
        self.layers = nn.Sequential(
            nn.Linear(num_waves, num_features), nn.SiLU(), nn.Linear(num_features, num_features)
        )

    def forward(self, noise: Tensor) -> Tensor:
        """From noise (B,) to features (B, F)."""
        exponents = torch.linspace(-1, 4, self.num_waves // 2, device=noise.device)
        angles = noise[:, None] * torch.exp2(exponents)  # (B, waves / 2)
        features: Tensor = self.layers(torch.cat([angles.cos(), angles.sin()], dim=1))
        return features


class Block(nn.Module):
    """Two convolutions around a skip; the noise level scales and shifts what lies between them."""

    def __init__(
        self,
        width_in: int,
        width: int,
        *,
        num_features: int,
        attend: bool = False,
        halve: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.halve, self.dropout = halve, dropout
        self.first = nn.Sequential(norm(width_in), nn.SiLU(), nn.Conv2d(width_in, width, 3, padding=1))
        self.modulate = nn.Linear(num_features, 2 * width)
        self.norm = norm(width)
        self.second = zero(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        self.attention = Attention(width) if attend else nn.Identity()

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """From x (B, C, H, W) and features (B, F) to (B, width, H, W), or half the sides."""
        if self.halve:
            x = functional.avg_pool2d(x, 2, ceil_mode=True)
        scale, shift = self.modulate(features)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        h = functional.dropout(functional.silu(h), self.dropout, self.training)
        out: Tensor = self.attention(self.skip(x) + self.second(h))
        return out


class Attention(nn.Module):
    """Every pixel attends to every pixel, in heads of 64 channels, or of the next number that divides the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = next(heads for heads in range(max(1, width // HEAD_WIDTH), 0, -1) if width % heads == 0)
        self.norm = norm(width)
        self.project_in = nn.Conv2d(width, 3 * width, 1)
        self.project_out = zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, H, W) to the same shape."""
        heads = self.project_in(self.norm(x)).reshape(len(x), 3, self.num_heads, -1, x.shape[2] * x.shape[3])
        query, key, value = heads.transpose(3, 4).unbind(1)  # (B, heads, H * W, width / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.project_out(mixed.transpose(2, 3).reshape(x.shape))
        return out


class GroupNorm(nn.GroupNorm):
    """Normalisation in the precision of its input: autocast would widen bfloat16 to float32, and narrow it after.

    Torch takes means and variances in float32 either way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """From x (B, C, H, W) to the same shape and type."""
        with torch.autocast(x.device.type, enabled=False):
            return functional.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def norm(width: int) -> GroupNorm:
    """Normalisation over groups of 8 channels."""
    return GroupNorm(width // 8, width)


def zero(layer: Layer) -> Layer:
    """The layer, its parameters set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
