"""What determines a training but its length: the recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from memgen_eval.data.images import ImageSet
from reference_models.presets import preset_for
from reference_models.unet import UNetConfig

MOST, MOST_LEVELS = 2**31, 16  # of anything that is counted, of sizes that halve


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights after a number of steps (at one thread count, on one kind of machine).

    Parameters
    ----------
    data : str
        Where the images came from, as it was given.
    num_images : int
        How many were trained on.
    checksum : str
        Of exactly those images.
    unet : UNetConfig
        Sizes of the network.
    sigma_data : float
        Root mean square of the images in [-1, 1].
    batch_size, learning_rate, ema_decay, seed
        Of the training.
    """

    data: str
    num_images: int
    checksum: str
    unet: UNetConfig
    sigma_data: float
    batch_size: int
    learning_rate: float
    ema_decay: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {**asdict(self), "unet": {name: _plain(value) for name, value in asdict(self.unet).items()}}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Recipe:
        """The way back from `to_dict`. Raises ValueError, KeyError, TypeError or AttributeError for others."""
        unet: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in entries["unet"].items()
        }
        recipe = cls(**{**entries, "unet": UNetConfig(**unet)})
        recipe.check()
        return recipe

    def check(self) -> None:
        """Raise ValueError for what no training has written: other types, and sizes that no network has."""
        unet = self.unet
        counts = {"channels": (unet.channels,), "num_blocks": (unet.num_blocks,)}
        counts |= {name: getattr(unet, name) for name in ("image_shape", "multipliers", "attention_sides")}
        counts |= {name: (getattr(self, name),) for name in ("num_images", "batch_size")}
        for name, values in counts.items():
            if not isinstance(values, tuple) or not all(_is_between(value, 1, MOST) for value in values):
                raise ValueError(f"{name} {values!r}")
        if len(unet.image_shape) != 3 or not 1 <= len(unet.multipliers) <= MOST_LEVELS or unet.channels % 8:
            raise ValueError(f"a network of {unet}")
        if not all(isinstance(text, str) for text in (self.data, self.checksum)):
            raise ValueError("data and checksum that are not text")
        for name in ("sigma_data", "learning_rate", "ema_decay"):
            if not 0 < float(getattr(self, name)) < MOST:
                raise ValueError(f"{name} {getattr(self, name)!r}")
        if not _is_between(self.seed, 0, 2**64 - 1):
            raise ValueError(f"seed {self.seed!r}")

    def differences(self, other: Recipe) -> list[str]:
        """Where this recipe departs from another, in words; the name of the same images does not matter."""
        named = [field.name for field in fields(self) if field.name != "data"]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in named}
        return [f"{name} {mine} instead of {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]


def recipe_for(
    images: ImageSet,
    *,
    data: str,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    ema_decay: float = 0.999,
    seed: int = 0,
) -> Recipe:
    """The recipe for these images; the preset for their size says what is not given."""
    preset = preset_for(images.shape)
    return Recipe(
        data=data,
        num_images=len(images),
        checksum=images.checksum,
        unet=preset.unet(images.shape),
        sigma_data=root_mean_square(images),
        batch_size=batch_size or preset.batch_size,
        learning_rate=learning_rate or preset.learning_rate,
        ema_decay=ema_decay,
        seed=seed,
    )


def root_mean_square(images: ImageSet) -> float:
    """Of all values in [-1, 1], to two decimals, at least 0.05."""
    squares = sum(float(np.square(block / 127.5 - 1).sum()) for block in images.blocks())
    return max(0.05, round(math.sqrt(squares / (len(images) * images.num_values)), 2))


def _is_between(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
