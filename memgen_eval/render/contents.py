"""What page, table, markdown and notebook show besides headlines: comparisons, every figure, readings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from memgen_eval.errors import p_text
from memgen_eval.render import numbers
from memgen_eval.render.charts import Chart
from memgen_eval.render.headlines import baseline_words
from memgen_eval.render.numbers import Shown
from memgen_eval.render.plots import measured_curve, points_of
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, FAMILIES, Curve, Denoiser, Estimate

FAMILY_TITLES = {family: family.capitalize() for family in FAMILIES} | {"gaussian": "Gaussian structure"}
COMPARED = {
    "memorization": (
        "ratio",
        "excess",
        "calibrated_ratio",
        "standardized_ratio",
        "aligned_ratio",
        "num_near_identical",
        "carlini",
        "feature_similarity",
        "calibrated_feature_similarity",
        "calibrated_feature_margin",
        "repetition",
        "num_distinct_copied",
    ),
    "novelty": ("distance_median", "distance_ratio", "auc", "relative_auc", "ct", "relative_ct", "authenticity"),
    "fidelity": ("precision", "recall", "density", "coverage", "fid", "kid", "swd"),
    "gaussian": ("wasserstein", "subspace_overlap"),
}
Place = Literal["nearer", "level", "farther", "undefined"]
WORDS: dict[Place, str] = {
    "level": "no clear difference at",
    "farther": "farther away at",
    "undefined": "not compared at",
}


def verdict_label(report: Report) -> str:
    """The verdict's label, or "no verdict"."""
    return "no verdict" if report.verdict is None else report.verdict.label


def skipped(report: Report) -> list[tuple[list[str], str]]:
    """What was not measured, gathered by the reason."""
    names: dict[str, list[str]] = {}
    for name, why in report.skipped.items():
        names.setdefault(why, []).append(name)
    return [(held, why) for why, held in names.items()]


@dataclass(frozen=True)
class FigureRow:
    """A figure with all that is known of it; `points` are those of a curve, along `axis`.

    `order` and `order_of_interval` are what rows are sorted by: the value, a curve's largest one, and the lower end.
    """

    path: str
    label: str
    meaning: str
    shown: Shown
    order: float | None
    order_of_interval: float | None
    num_images: int | None
    method: str
    count: str
    notes: tuple[str, ...]
    axis: str
    points: tuple[tuple[str, Shown], ...]


def figure_rows(report: Report, family: str) -> list[FigureRow]:
    """Every figure of a family; none where it was skipped."""
    return [_figure_row(report, path, figure) for path, figure in report.figures() if path.startswith(f"{family}.")]


def _figure_row(report: Report, path: str, figure: Estimate | Curve) -> FigureRow:
    unit, axis = numbers.unit_of(path, report.settings.features), ""
    points: tuple[tuple[str, Shown], ...] = ()
    if isinstance(figure, Curve) and figure.x is not None and figure.value is not None:
        axis = f"{figure.x.name} {figure.x.unit}".strip()
        points = tuple((f"{x:.4g}", numbers.show(figure.at(i), unit)) for i, x in enumerate(figure.x.values))
    count = "" if figure.count is None else f"{figure.count:,}"
    shown = numbers.show(figure, unit)
    caption = CAPTIONS[path]
    return FigureRow(
        path,
        caption.label,
        caption.meaning,
        shown,
        _largest(figure.value),
        _largest(figure.low),
        figure.count,
        figure.method,
        count,
        figure.notes,
        axis,
        points,
    )


def _largest(part: float | tuple[float | None, ...] | None) -> float | None:
    """A part of an estimate as it is, of a curve its largest number."""
    return max((value for value in part if value is not None), default=None) if isinstance(part, tuple) else part


@dataclass(frozen=True)
class ChartTable:
    """What a chart draws, as words: `unit` is what its y axis says."""

    unit: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def chart_table(chart: Chart, report: Report) -> ChartTable:
    """The points of a chart, a row for each place on its x axis; of a chart of sets, a row for each set."""
    if chart.form == "points":
        rows = [
            (
                point.label.format(baseline=baseline_words(report)),
                str(numbers.show(point.novelty, "number")),
                str(numbers.show(point.fidelity, "number")),
            )
            for point in points_of(report)
        ]
        return ChartTable("fidelity: precision", ("set", "novelty: ratio of median distances", "fidelity"), tuple(rows))
    curves = {path: curve for path in chart.lines if (curve := measured_curve(report, path)) is not None}
    names = [chart.lines[path].format(baseline=baseline_words(report)) for path in curves]
    units = [numbers.unit_of(path, report.settings.features) for path in curves]
    axes = [curve.x for curve in curves.values() if curve.x is not None]
    places = [{x: index for index, x in enumerate(axis.values)} for axis in axes]
    lines = []
    for x in sorted(set().union(*places)):
        points = zip(curves.values(), units, places, strict=True)
        cells = [str(numbers.show(curve.at(at[x]), unit)) if x in at else "" for curve, unit, at in points]
        lines.append((f"{x:.4g}", *cells))
    return ChartTable(chart.y_label, (f"{axes[0].name} {axes[0].unit}".strip(), *names), tuple(lines))


