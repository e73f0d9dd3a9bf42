"""The dozen figures to read first, each with what to compare it with, and the words for the baseline.

A curve is read at one noise level, where it tells a copier from other models; its ends do not. At high noise every
trained model is far from D*, at low noise every model is near its input, whatever it has learned.

- The matched memorization index is read where it exceeds its control most.
- Gaps and the distance from the Gaussian model are read at the largest noise level of the grid that is not above the
  collapse sigma: there D* still answers with single training images, and there is enough noise for models to differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from memgen_eval.render import numbers
from memgen_eval.render.numbers import Shown
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, Curve, Estimate

WITHOUT_BASELINE = "none"
MATCHED_INDEX = "denoiser.matched_memorization_index"
HEADLINES = (
    "memorization.ratio",
    "memorization.excess",
    "memorization.aligned_ratio",
    "memorization.num_near_identical",
    "novelty.auc",
    "novelty.relative_auc",
    "fidelity.precision",
    "fidelity.coverage",
    "fidelity.fid",
    MATCHED_INDEX,
    "denoiser.gap_train",
    "denoiser.generalization_gap",
    "gaussian.nmse",
)
ALWAYS_SHOWN = ("memorization", "novelty")  # a headline of another family is left out where it was not measured
HEADLINE_COLUMNS = ("figure", "value", "95 % interval", "compare with")
COLUMNS = {"fidelity": ("against train", "against test", "train minus test"), "gaussian": ("samples", "test images")}


@dataclass(frozen=True)
class Headline:
    """One figure in words, as table, markdown, page and notebook show it."""

    path: str
    label: str
    shown: Shown
    control: str
    meaning: str

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The headline under `HEADLINE_COLUMNS`; where it was not measured, the last cell gives the reason."""
        remark = self.control if self.shown.reason is None else self.shown.reason
        return self.label, self.shown.value, self.shown.interval, remark


def baseline_is_test(report: Report) -> bool:
    """Whether the baseline is a test set, and not training images each against all the others."""
    return "leave one out" not in report.settings.baseline


def baseline_words(report: Report) -> str:
    """The images that cannot have been copied, in two or three words."""
    if report.settings.baseline == WITHOUT_BASELINE:
        return "baseline images"
    return "test images" if baseline_is_test(report) else "training images left out"


def columns(report: Report, family: str) -> tuple[str, ...]:
    """The columns of a family: what its figures are of, and what they are compared with."""
    return COLUMNS.get(family, ("samples", baseline_words(report)))


def headlines(report: Report) -> list[Headline]:
    """The figures to be read first; those of skipped families, and optional ones not measured, are left out."""
    return [line for path in HEADLINES if (line := _headline(report, path)) is not None]


def _headline(report: Report, path: str) -> Headline | None:
    family, caption, figure = path.split(".", maxsplit=1)[0], CAPTIONS[path], report.figure(path)
    if figure is None or (figure.value is None and family not in ALWAYS_SHOWN):
        return None
    beside = report.figure(f"{family}.{caption.beside[0]}") if caption.beside else None
    label, unit = caption.label, numbers.unit_of(path, report.settings.features)
    if isinstance(figure, Curve):
        assert beside is None or isinstance(beside, Curve)
        index = reading_place(report, path, figure, beside)
        if index is None:
            return None
        label += f" at {_place(figure, index)}, {'its largest excess' if path == MATCHED_INDEX else 'where D* copies'}"
        figure, beside = figure.at(index), None if beside is None else beside.at(index)
    control = caption.control.format(baseline=baseline_words(report)) or columns(report, family)[1]
    if beside is not None:
        control += f": {numbers.show(beside, unit)}"
    return Headline(path, label, numbers.show(figure, unit), control, caption.meaning)


def reading_place(report: Report, path: str, curve: Curve, control: Curve | None) -> int | None:
    """Which point of a curve is read; None where the curve has none that tells models apart."""
    if path == MATCHED_INDEX:
        return None if control is None else largest_excess(curve, control)
    collapse = report.figure("denoiser.collapse_sigma")
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


def _place(curve: Curve, index: int) -> str:
    assert curve.x is not None
    unit = f" {curve.x.unit}" if curve.x.unit else ""
    return f"{curve.x.name} {numbers.number(curve.x.values[index])}{unit}"
