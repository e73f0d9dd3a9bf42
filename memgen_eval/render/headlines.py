"""The dozen figures that are read first, each beside its control, and the words for the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from memgen_eval.render import numbers
from memgen_eval.render.catalogue import FIGURES, unit_of
from memgen_eval.render.numbers import Shown
from memgen_eval.report import Curve, Estimate, Report


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
    """A figure, what stands beside it (a figure or a null value), and whether it is left out where not measured."""

    path: str
    control_path: str | None
    control: str
    optional: bool = False


NO_BASELINE = "none"
CHOICES = (
    _Choice("memorization.ratio", "memorization.test_ratio", "{baseline}"),
    _Choice("memorization.excess", None, "0 if nothing is copied"),
    _Choice("memorization.num_near_identical", "memorization.test_num_near_identical", "{baseline}"),
    _Choice("novelty.auc", None, "0.5 if as novel as {baseline}"),
    _Choice("novelty.relative_auc", None, "0.5 if as novel as {baseline}"),
    _Choice("fidelity.precision", "fidelity.test_precision", "against test", optional=True),
    _Choice("fidelity.coverage", "fidelity.test_coverage", "against test", optional=True),
    _Choice("fidelity.fid", "fidelity.test_fid", "against test", optional=True),
    _Choice("denoiser.matched_memorization_index", "denoiser.test_memorization_index", "control", optional=True),
    _Choice("denoiser.gap_train", "denoiser.gap_test", "on test images", optional=True),
    _Choice("denoiser.generalization_gap", None, "0 if training images are not known better", optional=True),
    _Choice("gaussian.nmse", None, "0 at the Gaussian model", optional=True),
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
        peak = largest(figure)
        if peak is None:
            return None
        index, place = peak, f", largest at {_place(figure, peak)}"
        figure = at(figure, index)
        control = at(control, index) if isinstance(control, Curve) else None
    beside = choice.control.format(baseline=baseline_words(report))
    if choice.control_path is not None:
        assert control is None or isinstance(control, Estimate)
        beside += f": {numbers.show(control, unit) if control is not None else numbers.NOT_MEASURED}"
    described = FIGURES[choice.path]
    why = numbers.reason(figure) if figure.value is None else None
    return Headline(choice.path, described.label + place, numbers.show(figure, unit), beside, why, described.meaning)


def largest(curve: Curve) -> int | None:
    """Where a curve is largest; None where it has no value at all."""
    defined = [(value, -index) for index, value in enumerate(curve.value or ()) if value is not None]
    return -max(defined)[1] if defined else None


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
    rule = f"flagged by the ratio rule (d1/d2 < {numbers.threshold(report.settings.threshold)})"
    lines = [
        (rule, _counts(found.num_flagged, found.num_samples, found.num_flagged_baseline, found.num_baseline, baseline)),
        ("Fisher's exact test, one-sided", numbers.p_value(report.verdict.p_value)),
        (
            "training images to within noise",
            _counts(
                found.num_near_identical,
                found.num_samples,
                found.num_near_identical_baseline,
                found.num_baseline,
                baseline,
            ),
        ),
    ]
    if found.num_baseline_leaks:
        without = found.p_value_without_leaks
        p = "" if without is None else f"; without them {numbers.p_value(without)}"
        lines.append((f"{baseline} that train holds too", f"{found.num_baseline_leaks:,} of {found.num_baseline:,}{p}"))
    if found.num_distinct_samples != found.num_samples:
        lines.append(("distinct samples", f"{found.num_distinct_samples:,} of {found.num_samples:,}"))
    return lines + _bounds(report)


def _counts(samples: int, num_samples: int, baseline: int, num_baseline: int, words: str) -> str:
    return f"{samples:,} of {num_samples:,} samples, {baseline:,} of {num_baseline:,} {words}"


def _bounds(report: Report) -> list[tuple[str, str]]:
    """What these counts can rule out, of the copies that the rule sees."""
    named = (
        ("memorization.largest_compatible_ratio", "share of copies still compatible (95 %)", "up to "),
        ("memorization.detectable_ratio", "excess that 9 of 10 such evaluations would have found", "from "),
    )
    lines = []
    for path, label, word in named:
        figure = find(report, path)
        if isinstance(figure, Estimate):
            shown = numbers.show(figure, FIGURES[path].unit).value
            measured = figure.value is not None
            lines.append((label, word + shown if measured else f"{shown}: {numbers.reason(figure)}"))
    return lines
