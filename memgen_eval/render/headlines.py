"""The dozen figures to read first, each with what to compare it with, and the words for the baseline.

A curve is read at one noise level, where it tells a copier from other models; its ends do not. At high noise every
trained model is far from D*, at low noise every model is near its input, whatever it has learned.

- The matched memorization index is read where it exceeds its control most.
- Gaps and the distance from the Gaussian model are read at the largest noise level of the grid that is not above the
  collapse sigma: there D* still answers with single training images, and there is enough noise for models to differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memgen_eval.render import numbers
from memgen_eval.render.catalogue import FIGURES, unit_of
from memgen_eval.render.numbers import Shown
from memgen_eval.report import Curve, Estimate, Report

NO_BASELINE = "none"
FIDELITY = ("precision", "recall", "density", "coverage", "fid", "kid", "swd")
COLUMNS = {"fidelity": ("against train", "against test", "train minus test"), "gaussian": ("samples", "test images")}


@dataclass(frozen=True)
class Headline:
    """One figure in words, ready to be set by table, markdown and page."""

    path: str
    label: str
    shown: Shown
    control: str
    reason: str | None
    meaning: str


@dataclass(frozen=True)
class _Choice:
    """A figure and what to compare it with: another figure, or the value to expect in words.

    `optional` ones are left out where not measured; `read_at` says where a curve is read.
    """

    path: str
    control_path: str | None
    control: str
    optional: bool = False
    read_at: Literal["largest excess", "collapse"] = "collapse"


CHOICES = (
    _Choice("memorization.ratio", "memorization.test_ratio", "{baseline}"),
    _Choice("memorization.excess", None, "0 if nothing is copied"),
    _Choice("memorization.num_near_identical", "memorization.test_num_near_identical", "{baseline}"),
    _Choice("novelty.auc", None, "0.5 if as novel as {baseline}"),
    _Choice("novelty.relative_auc", None, "0.5 if as novel as {baseline}"),
    _Choice("fidelity.precision", "fidelity.test_precision", "against test", optional=True),
    _Choice("fidelity.coverage", "fidelity.test_coverage", "against test", optional=True),
    _Choice("fidelity.fid", "fidelity.test_fid", "against test", optional=True),
    _Choice(
        "denoiser.matched_memorization_index",
        "denoiser.test_memorization_index",
        "control",
        optional=True,
        read_at="largest excess",
    ),
    _Choice("denoiser.gap_train", "denoiser.gap_test", "on test images", optional=True),
    _Choice("denoiser.generalization_gap", None, "0 if training images are not known better", optional=True),
    _Choice("gaussian.nmse", None, "0 for the Gaussian model", optional=True),
)


def find(report: Report, path: str) -> Estimate | Curve | None:
    """The figure at `path`; None where its family was skipped."""
    family, name = path.split(".")
    result = getattr(report, family)
    figure: Estimate | Curve | None = None if result is None else getattr(result, name)
    return figure


def baseline_is_test(report: Report) -> bool:
    """Whether the baseline is a test set, and not training images each against all the others."""
    return "leave one out" not in report.settings.baseline


def baseline_words(report: Report) -> str:
    """The images that cannot have been copied, in two or three words."""
    if report.settings.baseline == NO_BASELINE:
        return "baseline images"
    return "test images" if baseline_is_test(report) else "training images left out"


def headlines(report: Report) -> list[Headline]:
    """The figures to be read first; those of skipped families, and optional ones not measured, are left out."""
    return [line for choice in CHOICES if (line := _headline(report, choice)) is not None]


def _headline(report: Report, choice: _Choice) -> Headline | None:
    figure = find(report, choice.path)
    if figure is None or (choice.optional and figure.value is None):
        return None
    control = None if choice.control_path is None else find(report, choice.control_path)
    place, unit = "", unit_of(choice.path, report.settings.features)
    if isinstance(figure, Curve):
        assert control is None or isinstance(control, Curve)
        index = _reading_place(report, choice, figure, control)
        if index is None:
            return None
        words = "its largest excess" if choice.read_at == "largest excess" else "where D* copies"
        place = f" at {_place(figure, index)}, {words}"
        figure, control = at(figure, index), None if control is None or control.value is None else at(control, index)
    compared = choice.control.format(baseline=baseline_words(report))
    if choice.control_path is not None:
        assert control is None or isinstance(control, Estimate)
        compared += f": {numbers.show(control, unit) if control is not None else numbers.NOT_MEASURED}"
    described = FIGURES[choice.path]
    why = numbers.reason(figure) if figure.value is None else None
    return Headline(choice.path, described.label + place, numbers.show(figure, unit), compared, why, described.meaning)


def _reading_place(report: Report, choice: _Choice, curve: Curve, control: Curve | None) -> int | None:
    """Which point of a curve is read; None where the curve has none that tells models apart."""
    if choice.read_at == "largest excess":
        return None if control is None else largest_excess(curve, control)
    collapse = find(report, "denoiser.collapse_sigma")
    if not isinstance(collapse, Estimate) or collapse.value is None:
        return None
    return last_up_to(curve, collapse.value)


def largest_excess(curve: Curve, control: Curve) -> int | None:
    """Where `curve` exceeds `control` most, the first of equals; None where no point has both."""
    if curve.value is None or control.value is None:
        return None
    pairs = enumerate(zip(curve.value, control.value, strict=True))
    excesses = {i: value - other for i, (value, other) in pairs if value is not None and other is not None}
    return max(excesses, key=excesses.__getitem__, default=None)


def last_up_to(curve: Curve, x: float) -> int | None:
    """The last point of `curve` with a value that is not beyond `x`; None where there is none."""
    assert curve.x is not None
    pairs = enumerate(zip(curve.x.values, curve.value or (), strict=True))
    return max((i for i, (place, value) in pairs if place <= x and value is not None), default=None)


def at(curve: Curve, index: int) -> Estimate:
    """One point of a curve as an estimate."""
    value, low, high = (None if part is None else part[index] for part in (curve.value, curve.low, curve.high))
    return Estimate(value, low, high, curve.method, curve.count, curve.notes)


def _place(curve: Curve, index: int) -> str:
    assert curve.x is not None
    unit = f" {curve.x.unit}" if curve.x.unit else ""
    return f"{curve.x.name} {numbers.number(curve.x.values[index])}{unit}"


def summary(curve: Curve, unit: numbers.Unit) -> Shown:
    """A curve in one line: its smallest and its largest value, and how many points it has."""
    defined = [value for value in curve.value or () if value is not None]
    if not defined:
        return Shown(numbers.NOT_MEASURED)
    smallest, greatest = (numbers.show(Estimate(end), unit).value for end in (min(defined), max(defined)))
    return Shown(f"{smallest} to {greatest}", f"{len(defined)} points")


def skipped(report: Report) -> list[tuple[list[str], str]]:
    """What was not measured, gathered by the reason."""
    names: dict[str, list[str]] = {}
    for name, why in report.skipped.items():
        names.setdefault(why, []).append(name)
    return [(held, why) for why, held in names.items()]


def evidence(report: Report) -> list[tuple[str, str]]:
    """What the verdict rests on, as pairs of a name and what was found; empty without a verdict."""
    if report.verdict is None:
        return []
    found, baseline = report.verdict.evidence, baseline_words(report)
    p_value = report.verdict.p_value

    def counts(samples: int, others: int) -> str:
        return f"{samples:,} of {found.num_samples:,} samples, {others:,} of {found.num_baseline:,} {baseline}"

    rule = f"flagged as copies (nearest training image under {numbers.threshold(report.settings.threshold)} as far as"
    lines = [
        (f"{rule} the next)", counts(found.num_flagged, found.num_flagged_baseline)),
        ("chance of this many flagged samples if none is a copy (Fisher's exact test)", numbers.p_value(p_value)),
        (
            f"near-identical to a training image{_tolerance(report)}, flagged or not",
            counts(found.num_near_identical, found.num_near_identical_baseline),
        ),
    ]
    if found.num_baseline_leaks:
        without = found.p_value_without_leaks
        p = "" if without is None else f"; without them {numbers.p_value(without)}"
        lines.append(
            (f"{baseline} also in the training set", f"{found.num_baseline_leaks:,} of {found.num_baseline:,}{p}")
        )
    if found.num_distinct_samples != found.num_samples:
        lines.append(("distinct samples", f"{found.num_distinct_samples:,} of {found.num_samples:,}"))
    return lines + _bound(report)


def _tolerance(report: Report) -> str:
    tolerance = report.settings.duplicate_tolerance
    if tolerance is None:
        return ""
    return f" (root mean square difference up to {numbers.number(tolerance * numbers.GREY_LEVELS)} grey levels)"


def _bound(report: Report) -> list[tuple[str, str]]:
    """The share of copies that these counts cannot rule out, where the verdict's sentence does not say it."""
    assert report.verdict is not None
    path = "memorization.largest_compatible_ratio"
    figure = find(report, path)
    if report.verdict.label != "undecided" or not isinstance(figure, Estimate):
        return []
    shown = numbers.show(figure, FIGURES[path].unit).value
    words = f"up to {shown} of the samples" if figure.value is not None else f"{shown}: {numbers.reason(figure)}"
    return [("copies that these counts cannot rule out (95 % confidence)", words)]


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


# After a figure stands its control; a text with blanks is the value to expect, in words.
COMPARISONS: dict[str, tuple[tuple[str, ...], ...]] = {
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
        for first, *others in COMPARISONS[family]
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


def accounts(report: Report) -> list[tuple[str, str]]:
    """The name of each set and its account in one line."""
    return [(name, str(held["account"])) for name, held in report.provenance.inputs.items() if "account" in held]
