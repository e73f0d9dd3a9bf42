"""The arguments of ``memgen-train``."""

from __future__ import annotations

import argparse
import math

from memgen_eval.errors import InputError
from memgen_eval.shell import Parser, as_path

PROGRAM = "memgen-train"
NUM_SAMPLES = 1000
EPILOG = """\
The same command after an interruption goes on from the last checkpoint, and with more --steps, --epochs or --minutes it
trains on. --out then holds run.json (the recipe), train.npz (the images trained on), checkpoints/ (averages of the
weights at more and more distant steps), state/ (to go on from), report.html and report.json; with --trajectory also
trajectory.html, trajectory.json and trajectory/ (the reports of all checkpoints).

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
    group.add_argument("--no-evaluate", action="store_true", help="leave out the evaluation at the end")
    group.add_argument("--trajectory", action="store_true", help="evaluate every kept checkpoint: trajectory.html")


def check_arguments(arguments: argparse.Namespace) -> None:
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
