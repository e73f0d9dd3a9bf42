"""Workers: together they leave the gradients of one, and nothing depends on when which of them runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memgen_eval.data.images import ImageSet
from reference_models.recipes import Recipe
from reference_models.training.checkpoints import Checkpoint, load_state, save_state
from reference_models.training.pace import Pace
from reference_models.training.run import Length, Watcher, continue_training
from reference_models.training.state import TrainingState, new_state
from reference_models.training.train import train
from reference_models.training.workers import Workers, share


@pytest.mark.parametrize(("size", "number"), [(1, 1), (7, 3), (128, 2), (128, 12)])
def test_shares_follow_each_other_and_are_of_one_size(size: int, number: int) -> None:
    shares = [share(slice(5, 5 + size), place, number) for place in range(number)]
    assert [i for one in shares for i in range(5 + size)[one]] == list(range(5, 5 + size))
    assert len({one.stop - one.start for one in shares} | {size // number}) <= 2


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_gradients_of_all_shares_are_those_of_the_whole(number: int) -> None:
    """Of a sum of squares, in float64, against the closed form 2 X^T (X w - y)."""
    random = np.random.default_rng(0)
    x, y, w = random.normal(size=(7, 4)), random.normal(size=7), random.normal(size=4)
    module = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(w)[None])

    def backward(model: nn.Linear, rows: slice) -> Tensor:
        model.zero_grad()
        loss: Tensor = ((model(torch.from_numpy(x[rows]))[:, 0] - torch.from_numpy(y[rows])) ** 2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    workers = Workers(module, number)
    for _ in range(2):  # the second time on other weights, which the twins have to see
        total = workers.add_up(backward, [share(slice(0, 7), place, number) for place in range(number)])
        errors = x @ module.weight.detach().numpy()[0] - y
        assert module.weight.grad is not None
        np.testing.assert_allclose(total.item(), errors @ errors, rtol=1e-12)
        np.testing.assert_allclose(module.weight.grad.numpy()[0], 2 * x.T @ errors, rtol=1e-12)
        with torch.no_grad():
            module.weight += 1


def test_each_worker_is_a_thread_and_all_work_at_once() -> None:
    together = threading.Barrier(3, timeout=60)

    def backward(model: nn.Linear, place: int) -> Tensor:
        together.wait()
        loss: Tensor = model(torch.ones(2)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    Workers(nn.Linear(2, 1), 3).add_up(backward, range(3))


def test_what_goes_wrong_in_a_worker_is_told() -> None:
    def backward(model: nn.Linear, place: int) -> Tensor:
        if place == 1:
            raise MemoryError
        return torch.zeros(())

    with pytest.raises(MemoryError):
        Workers(nn.Linear(2, 1), 2).add_up(backward, range(2))


def weights(state: TrainingState) -> Tensor:
    return torch.cat([value.flatten() for model in (state.model, *state.averages) for value in model.parameters()])


@pytest.fixture
def trained(image_set: ImageSet, recipe: Recipe) -> Callable[..., TrainingState]:
    def train_on(num_workers: int, num_steps: int = 6, accumulation: int = 1) -> TrainingState:
        chosen = replace(recipe, accumulation=accumulation)
        state, pixels = new_state(chosen), torch.from_numpy(image_set.array())
        list(islice(train(state, pixels, chosen, num_workers=num_workers), num_steps))
        return state

    return train_on


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_training_with_workers_is_that_of_one_up_to_rounding(
    trained: Callable[..., TrainingState], accumulation: int
) -> None:
    one = trained(1)
    for number in (2, 3):
        several = trained(number, accumulation=accumulation)
        np.testing.assert_allclose(several.losses, one.losses, rtol=1e-5)


def test_the_threads_of_torch_that_there_are_change_no_bit(trained: Callable[..., TrainingState]) -> None:
    """Two workers on one thread of torch's, and on two: each has one in both."""
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(weights(trained(2)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_a_training_with_workers_goes_on_bit_for_bit(
    tmp_path: Path, image_set: ImageSet, recipe: Recipe, trained: Callable[..., TrainingState]
) -> None:
    pace = Pace(2, channels_last=True, compiled=False, num_workers=2)
    half = Checkpoint(recipe, trained(2, num_steps=3), 0.0)
    again = load_state(save_state(tmp_path, half))
    watcher = Watcher(lambda step, checkpoint: None)
    done = continue_training(tmp_path, again, image_set, Length(6, None), watcher=watcher, pace=pace)
    whole = trained(2)
    assert done.state.losses == whole.losses and torch.equal(weights(done.state), weights(whole))
    assert not torch.equal(weights(trained(1)), weights(whole))  # other roundings: the pace has to be kept
