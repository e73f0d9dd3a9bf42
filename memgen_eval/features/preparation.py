"""How images are prepared for a network: grey repeated where it takes colour, resized, normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memgen_eval.features.spaces import Channels

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preparation:
    """From uint8 images (B, C, H, W) to what a network takes, (B, C', S, S).

    Resizing is bilinear with antialiasing, by torch: within a grey level of what Pillow gives, with which most networks
    were trained. Without antialiasing, shrunk images hold patterns that are not in the picture, and they move the
    features [1]_. The sides may be shrunk differently: the whole image becomes a square.

    Attributes
    ----------
    size : int or None
        S; None leaves the size as it is.
    mean, std : floats or None
        Values on [0, 1] are less `mean`, over `std`, for each channel or for all; None for a network that takes uint8.
    colour : bool
        Whether the network takes three channels.
    channels_last : bool
        Whether it takes (B, S, S, C').

    References
    ----------
    .. [1] Parmar, Zhang & Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022.
    """

    size: int | None
    mean: Channels | None
    std: Channels | None
    colour: bool
    channels_last: bool = False

    def __call__(self, images: Any) -> Any:
        """The prepared images: float32, or uint8 without `mean`."""
        import torch

        if self.colour and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        levels = images.float()
        if self.size is not None and levels.shape[2:] != (self.size, self.size):
            side = (self.size, self.size)
            levels = torch.nn.functional.interpolate(levels, side, mode="bilinear", antialias=True, align_corners=False)
        if self.mean is None or self.std is None:
            prepared = levels.round().clamp(0, 255).to(torch.uint8)
        else:
            mean, std = (
                torch.tensor(values, dtype=torch.float32, device=levels.device).reshape(1, -1, 1, 1)
                for values in (self.mean, self.std)
            )
            prepared = (levels / 255 - mean) / std
        return (prepared.permute(0, 2, 3, 1) if self.channels_last else prepared).contiguous()

    @property
    def words(self) -> str:
        """All of it in one line, as a report's settings have it."""
        parts = ["grey repeated to three channels"] if self.colour else []
        if self.size is not None:
            parts.append(f"resized to {self.size} x {self.size}, bilinear with antialiasing")
        values = "uint8" if self.mean is None else f"values on [0, 1] less {self.mean}, over {self.std}"
        return ", ".join([*parts, values, *(["channels last"] if self.channels_last else [])])
