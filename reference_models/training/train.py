"""The training loop, a generator that yields its steps: logging, checkpoints and stopping are its caller's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from memgen_eval.errors import InputError
from reference_models.data import Batch, draw_batch, to_model
from reference_models.recipes import Recipe
from reference_models.training.averages import decay_at, update_average
from reference_models.training.parallel import Team, kept_back
from reference_models.training.state import Objective, TrainingState
from reference_models.training.workers import Workers, share, torch_threads


@dataclass(frozen=True)
class TrainingStep:
    """A step done: how many there have been, its loss and learning rate, images seen so far, repeats included."""

    step: int
    loss: float
    learning_rate: float
    num_images_seen: int


def train(
    state: TrainingState,
    images: Tensor,
    recipe: Recipe,
    *,
    team: Team | None = None,
    num_workers: int = 1,
    compiled: bool = False,
) -> Iterator[TrainingStep]:
    """Take a step of Adam on the recipe's loss each time the next one is asked for, without end.

    What a step sees depends on the recipe's seed and the step's number alone, so a state that was saved and loaded
    goes on as if nothing had happened: bit for bit on a CPU, at one pace.

    Parameters
    ----------
    state : TrainingState
        Changed by every step.
    images : uint8, (N, C, H, W)
        All images to train on.
    recipe : Recipe
        That of the state.
    team : Team, optional
        The processes that share each batch; this one alone by default.
    num_workers : int
        Threads that share each batch, and torch's threads of now among them; a team of several processes and a network
        with dropout have no others.
    compiled : bool
        Have torch compile the network.

    Raises
    ------
    InputError
        If the loss or its gradient is no longer finite: the weights are then those of the step before. Or if a batch
        has no equal parts for all processes.
    """
    team = team or Team()
    parts = team.parts(recipe.batch_size, recipe.accumulation)
    shares = [[share(part, place, num_workers) for part in parts] for place in range(num_workers)]
    num_images = recipe.batch_size // team.ranks.size
    images = images.to(state.device)
    if compiled:
        state.model.network.compile()
    workers = Workers(team.share(Objective(state.model)), num_workers)
    threads = max(1, torch.get_num_threads() // num_workers)
    while True:
        with torch_threads(threads):
            batch = draw_batch(tuple(images.shape), batch_size=recipe.batch_size, seed=recipe.seed, step=state.step)
            backward = partial(_backward, images=images, batch=batch, recipe=recipe, num_images=num_images)
            with _random_state_of(recipe, state.step, team.ranks.rank):
                mean = team.mean(workers.add_up(backward, shares))
            learning_rate = _take_step(state, recipe, mean)
        yield TrainingStep(state.step, state.losses[-1], learning_rate, state.step * recipe.batch_size)


def _take_step(state: TrainingState, recipe: Recipe, mean: Tensor) -> float:
    """Go where the gradients of this mean loss lead, and take the averages along; the learning rate."""
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.max_grad_norm)
    loss, length = torch.stack([mean, norm]).tolist()
    if not math.isfinite(loss) or not math.isfinite(length):
        what = "loss" if not math.isfinite(loss) else "gradient of the loss"
        raise InputError(f"the {what} is not finite at step {state.step + 1}: give a smaller --lr")
    learning_rate = learning_rate_at(state.step, recipe)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    state.optimizer.step()
    state.losses.append(loss)
    for average, relative in zip(state.averages, recipe.ema_lengths, strict=True):
        update_average(average, state.model, decay=decay_at(state.step, length=relative))
    return learning_rate


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Of a step, counted from 0: linear growth over `warmup_steps` steps to the recipe's, which then stays."""
    return recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.warmup_steps))


def _backward(
    objective: nn.Module, parts: list[slice], *, images: Tensor, batch: Batch, recipe: Recipe, num_images: int
) -> Tensor:
    """The share of these parts in the mean loss over `num_images`, detached; its gradient is left in the parameters.

    With several parts in several processes, gradients travel after the last one.
    """
    objective.zero_grad()
    total = torch.zeros((), device=images.device)
    for part in parts:
        with nullcontext() if part is parts[-1] else kept_back(objective):
            loss = _loss(objective, images, batch, part, recipe) / (num_images / (part.stop - part.start))
            loss.backward()
        total += loss.detach()
    return total


@contextmanager
def _random_state_of(recipe: Recipe, step: int, rank: int) -> Iterator[None]:
    """Make dropout a function of seed, step and rank; nothing else here draws from torch's own random state."""
    if not recipe.unet.dropout:
        yield
        return
    (seed,) = np.random.SeedSequence((recipe.seed, step, rank)).generate_state(1, np.uint64)
    with torch.random.fork_rng():
        torch.manual_seed(int(seed))
        yield


def _loss(objective: nn.Module, images: Tensor, batch: Batch, part: slice, recipe: Recipe) -> Tensor:
    """The mean loss over a part of a batch."""
    device = images.device
    x0 = to_model(images[torch.from_numpy(batch.indices[part]).to(device)])
    if recipe.flip:
        x0 = torch.where(batch.flips[part].to(device).reshape(-1, 1, 1, 1), x0.flip(3), x0)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        loss: Tensor = objective(x0, batch.eps[part].to(device), batch.z[part].to(device))
    return loss.float()
