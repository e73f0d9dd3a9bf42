"""``memgen-study``: a sweep file to a grid of trainings, and to when each of them begins to copy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from memgen_eval.errors import InputError
from memgen_eval.shell import DONE, GATE_FAILED, Parser, as_path, going_on, run, tell, whole_process

if TYPE_CHECKING:
    from reference_models.study.runner import Progress, Source
    from reference_models.study.sweep import PlannedRun, Sweep

PROGRAM = "memgen-study"
MODULE = "reference_models.study_cli"
GO_ON = "the same command goes on"
EPILOG = """\
A sweep file holds settings of memgen-train by their names there; lists are the factors of a grid:
  data = "digits"
  num_images = [50, 100, 200, 400, 800]
  seed = [0, 1, 2]
  steps = 4000          # or epochs, with which the length grows with num_images; or minutes

--out then holds runs/, a folder for each run with its run.log, runs.csv, study.json, study.html. The same command
after an interruption goes on; values that are added to the lists add runs. Exit status 1: a run failed.

examples:
  memgen-study sweep.toml --out study
  memgen-study sweep.toml --out study --processes 4
  memgen-study sweep.toml --out study --slurm > job.sh && sbatch job.sh
"""


def parser() -> argparse.ArgumentParser:
    """Every argument of the command."""
    command = Parser(
        prog=PROGRAM,
        description="Train a grid of small diffusion models, and find when each begins to copy its training set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("sweep", type=as_path, help="a TOML file of settings and lists")
    command.add_argument("--out", type=as_path, required=True, metavar="FOLDER", help="the study")
    processes = "runs side by side (default: one, or one for every GPU in CUDA_VISIBLE_DEVICES)"
    command.add_argument("--processes", type=int, metavar="N", help=processes)
    command.add_argument("--only", type=int, metavar="INDEX", help="do this run of the grid alone, counted from 0")
    command.add_argument("--slurm", action="store_true", help="print an array job for sbatch, and exit")
    command.add_argument("--data-dir", help="where named sets lie (default: $MEMGEN_DATA, then the user's cache)")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    return run(PROGRAM, lambda: _run(parser().parse_args(typed)))


def entry() -> NoReturn:
    """The console script."""
    whole_process(PROGRAM, main)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.processes is not None and arguments.processes < 1:
        raise InputError(f"--processes is {arguments.processes}, expected a whole number of at least 1")

    from reference_models.study.folder import alone_in_study, start_study
    from reference_models.study.sweep import read_sweep

    sweep = read_sweep(arguments.sweep)
    if arguments.slurm:
        return _print_job(arguments, sweep)
    if arguments.only is not None:
        runs = start_study(arguments.out, sweep)
        if not 0 <= arguments.only < len(runs):
            raise InputError(f"--only is {arguments.only}: the sweep has {len(runs)} runs, give 0 to {len(runs) - 1}")
        return _do(arguments, sweep, runs, only=[runs[arguments.only]])
    with alone_in_study(arguments.out):
        runs = start_study(arguments.out, sweep)
        return _do(arguments, sweep, runs, only=runs)


def _print_job(arguments: argparse.Namespace, sweep: Sweep) -> int:
    from memgen_eval.render.table import write_text
    from reference_models.study.folder import start_study
    from reference_models.study.slurm import array_job

    runs = start_study(arguments.out, sweep)  # tasks that start at the same moment find it made
    program = [sys.executable, "-m", MODULE]
    paths = {"sweep": arguments.sweep, "out": arguments.out, "data_dir": arguments.data_dir}
    write_text(array_job(len(runs), **paths, program=program, here=Path.cwd()), sys.stdout)
    return DONE


def _do(arguments: argparse.Namespace, sweep: Sweep, runs: list[PlannedRun], *, only: list[PlannedRun]) -> int:
    """Do some of the runs; the results are written once none is left that might still be done."""
    from reference_models.study.folder import is_finished
    from reference_models.study.report import write_results
    from reference_models.study.teacher import prepared

    with going_on(GO_ON):
        source = prepared(sweep, arguments.out, data_dir=arguments.data_dir)
        failed = _train(only, arguments.out, arguments.processes, source)
        if len(only) == len(runs) or all(is_finished(arguments.out, one) for one in runs):
            write_results(sweep, runs, arguments.out, source=source)
    return GATE_FAILED if failed else DONE


def _train(runs: list[PlannedRun], folder: Path, num_processes: int | None, source: Source) -> list[PlannedRun]:
    from reference_models.bars import bar
    from reference_models.study.folder import is_finished, last_line
    from reference_models.study.runner import do_runs, places

    def on_change(progress: Progress, failed: PlannedRun | None) -> None:
        if failed is not None:
            tell(f"{PROGRAM}: {failed.name} failed: {last_line(folder, failed)}")
        shown(progress.num_done + progress.num_failed - num_before, _words(progress))

    num_before = sum(is_finished(folder, one) for one in runs)
    with bar("study", total=max(1, len(runs) - num_before), stream=sys.stderr) as shown:  # the time left is of these
        return do_runs(runs, folder, places=places(num_processes), source=source, on_change=on_change)


def _words(progress: Progress) -> str:
    """Runs done, failed and running."""
    failed = f"{progress.num_failed} failed, " if progress.num_failed else ""
    return f"{progress.num_done} of {progress.num_runs} runs done, {failed}{progress.num_running} running"


if __name__ == "__main__":
    entry()
