"""A study's folder: which runs belong to it, which of them are finished, and who is at work in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from memgen_eval.errors import InputError, reading
from memgen_eval.shell import locked, remove_leftovers, write_whole
from reference_models.study.sweep import PlannedRun, Sweep
from reference_models.training.folder import alone_in

FORMAT = "memgen study, version 1"
PLAN, RUNS, LOG, FINISHED = "plan.json", "runs", "run.log", "finished.json"
LARGEST_PLAN, LONGEST_LINE = 2**26, 2000  # bytes
SILENT = "it said nothing"


def alone_in_study(folder: Path) -> AbstractContextManager[None]:
    """Keep other studies out of a folder, which is made if need be. Raises InputError as `alone_in` does."""
    return alone_in(folder, program="memgen-study", kept="study")


def start_study(folder: Path, sweep: Sweep) -> list[PlannedRun]:
    """The runs of the study, in the order of the grid; runs that the folder knows keep their names.

    A run is known by its settings, so a sweep may grow: values and factors may be added where every run of before is
    still in the grid.

    Raises
    ------
    InputError
        If the folder holds something else, or a study with runs that the sweep leaves out.
    """
    known = _planned(folder)
    runs = [_renamed(run, known) for run in sweep.runs()]
    names = {run.name for run in runs}
    left_out = [name for name in known if name not in names]
    if left_out:
        raise InputError(
            f"{folder} holds a study with runs that the sweep leaves out ({left_out[0]}"
            f"{f' and {len(left_out) - 1} more' if left_out[1:] else ''}): add to its sweep, or give another --out"
        )
    if {run.name: dict(run.settings) for run in runs} != known:
        plan = {"format": FORMAT, "runs": [{"name": run.name, "settings": dict(run.settings)} for run in runs]}
        write_whole(folder / PLAN, (json.dumps(plan, indent=2) + "\n").encode())
    return runs


def _planned(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of each run that the folder knows, by its name."""
    path = folder / PLAN
    if not path.is_file():
        remove_leftovers(folder)
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} holds files but no study: give a new or an empty folder as --out")
        folder.mkdir(parents=True, exist_ok=True)
        return {}
    with reading(str(path), "is not of this program", "give the --out of a memgen-study"):
        if path.stat().st_size > LARGEST_PLAN:
            raise ValueError(f"{path.stat().st_size} bytes")
        entries = json.loads(path.read_bytes())
        if entries["format"] != FORMAT:
            raise ValueError(f"format {entries['format']!r}")
        return {run["name"]: dict(run["settings"]) for run in entries["runs"]}


def _renamed(run: PlannedRun, known: Mapping[str, Mapping[str, Any]]) -> PlannedRun:
    name = next((name for name, settings in known.items() if settings == run.settings), run.name)
    return PlannedRun(name, run.factors, run.settings)


def run_folder(folder: Path, run: PlannedRun) -> Path:
    """Where the run of `memgen-train` lies."""
    return folder / RUNS / run.name


def is_finished(folder: Path, run: PlannedRun) -> bool:
    """Whether the run has ended well, its trajectory measured."""
    return (run_folder(folder, run) / FINISHED).is_file()


def note_finished(folder: Path, run: PlannedRun, *, seconds: float) -> None:
    """Leave in the run that it has ended well, and how long its last part took."""
    write_whole(run_folder(folder, run) / FINISHED, json.dumps({"seconds": round(seconds, 1)}).encode())


def is_busy(place: Path) -> bool:
    """Whether a process trains in the folder of a run, such as one that outlived a study that was killed."""
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError:
        return False
    try:
        return locked(descriptor) is False
    finally:
        os.close(descriptor)


def last_line(folder: Path, run: PlannedRun) -> str:
    """What a run said last."""
    try:
        with (run_folder(folder, run) / LOG).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LONGEST_LINE))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return SILENT
    return next((line.strip() for line in reversed(lines) if line.strip()), SILENT)
