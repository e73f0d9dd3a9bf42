"""The curves of a training for TensorBoard, where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reference_models.training.train import TrainingStep

FOLDER = "tensorboard"
STEPS_BETWEEN = 10

Write = Callable[[TrainingStep, float], None]  # a step, and images per second


@contextmanager
def scalars(folder: Path, *, first_step: int) -> Iterator[Write]:
    """What writes loss, learning rate and images per second of every tenth step into a run's folder.

    What an interrupted training wrote of steps after `first_step` is no longer shown. Without TensorBoard nothing is
    written, and on a full disk no more.
    """
    with warnings.catch_warnings(action="ignore"):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            yield _nothing
            return
    writer = SummaryWriter(folder / FOLDER, purge_step=first_step + 1)

    def write(step: TrainingStep, rate: float) -> None:
        if step.step % STEPS_BETWEEN:
            return
        values = {"loss": step.loss, "learning_rate": step.learning_rate, "images_per_second": rate}
        with suppress(OSError):
            for name, value in values.items():
                writer.add_scalar(name, value, step.step)

    try:
        yield write
    finally:
        with suppress(OSError):
            writer.close()


def _nothing(step: TrainingStep, rate: float) -> None:
    del step, rate
