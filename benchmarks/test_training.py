"""Steps of our network beside diffusers' UNet2DModel of the same sizes and batch, and of our trainer at its pace.

Both in float32. UNet2DModel has the same widths, layers and attention, and Adam. A step of the trainer is a whole one,
from the drawing of a batch to the averages of the weights, beside the same on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import OURS
from benchmarks.machine import Peaks
from benchmarks.stopwatch import Stopwatch
from memgen_eval import Images
from memgen_eval.compute.resources import keep_freed_memory
from memgen_eval.data.sources import load_images
from reference_models.data import Selection
from reference_models.precond import Preconditioned, training_loss
from reference_models.presets import PRESETS
from reference_models.recipes import Precision, Recipe, recipe_for
from reference_models.training.pace import Pace, at_pace, choose_pace
from reference_models.training.state import new_model, new_state
from reference_models.training.train import TrainingStep, train
from reference_models.unet import UNet, UNetConfig

TURNS = range(3)
PEER = "diffusers UNet2DModel"
ONE_THREAD = "memgen_eval, one thread"
SHAPES = {"digits": (1, 8, 8), "small": (3, 32, 32)}
NUM_STEPS = {"digits": 10, "small": 1}  # of a turn


class Peer(nn.Module):
    """UNet2DModel of a configuration; it has a block a level more on the way up, and convolutions between levels."""

    def __init__(self, config: UNetConfig) -> None:
        from diffusers.models.unets.unet_2d import UNet2DModel

        super().__init__()
        sides = [config.image_shape[1] >> level for level in range(len(config.multipliers))]
        attends = [side in config.attention_sides for side in sides]
        self.network: nn.Module = UNet2DModel(
            sample_size=config.image_shape[1],
            in_channels=config.image_shape[0],
            out_channels=config.image_shape[0],
            layers_per_block=config.num_blocks,
            block_out_channels=tuple(config.channels * multiplier for multiplier in config.multipliers),
            down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
            up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
            norm_num_groups=8,
            attention_head_dim=64,
            resnet_time_scale_shift="scale_shift",
        )

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """From images (B, C, H, W) and noise (B,) to (B, C, H, W)."""
        out: Tensor = self.network(x, noise).sample
        return out


METHODS: dict[str, tuple[Callable[[UNetConfig], nn.Module], torch.memory_format]] = {
    OURS: (UNet, torch.channels_last),
    PEER: (Peer, torch.contiguous_format),  # with channels last it is slower, by a tenth
}


@dataclass(frozen=True, eq=False)
class Training:
    """A model in training on one batch: the same for all methods."""

    case: str
    step: Callable[[], float]  # to the loss before it
    first_loss: float
    num_operations: float  # of a step, those of products and convolutions

    def run(self) -> float:
        """The loss before the last of a turn's steps."""
        losses = [self.step() for _ in range(NUM_STEPS[self.case])]
        return losses[-1]


def plain_steps(
    network: nn.Module,
    shape: tuple[int, ...],
    layout: torch.memory_format,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
) -> Callable[[], float]:
    """A step of Adam on one batch of noise (B, C, H, W), to the loss before it."""
    model = Preconditioned(network, sigma_data=0.5).to(device).to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x0, eps = (torch.randn(shape).to(device, memory_format=layout) for _ in range(2))
    z = torch.randn(shape[0]).to(device)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = training_loss(model, (x0 / 2).clamp(-1, 1), eps=eps, z=z)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return step


def training(case: str, method: str) -> Training:
    """A new model, and its operations counted in a step."""
    make, layout = METHODS[method]
    torch.manual_seed(0)
    preset, shape = PRESETS[case], SHAPES[case]
    step = plain_steps(make(preset.unet(shape)), (preset.batch_size, *shape), layout)
    with FlopCounterMode(display=False) as counter:
        first_loss = step()
    return Training(case, step, first_loss, counter.get_total_flops())


