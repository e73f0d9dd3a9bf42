"""What a finished study says about published findings: the figures that they rest on, as lines of JSON.

``python -m benchmarks.reproductions STUDY OUTPUT.jsonl`` reads the reports that ``memgen-study ... --out STUDY`` left.
The first line holds command, processor, versions and date, the second what the study found, each other line a run at a
checkpoint.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import num_threads, processor
from memgen_eval import Report, __version__
from memgen_eval.results import Curve
from reference_models.study.outcomes import reports_in

FIGURES = (
    "memorization.ratio",
    "memorization.test_ratio",
    "novelty.auc",
    "fidelity.swd",
    "fidelity.test_swd",
    "fidelity.gap_swd",
    "fidelity.gap_kid",
    "denoiser.error_train",
    "denoiser.error_test",
    "denoiser.mean_generalization_gap",
    "denoiser.gap_train",
    "denoiser.gap_test",
    "denoiser.optimal_error_test",
    "denoiser.matched_memorization_index",
    "denoiser.test_memorization_index",
    "gaussian.nmse",
)
ONSETS = ("onset_loss", "onset_copy", "peak_step", "early_stopping")
PACKAGES = ("numpy", "torch", "scipy")
DIGITS = 6  # significant ones of a figure


def findings(study: dict[str, Any]) -> dict[str, Any]:
    """What the study found: fits, collapses, halves, and the onsets of each run."""
    found = {part: study[part] for part in ("fits", "collapses", "halves")}
    onsets = {run["name"]: {name: run["onsets"][name] for name in ONSETS} for run in study["runs"]}
    return {**found, "onsets": onsets, "commands": [run["command"] for run in study["runs"]]}


def rows(folder: Path, study: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each run at each checkpoint: its name, its factors, the step, and the figures."""
    for run in study["runs"]:
        for step, report in reports_in(folder / "runs" / run["name"] / "trajectory").items():
            yield {"run": run["name"], "factors": run["factors"], "step": step, **figures_of(report)}


def figures_of(report: Report) -> dict[str, Any]:
    """The figures of a report as JSON types: value, low and high; the noise levels of curves once."""
    found: dict[str, Any] = {}
    for path in FIGURES:
        figure = report.figure(path)
        if figure is None or figure.value is None:
            continue
        found[path] = [_rounded(part) for part in (figure.value, figure.low, figure.high)]
        if isinstance(figure, Curve) and figure.x is not None:
            found["sigma"] = _rounded(figure.x.values)
    return found


def _rounded(part: Any) -> Any:
    if isinstance(part, tuple | list):
        return [_rounded(value) for value in part]
    return None if part is None else float(f"{part:.{DIGITS}g}")


def header(command: str) -> dict[str, Any]:
    """How the figures were made."""
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor().name,
        "flags": processor().flags_of_interest,
        "threads": num_threads(),
        "versions": {"memgen-eval": __version__, **{name: version(name) for name in PACKAGES}},
    }


def main() -> None:
    """Read a study, and write its lines."""
    parser = argparse.ArgumentParser(prog="benchmarks.reproductions", description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--command", required=True, help="how the study was made")
    chosen = parser.parse_args()
    study = json.loads((chosen.study / "study.json").read_text(encoding="utf-8"))
    lines = [header(chosen.command), findings(study), *rows(chosen.study, study)]
    chosen.output.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
