"""``memgen-train``: images to a run folder with a trained model and the report on it."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memgen_eval.errors import InputError
from memgen_eval.shell import DONE, Parser, as_path, run, tell, whole_process
from reference_models.bars import bar

if TYPE_CHECKING:
    from memgen_eval.data.images import ImageSet
    from reference_models.data import Selection
    from reference_models.recipes import Recipe
    from reference_models.training.checkpoints import Checkpoint
    from reference_models.training.parallel import Team
    from reference_models.training.run import Length
    from reference_models.training.train import TrainingStep

PROGRAM = "memgen-train"
NUM_SAMPLES = 1000
EPILOG = """\
The same command after an interruption goes on from the last checkpoint, and with more --steps, --epochs or --minutes it
trains on. --out then holds run.json (the recipe), train.npz (the images trained on), checkpoints/ (averages of the
weights at more and more distant steps), state/ (to go on from), report.html and report.json.

examples:
  memgen-train --data digits --num-images 100 --out runs/few
  memgen-train --data cifar10 --num-images 2048 --minutes 15 --out runs/a
  memgen-train --data cifar10 --half first --side 16 --grey --preset tiny --epochs 50
  torchrun --nproc-per-node 4 -m reference_models.train_cli --data cifar10 --preset cifar10 --precision bfloat16
"""


def parser() -> argparse.ArgumentParser:
    """Every argument of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Train a diffusion model, and evaluate it on exactly the images trained on.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_images(command.add_argument_group("images"))
    _add_network(command.add_argument_group("network"))
    _add_training(command.add_argument_group("training"))
    _add_results(command.add_argument_group("results"))
    return command


def _add_images(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", required=True, help="digits, cifar10, or a file or folder of images")
    group.add_argument("--num-images", type=int, metavar="N", help="train on N of them (default: all)")
    group.add_argument("--half", choices=("first", "second"), help="choose from one of two halves that share no image")
    group.add_argument("--side", type=int, metavar="N", help="reduce square images to N x N pixels")
    group.add_argument("--grey", action="store_true", help="reduce colours to grey levels")
    group.add_argument("--flip", action="store_true", help="mirror each image left to right half of the time")
    group.add_argument("--data-dir", help="where named sets lie (default: $MEMGEN_DATA, then the user's cache)")


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", metavar="NAME", help="sizes of the network (default: what suits the images)")
    group.add_argument("--width", type=int, metavar="CHANNELS", help="of the first level (default: the preset's)")
    group.add_argument("--dropout", type=float, default=0.0, metavar="P", help="share left out (default: 0)")
    group.add_argument(
        "--parametrization", choices=("edm", "flow"), default="edm", help="EDM or rectified flow (default: edm)"
    )


def _add_training(group: argparse._ArgumentGroup) -> None:
    length = group.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="train until step N (default: the preset's)")
    length.add_argument("--epochs", type=float, metavar="N", help="show each image N times")
    length.add_argument("--minutes", type=float, metavar="M", help="train for M minutes in all")
    group.add_argument("--batch-size", type=int, metavar="N", help="images a step (default: the preset's)")
    group.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="parts of a batch, one after the other (default: 1)"
    )
    group.add_argument("--lr", type=float, metavar="X", help="Adam's learning rate (default: the preset's)")
    group.add_argument("--warmup", type=int, metavar="N", help="steps in which it grows from 0 (default: 100)")
    group.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the network's products (default: float32)",
    )
    group.add_argument("--seed", type=int, default=0, help="of weights, batches, noise and samples (default: 0)")
    group.add_argument("--threads", type=int, metavar="N", help="of the processor (default: what is fastest)")
    group.add_argument("--deterministic", action="store_true", help="the same bits each time on a GPU too, more slowly")


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", type=as_path, metavar="FOLDER", help="the run (default: runs/, data and number)")
    group.add_argument("--num-samples", type=int, default=NUM_SAMPLES, metavar="N", help="evaluated (default: 1000)")
    group.add_argument("--no-evaluate", action="store_true", help="train only")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)

    def command() -> int:
        from memgen_eval.distributed import on_every_rank

        return on_every_rank(lambda: run(PROGRAM, lambda: _run(typed)))

    return run(PROGRAM, command)


def entry() -> NoReturn:
    """The console script."""
    whole_process(PROGRAM, main)


def _run(typed: list[str]) -> int:
    arguments = parser().parse_args(typed)
    _check(arguments)
    return _train_and_evaluate(arguments, shlex.join([PROGRAM, *typed]))


def _check(arguments: argparse.Namespace) -> None:
    """Raise InputError for a number that nothing can be done with."""
    from memgen_eval.options import check_seed

    for name in ("num_images", "side", "width", "steps", "batch_size", "accumulate", "threads", "num_samples"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}, expected a whole number of at least 1")
    if arguments.warmup is not None and arguments.warmup < 0:
        raise InputError(f"--warmup is {arguments.warmup}, expected a whole number of at least 0")
    for name in ("epochs", "minutes", "lr"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name} is {value}, expected a positive number")
    check_seed(arguments.seed, name="--seed")


