"""The training loop, a generator that yields its steps: logging, checkpoints and stopping are its caller's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from memgen_eval.errors import InputError
from reference_models.data import draw_batch, to_model
from reference_models.precond import Preconditioned, denoising_loss
from reference_models.recipes import Recipe
from reference_models.unet import UNet


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A model in training: its weights, their moving average, Adam's moments, and the loss of every step so far."""

    model: Preconditioned
    ema: Preconditioned
    optimizer: torch.optim.Adam
    losses: list[float]

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)


@dataclass(frozen=True)
class TrainingStep:
    """A step done: how many there have been, its loss, and the images seen so far, repeats included."""

    step: int
    loss: float
    num_images_seen: int


def training_device() -> torch.device:
    """A GPU of NVIDIA's or AMD's where torch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def new_state(recipe: Recipe, *, device: torch.device | str = "cpu") -> TrainingState:
    """A model before its first step: its weights depend on the recipe's seed, global random states on nothing here."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        model, ema = new_model(recipe), new_model(recipe)
    ema.load_state_dict(model.state_dict())
    ema.requires_grad_(False).eval()
    for part in (model, ema):
        part.to(device).to(memory_format=torch.channels_last)  # faster on CPUs by a tenth
    return TrainingState(model, ema, torch.optim.Adam(model.parameters(), lr=recipe.learning_rate), [])


def new_model(recipe: Recipe) -> Preconditioned:
    """The recipe's network as a denoiser, with fresh weights of the global random state."""
    return Preconditioned(UNet(recipe.unet), sigma_data=recipe.sigma_data)


def train(state: TrainingState, images: Tensor, recipe: Recipe) -> Iterator[TrainingStep]:
    """Take a step of Adam on EDM's loss each time the next one is asked for, without end.

    What a step sees depends on the recipe's seed and the step's number alone, so a state that was saved and loaded
    goes on as if nothing had happened: bit for bit on a CPU, at one thread count.

    Parameters
    ----------
    state : TrainingState
        Changed by every step.
    images : uint8, (N, C, H, W)
        All images to train on.
    recipe : Recipe
        That of the state.

    Raises
    ------
    InputError
        If the loss is no longer finite.
    """
    device = next(state.model.parameters()).device
    images = images.to(device)
    while True:
        batch = draw_batch(tuple(images.shape), batch_size=recipe.batch_size, seed=recipe.seed, step=state.step)
        x0 = to_model(images[torch.from_numpy(batch.indices).to(device)]).contiguous(memory_format=torch.channels_last)
        loss = denoising_loss(state.model, x0, sigma=batch.sigma.to(device), eps=batch.eps.to(device))
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.losses.append(loss.item())
        if not math.isfinite(state.losses[-1]):
            raise InputError(f"the loss is {state.losses[-1]} at step {state.step}: give a smaller --lr")
        update_ema(state.ema, state.model, decay=ema_decay(state.step, limit=recipe.ema_decay))
        yield TrainingStep(state.step, state.losses[-1], state.step * recipe.batch_size)


def ema_decay(step: int, *, limit: float) -> float:
    """The decay of the average at a step, counted from 1: ``min(limit, (1 + step) / (10 + step))``.

    The ramp makes a short run's average reach back a tenth of the run, not to its random beginning.
    """
    return min(limit, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(ema: torch.nn.Module, model: torch.nn.Module, *, decay: float) -> None:
    """``ema = decay * ema + (1 - decay) * model``, for every weight."""
    for average, weight in zip(ema.parameters(), model.parameters(), strict=True):
        average.lerp_(weight, 1 - decay)
