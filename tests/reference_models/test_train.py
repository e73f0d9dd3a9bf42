"""The loop: it learns, its steps are reproducible bit for bit, its average is the average."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memgen_eval import InputError
from reference_models.recipes import Recipe
from reference_models.training.train import TrainingState, ema_decay, new_state, train, update_ema


def trained(state: TrainingState, images: Tensor, recipe: Recipe, num_steps: int) -> TrainingState:
    assert len(list(islice(train(state, images, recipe), num_steps))) == num_steps
    return state


def weights(state: TrainingState) -> list[Tensor]:
    return [*state.model.parameters(), *state.ema.parameters()]


def test_it_overfits_four_images(images: Tensor, recipe: Recipe) -> None:
    state = trained(new_state(recipe), images, recipe, 120)
    assert np.mean(state.losses[:10]) == pytest.approx(1, abs=0.35)  # a silent network's
    assert np.mean(state.losses[-40:]) < 0.3


def test_steps_are_reproducible_bit_for_bit(images: Tensor, recipe: Recipe) -> None:
    torch.manual_seed(98)
    before = torch.get_rng_state()
    first = trained(new_state(recipe), images, recipe, 6)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    second = trained(trained(new_state(recipe), images, recipe, 2), images, recipe, 4)
    other = trained(new_state(recipe), images, replace(recipe, seed=1), 6)
    assert first.losses == second.losses != other.losses
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_another_seed_begins_elsewhere(recipe: Recipe) -> None:
    first, second = new_state(recipe), new_state(replace(recipe, seed=1))
    assert not torch.equal(first.model.network.stem.weight, second.model.network.stem.weight)  # type: ignore[union-attr, arg-type]


def test_steps_say_what_was_done(images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    steps = list(islice(train(state, images, recipe), 3))
    assert [step.step for step in steps] == [1, 2, 3] and state.step == 3
    assert [step.num_images_seen for step in steps] == [32, 64, 96]
    assert [step.loss for step in steps] == state.losses


def test_the_average_in_closed_form() -> None:
    model, ema = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(ema.weight, 7.0)
    values, decays, expected = np.random.default_rng(0).standard_normal(30), [], 0.0
    for step, value in enumerate(values, start=1):
        nn.init.constant_(model.weight, float(value))
        decays.append(ema_decay(step, limit=0.7))
        update_ema(ema, model, decay=decays[-1])
    for step, value in enumerate(values):  # sum of (1 - decay_i) value_i times all later decays, and what is left of 7
        expected += (1 - decays[step]) * value * np.prod(decays[step + 1 :])
    assert ema.weight.item() == pytest.approx(expected + 7 * np.prod(decays), abs=1e-6)
    assert decays[:2] == [2 / 11, 3 / 12] and decays[-1] == 0.7


def test_the_average_of_a_training_is_that_of_its_weights(images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    average = [p.detach().double().clone() for p in state.model.parameters()]
    for step in islice(train(state, images, recipe), 5):
        decay = (1 + step.step) / (10 + step.step)
        average = [
            decay * a + (1 - decay) * p.detach().double()
            for a, p in zip(average, state.model.parameters(), strict=True)
        ]
    assert all(torch.allclose(a, p.double(), atol=1e-6) for a, p in zip(average, state.ema.parameters(), strict=True))
    assert not any(p.requires_grad for p in state.ema.parameters())


def test_a_training_that_diverges_says_so(images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="the loss is nan at step 1: give a smaller --lr"):
        next(train(state, images, recipe))
