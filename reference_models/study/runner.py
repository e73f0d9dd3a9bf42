"""Trainings side by side, each a process of its own: a failed one does not stop the others."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from memgen_eval.errors import InputError
from reference_models import train_cli
from reference_models.study.folder import LOG, is_busy, is_finished, note_finished, run_folder
from reference_models.study.sweep import PlannedRun, command_line

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_END = 30  # that a training has to remove its temporary files, once it was asked to end
GPUS = "CUDA_VISIBLE_DEVICES"
TRAIN = (sys.executable, "-m", train_cli.__name__)  # the environment's own, whatever PATH holds


@dataclass(frozen=True)
class Progress:
    """How far a study is: its runs by state, those that were finished before among the ones done."""

    num_runs: int
    num_done: int
    num_failed: int
    num_running: int


@dataclass(frozen=True, eq=False)
class _Training:
    """A training at work: its process, None for one that another process has begun, its place, and when it began."""

    run: PlannedRun
    process: subprocess.Popen[bytes] | None
    place: Mapping[str, str]
    start: float


@dataclass(frozen=True)
class Source:
    """Where the images of all runs come from: another file than the settings name, and where named sets lie."""

    data: str | None = None
    data_dir: str | None = None


def command_of(run: PlannedRun, *, out: Path, source: Source) -> list[str]:
    """The words after ``memgen-train`` that do a run."""
    settings = run.settings if source.data is None else {**run.settings, "data": source.data}
    words = [*command_line(settings), "--out", str(out), "--trajectory", "--no-evaluate"]
    return words if source.data_dir is None else [*words, "--data-dir", source.data_dir]


def places(num_processes: int | None) -> list[dict[str, str]]:
    """What the environment of each process that runs side by side has of its own.

    One for every GPU in ``CUDA_VISIBLE_DEVICES``, or as many as are asked for, each with its share of the cores.
    """
    visible = [name.strip() for name in os.environ.get(GPUS, "").split(",") if name.strip()]
    num_places = num_processes or max(1, len(visible))
    num_threads = max(1, num_cores() // num_places)
    own = {"OMP_NUM_THREADS": str(num_threads), "MKL_NUM_THREADS": str(num_threads)}
    gpus = [{GPUS: visible[place % len(visible)]} if visible else {} for place in range(num_places)]
    return [own | gpu for gpu in gpus]


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_runs(
    runs: Sequence[PlannedRun],
    folder: Path,
    *,
    places: Sequence[Mapping[str, str]],
    source: Source,
    train: Sequence[str] = TRAIN,
    on_change: Callable[[Progress, PlannedRun | None], None],
) -> list[PlannedRun]:
    """Do the runs that are not finished, one in each place at a time; those that failed are returned.

    Runs that another process has begun and is still at work on are waited for. Whatever ends this function, the
    processes that it has started are ended too, and the same call goes on where they stood. `train` are the words that
    start ``memgen-train``.
    `on_change` is called at the start and whenever a run has ended, with a run that failed.
    """
    waiting = [run for run in runs if not is_finished(folder, run)]
    failed: list[PlannedRun] = []
    free, working = list(places), list[_Training]()
    num_done = len(runs) - len(waiting)

    def told(run: PlannedRun | None = None) -> None:
        on_change(Progress(len(runs), num_done, len(failed), len(working)), run)

    with _ended(working):
        while waiting or working:
            if free and waiting:
                working.append(_begin(waiting.pop(0), folder, free.pop(0), [*train], source))
                told()
                continue
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for training in [one for one in working if _has_ended(one, folder)]:
                working.remove(training)
                free.append(training.place)
                if _went_well(training, folder):
                    num_done += 1
                    told()
                elif training.process is None:
                    waiting.insert(0, training.run)
                else:
                    failed.append(training.run)
                    told(training.run)
    return failed


def _begin(run: PlannedRun, folder: Path, place: Mapping[str, str], train: Sequence[str], source: Source) -> _Training:
    """Start a run, unless a process that another study left behind is still at work on it."""
    out = run_folder(folder, run)
    if is_busy(out):
        return _Training(run, None, place, time.monotonic())
    words = command_of(run, out=out, source=source)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / LOG).open("ab") as log:
            log.write(f"{shlex.join([train_cli.PROGRAM, *words])}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [*train, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **place},
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others in order
            )
    except OSError as error:
        raise InputError(f"{out}: the run cannot be started ({error.strerror}); free the disk or memory") from None
    return _Training(run, process, place, time.monotonic())


def _has_ended(training: _Training, folder: Path) -> bool:
    if training.process is None:
        return not is_busy(run_folder(folder, training.run))
    return training.process.poll() is not None


def _went_well(training: _Training, folder: Path) -> bool:
    """Whether a run that has ended is finished, which is noted in its folder."""
    if training.process is not None and training.process.returncode == 0:
        note_finished(folder, training.run, seconds=time.monotonic() - training.start)
    return is_finished(folder, training.run)


@contextmanager
def _ended(working: Sequence[_Training]) -> Iterator[None]:
    """End the processes that are still at work when what is inside is left: they write nothing half."""
    try:
        yield
    finally:
        processes = [training.process for training in working if training.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_END
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
