"""What came of a run: when it began to copy, and its figures at every checkpoint."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memgen_eval.errors import InputError
from memgen_eval.report import Report
from memgen_eval.results import Estimate
from memgen_eval.trajectory.onsets import Onset, Onsets, onsets
from reference_models import train_cli
from reference_models.study.fits import Bracket
from reference_models.study.folder import RUNS, run_folder
from reference_models.study.runner import Source, command_of
from reference_models.study.sweep import PlannedRun

OnsetName = Literal["onset_copy", "onset_loss"]
ONSETS: dict[OnsetName, str] = {
    "onset_copy": "onset of copying",
    "onset_loss": "test loss leaves training loss",
}
REPORT_NAME = re.compile(r"step-(\d{1,18})\.json", re.ASCII)
UNMEASURED = Estimate.undefined("the report does not hold it")


@dataclass(frozen=True)
class Course:
    """Figures of a run at its checkpoints, all in the order of `steps`.

    `novelty` is the median distance to the training set over that of unseen images, `fidelity` the precision.
    """

    steps: tuple[int, ...]
    ratio: tuple[Estimate, ...]
    test_ratio: tuple[Estimate, ...]
    novelty: tuple[Estimate, ...]
    fidelity: tuple[Estimate, ...]


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes
    ----------
    run : PlannedRun
        Its cell of the grid.
    command : str
        What was run, with the study's folder as the current one.
    onsets : Onsets
        When it began to copy and to know its images, the rate of copying, the peak of fidelity, when to stop.
    course : Course
        What the curves of the study are drawn of.
    """

    run: PlannedRun
    command: str
    onsets: Onsets
    course: Course

    def bracket(self, name: OnsetName) -> Bracket | None:
        """The checkpoints between which an onset lies; None where it could not be measured."""
        return bracket_of(getattr(self.onsets, name))

    @property
    def final_ratio(self) -> Estimate:
        """Share of flagged samples at the last checkpoint."""
        return self.course.ratio[-1]


def bracket_of(onset: Onset) -> Bracket | None:
    """The checkpoints between which an onset lies, the last one without it where there is none later."""
    if onset.step.value is not None:
        return Bracket(onset.before or 0.0, onset.step.value)
    return None if onset.step.low is None else Bracket(onset.step.low, None)


def outcome_of(folder: Path, run: PlannedRun, *, source: Source) -> Outcome:
    """Read a finished run of a study.

    Raises
    ------
    InputError
        If its reports are missing or cannot be read.
    """
    found = reports_in(run_folder(folder, run) / "trajectory")
    steps, reports = list(found), list(found.values())
    return Outcome(run, _command(run, source), onsets(reports, steps), _course(steps, reports))


def _command(run: PlannedRun, source: Source) -> str:
    """The command as it would be typed in the study's folder: the same wherever that lies."""
    inside = Source(None if source.data is None else Path(source.data).name)
    return shlex.join([train_cli.PROGRAM, *command_of(run, out=Path(RUNS) / run.name, source=inside)])


def reports_in(place: Path) -> dict[int, Report]:
    """The report of each checkpoint by its step, ascending."""
    found = {int(match[1]): path for path in place.glob("*") if (match := REPORT_NAME.fullmatch(path.name))}
    if not found:
        raise InputError(f"{place}: holds no report of a checkpoint; remove the folder of the run to do it again")
    return {step: Report.load(path) for step, path in sorted(found.items())}


def _course(steps: Sequence[int], reports: Sequence[Report]) -> Course:
    def figures(path: str) -> tuple[Estimate, ...]:
        held = [report.figure(path) for report in reports]
        return tuple(figure if isinstance(figure, Estimate) else UNMEASURED for figure in held)

    return Course(
        tuple(steps),
        ratio=figures("memorization.ratio"),
        test_ratio=figures("memorization.test_ratio"),
        novelty=figures("novelty.distance_ratio"),
        fidelity=figures("fidelity.precision"),
    )
