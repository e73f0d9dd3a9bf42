"""Steps of our trainer on a GPU beside diffusers' UNet2DModel of the same sizes and batch: skipped without a GPU.

A step of ours is a whole one, from the drawing of a batch on the processor to the averages of the weights. The peer's
is a forward and a backward pass and Adam's step on a batch that is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import OURS
from benchmarks.stopwatch import Stopwatch
from benchmarks.test_training import PEER, Peer
from memgen_eval import Images
from memgen_eval.data.sources import load_images
from reference_models.data import Selection
from reference_models.precond import Preconditioned, training_loss
from reference_models.recipes import Precision, Recipe, recipe_for
from reference_models.training.state import new_state
from reference_models.training.train import train

COMPILED = "memgen_eval, compiled"
PRESET, SHAPE, NUM_STEPS = "cifar10", (3, 32, 32), 20
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
BFLOAT16_PEAKS = {"H100": 9.89e14, "H200": 9.89e14}  # dense operations a second, NVIDIA's data sheets
TF32_PEAKS = {"H100": 4.95e14, "H200": 4.95e14}  # in which torch convolves float32 images by default


@dataclass(frozen=True, eq=False)
class Steps:
    """A training that goes on from turn to turn."""

    step: Callable[[], float]  # to its loss
    num_operations: float  # of products and convolutions in one step

    def run(self) -> float:
        """The mean loss of a turn's steps; it ends when the GPU has done them."""
        losses = [self.step() for _ in range(NUM_STEPS)]
        torch.cuda.synchronize()
        return float(np.mean(losses))


def ours(pixels: torch.Tensor, recipe: Recipe, *, compiled: bool) -> Steps:
    """Our trainer after its first two steps."""
    with FlopCounterMode(display=False) as counter:
        next(train(new_state(recipe, device="cuda"), pixels, recipe))
    steps = train(new_state(recipe, device="cuda"), pixels, recipe, compiled=compiled)
    for _ in range(2):
        next(steps)
    return Steps(lambda: next(steps).loss, counter.get_total_flops())


def peer(recipe: Recipe) -> Steps:
    """The peer's network in a plain loop, on one batch."""
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = Preconditioned(Peer(recipe.unet), sigma_data=0.5).cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x0, eps = (torch.randn(recipe.batch_size, *SHAPE, device="cuda") for _ in range(2))
    z = torch.randn(recipe.batch_size, device="cuda")

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = training_loss(model, (x0 / 2).clamp(-1, 1), eps=eps, z=z)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    with FlopCounterMode(display=False) as counter:
        step()
    step()
    return Steps(step, counter.get_total_flops())


def trainings(precision: Precision) -> dict[str, Callable[[], Steps]]:
    """What makes each method's training."""
    pixels = np.random.default_rng(0).integers(256, size=(1024, *SHAPE), dtype=np.uint8)
    images = load_images(Images(pixels), argument="train")
    recipe = recipe_for(images, Selection("noise"), preset=PRESET, precision=precision)
    tensor = torch.from_numpy(pixels)
    return {
        OURS: partial(ours, tensor, recipe, compiled=False),
        COMPILED: partial(ours, tensor, recipe, compiled=True),
        PEER: partial(peer, recipe),
    }


@pytest.fixture(scope="module")
def made() -> dict[tuple[str, str], Steps]:
    """Trainings by precision and method."""
    return {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("method", [OURS, COMPILED, PEER])
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_on_a_gpu(
    precision: Precision, turn: int, method: str, stopwatch: Stopwatch, made: dict[tuple[str, str], Steps]
) -> None:
    """The floor counts the products and convolutions of the method's own steps at the data sheet's rate."""
    if method == COMPILED and precision == "float32":
        pytest.skip("compiling takes more than a minute: bfloat16 shows what it gains")
    if (precision, method) not in made:
        made[precision, method] = trainings(precision)[method]()
    training, name = made[precision, method], torch.cuda.get_device_name()
    peaks = BFLOAT16_PEAKS if precision == "bfloat16" else TF32_PEAKS
    peak = next((peak for part, peak in peaks.items() if part in name), None)
    floor = None if peak is None else NUM_STEPS * training.num_operations / peak
    case = f"training on {name}, {PRESET}, {precision}: {NUM_STEPS} steps on 128 images"
    loss = stopwatch(training.run, case=case, method=method, floor=floor)
    assert np.isfinite(loss)
    stopwatch.note(answer=f"{training.num_operations / 1e9:.0f} Gop a step")
