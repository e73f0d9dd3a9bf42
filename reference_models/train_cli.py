"""``memgen-train``: images to a run folder with a trained model and the report on it."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memgen_eval.compute.resources import keep_freed_memory
from memgen_eval.errors import InputError
from memgen_eval.shell import DONE, run, tell, whole_process
from reference_models.bars import bar
from reference_models.train_arguments import PROGRAM, check_arguments, parser

if TYPE_CHECKING:
    from memgen_eval.data.images import ImageSet
    from reference_models.data import Selection
    from reference_models.recipes import Recipe
    from reference_models.training.checkpoints import Checkpoint
    from reference_models.training.pace import Pace
    from reference_models.training.parallel import Team
    from reference_models.training.run import Length
    from reference_models.training.train import TrainingStep

STEPS_OF_A_MINUTE = 1000  # roughly: how much measuring a training by the clock repays

__all__ = ["PROGRAM", "entry", "main", "parser"]


@dataclass(frozen=True)
class Job:
    """What a command asks for, once its images are read."""

    arguments: argparse.Namespace
    folder: Path
    images: ImageSet
    recipe: Recipe
    length: Length
    team: Team


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)

    def command() -> int:
        from memgen_eval.distributed import on_every_rank

        return on_every_rank(lambda: run(PROGRAM, lambda: _run(typed)))

    return run(PROGRAM, command)


def entry() -> NoReturn:
    """The console script."""
    keep_freed_memory()
    whole_process(PROGRAM, main)


def _run(typed: list[str]) -> int:
    arguments = parser().parse_args(typed)
    check_arguments(arguments)

    from reference_models.data import Selection
    from reference_models.training.parallel import joined_team

    selection = Selection(
        arguments.data, arguments.num_images, half=arguments.half, side=arguments.side, grey=arguments.grey
    )
    images = selection.train(arguments.data_dir)
    recipe = _recipe(arguments, images, selection)
    folder = arguments.out or Path("runs") / f"{Path(arguments.data).stem}-{len(images)}"
    with joined_team() as team:
        job = Job(arguments, folder, images, recipe, _length(arguments, recipe), team)
        _train_and_evaluate(job, shlex.join([PROGRAM, *typed]))
    return DONE


def _recipe(arguments: argparse.Namespace, images: ImageSet, selection: Selection) -> Recipe:
    from reference_models.recipes import WARMUP_STEPS, recipe_for

    return recipe_for(
        images,
        selection,
        preset=arguments.preset,
        channels=arguments.width,
        dropout=arguments.dropout,
        parametrization=arguments.parametrization,
        batch_size=arguments.batch_size,
        learning_rate=arguments.lr,
        warmup_steps=WARMUP_STEPS if arguments.warmup is None else arguments.warmup,
        precision=arguments.precision,
        flip=arguments.flip,
        accumulation=arguments.accumulate,
        seed=arguments.seed,
    )


def _length(arguments: argparse.Namespace, recipe: Recipe) -> Length:
    from reference_models.presets import preset_for, preset_named
    from reference_models.training.run import Length

    if arguments.minutes is not None:
        return Length(steps=None, seconds=60 * arguments.minutes)
    if arguments.epochs is not None:
        return Length(steps=math.ceil(arguments.epochs * recipe.num_images / recipe.batch_size), seconds=None)
    preset = preset_named(arguments.preset) if arguments.preset else preset_for(recipe.unet.image_shape)
    return Length(steps=arguments.steps or preset.num_steps, seconds=None)


def _train_and_evaluate(job: Job, command: str) -> None:
    from reference_models.training.folder import alone_in, start_run
    from reference_models.training.pace import at_pace
    from reference_models.training.run import deterministic

    job.team.parts(job.recipe.batch_size, job.recipe.accumulation)
    if job.arguments.trajectory and job.team.ranks.size > 1:
        raise InputError(
            "--trajectory is for one process: train without it, then give the same command without torchrun"
        )
    with ExitStack() as held:
        with job.team.ranks.together():
            if job.team.leads:
                held.enter_context(alone_in(job.folder))
                start_run(job.folder, job.recipe)
                _keep_images(job)
        held.enter_context(deterministic(job.arguments.deterministic))
        pace = _pace(job)
        held.enter_context(at_pace(pace))
        checkpoint = _train(job, _begun(job, pace), pace)
        if job.arguments.trajectory:
            _finish_trajectory(job)
        if not job.arguments.no_evaluate:
            _evaluate(job, checkpoint, command)


def _pace(job: Job) -> Pace:
    """The first process's, on all of them."""
    from reference_models.training.run import settled_pace

    with job.team.ranks.together():
        chosen = None
        if job.team.leads:
            num_steps = job.length.steps or STEPS_OF_A_MINUTE * math.ceil((job.length.seconds or 0) / 60)
            chosen = settled_pace(
                job.folder,
                job.recipe,
                num_ranks=job.team.ranks.size,
                num_steps=num_steps,
                num_threads=job.arguments.threads,
            )
    pace = job.team.ranks.exchange("the pace", chosen)[0]
    assert pace is not None
    return pace


