"""What determines a training but its length: the recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from memgen_eval.data.images import ImageSet
from memgen_eval.errors import InputError
from reference_models.data import Selection
from reference_models.precond import Parametrization
from reference_models.presets import preset_for, preset_named
from reference_models.training.averages import LONGEST
from reference_models.unet import UNetConfig

MOST, MOST_LEVELS = 2**31, 16  # of anything that is counted, of sizes that halve
MOST_AVERAGES = 16
EMA_LENGTHS = (0.05, 0.10)
WARMUP_STEPS = 100
MAX_GRAD_NORM = 1.0

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights after a number of steps (at one pace, on one kind of machine).

    Parameters
    ----------
    selection : Selection
        Which images are trained on.
    num_images : int
        How many they are.
    checksum : str
        Of exactly those images.
    unet : UNetConfig
        Sizes of the network.
    parametrization : {"edm", "flow"}
        What the network estimates, and which noise levels it is trained at.
    sigma_data : float
        Root mean square of the images in [-1, 1].
    batch_size : int
        Images of a step, over all processes and all parts that are accumulated.
    learning_rate : float
        Adam's, after `warmup_steps` steps of linear growth from 0.
    max_grad_norm : float
        Longer gradients are shortened to this norm.
    ema_lengths : tuple of float
        Relative lengths of the averages of the weights that are kept; the last is the default.
    precision : {"float32", "bfloat16"}
        Of the network's products; weights, averages and losses are float32.
    flip : bool
        Mirror every image left to right half of the time.
    accumulation : int
        Parts of a batch that go through the network one after the other, which takes less memory.
    seed : int
        Of weights, batches and noise.
    """

    selection: Selection
    num_images: int
    checksum: str
    unet: UNetConfig
    parametrization: Parametrization
    sigma_data: float
    batch_size: int
    learning_rate: float
    warmup_steps: int
    max_grad_norm: float
    ema_lengths: tuple[float, ...]
    precision: Precision
    flip: bool
    accumulation: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        entries = {**asdict(self), "unet": {name: _plain(value) for name, value in asdict(self.unet).items()}}
        return {name: _plain(value) for name, value in entries.items()}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Recipe:
        """The way back from `to_dict`. Raises ValueError, KeyError, TypeError or AttributeError for others."""
        unet = UNetConfig(**{name: _frozen(value) for name, value in entries["unet"].items()})
        parts = {"unet": unet, "selection": Selection(**entries["selection"])}
        recipe = cls(**{name: _frozen(value) for name, value in {**entries, **parts}.items()})
        recipe.check()
        return recipe

    def check(self) -> None:
        """Raise InputError for what nothing can be trained with: other types, and sizes that no network has."""
        _check_unet(self.unet)
        counts = {name: getattr(self, name) for name in ("num_images", "batch_size", "accumulation")}
        for name, value in counts.items():
            if not _is_between(value, 1, MOST):
                raise InputError(f"{name} is {value!r}, expected a whole number of at least 1")
        for name, most in (("warmup_steps", MOST), ("seed", 2**64 - 1)):
            if not _is_between(getattr(self, name), 0, most):
                raise InputError(f"{name} is {getattr(self, name)!r}, expected a whole number of at least 0")
        for name in ("sigma_data", "learning_rate", "max_grad_norm"):
            if not _is_number(getattr(self, name)) or not 0 < getattr(self, name) < MOST:
                raise InputError(f"{name} is {getattr(self, name)!r}, expected a positive number")
        for name, known in (("parametrization", Parametrization), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise InputError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(get_args(known))}")
        if not isinstance(self.checksum, str) or not isinstance(self.flip, bool):
            raise InputError(
                f"checksum is {self.checksum!r} and flip is {self.flip!r}, expected a text, and true or false"
            )
        if self.batch_size % self.accumulation:
            raise InputError(
                f"a batch of {self.batch_size} images has no {self.accumulation} equal parts to accumulate"
            )
        _check_lengths(self.ema_lengths)

    def differences(self, other: Recipe) -> list[str]:
        """Where this recipe departs from another, in words; the name of the same images does not matter."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        pairs["selection"] = self._reduction(), other._reduction()
        return [f"{name} {mine} instead of {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]

    def _reduction(self) -> Selection:
        """What the selection says beyond its images, which the checksum stands for."""
        return replace(self.selection, data="", num_images=None, half=None)


def recipe_for(
    images: ImageSet,
    selection: Selection,
    *,
    preset: str | None = None,
    channels: int | None = None,
    dropout: float = 0.0,
    parametrization: Parametrization = "edm",
    batch_size: int | None = None,
    learning_rate: float | None = None,
    warmup_steps: int = WARMUP_STEPS,
    precision: Precision = "float32",
    flip: bool = False,
    accumulation: int = 1,
    seed: int = 0,
) -> Recipe:
    """The recipe for the images of a selection; the preset (by default that for their size) says what is not given.

    Raises
    ------
    InputError
        If there is no such preset, or nothing can be trained so.
    """
    chosen = preset_for(images.shape) if preset is None else preset_named(preset)
    recipe = Recipe(
        selection=selection,
        num_images=len(images),
        checksum=images.checksum,
        unet=chosen.unet(images.shape, channels=channels, dropout=dropout),
        parametrization=parametrization,
        sigma_data=root_mean_square(images),
        batch_size=batch_size or chosen.batch_size,
        learning_rate=learning_rate or chosen.learning_rate,
        warmup_steps=warmup_steps,
        max_grad_norm=MAX_GRAD_NORM,
        ema_lengths=EMA_LENGTHS,
        precision=precision,
        flip=flip,
        accumulation=accumulation,
        seed=seed,
    )
    recipe.check()
    return recipe


def root_mean_square(images: ImageSet) -> float:
    """Of all values in [-1, 1], to two decimals, at least 0.05."""
    squares = sum(float(np.square(block / 127.5 - 1).sum()) for block in images.blocks())
    return max(0.05, round(math.sqrt(squares / (len(images) * images.num_values)), 2))


def _check_unet(unet: UNetConfig) -> None:
    counts = {name: (getattr(unet, name),) for name in ("channels", "num_blocks")}
    counts |= {name: getattr(unet, name) for name in ("image_shape", "multipliers", "attention_sides")}
    for name, values in counts.items():
        if not isinstance(values, tuple) or not all(_is_between(value, 1, MOST) for value in values):
            raise InputError(f"{name} of the network: {values!r}, expected whole numbers of at least 1")
    if len(unet.image_shape) != 3 or not 1 <= len(unet.multipliers) <= MOST_LEVELS:
        raise InputError(f"no network has images of {unet.image_shape} and levels of {unet.multipliers}")
    if unet.channels % 8:
        raise InputError(f"--width is {unet.channels}, expected a multiple of 8")
    if not _is_between(unet.num_classes, 0, MOST):
        raise InputError(f"num_classes of the network: {unet.num_classes!r}, expected a whole number of at least 0")
    if not _is_number(unet.dropout) or not 0 <= unet.dropout < 1:
        raise InputError(f"--dropout is {unet.dropout!r}, expected a number from 0 to below 1")


def _check_lengths(lengths: object) -> None:
    if not isinstance(lengths, tuple) or not 1 <= len(lengths) <= MOST_AVERAGES:
        raise InputError(f"ema_lengths is {lengths!r}, expected 1 to {MOST_AVERAGES} numbers")
    if not all(_is_number(length) and 0 < length < LONGEST for length in lengths) or len({*lengths}) < len(lengths):
        raise InputError(f"ema_lengths is {lengths!r}, expected different numbers between 0 and {LONGEST}")


def _is_between(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