@pytest.fixture(scope="module")
def trainings() -> dict[tuple[str, str], Training]:
    """By case and method: one goes on from turn to turn."""
    return {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("case", SHAPES)
def test_steps(
    case: str,
    turn: int,
    method: str,
    peaks: Peaks,
    stopwatch: Stopwatch,
    trainings: dict[tuple[str, str], Training],
) -> None:
    """The floor counts the products and convolutions of the method's own steps."""
    if method != OURS:
        pytest.importorskip("diffusers")
    if (case, method) not in trainings:
        trainings[case, method] = training(case, method)
    model, preset, number = trainings[case, method], PRESETS[case], NUM_STEPS[case]
    title = f"training, {case}: {number} steps on {preset.batch_size} images"
    loss = stopwatch(model.run, case=title, method=method, floor=number * model.num_operations / peaks.float32)
    assert loss < model.first_loss  # of the one batch that it learns
    stopwatch.note(answer=f"it learns; {model.num_operations / 1e9:.1f} Gop a step")


@dataclass(eq=False)
class Trainer:
    """Our trainer at a pace; it goes on from turn to turn."""

    pace: Pace
    steps: Iterator[TrainingStep]
    losses: list[float] = field(default_factory=list)

    def run(self, number: int) -> None:
        """Take this number of steps."""
        with at_pace(self.pace):
            self.losses += [next(self.steps).loss for _ in range(number)]


def noise(
    shape: tuple[int, ...], *, preset: str | None = None, precision: Precision = "float32"
) -> tuple[Tensor, Recipe]:
    """Images of noise, and the recipe for them."""
    pixels = np.random.default_rng(0).integers(256, size=(256, *shape), dtype=np.uint8)
    images = load_images(Images(pixels), argument="train")
    return torch.from_numpy(pixels), recipe_for(images, Selection("noise"), preset=preset, precision=precision)


def trainer(case: str, method: str) -> tuple[Trainer, float]:
    """A new training after its first step, and the operations of a step; the pace is chosen, or that of one thread."""
    pixels, recipe = noise(SHAPES[case])
    pace = Pace(1, channels_last=True, compiled=False)
    with FlopCounterMode(display=False) as counter:
        next(train(new_state(recipe), pixels, recipe))
    if method == OURS:
        shape, size = recipe.unet.image_shape, recipe.batch_size
        pace = choose_pace(new_model(recipe), shape, batch_size=size, num_steps=PRESETS[case].num_steps, shared=True)
    state = new_state(recipe, channels_last=pace.channels_last)
    with at_pace(pace):
        made = Trainer(pace, train(state, pixels, recipe, num_workers=pace.num_workers))
        made.run(1)
    return made, counter.get_total_flops()


@pytest.fixture(scope="module")
def trainers() -> dict[tuple[str, str], tuple[Trainer, float]]:
    """By case and method, in a process that keeps what it frees, as `memgen-train` does."""
    keep_freed_memory()
    return {}


@pytest.mark.parametrize("method", [OURS, ONE_THREAD])
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("case", SHAPES)
def test_whole_steps(
    case: str,
    turn: int,
    method: str,
    peaks: Peaks,
    stopwatch: Stopwatch,
    trainers: dict[tuple[str, str], tuple[Trainer, float]],
) -> None:
    """The floor counts products and convolutions on all threads; the losses of both methods differ by roundings."""
    if (case, method) not in trainers:
        trainers[case, method] = trainer(case, method)
    (ours, num_operations), number = trainers[case, method], NUM_STEPS[case]
    title = f"trainer, {case}: {number} steps on {PRESETS[case].batch_size} images"
    floor = number * num_operations / peaks.float32
    stopwatch(lambda: ours.run(number), case=title, method=method, floor=floor)
    if (case, ONE_THREAD) in trainers:
        other = trainers[case, ONE_THREAD][0].losses
        common = min(len(other), len(ours.losses))
        np.testing.assert_allclose(ours.losses[:common], other[:common], rtol=1e-3)
    pace = f"{ours.pace.num_threads} threads, {ours.pace.num_workers} workers"
    stopwatch.note(answer=f"{pace}; {num_operations / 1e9:.1f} Gop a step")
