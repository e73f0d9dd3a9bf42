"""``memgen-sample``: a run folder to a file of samples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from memgen_eval.compute.resources import keep_freed_memory
from memgen_eval.errors import InputError
from memgen_eval.shell import DONE, Parser, as_path, check_outputs, run, whole_process
from reference_models.bars import bar

PROGRAM = "memgen-sample"
SOLVERS = ("heun", "euler", "flow", "ancestral")
EPILOG = """\
Image i depends on the seed and i alone, however many are drawn.

examples:
  memgen-sample runs/few --num 1000 --out samples.npz
  memgen-sample runs/few --num 1000 --step 1024 --ema 0.05 --solver ancestral --out early.npz
"""


def parser() -> argparse.ArgumentParser:
    """Every argument of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Draw samples of a model that memgen-train has trained.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("run", type=as_path, help="the --out of a memgen-train")
    command.add_argument("--num", type=int, required=True, metavar="N", help="how many samples")
    command.add_argument(
        "--out", type=as_path, required=True, metavar="FILE", help="uint8 N H W C, .npz or .safetensors"
    )
    command.add_argument("--step", type=int, metavar="STEP", help="after which of the kept steps (default: the last)")
    command.add_argument(
        "--ema", type=float, metavar="LENGTH", help="relative length of the average of the weights (default: the run's)"
    )
    command.add_argument(
        "--solver",
        choices=SOLVERS,
        default=SOLVERS[0],
        help="Heun's 18 steps as in EDM, Euler's 50, 250 at equal times of a flow, 250 ancestral ones (default: heun)",
    )
    command.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    typed = sys.argv[1:] if argv is None else argv
    return run(PROGRAM, lambda: _run(parser().parse_args(typed)))


def entry() -> NoReturn:
    """The console script."""
    keep_freed_memory()
    whole_process(PROGRAM, main)


def _run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from memgen_eval.options import check_seed
    from memgen_eval.render.table import write_text
    from reference_models.sample import check_samples_path, draw, sampler_of, write_samples
    from reference_models.training.checkpoints import load_trained, run_files
    from reference_models.training.state import training_device

    if arguments.num < 1:
        raise InputError(f"--num is {arguments.num}, expected a whole number of at least 1")
    check_seed(arguments.seed, name="--seed")
    check_samples_path(arguments.out)
    inputs = {f"the run's {path.relative_to(arguments.run)}": path for path in run_files(arguments.run)}
    check_outputs({"--out": arguments.out}, inputs)
    trained = load_trained(arguments.run, step=arguments.step, ema=arguments.ema, device=training_device())
    image_shape = trained.recipe.unet.image_shape
    sampler = sampler_of(trained.denoiser, image_shape, seed=arguments.seed, method=arguments.solver)
    blocks = []
    with bar("sampling", total=arguments.num, stream=sys.stderr) as shown:
        for block in draw(sampler, arguments.num):
            blocks.append(block)
            shown(sum(map(len, blocks)), "")
    write_samples(arguments.out, np.concatenate(blocks))
    which = f"step {trained.step:,}, average of length {trained.ema:g}"
    write_text(f"{arguments.out}: {arguments.num:,} samples of {arguments.run}, {which}\n", sys.stdout)
    return DONE


if __name__ == "__main__":
    entry()
