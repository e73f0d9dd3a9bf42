"""How a training runs fastest on this machine: threads, memory layout and compilation, measured at its start."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, TypeVar

import torch
from torch import Tensor

from reference_models.precond import Preconditioned, training_loss
from reference_models.training.workers import Workers, share, torch_threads

LEAST_ROUNDS, SECONDS = 3, 0.4  # of a race: each contender's steps, and how long it goes on if they are short
WORTH_MORE_THREADS = 1.2  # times as fast: a second thread that gains less waits for the first most of the time
WORTH_A_CHANGE = 1.05  # times as fast: less is within the noise of a busy machine; workers do not wait for each other
SHORT = 50  # steps that repay no measuring
# Seconds of training that repay trying the compiler. On a CPU it took 100 seconds and gained 3 %: the convolutions run
# at the processor's rate as they are. On an H100 it took 75 seconds, and bfloat16 steps were 1.67 times as fast.
LONG = {"cpu": 36_000.0, "cuda": 300.0}

Contender = TypeVar("Contender")
Step = Callable[[], None]


@dataclass(frozen=True)
class Pace:
    """What a training runs with. The same on resuming, its steps are the same bit for bit on a CPU.

    Attributes
    ----------
    num_threads : int
        On the CPU.
    channels_last : bool
        Whether weights and images lie in memory with their channels side by side.
    compiled : bool
        Whether torch compiles the network.
    num_workers : int
        Threads that share each batch; torch's own threads are divided among them.
    """

    num_threads: int
    channels_last: bool
    compiled: bool
    num_workers: int = 1


def at_pace(pace: Pace) -> AbstractContextManager[None]:
    """Let torch compute with the pace's threads, and with those of before afterwards."""
    return torch_threads(pace.num_threads)


def choose_pace(
    model: Preconditioned,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int,
    num_steps: int,
    precision: Literal["float32", "bfloat16"] = "float32",
    shared: bool = False,
) -> Pace:
    """The fastest pace for this model and batch, by a second or more of its own forward and backward passes.

    Threads are doubled, up to those that torch has now, as long as it pays: as workers if a doubling makes a step 1.05
    times as fast, else as threads of torch's own if it makes one 1.2 times as fast. Passes of what is compared take
    turns, and their medians count, so that a busy spell slows all of them. The compiler is tried where the training
    will take ten hours, five minutes on a GPU. Weights, gradients, random states and the number of threads are
    afterwards as they were.

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
    shared : bool
        Whether workers may share a batch.
    """
    device = next(model.parameters()).device
    threads, last = torch.get_num_threads(), device.type != "cpu" or precision == "float32"
    if num_steps < SHORT:
        return Pace(threads if device.type != "cpu" else 1, channels_last=last, compiled=False)
    copies = {layout: copy.deepcopy(model).to(memory_format=layouts(layout)) for layout in (True, False)}
    batch = made_up_batch((batch_size, *image_shape), device)
    num_workers = 1
    with torch.random.fork_rng():  # dropout
        if device.type == "cpu":
            threads, num_workers = enough_threads(
                lambda number: step_of(copies[last], batch, precision, number),
                threads,
                most_workers=min(threads, batch_size) if shared else 1,
            )
        steps = {layout: step_of(copies[layout], batch, precision, num_workers) for layout in copies}
        with torch_threads(threads // num_workers):
            seconds = race(steps)
            if seconds[last] >= WORTH_A_CHANGE * seconds[not last]:
                last = not last
            compiled = (
                num_workers == 1
                and num_steps * seconds[last] > LONG[device.type]
                and compiler_pays(copies[last], steps[last], batch, precision)
            )
    return Pace(threads, last, compiled, num_workers)


def layouts(channels_last: bool) -> torch.memory_format:
    """Torch's name of a layout."""
    return torch.channels_last if channels_last else torch.contiguous_format


def made_up_batch(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images, noise (B, C, H, W) and draws of the noise level (B,); global random states are left alone."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
    return x0.clamp(-1, 1), eps, torch.randn(shape[0], generator=generator).to(device)


def step_of(model: Preconditioned, batch: tuple[Tensor, Tensor, Tensor], precision: str, num_workers: int = 1) -> Step:
    """A forward and a backward pass of each worker's share, which ends when the device has done it."""
    device, size = batch[0].device, len(batch[0])
    workers = Workers(model, num_workers)
    shares = [share(slice(0, size), place, num_workers) for place in range(num_workers)]

    def backward(model: Preconditioned, images: slice) -> Tensor:
        x0, eps, z = (values[images] for values in batch)
        model.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = training_loss(model, x0, eps=eps, z=z)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step() -> None:
        workers.add_up(backward, shares)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

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


def enough_threads(step_of_workers: Callable[[int], Step], most: int, *, most_workers: int) -> tuple[int, int]:
    """The numbers of threads, at most `most`, and of workers among them, beyond which no doubling pays."""

    def with_threads(each: int, workers: int) -> Step:
        step = step_of_workers(workers)

        def run() -> None:
            with torch_threads(each):
                step()

        return run

    each, workers = 1, 1
    while True:
        more_workers = each, min(2 * workers, most // each, most_workers)
        more_each = min(2 * each, most // workers), workers
        for more, worth in ((more_workers, WORTH_A_CHANGE), (more_each, WORTH_MORE_THREADS)):
            if more == (each, workers):
                continue
            seconds = race({numbers: with_threads(*numbers) for numbers in ((each, workers), more)})
            if seconds[each, workers] >= worth * seconds[more]:
                each, workers = more
                break
        else:
            return each * workers, workers


def compiler_pays(model: Preconditioned, step: Step, batch: tuple[Tensor, Tensor, Tensor], precision: str) -> bool:
    """Whether a compiled model is faster by more than noise; False where nothing can be compiled."""
    twin = copy.deepcopy(model)
    twin.network.compile()
    try:
        seconds = race({False: step, True: step_of(twin, batch, precision)})
    except (RuntimeError, OSError, ImportError):  # no compiler, or one that fails
        return False
    return seconds[False] >= WORTH_A_CHANGE * seconds[True]
