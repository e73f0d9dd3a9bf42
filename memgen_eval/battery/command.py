"""``memgen-eval battery``: its arguments, its run, and how to go on after an interrupt."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from memgen_eval.errors import InputError
from memgen_eval.shell import DONE, INTERRUPTED, TERMINATED, Parser, Terminated, as_path, say, write_whole

COMMAND, PAGE = "battery", "battery.md"
BATTERY_PROGRAM = f"memgen-eval {COMMAND}"
RESUMES = """\
The results are written case by case. The same command after a kill goes on from there.
"""


def battery_parser() -> argparse.ArgumentParser:
    """Every argument of ``memgen-eval battery``."""
    command = Parser(
        prog=BATTERY_PROGRAM,
        description="Measure what every figure and verdict finds, misses and cries falsely, where the truth is known.",
        epilog=RESUMES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--output", metavar="DIR", default=COMMAND, help=f"for results and page (default: {COMMAND})")
    command.add_argument("--data-dir", help="where CIFAR-10 lies (default: $MEMGEN_DATA, then the user's cache)")
    command.add_argument("--quick", action="store_true", help="digits and made-up pictures only: about two minutes")
    command.add_argument("--seed", type=int, default=0, help="of everything drawn (default: 0)")
    command.add_argument("--features", metavar="NAME", help="measure these too: sscd, a .pt or an .onnx file, ...")
    return command


def battery(typed: Sequence[str]) -> int:
    """Run the command with what was typed after its name. Returns its exit status; raises InputError."""
    arguments = battery_parser().parse_args(list(typed))
    from memgen_eval.battery.ledger import opened
    from memgen_eval.battery.measuring import Setup, default_processes, measure_all, num_cases
    from memgen_eval.battery.page import page
    from memgen_eval.options import check_seed
    from memgen_eval.runtime import Stages
    from memgen_eval.terminal.progress import shown_on_terminal

    folder = as_path(arguments.output)
    cifar10 = not arguments.quick and _has_cifar10(arguments.data_dir)
    setup = Setup(
        check_seed(arguments.seed), arguments.quick, cifar10, arguments.data_dir, _features(arguments.features)
    )
    if not cifar10 and not arguments.quick:
        say(BATTERY_PROGRAM, "CIFAR-10 is not there, and left out: give --data-dir, or set MEMGEN_DATA", DONE)
    with opened(folder, setup.settings()) as ledger:
        try:
            with shown_on_terminal(sys.stderr):
                measure_all(setup, ledger, Stages(), processes=default_processes())
        except (KeyboardInterrupt, Terminated) as stop:
            again = shlex.join([*BATTERY_PROGRAM.split(), *typed])
            done = f"{len(ledger.records):,} of {num_cases(setup):,} cases are kept in {folder}"
            status = INTERRUPTED if isinstance(stop, KeyboardInterrupt) else TERMINATED
            return say(BATTERY_PROGRAM, f"stopped; {done}. To go on from there: {again}", status)
        write_whole(folder / PAGE, page(setup.settings(), ledger.records).encode())
    say(BATTERY_PROGRAM, f"wrote {folder / PAGE}", DONE)
    return DONE


def _has_cifar10(data_dir: str | None) -> bool:
    """Whether CIFAR-10 is there. Raises InputError where it was said to be in a folder, and is not."""
    from memgen_eval.data.datasets import cache_folder, find_batches

    named = data_dir or os.environ.get("MEMGEN_DATA")
    found = find_batches(as_path(named) if named else cache_folder()) is not None
    if data_dir is not None and not found:
        raise InputError(f"--data-dir {data_dir}: no CIFAR-10 there; give the folder that holds it, or leave it out")
    return found


def _features(name: str | None) -> str | None:
    """The network, where one is named. Raises InputError for one that is of no use."""
    if name is None:
        return None
    from memgen_eval.features.spaces import FORMS, chosen_features

    chosen_features(name)
    return str(Path(name).absolute()) if Path(name).suffix.lower() in FORMS else name
