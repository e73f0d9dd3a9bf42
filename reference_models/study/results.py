"""The results of a study as one value, as JSON and as a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memgen_eval.report import to_json
from memgen_eval.results import Estimate
from reference_models.study.analysis import Collapse, FactorFit
from reference_models.study.comparing import HalvesCompared, Taught
from reference_models.study.folder import FORMAT
from reference_models.study.outcomes import ONSETS, Outcome
from reference_models.study.sweep import Sweep


@dataclass(frozen=True)
class Results:
    """Everything that a study has found.

    Attributes
    ----------
    sweep : Sweep
        The grid.
    outcomes : tuple of Outcome
        Finished runs, in the order of the grid.
    failed : mapping of str to str
        What runs that are not finished said last, by their names.
    fits, collapses, halves, taught
        What was made of them.
    """

    sweep: Sweep
    outcomes: tuple[Outcome, ...]
    failed: Mapping[str, str]
    fits: tuple[FactorFit, ...]
    collapses: tuple[Collapse, ...]
    halves: tuple[HalvesCompared, ...]
    taught: tuple[Taught, ...]

    def to_json(self) -> str:
        """The content of study.json: JSON types only; no times, no paths of this machine."""
        parts = ("sweep", "failed", "fits", "collapses", "halves", "taught")
        entries = {name: getattr(self, name) for name in parts}
        entries = {"format": FORMAT, **entries, "runs": [_run_entries(one) for one in self.outcomes]}
        return json.dumps(to_json(entries), indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """The content of runs.csv: a row a run."""
        stream = io.StringIO()
        rows = [_row(one) for one in self.outcomes]
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else ["name"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()


def _run_entries(outcome: Outcome) -> dict[str, Any]:
    run = outcome.run
    entries = {"name": run.name, "factors": run.factors, "settings": run.settings, "command": outcome.command}
    return {**entries, "onsets": outcome.onsets, "course": outcome.course}


def _row(outcome: Outcome) -> dict[str, Any]:
    found = outcome.onsets
    row: dict[str, Any] = {"name": outcome.run.name, **outcome.run.factors}
    for name in ONSETS:
        bracket, step = outcome.bracket(name), getattr(found, name).step
        row |= {f"{name}_after": None, f"{name}_by": None}
        if bracket is not None:
            row |= {f"{name}_after": bracket.low, f"{name}_by": bracket.high}
        row |= {f"{name}_low": step.low, f"{name}_high": step.high}
    row |= _cells("memorization_rate", found.memorization_rate) | _cells("peak_fidelity", found.peak_fidelity)
    row |= {"window_from": found.early_stopping.first, "window_to": found.early_stopping.last}
    return row | _cells("final_ratio", outcome.final_ratio) | {"command": outcome.command}


def _cells(name: str, figure: Estimate) -> dict[str, Any]:
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
