"""A run from its folder's first file to its report: train until the length is reached, leave checkpoints, evaluate."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from memgen_eval import Images, evaluate
from memgen_eval.data.datasets import test_split
from reference_models.sample import BLOCK, sampler_of
from reference_models.training.checkpoints import Checkpoint, is_kept, save_checkpoint
from reference_models.training.train import TrainingStep, train

if TYPE_CHECKING:
    from memgen_eval import Report
    from memgen_eval.data.images import ImageSet

SECONDS_BETWEEN_CHECKPOINTS = 60


@dataclass(frozen=True)
class Length:
    """How long a training is, all its parts together: up to a step, or for a number of seconds; one of them is None."""

    steps: int | None
    seconds: float | None

    def done(self, checkpoint: Checkpoint) -> float:
        """How much of the training is done: 1 or more at its end."""
        if self.steps is not None:
            return checkpoint.state.step / self.steps
        assert self.seconds is not None
        return checkpoint.seconds / self.seconds


def continue_training(
    folder: Path,
    checkpoint: Checkpoint,
    images: ImageSet,
    length: Length,
    *,
    on_step: Callable[[TrainingStep, Checkpoint], None],
) -> Checkpoint:
    """Train until the length is reached, leaving checkpoints in the run's folder; the last state, with its seconds.

    Checkpoints are written at steps 128, 256, 512, ..., every minute, and at the end.
    """
    before, saved, start = checkpoint.seconds, checkpoint.seconds, time.monotonic()
    steps = train(checkpoint.state, torch.from_numpy(images.array()), checkpoint.recipe)
    while length.done(checkpoint) < 1:
        step = next(steps)
        checkpoint = replace(checkpoint, seconds=before + time.monotonic() - start)
        on_step(step, checkpoint)
        due = checkpoint.seconds - saved >= SECONDS_BETWEEN_CHECKPOINTS
        if due or is_kept(step.step) or length.done(checkpoint) >= 1:
            save_checkpoint(folder, checkpoint)
            saved = checkpoint.seconds
    return checkpoint


def evaluate_model(
    checkpoint: Checkpoint, images: ImageSet, *, num_samples: int, data_dir: str | None = None
) -> Report:
    """The report on a model, its training set exactly the images that it was trained on.

    Samples and denoiser are those of the averaged weights; the held-out part of a named set is the test set.
    """
    recipe, ema = checkpoint.recipe, checkpoint.state.ema
    with warnings.catch_warnings():
        # The range of our own samples is known, and the share beyond it stands in the report's notes.
        warnings.filterwarnings("ignore", message=r"samples \(.*clipped to")
        return evaluate(
            sampler_of(ema, recipe.unet.image_shape, seed=recipe.seed),
            train=Images(images.array(), names=images.names),
            test=test_split(recipe.data),
            denoiser=ema,
            num_samples=num_samples,
            batch_size=BLOCK,
            value_range=(-1, 1),
            seed=recipe.seed,
            data_dir=data_dir,
        )
