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
from benchmarks.machine import gpu_floor
from benchmarks.stopwatch import Stopwatch
from benchmarks.test_training import PEER, Peer, noise, plain_steps
from reference_models.presets import PRESETS
from reference_models.recipes import Precision
from reference_models.training.state import new_state
from reference_models.training.train import train

COMPILED = "memgen_eval, compiled"
PRESET, SHAPE, NUM_STEPS = "cifar10", (3, 32, 32), 20
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
BATCH_SIZE = PRESETS[PRESET].batch_size
ARITHMETIC = {"float32": "tf32", "bfloat16": "bfloat16"}  # torch convolves float32 images in TF32 by default


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


def ours(precision: Precision, *, compiled: bool) -> Steps:
    """Our trainer after its first two steps."""
    pixels, recipe = noise(SHAPE, preset=PRESET, precision=precision)
    with FlopCounterMode(display=False) as counter:
        next(train(new_state(recipe, device="cuda"), pixels, recipe))
    steps = train(new_state(recipe, device="cuda"), pixels, recipe, compiled=compiled)
    for _ in range(2):
        next(steps)
    return Steps(lambda: next(steps).loss, counter.get_total_flops())


def peer(precision: Precision) -> Steps:
    """The peer's network in a plain loop, on one batch, after its first two steps."""
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network, shape = Peer(PRESETS[PRESET].unet(SHAPE)), (BATCH_SIZE, *SHAPE)
    step = plain_steps(network, shape, torch.contiguous_format, device="cuda", precision=precision)
    with FlopCounterMode(display=False) as counter:
        step()
    step()
    return Steps(step, counter.get_total_flops())


METHODS: dict[str, Callable[[Precision], Steps]] = {
    OURS: partial(ours, compiled=False),
    COMPILED: partial(ours, compiled=True),
    PEER: peer,
}


@pytest.fixture(scope="module")
def made() -> dict[tuple[str, str], Steps]:
    """Trainings by precision and method."""
    return {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_on_a_gpu(
    precision: Precision, turn: int, method: str, stopwatch: Stopwatch, made: dict[tuple[str, str], Steps]
) -> None:
    """The floor counts the products and convolutions of the method's own steps at the data sheet's rate."""
    if method == COMPILED and precision == "float32":
        pytest.skip("compiling takes more than a minute: bfloat16 shows what it gains")
    if (precision, method) not in made:
        made[precision, method] = METHODS[method](precision)
    training, name = made[precision, method], torch.cuda.get_device_name()
    floor = gpu_floor(name, ARITHMETIC[precision], NUM_STEPS * training.num_operations)
    case = f"training on {name}, {PRESET}, {precision}: {NUM_STEPS} steps on {BATCH_SIZE} images"
    loss = stopwatch(training.run, case=case, method=method, floor=floor)
    assert np.isfinite(loss)
    stopwatch.note(answer=f"{training.num_operations / 1e9:.0f} Gop a step")
