"""Each family's figures in short, side by side with their controls: which figure stands in which column."""

from __future__ import annotations

from dataclasses import dataclass

from memgen_eval.render import numbers
from memgen_eval.render.catalogue import FIGURES, unit_of
from memgen_eval.render.headlines import baseline_words, find
from memgen_eval.render.numbers import Shown
from memgen_eval.report import Estimate, Report


@dataclass(frozen=True)
class Cell:
    """What stands in one column: a figure in words, or why it was not measured."""

    shown: Shown
    reason: str | None = None


@dataclass(frozen=True)
class Line:
    """A figure of the samples and, in the columns after it, what to compare it with."""

    label: str
    meaning: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """A table: the name of each column, and its lines."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]


FIDELITY = ("precision", "recall", "density", "coverage", "fid", "kid", "swd")
# After a figure stands its control; a text with blanks is the value to expect, in words.
CHOICES: dict[str, tuple[tuple[str, ...], ...]] = {
    "memorization": (
        ("ratio", "test_ratio"),
        ("excess", "0 if nothing is copied"),
        ("num_near_identical", "test_num_near_identical"),
        ("carlini", "test_carlini"),
        ("feature_similarity", "test_feature_similarity"),
        ("repetition", "test_repetition"),
        ("num_distinct_copied", "0 if nothing is flagged"),
    ),
    "novelty": (
        ("distance_median", "test_distance_median"),
        ("distance_ratio", "1 if as far as {baseline}"),
        ("auc", "0.5 if as novel as {baseline}"),
        ("relative_auc", "0.5 if as novel as {baseline}"),
        ("ct", "0 if as far as {baseline}"),
        ("relative_ct", "0 if as far as {baseline}"),
        ("authenticity", "test_authenticity"),
    ),
    "fidelity": tuple((name, f"test_{name}", f"gap_{name}") for name in FIDELITY),
    "gaussian": (("wasserstein", "test_wasserstein"), ("subspace_overlap", "test_subspace_overlap")),
}
COLUMNS = {"fidelity": ("against train", "against test", "train minus test"), "gaussian": ("samples", "test images")}


def compare(report: Report, family: str) -> Comparison | None:
    """The short table of a family; None where it was skipped."""
    if getattr(report, family) is None:
        return None
    baseline = baseline_words(report)
    lines = tuple(
        Line(
            FIGURES[f"{family}.{first}"].label.removesuffix(" against train").removesuffix(" of samples"),
            FIGURES[f"{family}.{first}"].meaning.removesuffix(" Measured against train."),
            tuple(_cell(report, family, name, baseline) for name in (first, *others)),
        )
        for first, *others in CHOICES[family]
    )
    return Comparison(COLUMNS.get(family, ("samples", baseline)), lines)


def _cell(report: Report, family: str, name: str, baseline: str) -> Cell:
    if " " in name:
        return Cell(Shown(name.format(baseline=baseline)))
    path = f"{family}.{name}"
    figure = find(report, path)
    assert isinstance(figure, Estimate)
    reason = numbers.reason(figure) if figure.value is None else None
    return Cell(numbers.show(figure, unit_of(path, report.settings.features)), reason)
