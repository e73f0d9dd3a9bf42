"""How a training runs fastest on this machine: threads, memory layout and compilation, measured at its start."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, TypeVar

import torch
from torch import Tensor

from reference_models.precond import Preconditioned, training_loss

LEAST_ROUNDS, SECONDS = 3, 0.4  # of a race: each contender's steps, and how long it goes on if they are short
WORTH_MORE_THREADS = 1.2  # times as fast: a second thread that gains less waits for the first most of the time
WORTH_A_CHANGE = 1.05  # times as fast: less is within the noise of a busy machine
SHORT = 50  # steps that repay no measuring
# Seconds of training that repay trying the compiler. On a CPU it took 100 seconds and gained 3 %: the convolutions run
# at the processor's rate as they are. On GPUs nothing was measured.
LONG = {"cpu": 36_000.0, "cuda": 900.0}

Contender = TypeVar("Contender")
Step = Callable[[], None]


@dataclass(frozen=True)
class Pace:
    """What a training runs with. The same on resuming, its steps are the same bit for bit on a CPU.

    Attributes
    ----------
    num_threads : int
        Of torch, on the CPU.
    channels_last : bool
        Whether weights and images lie in memory with their channels side by side.
    compiled : bool
        Whether torch compiles the network.
    """

    num_threads: int
    channels_last: bool
    compiled: bool


@contextmanager
def at_pace(pace: Pace) -> Iterator[None]:
    """Let torch compute with the pace's threads, and with those of before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(pace.num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_pace(
    model: Preconditioned,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int,
    num_steps: int,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Pace:
    """The fastest pace for this model and batch, by a second or more of its own forward and backward passes.

    Threads are doubled, up to those that torch has now, as long as each doubling makes a step 1.2 times as fast: images
    of 8 x 8 want one thread. Passes of what is compared take turns, and their medians count, so that a busy spell slows
    all of them. The compiler is tried where the training will take ten hours, a quarter of one on a GPU. Weights,
    gradients, random states and the number of threads are afterwards as they were.

    Parameters
    ----------
    model : Preconditioned
        On the device of the training.
    image_shape : (C, H, W)
        Of an image.
    batch_size : int
        Images to a pass.
    num_steps : int
        Passes that the training will take.
    precision : "float32" or "bfloat16"
        That of the convolutions.
    """
    device = next(model.parameters()).device
    threads, last = torch.get_num_threads(), device.type != "cpu" or precision == "float32"
    if num_steps < SHORT:
        return Pace(threads if device.type != "cpu" else 1, channels_last=last, compiled=False)
    copies = {layout: copy.deepcopy(model).to(memory_format=layouts(layout)) for layout in (True, False)}
    batch = made_up_batch((batch_size, *image_shape), device)
    steps = {layout: step_of(copies[layout], batch, precision) for layout in copies}
    with torch.random.fork_rng():  # dropout
        num_threads = enough_threads(steps[last], threads) if device.type == "cpu" else threads
        with at_pace(Pace(num_threads, last, compiled=False)):
            seconds = race(steps)
            if seconds[last] >= WORTH_A_CHANGE * seconds[not last]:
                last = not last
            compiled = num_steps * seconds[last] > LONG[device.type] and compiler_pays(
                copies[last], steps[last], batch, precision
            )
    return Pace(num_threads, channels_last=last, compiled=compiled)


def layouts(channels_last: bool) -> torch.memory_format:
    """Torch's name of a layout."""
    return torch.channels_last if channels_last else torch.contiguous_format


def made_up_batch(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images, noise (B, C, H, W) and draws of the noise level (B,); global random states are left alone."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    return x0.clamp(-1, 1), eps, torch.randn(shape[0], generator=generator).to(device)


def step_of(model: Preconditioned, batch: tuple[Tensor, Tensor, Tensor], precision: str) -> Step:
    """A forward and a backward pass, which ends when the device has done it."""
    x0, eps, z = batch

    def step() -> None:
        model.zero_grad()
        with torch.autocast(z.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = training_loss(model, x0, eps=eps, z=z)
        loss.backward()  # type: ignore[no-untyped-call]
        if z.device.type == "cuda":
            torch.cuda.synchronize(z.device)

    return step


def race(contenders: Mapping[Contender, Step]) -> dict[Contender, float]:
    """The median seconds of each one's steps, taken in turns after one that does not count."""
    for step in contenders.values():
        step()
    taken: dict[Contender, list[float]] = {name: [] for name in contenders}
    start = perf_counter()
    rounds = 0
    while rounds < LEAST_ROUNDS or perf_counter() - start < SECONDS:
        for name, step in contenders.items():
            before = perf_counter()
            step()
            taken[name].append(perf_counter() - before)
        rounds += 1
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def enough_threads(step: Step, most: int) -> int:
    """The number of threads beyond which a doubling gains less than `WORTH_MORE_THREADS`, at most `most`."""

    def with_threads(number: int) -> Step:
        def run() -> None:
            with at_pace(Pace(number, channels_last=False, compiled=False)):
                step()

        return run

    number = 1
    while number < most:
        more = min(2 * number, most)
        seconds = race({count: with_threads(count) for count in (number, more)})
        if seconds[number] < WORTH_MORE_THREADS * seconds[more]:
            break
        number = more
    return number


def compiler_pays(model: Preconditioned, step: Step, batch: tuple[Tensor, Tensor, Tensor], precision: str) -> bool:
    """Whether a compiled model is faster by more than noise; False where nothing can be compiled."""
    twin = copy.deepcopy(model)
    twin.network.compile()
    try:
        seconds = race({False: step, True: step_of(twin, batch, precision)})
    except (RuntimeError, OSError, ImportError):  # no compiler, or one that fails
        return False
    return seconds[False] >= WORTH_A_CHANGE * seconds[True]
