"""The loop: it learns, its steps are reproducible bit for bit, its average is the average."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from memgen_eval import InputError
from reference_models.recipes import Recipe
from reference_models.training.averages import decay_at
from reference_models.training.state import TrainingState, new_state
from reference_models.training.train import learning_rate_at, train


def trained(state: TrainingState, images: Tensor, recipe: Recipe, num_steps: int) -> TrainingState:
    assert len(list(islice(train(state, images, recipe), num_steps))) == num_steps
    return state


def weights(state: TrainingState) -> list[Tensor]:
    return [*state.model.parameters(), *(weight for average in state.averages for weight in average.parameters())]


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


def test_the_averages_of_a_training_are_those_of_its_weights(images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    paths = [
        [weight.detach().double().clone() for weight in state.model.parameters()]
        for _ in islice(train(state, images, recipe), 5)
    ]
    for average, length in zip(state.averages, recipe.ema_lengths, strict=True):
        decays = [decay_at(step, length=length) for step in range(1, 6)]
        shares = [(1 - decays[i]) * float(np.prod(decays[i + 1 :])) for i in range(5)]
        assert sum(shares) == pytest.approx(1)
        for place, weight in enumerate(average.parameters()):
            expected = sum(share * path[place] for share, path in zip(shares, paths, strict=True))
            assert torch.allclose(weight.double(), expected, atol=1e-6)  # type: ignore[arg-type]
        assert not any(weight.requires_grad for weight in average.parameters())


def test_a_training_that_diverges_says_so(images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="the loss is not finite at step 1: give a smaller --lr"):
        next(train(state, images, recipe))
    assert state.step == 0


def test_a_gradient_that_is_not_finite_changes_no_weight(images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    first = next(state.model.parameters())
    first.register_hook(lambda gradient: gradient * float("inf"))
    before = [weight.clone() for weight in weights(state)]
    with pytest.raises(InputError, match="the gradient of the loss is not finite at step 1"):
        next(train(state, images, recipe))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(state), strict=True))


def test_the_learning_rate_grows_in_the_warm_up(images: Tensor, recipe: Recipe) -> None:
    slow = replace(recipe, warmup_steps=4, learning_rate=0.1)
    assert [learning_rate_at(step, slow) for step in range(6)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    assert learning_rate_at(0, replace(slow, warmup_steps=0)) == 0.1
    assert [step.learning_rate for step in islice(train(new_state(slow), images, slow), 2)] == [0.025, 0.05]


def test_a_batch_in_parts_is_the_same_step(images: Tensor, recipe: Recipe) -> None:
    whole = trained(new_state(recipe), images, recipe, 4)
    parts = trained(new_state(recipe), images, replace(recipe, accumulation=4), 4)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5) and parts.losses != whole.losses


def test_long_gradients_are_shortened(images: Tensor, recipe: Recipe) -> None:
    """Adam forgets the length of all gradients but not of one among others: the first moment tells it."""
    short = trained(new_state(recipe), images, replace(recipe, max_grad_norm=1e-3), 1)
    moments = [short.optimizer.state[weight]["exp_avg"] for weight in short.model.parameters()]
    norm = sum(moment.double().square().sum() for moment in moments) ** 0.5
    assert float(norm) == pytest.approx(0.1 * 1e-3, rel=1e-4)  # 1 - beta of the first moment


def test_products_in_bfloat16_and_weights_in_float32(images: Tensor, recipe: Recipe) -> None:
    exact = trained(new_state(recipe), images, recipe, 8)
    rounded = trained(new_state(recipe), images, replace(recipe, precision="bfloat16"), 8)
    assert rounded.losses == pytest.approx(exact.losses, rel=0.05) and rounded.losses != exact.losses
    assert all(weight.dtype == torch.float32 for weight in weights(rounded))


def test_flips_show_each_image_both_ways(recipe: Recipe) -> None:
    """A model that returns its input sees mirrored images where flips are asked for, the same noise otherwise."""
    images = torch.arange(4 * 64, dtype=torch.uint8).reshape(4, 1, 8, 8)
    plain = trained(new_state(recipe), images, recipe, 2)
    flipped = trained(new_state(recipe), images, replace(recipe, flip=True), 2)
    even = trained(new_state(recipe), images + images.flip(3), replace(recipe, flip=True), 2)
    assert plain.losses != flipped.losses
    assert even.losses == trained(new_state(recipe), images + images.flip(3), recipe, 2).losses


def test_dropout_depends_on_seed_and_step_alone(images: Tensor, recipe: Recipe) -> None:
    dropping = replace(recipe, unet=replace(recipe.unet, dropout=0.3))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    whole = trained(new_state(dropping), images, dropping, 4)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    parts = trained(trained(new_state(dropping), images, dropping, 2), images, dropping, 2)
    assert whole.losses == parts.losses
    assert whole.losses[1:] != trained(new_state(recipe), images, recipe, 4).losses[1:]