@dataclass(frozen=True)
class ComparedFigure:
    """A figure of the samples and, in the columns after it, what to compare it with."""

    label: str
    meaning: str
    cells: tuple[Shown, ...]


def compare(report: Report, family: str) -> list[ComparedFigure]:
    """The lines of a family's short table, under its `columns`; none where it was skipped.

    Calibrated figures are left out where they were not measured.
    """
    if getattr(report, family) is None:
        return []
    names = (name for name in COMPARED[family] if not (name.startswith("calibrated_") and _lacks(report, family, name)))
    return [_compared(report, family, name) for name in names]


def _lacks(report: Report, family: str, name: str) -> bool:
    figure = report.figure(f"{family}.{name}")
    return figure is None or figure.value is None


def _compared(report: Report, family: str, name: str) -> ComparedFigure:
    caption, cells = CAPTIONS[f"{family}.{name}"], []
    for path in (f"{family}.{other}" for other in (name, *caption.beside)):
        figure = report.figure(path)
        assert figure is not None
        cells.append(numbers.show(figure, numbers.unit_of(path, report.settings.features)))
    if not caption.beside:
        cells.append(Shown(caption.control.format(baseline=baseline_words(report))))
    label = caption.label.removesuffix(" against train").removesuffix(" of samples")
    return ComparedFigure(label, caption.meaning.removesuffix(" Measured against train."), tuple(cells))


def accounts(report: Report) -> list[tuple[str, str]]:
    """The name of each set and its account in one line."""
    return [(name, str(held["account"])) for name, held in report.provenance.inputs.items() if "account" in held]


def readings(report: Report) -> list[str]:
    """Sentences on figures that are easily misread: those of features, and of the denoiser."""
    return [*of_features(report), *of_denoiser(report)]


def of_features(report: Report) -> list[str]:
    """Why a published threshold tells nothing without the baseline, and what a calibrated one finds.

    There are none where features are pixels.
    """
    family = report.memorization
    if family is None:
        return []
    notes = family.feature_similarity.notes if family.feature_similarity.value is not None else ()
    sentences = [f"{note[0].upper()}{note[1:]}." for note in notes if "threshold" in note]
    threshold, found, p_value = family.feature_threshold, family.calibrated_feature_similarity, family.feature_p_value
    if threshold.value is not None and found.value is not None and p_value.value is not None:
        passed = f"{numbers.show(found, 'share').value} of the samples are more similar to a training image"
        than = f"the threshold calibrated on {baseline_words(report)}, a cosine of {threshold.value:.6g}"
        sentences.append(f"{passed} than {than} ({p_text(p_value.value)}). None of this enters the verdict.")
    return sentences


def of_denoiser(report: Report) -> list[str]:
    """Sentences on the charts of the denoiser; none without one."""
    if report.denoiser is None:
        return []
    curve, label = report.denoiser.error_train, CAPTIONS["denoiser.error_train"].label
    oddities = [f"{label[0].upper()}{label[1:]}: {note}." for note in curve.notes if curve.value is not None]
    sentence = against_gaussian(report.denoiser)
    return oddities if sentence is None else [sentence, *oddities]


def against_gaussian(family: Denoiser) -> str | None:
    """At which sigma the model beats the Wiener denoiser D_G, on test images, or training ones without a test set.

    It does where the interval of the relative error lies below 1, and does not where it lies above; where it holds 1
    there is no clear difference. None where the relative error was not measured at all.
    """
    on_test = family.relative_error_test.value is not None
    curve = family.relative_error_test if on_test else family.relative_error_train
    if curve.x is None or not any(value is not None for value in curve.value or ()):
        return None
    places = [_side_of_gaussian(curve, index) for index in range(len(curve.x.values))]
    where = {place: _ranges(places, place, curve.x.values) for place in places}
    nearer = where.get("nearer")
    than = "nearer to the clean image than D_G (mean and covariance only)"
    if nearer is None:
        first = f"nowhere {than}"
    else:
        first = f"{than} at {'every sigma' if len(where) == 1 else f'sigma {nearer}'}"
    others = [f"{words} {where[place]}" for place, words in WORDS.items() if place in where]
    images = "test images" if on_test else "training images (there is no test set)"
    return f"On noised {images} the model is {'; '.join([first, *others])}."


def _side_of_gaussian(curve: Curve, index: int) -> Place:
    point = curve.at(index)
    if point.value is None:
        return "undefined"
    if point.high is not None and point.high < 1:
        return "nearer"
    return "farther" if point.low is not None and point.low > 1 else "level"


def _ranges(places: list[Place], wanted: Place, sigmas: tuple[float, ...]) -> str:
    """The sigmas of a kind: neighbours of the grid as a range."""
    runs = [
        [sigma for _, sigma in run]
        for place, run in groupby(zip(places, sigmas, strict=True), lambda pair: pair[0])
        if place == wanted
    ]
    ends = [[f"{sigma:.3g}" for sigma in (run[0], run[-1])[: len(run)]] for run in runs]
    *before, last = [" to ".join(pair) for pair in ends]
    return f"{', '.join(before)} and {last}" if before else last
