"""The results of a study, from the folders of its runs to its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from memgen_eval.errors import reading
from memgen_eval.report import from_json, to_json
from memgen_eval.shell import write_whole
from reference_models.study.analysis import collapse, factor_fits
from reference_models.study.comparing import (
    HalvesCompared,
    Taught,
    TrainedModel,
    compare_halves,
    compare_with_teacher,
    pairs_of_halves,
)
from reference_models.study.folder import is_finished, last_line, run_folder
from reference_models.study.outcomes import ONSETS, outcome_of
from reference_models.study.pages.page import study_page
from reference_models.study.results import Results
from reference_models.study.runner import Source
from reference_models.study.sweep import PlannedRun, Sweep
from reference_models.study.teacher import teacher_of
from reference_models.training.checkpoints import load_trained
from reference_models.training.state import training_device

COMPARED = "compared"
TABLE, DATA, PAGE = "runs.csv", "study.json", "study.html"

Compared = TypeVar("Compared", HalvesCompared, Taught)


def write_results(sweep: Sweep, runs: Sequence[PlannedRun], folder: Path, *, source: Source) -> list[Path]:
    """Write table, data and page of a study; the files written."""
    results = results_of(sweep, runs, folder, source=source)
    texts = {TABLE: results.to_csv(), DATA: results.to_json(), PAGE: study_page(results)}
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    return [folder / name for name in texts]


def results_of(sweep: Sweep, runs: Sequence[PlannedRun], folder: Path, *, source: Source) -> Results:
    """What the finished runs of a study say; what is compared model by model is kept in the folder."""
    finished = [run for run in runs if is_finished(folder, run)]
    outcomes = tuple(outcome_of(folder, run, source=source) for run in finished)
    return Results(
        sweep,
        outcomes,
        failed={run.name: last_line(folder, run) for run in runs if run not in finished},
        fits=tuple(fit for name in ONSETS for fit in factor_fits(outcomes, name)),
        collapses=tuple(found for name in ONSETS if (found := collapse(outcomes, name)) is not None),
        halves=tuple(_halves(finished, folder, source)),
        taught=tuple(_taught(sweep, finished, folder, source)),
    )


def _halves(runs: Sequence[PlannedRun], folder: Path, source: Source) -> list[HalvesCompared]:
    compared = []
    for first, second in pairs_of_halves(runs):
        names = first.name, second.name

        def compare(first: PlannedRun = first, second: PlannedRun = second) -> HalvesCompared:
            models = (_model(folder, run, source) for run in (first, second))
            return compare_halves((first.name, second.name), *models)

        compared.append(_kept(folder / COMPARED / f"halves,{names[0]}.json", HalvesCompared, compare))
    return compared


def _taught(sweep: Sweep, runs: Sequence[PlannedRun], folder: Path, source: Source) -> list[Taught]:
    if sweep.teacher is None:
        return []
    teacher, _ = teacher_of(sweep, data_dir=source.data_dir)
    compared = []
    for run in runs:

        def compare(run: PlannedRun = run) -> Taught:
            return compare_with_teacher(run.name, _model(folder, run, source), teacher)

        compared.append(_kept(folder / COMPARED / f"teacher,{run.name}.json", Taught, compare))
    return compared


def _model(folder: Path, run: PlannedRun, source: Source) -> TrainedModel:
    trained = load_trained(run_folder(folder, run), device=training_device())
    selection = trained.recipe.selection
    return TrainedModel(trained.denoiser, selection.train(source.data_dir), selection.test(source.data_dir))


def _kept(path: Path, kind: type[Compared], compare: Callable[[], Compared]) -> Compared:
    """What was compared before, or else is now: finished runs do not change."""
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(to_json(compare()), allow_nan=False).encode())
    with reading(str(path), "is not of this program", "remove it"):
        compared: Compared = from_json(kind, json.loads(path.read_bytes()))
        return compared
