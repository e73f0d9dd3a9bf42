"""Presets: their sizes, counted without making a network."""

from __future__ import annotations

import pytest
import torch

from memgen_eval import InputError
from reference_models.presets import PRESETS, preset_for, preset_named
from reference_models.unet import UNet

DIGIT, COLOUR = (1, 8, 8), (3, 32, 32)
SEED_STUDY = {"3m": 2_926_690, "8m": 7_929_010, "26m": 25_751_890, "93m": 92_670_610, "201m": 201_286_610}


def num_parameters(name: str, shape: tuple[int, int, int]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in UNet(PRESETS[name].unet(shape)).parameters())


@pytest.mark.parametrize(("name", "published"), [*SEED_STUDY.items(), ("cifar10", 36_000_000)])
def test_sizes_are_the_published_ones(name: str, published: int) -> None:
    assert num_parameters(name, COLOUR) == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(
    ("name", "shape", "num"), [("tiny", DIGIT, 0.11e6), ("digits", DIGIT, 0.45e6), ("small", COLOUR, 1.65e6)]
)
def test_small_sizes(name: str, shape: tuple[int, int, int], num: float) -> None:
    assert num_parameters(name, shape) == pytest.approx(num, rel=0.03)


def test_every_preset_was_counted() -> None:
    assert {*SEED_STUDY, "cifar10", "tiny", "digits", "small"} == set(PRESETS)


def test_the_default_goes_by_the_larger_side() -> None:
    names = {shape: preset_for((1, *shape)) for shape in [(8, 8), (16, 16), (16, 17), (32, 32), (64, 8)]}
    assert list(names.values()) == [PRESETS[name] for name in ("digits", "digits", "small", "small", "small")]


def test_a_network_of_another_width_with_classes() -> None:
    config = PRESETS["small"].unet(COLOUR, channels=48, num_classes=10, dropout=0.1)
    assert (config.image_shape, config.channels, config.multipliers) == (COLOUR, 48, (1, 2, 4))
    assert (config.num_blocks, config.attention_sides, config.num_classes, config.dropout) == (1, (8,), 10, 0.1)


def test_a_preset_is_found_by_name() -> None:
    assert preset_named("26m") is PRESETS["26m"]
    with pytest.raises(InputError, match="no preset is called 'huge': give one of tiny, digits, small, 3m"):
        preset_named("huge")
