"""What a training is made of: a model, averages of its weights, Adam's moments, the losses so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reference_models.precond import Preconditioned, training_loss
from reference_models.recipes import Recipe
from reference_models.training.pace import layouts
from reference_models.unet import UNet


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A model in training: its weights, their averages in the recipe's order, Adam's moments, each step's loss."""

    model: Preconditioned
    averages: tuple[Preconditioned, ...]
    optimizer: torch.optim.Adam
    losses: list[float]

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device


class Objective(nn.Module):
    """The loss of a model as a module of its own, which is what `DistributedDataParallel` and the compiler wrap."""

    def __init__(self, model: Preconditioned) -> None:
        super().__init__()
        self.model = model

    def forward(self, x0: Tensor, eps: Tensor, z: Tensor) -> Tensor:
        """From images in [-1, 1] and noise (B, C, H, W), and draws of the noise level (B,), to a scalar."""
        return training_loss(self.model, x0, eps=eps, z=z)


def training_device() -> torch.device:
    """A GPU of NVIDIA's or AMD's where torch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def new_state(recipe: Recipe, *, device: torch.device | str = "cpu", channels_last: bool = True) -> TrainingState:
    """A model before its first step: its weights depend on the recipe's seed, global random states on nothing here."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        model = new_model(recipe)
        averages = tuple(new_model(recipe) for _ in recipe.ema_lengths)
    for average in averages:
        average.load_state_dict(model.state_dict())
        average.requires_grad_(False).eval()
    for part in (model, *averages):
        part.to(device).to(memory_format=layouts(channels_last))
    return TrainingState(model, averages, torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True), [])


def new_model(recipe: Recipe) -> Preconditioned:
    """The recipe's network as a denoiser, with fresh weights of the global random state."""
    return Preconditioned(UNet(recipe.unet), recipe.parametrization, sigma_data=recipe.sigma_data)
