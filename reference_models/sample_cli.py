"""``memgen-sample``: a run folder to a file of samples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from memgen_eval.errors import InputError
from memgen_eval.shell import DONE, Parser, run
from reference_models.bars import bar

PROGRAM = "memgen-sample"


def parser() -> argparse.ArgumentParser:
    """Every argument of the command."""
    command = Parser(prog=PROGRAM, description="Draw samples of a trained reference model.", allow_abbrev=False)
    command.add_argument("run", type=Path, help="the --out of a memgen-train")
    command.add_argument("--num", type=int, required=True, metavar="N", help="how many samples")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="uint8 N H W C, .npz or .safetensors")
    command.add_argument("--step", type=int, metavar="STEP", help="of which checkpoint (default: the newest)")
    command.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    typed = sys.argv[1:] if argv is None else argv
    return run(PROGRAM, lambda: _run(parser().parse_args(typed)))


def entry() -> NoReturn:
    """The console script."""
    sys.exit(main())


def _run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from reference_models.checkpoints import load_denoiser
    from reference_models.sample import check_samples_path, draw, write_samples
    from reference_models.train import training_device

    for name, value, least in (("--num", arguments.num, 1), ("--seed", arguments.seed, 0)):
        if value < least:
            raise InputError(f"{name} is {value}, expected a whole number of at least {least}")
    check_samples_path(arguments.out)
    checkpoint = load_denoiser(arguments.run, step=arguments.step, device=training_device())
    denoiser, image_shape = checkpoint.state.ema, checkpoint.recipe.unet.image_shape
    blocks = []
    with bar("sampling", total=arguments.num, stream=sys.stderr) as shown:
        for block in draw(denoiser, image_shape, arguments.num, seed=arguments.seed):
            blocks.append(block)
            shown(sum(map(len, blocks)), "")
    write_samples(arguments.out, np.concatenate(blocks))
    print(f"{arguments.out}: {arguments.num:,} samples of {arguments.run}, step {checkpoint.state.step:,}")
    return DONE
