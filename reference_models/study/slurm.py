"""A study as one array job of SLURM: each task does one run, and the last one to end writes the results."""

from __future__ import annotations

import shlex
from pathlib import Path

TEMPLATE = """\
#!/bin/bash
#SBATCH --job-name=memgen-study
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
# For a partition, a GPU or a time limit add lines such as
#   #SBATCH --gres=gpu:1
# Runs that are finished are passed over, and the same job goes on with those that were killed:
#   sbatch --requeue this-file
set -euo pipefail
cd {here}
export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
exec {command} --only "$SLURM_ARRAY_TASK_ID"
"""


def array_job(num_runs: int, *, sweep: Path, out: Path, data_dir: str | None, program: list[str], here: Path) -> str:
    """The script of the job, for ``sbatch``.

    Parameters
    ----------
    num_runs : int
        Tasks of the array.
    sweep, out, data_dir
        As they were typed: the tasks start in `here`.
    program : list of str
        The words that start ``memgen-study``.
    here : path
        The folder that the paths are relative to.
    """
    words = [*program, str(sweep), "--out", str(out)]
    if data_dir is not None:
        words += ["--data-dir", data_dir]
    return TEMPLATE.format(
        last=num_runs - 1,
        here=shlex.quote(str(here)),
        command=shlex.join(words),
    )
