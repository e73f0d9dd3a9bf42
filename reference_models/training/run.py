"""A run from its first step to its report: train until the length is reached, leave checkpoints, evaluate."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from memgen_eval import Images, evaluate
from memgen_eval.compute.resources import processor_name
from memgen_eval.errors import InputError
from reference_models.sample import BLOCK, quiet_clipping, sampler_of
from reference_models.training.checkpoints import Checkpoint, Trained, is_kept, save_averages, save_state, states
from reference_models.training.folder import KeptPace, keep_pace, kept_pace
from reference_models.training.pace import Pace, at_pace, choose_pace
from reference_models.training.parallel import Team
from reference_models.training.state import new_model, training_device
from reference_models.training.train import TrainingStep, train

if TYPE_CHECKING:
    from memgen_eval import Report
    from memgen_eval.data.images import ImageSet
    from reference_models.recipes import Recipe

SECONDS_BETWEEN_STATES = 60

log = logging.getLogger("reference_models")


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


@dataclass(frozen=True)
class Watcher:
    """Who is told of every step, and of the checkpoint whenever averages have been kept."""

    on_step: Callable[[TrainingStep, Checkpoint], None]
    on_kept: Callable[[Checkpoint], None] | None = None


def continue_training(
    folder: Path,
    checkpoint: Checkpoint,
    images: ImageSet,
    length: Length,
    *,
    watcher: Watcher,
    team: Team | None = None,
    pace: Pace | None = None,
) -> Checkpoint:
    """Train until the length is reached, leaving checkpoints in the run's folder; the last state, with its seconds.

    Averages are kept at the steps of `is_kept` and at the end; a state to go on from is written with them and every
    minute. Time is that of the steps alone.

    Raises
    ------
    InputError
        If the loss is no longer finite: the message names the last checkpoint. If a checkpoint cannot be written.
    """
    team = team or Team()
    pace = pace or Pace(torch.get_num_threads(), channels_last=True, compiled=False)
    pixels, recipe = torch.from_numpy(images.array()), checkpoint.recipe
    steps = train(checkpoint.state, pixels, recipe, team=team, num_workers=pace.num_workers, compiled=pace.compiled)
    saved = checkpoint.seconds
    while length.done(checkpoint) < 1:
        start = time.monotonic()
        step = _next_step(steps, folder)
        checkpoint = replace(checkpoint, seconds=checkpoint.seconds + team.of_first(time.monotonic() - start))
        watcher.on_step(step, checkpoint)
        kept = is_kept(step.step) or length.done(checkpoint) >= 1
        if kept or checkpoint.seconds - saved >= SECONDS_BETWEEN_STATES:
            _save(folder, checkpoint, team, kept=kept)
            saved = checkpoint.seconds
        if kept and watcher.on_kept is not None:
            watcher.on_kept(checkpoint)
    return checkpoint


def _next_step(steps: Iterator[TrainingStep], folder: Path) -> TrainingStep:
    try:
        return next(steps)
    except InputError as error:
        path = next(reversed(states(folder).values()), None)
        left = f"the last good checkpoint is {path}" if path else "there is no checkpoint yet"
        raise InputError(f"{error}; {left}") from None


def _save(folder: Path, checkpoint: Checkpoint, team: Team, *, kept: bool) -> None:
    """Averages first: where a state is, the averages of all steps before it are."""
    with team.ranks.together():
        if team.leads:
            if kept:
                save_averages(folder, checkpoint)
            save_state(folder, checkpoint)


def settled_pace(folder: Path, recipe: Recipe, *, num_ranks: int, num_steps: int, num_threads: int | None) -> Pace:
    """The pace of a run: the one that it began with, or one that is chosen now and kept.

    On another processor, with another number of threads or another GPU it is chosen anew, which is logged: the training
    then goes on with other roundings.

    Parameters
    ----------
    folder : path
        Of the run.
    recipe : Recipe
        Of the run.
    num_ranks : int
        Of processes, which share each batch; then no workers do, nor where there is dropout: it takes random numbers
        from all of torch's threads at once.
    num_steps : int
        Of the whole training, roughly.
    num_threads : int, optional
        If they are to be that many.
    """
    device = training_device()
    machine = {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }
    kept = kept_pace(folder)
    if kept is not None and kept.machine == machine and num_threads in {None, kept.pace.num_threads}:
        return kept.pace
    if kept is not None:
        log.warning("%s: the pace is measured anew on %s, it was chosen on %s", folder, machine, dict(kept.machine))
    with torch.random.fork_rng(devices=[]):
        model = new_model(recipe).to(device)
    num_parts = num_ranks * recipe.accumulation
    with at_pace(Pace(num_threads or torch.get_num_threads(), channels_last=True, compiled=False)):
        pace = choose_pace(
            model,
            recipe.unet.image_shape,
            batch_size=recipe.batch_size // num_parts,
            num_steps=num_steps * num_parts,
            precision=recipe.precision,
            shared=num_ranks == 1 and not recipe.unet.dropout,
        )
    pace = replace(pace, num_threads=num_threads or pace.num_threads)
    keep_pace(folder, KeptPace(pace, machine))
    return pace


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Have torch use only algorithms that give the same bits each time, on GPUs too, or raise RuntimeError."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def evaluate_model(
    trained: Trained, images: ImageSet, *, num_samples: int, data_dir: str | Path | None = None
) -> Report:
    """The report on a model, its training set exactly the images that it was trained on.

    The held-out images are those of its selection.
    """
    recipe, denoiser = trained.recipe, trained.denoiser
    test = recipe.selection.test(data_dir)
    with quiet_clipping():
        return evaluate(
            sampler_of(denoiser, recipe.unet.image_shape, seed=recipe.seed),
            train=Images(images.array(), names=images.names),
            test=None if test is None else Images(test.array(), names=test.names),
            denoiser=denoiser,
            num_samples=num_samples,
            batch_size=BLOCK,
            value_range=(-1, 1),
            seed=recipe.seed,
            data_dir=data_dir,
        )