def _train_and_evaluate(arguments: argparse.Namespace, command: str) -> int:
    from reference_models.data import Selection
    from reference_models.training.folder import alone_in, start_run
    from reference_models.training.parallel import joined_team
    from reference_models.training.run import deterministic

    selection = Selection(
        arguments.data, arguments.num_images, half=arguments.half, side=arguments.side, grey=arguments.grey
    )
    images = selection.train(arguments.data_dir)
    recipe = _recipe(arguments, images, selection)
    folder = arguments.out or Path("runs") / f"{Path(arguments.data).stem}-{len(images)}"
    with joined_team() as team, ExitStack() as held:
        team.parts(recipe.batch_size, recipe.accumulation)
        with team.ranks.together():
            if team.leads:
                held.enter_context(alone_in(folder))
                start_run(folder, recipe)
                _keep_images(folder, images)
        held.enter_context(deterministic(arguments.deterministic))
        checkpoint = _train(folder, _begun(folder, recipe, team), images, _length(arguments, recipe), team)
        if not arguments.no_evaluate:
            _evaluate(folder, checkpoint, images, arguments, command=command, team=team)
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


def _keep_images(folder: Path, images: ImageSet) -> None:
    """Leave the images trained on in the run, for ``memgen-eval samples.npz --train runs/a/train.npz``."""
    from reference_models.sample import write_samples
    from reference_models.training.folder import IMAGES

    if not (folder / IMAGES).exists():
        write_samples(folder / IMAGES, images.array().transpose(0, 2, 3, 1))


def _begun(folder: Path, recipe: Recipe, team: Team) -> Checkpoint:
    """Where the training stands: the newest state that can be read, or the beginning."""
    from reference_models.training.checkpoints import Checkpoint, load_newest
    from reference_models.training.state import new_state, training_device

    device = training_device()
    with team.ranks.together():
        newest = load_newest(folder, recipe, device=device)
    if newest is None:
        return Checkpoint(recipe, new_state(recipe, device=device), seconds=0.0)
    tell(f"{folder}: going on from step {newest.state.step:,}")
    return newest


def _train(folder: Path, begun: Checkpoint, images: ImageSet, length: Length, team: Team) -> Checkpoint:
    from memgen_eval.render.table import write_text
    from reference_models.training.run import Watcher, continue_training
    from reference_models.training.scalars import scalars

    def rate(checkpoint: Checkpoint) -> float:
        steps, seconds = checkpoint.state.step - first_step, checkpoint.seconds - begun.seconds
        return steps * begun.recipe.batch_size / seconds if steps else 0.0

    def on_step(step: TrainingStep, checkpoint: Checkpoint) -> None:
        remark = f"step {step.step:,}, loss {step.loss:.3f}, {rate(checkpoint):,.0f} images/s"
        shown(length.done(checkpoint), remark)
        if team.leads:
            write(step, rate(checkpoint))

    first_step = begun.state.step
    with bar("training", total=1, stream=sys.stderr) as shown, scalars(folder, first_step=first_step) as write:
        checkpoint = continue_training(folder, begun, images, length, watcher=Watcher(on_step), team=team)
    speed = f"{rate(checkpoint):,.0f} images/s" if checkpoint.state.step > first_step else "trained before"
    write_text(f"{folder}: {checkpoint.state.step:,} steps, {speed}{_peak_memory()}\n", sys.stdout)
    return checkpoint


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", peak memory {size / (2**30 if sys.platform == 'darwin' else 2**20):.2f} GiB"


def _evaluate(
    folder: Path,
    checkpoint: Checkpoint,
    images: ImageSet,
    arguments: argparse.Namespace,
    *,
    command: str,
    team: Team,
) -> None:
    """Evaluate the default average, by all processes; the first one writes the report."""
    from memgen_eval.render.table import print_table, write_text
    from memgen_eval.terminal.progress import shown_on_terminal
    from reference_models.training.checkpoints import Trained
    from reference_models.training.run import evaluate_model

    recipe, state = checkpoint.recipe, checkpoint.state
    trained = Trained(recipe, state.step, recipe.ema_lengths[-1], state.averages[-1])
    with shown_on_terminal(sys.stderr):
        report = evaluate_model(trained, images, num_samples=arguments.num_samples, data_dir=arguments.data_dir)
    if not team.leads:
        return
    report = replace(report, provenance=replace(report.provenance, command=command))
    pages = [folder / name for name in ("report.json", "report.html")]
    for page in pages:
        report.save(page)
    print_table(report)
    write_text("".join(f"{page}\n" for page in pages), sys.stdout)


if __name__ == "__main__":
    entry()
