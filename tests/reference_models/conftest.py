"""A training small enough for tests: four digits, a network of 30 k parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from memgen_eval.data.images import ImageSet
from reference_models.data import Selection
from reference_models.recipes import Recipe, recipe_for
from reference_models.unet import UNetConfig

SELECTION = Selection("digits", 4)


@pytest.fixture
def image_set() -> ImageSet:
    return SELECTION.train()


@pytest.fixture
def images(image_set: ImageSet) -> Tensor:
    return torch.from_numpy(image_set.array())


@pytest.fixture
def recipe(image_set: ImageSet) -> Recipe:
    small = UNetConfig((1, 8, 8), channels=16, multipliers=(1, 2), num_blocks=1, attention_sides=(4,))
    return replace(recipe_for(image_set, SELECTION, batch_size=32, warmup_steps=1), unet=small)
