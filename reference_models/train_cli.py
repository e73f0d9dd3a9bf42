"""``memgen-train``: images to a run folder with a trained model and the report on it."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memgen_eval.errors import InputError
from memgen_eval.shell import DONE, Parser, as_path, run, tell, whole_process
from reference_models.bars import bar

if TYPE_CHECKING:
    from memgen_eval.data.images import ImageSet
    from reference_models.recipes import Recipe
    from reference_models.training.checkpoints import Checkpoint
    from reference_models.training.run import Length
    from reference_models.training.train import TrainingStep

PROGRAM = "memgen-train"
NUM_SAMPLES = 1000
EPILOG = """\
The same command after an interruption goes on from the last checkpoint; with more --steps or --minutes, it trains on.
--out then holds run.json (the recipe), checkpoints/, report.html, report.json, and with --num-images train.npz, the
images trained on.

examples:
  memgen-train --data digits --num-images 100 --out runs/few
  memgen-train --data cifar10 --num-images 2048 --minutes 15 --out runs/a
"""


def parser() -> argparse.ArgumentParser:
    """Every argument of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Train a small diffusion model, and evaluate it on exactly the images trained on.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--data", required=True, help="digits, cifar10, or a file or folder of images")
    command.add_argument("--num-images", type=int, metavar="N", help="train on N of them (default: all)")
    command.add_argument("--out", type=as_path, metavar="FOLDER", help="the run (default: runs/, data and number)")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="train until step N (default: the preset's)")
    length.add_argument("--minutes", type=float, metavar="M", help="train for M minutes in all")
    command.add_argument("--batch-size", type=int, metavar="N", help="images a step (default: the preset's)")
    command.add_argument("--lr", type=float, metavar="X", help="Adam's learning rate (default: the preset's)")
    command.add_argument("--seed", type=int, default=0, help="of weights, batches, noise and samples (default: 0)")
    command.add_argument("--num-samples", type=int, default=NUM_SAMPLES, metavar="N", help="evaluated (default: 1000)")
    command.add_argument("--no-evaluate", action="store_true", help="train only")
    command.add_argument("--data-dir", help="where named sets lie (default: $MEMGEN_DATA, then the user's cache)")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    return run(PROGRAM, lambda: _run(typed))


def entry() -> NoReturn:
    """The console script."""
    whole_process(PROGRAM, main)


def _run(typed: list[str]) -> int:
    arguments = parser().parse_args(typed)
    _check(arguments)

    from reference_models.data import training_images
    from reference_models.recipes import recipe_for
    from reference_models.training.checkpoints import alone_in, start_run

    images = training_images(arguments.data, num_images=arguments.num_images, data_dir=arguments.data_dir)
    recipe = recipe_for(
        images,
        data=arguments.data,
        batch_size=arguments.batch_size,
        learning_rate=arguments.lr,
        seed=arguments.seed,
    )
    folder = arguments.out or Path("runs") / f"{Path(arguments.data).stem}-{len(images)}"
    with alone_in(folder):
        start_run(folder, recipe)
        if arguments.num_images is not None:
            _keep_images(folder, images)
        checkpoint = _train(folder, _begun(folder, recipe), images, _length(arguments, images))
        if not arguments.no_evaluate:
            _evaluate(folder, checkpoint, images, arguments, command=shlex.join([PROGRAM, *typed]))
    return DONE


def _check(arguments: argparse.Namespace) -> None:
    """Raise InputError for a number that nothing can be done with."""
    from memgen_eval.options import check_seed

    for name in ("num_images", "steps", "batch_size", "num_samples"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}, expected a whole number of at least 1")
    for name in ("minutes", "lr"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name} is {value}, expected a positive number")
    check_seed(arguments.seed, name="--seed")


def _length(arguments: argparse.Namespace, images: ImageSet) -> Length:
    from reference_models.presets import preset_for
    from reference_models.training.run import Length

    if arguments.minutes is not None:
        return Length(steps=None, seconds=60 * arguments.minutes)
    return Length(steps=arguments.steps or preset_for(images.shape).num_steps, seconds=None)


def _keep_images(folder: Path, images: ImageSet) -> None:
    """Leave the images trained on in the run, for ``memgen-eval samples.npz --train runs/a/train.npz``."""
    from reference_models.sample import write_samples
    from reference_models.training.checkpoints import IMAGES

    if not (folder / IMAGES).exists():
        write_samples(folder / IMAGES, images.array().transpose(0, 2, 3, 1))


def _begun(folder: Path, recipe: Recipe) -> Checkpoint:
    """Where the training stands: the newest checkpoint, or the beginning."""
    from reference_models.training.checkpoints import Checkpoint, load_newest
    from reference_models.training.train import new_state, training_device

    device = training_device()
    newest = load_newest(folder, device=device)
    if newest is None:
        return Checkpoint(recipe, new_state(recipe, device=device), seconds=0.0)
    tell(f"{folder}: going on from step {newest.state.step:,}")
    return newest


def _train(folder: Path, begun: Checkpoint, images: ImageSet, length: Length) -> Checkpoint:
    from memgen_eval.render.table import write_text
    from reference_models.training.run import continue_training

    def rate(checkpoint: Checkpoint) -> str:
        steps, seconds = checkpoint.state.step - first_step, checkpoint.seconds - begun.seconds
        return f"{steps * begun.recipe.batch_size / seconds:,.0f} images/s" if steps else "trained before"

    def on_step(step: TrainingStep, checkpoint: Checkpoint) -> None:
        shown(length.done(checkpoint), f"step {step.step:,}, loss {step.loss:.3f}, {rate(checkpoint)}")

    first_step = begun.state.step
    with bar("training", total=1, stream=sys.stderr) as shown:
        checkpoint = continue_training(folder, begun, images, length, on_step=on_step)
    write_text(f"{folder}: {checkpoint.state.step:,} steps, {rate(checkpoint)}{_peak_memory()}\n", sys.stdout)
    return checkpoint


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", peak memory {size / (2**30 if sys.platform == 'darwin' else 2**20):.2f} GiB"


def _evaluate(
    folder: Path, checkpoint: Checkpoint, images: ImageSet, arguments: argparse.Namespace, *, command: str
) -> None:
    from memgen_eval.render.table import print_table, write_text
    from memgen_eval.terminal.progress import shown_on_terminal
    from reference_models.training.run import evaluate_model

    with shown_on_terminal(sys.stderr):
        report = evaluate_model(checkpoint, images, num_samples=arguments.num_samples, data_dir=arguments.data_dir)
    report = replace(report, provenance=replace(report.provenance, command=command))
    pages = [folder / name for name in ("report.json", "report.html")]
    for page in pages:
        report.save(page)
    print_table(report)
    write_text("".join(f"{page}\n" for page in pages), sys.stdout)


if __name__ == "__main__":
    entry()