def _keep_images(job: Job) -> None:
    """Leave the images trained on in the run, for ``memgen-eval samples.npz --train runs/a/train.npz``."""
    from reference_models.sample import write_samples
    from reference_models.training.folder import IMAGES

    if not (job.folder / IMAGES).exists():
        write_samples(job.folder / IMAGES, job.images.array().transpose(0, 2, 3, 1))


def _begun(job: Job, pace: Pace) -> Checkpoint:
    """Where the training stands: the newest state that can be read, or the beginning."""
    from reference_models.training.checkpoints import Checkpoint, load_newest
    from reference_models.training.state import new_state, training_device

    device = training_device()
    with job.team.ranks.together():
        newest = load_newest(job.folder, job.recipe, device=device, channels_last=pace.channels_last)
    if newest is None:
        state = new_state(job.recipe, device=device, channels_last=pace.channels_last)
        return Checkpoint(job.recipe, state, seconds=0.0)
    tell(f"{job.folder}: going on from step {newest.state.step:,}")
    return newest


def _train(job: Job, begun: Checkpoint, pace: Pace) -> Checkpoint:
    from memgen_eval.render.table import write_text
    from reference_models.training.run import Watcher, continue_training
    from reference_models.training.scalars import scalars

    def rate(checkpoint: Checkpoint) -> float:
        steps, seconds = checkpoint.state.step - first_step, checkpoint.seconds - begun.seconds
        return steps * job.recipe.batch_size / seconds if steps else 0.0

    def on_step(step: TrainingStep, checkpoint: Checkpoint) -> None:
        remark = f"step {step.step:,}, loss {step.loss:.3f}, {rate(checkpoint):,.0f} images/s"
        shown(job.length.done(checkpoint), remark)
        if job.team.leads:
            write(step, rate(checkpoint))

    first_step = begun.state.step
    watcher = Watcher(on_step, _evaluator(job) if job.arguments.trajectory else None)
    with bar("training", total=1, stream=sys.stderr) as shown, scalars(job.folder, first_step=first_step) as write:
        checkpoint = continue_training(
            job.folder, begun, job.images, job.length, watcher=watcher, team=job.team, pace=pace
        )
    speed = f"{rate(checkpoint):,.0f} images/s" if checkpoint.state.step > first_step else "trained before"
    write_text(f"{job.folder}: {checkpoint.state.step:,} steps, {speed}{_peak_memory()}\n", sys.stdout)
    return checkpoint


def _evaluator(job: Job) -> Callable[[Checkpoint], None]:
    """What evaluates a checkpoint once it is kept; the training set is prepared once."""
    from reference_models.trajectory.measure import evaluate_missing, reference_of

    reference = reference_of(job.folder, data_dir=job.arguments.data_dir)

    def evaluate_kept(checkpoint: Checkpoint) -> None:
        del checkpoint  # its averages lie in the folder
        evaluate_missing(job.folder, num_samples=job.arguments.num_samples, reference=reference)

    return evaluate_kept


def _finish_trajectory(job: Job) -> None:
    """Evaluate the checkpoints that have no report yet, and write what all of them say together."""
    from memgen_eval.render.table import write_text
    from reference_models.trajectory.measure import PAGE, SUMMARY, evaluate_missing, finish

    evaluate_missing(job.folder, data_dir=job.arguments.data_dir, num_samples=job.arguments.num_samples)
    finish(job.folder)
    write_text("".join(f"{job.folder / name}\n" for name in (SUMMARY, PAGE)), sys.stdout)


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", peak memory {size / (2**30 if sys.platform == 'darwin' else 2**20):.2f} GiB"


def _evaluate(job: Job, checkpoint: Checkpoint, command: str) -> None:
    """Evaluate the default average, by all processes; the first one writes the report."""
    from memgen_eval.render.table import print_table, write_text
    from memgen_eval.terminal.progress import shown_on_terminal
    from reference_models.training.checkpoints import Trained
    from reference_models.training.run import evaluate_model

    recipe, state = checkpoint.recipe, checkpoint.state
    trained = Trained(recipe, state.step, recipe.ema_lengths[-1], state.averages[-1])
    with shown_on_terminal(sys.stderr):
        report = evaluate_model(
            trained, job.images, num_samples=job.arguments.num_samples, data_dir=job.arguments.data_dir
        )
    if not job.team.leads:
        return
    report = replace(report, provenance=replace(report.provenance, command=command))
    pages = [job.folder / name for name in ("report.json", "report.html")]
    for page in pages:
        report.save(page)
    print_table(report)
    write_text("".join(f"{page}\n" for page in pages), sys.stdout)


if __name__ == "__main__":
    entry()
