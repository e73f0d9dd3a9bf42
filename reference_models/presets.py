"""Networks of 0.1 to 201 million parameters by name, each with the training that suits it."""

from __future__ import annotations

from dataclasses import dataclass

from memgen_eval.errors import InputError
from reference_models.unet import UNetConfig

SMALL_SIDE = 16  # pixels, up to which images get the preset of the digits


@dataclass(frozen=True)
class Preset:
    """Sizes of a network, which suit images of any shape, and a training of it.

    Parameters
    ----------
    channels, multipliers, num_blocks, attention_sides
        As in `UNetConfig`.
    batch_size : int
        Images a step.
    learning_rate : float
        Adam's.
    num_steps : int
        Length of the training.
    """

    channels: int
    multipliers: tuple[int, ...]
    num_blocks: int
    attention_sides: tuple[int, ...]
    batch_size: int
    learning_rate: float
    num_steps: int

    def unet(
        self,
        image_shape: tuple[int, int, int],
        *,
        channels: int | None = None,
        num_classes: int = 0,
        dropout: float = 0,
    ) -> UNetConfig:
        """The network for images (C, H, W), at another width if `channels` is given."""
        width = self.channels if channels is None else channels
        return UNetConfig(
            image_shape, width, self.multipliers, self.num_blocks, self.attention_sides, num_classes, float(dropout)
        )


PRESETS = {
    "tiny": Preset(16, (1, 2), 1, (4,), batch_size=128, learning_rate=2e-3, num_steps=3000),
    "digits": Preset(32, (1, 2), 1, (4,), batch_size=128, learning_rate=2e-3, num_steps=1500),
    "small": Preset(32, (1, 2, 4), 1, (8,), batch_size=64, learning_rate=1e-3, num_steps=3000),
    "3m": Preset(32, (1, 2, 4), 2, (16, 8), batch_size=16, learning_rate=1e-4, num_steps=100_000),
    "8m": Preset(80, (1, 2, 2), 2, (16, 8), batch_size=16, learning_rate=1e-4, num_steps=100_000),
    "26m": Preset(96, (1, 2, 4), 2, (16, 8), batch_size=16, learning_rate=1e-4, num_steps=100_000),
    "cifar10": Preset(128, (2, 2, 2), 3, (16,), batch_size=128, learning_rate=2e-4, num_steps=200_000),
    "93m": Preset(128, (1, 2, 4), 4, (16, 8), batch_size=16, learning_rate=1e-4, num_steps=100_000),
    "201m": Preset(192, (1, 2, 4), 4, (16, 8), batch_size=16, learning_rate=1e-4, num_steps=100_000),
}
"""Parameters, in millions: 0.1 and 0.4 of the first two for images of 8 x 8 x 1, 1.6 of `small` and 36 of `cifar10` for
32 x 32 x 3. The others, named by theirs, are as large as the networks of Marion and Wu (arXiv 2605.06077, figure 3) and
trained as theirs; `cifar10` is DDPM++ as EDM trains it, a block a level shorter."""


def preset_named(name: str) -> Preset:
    """The preset of this name. Raises InputError, which lists all names, if there is none."""
    if name not in PRESETS:
        raise InputError(f"no preset is called {name!r}: give one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_for(image_shape: tuple[int, int, int]) -> Preset:
    """What trains in minutes on two CPU cores: `digits` for images up to 16 x 16, `small` beyond."""
    return PRESETS["digits" if max(image_shape[1:]) <= SMALL_SIDE else "small"]
