"""Charts of a training over its steps, with its onsets and the window to stop in marked on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memgen_eval.render import numbers
from memgen_eval.render.plots import (
    BAND_OPACITY,
    BASELINE,
    DASHES,
    HEIGHT,
    INK,
    MUTED,
    SAMPLES,
    our_matplotlib,
    plain_tick,
)
from memgen_eval.render.several.drawing import SCALES, chart_axes, chart_svg, ends_of, fits
from memgen_eval.report import Report
from memgen_eval.results import Curve, Estimate, Unit
from memgen_eval.trajectory.onsets import Onsets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_FROM = 8.0  # largest over smallest from which an axis is logarithmic
WINDOW_OPACITY = 0.1
IN_VIEW = 0.02  # of the axis, beyond the first and last step


@dataclass(frozen=True)
class CourseChart:
    """One or two figures over the steps.

    Attributes
    ----------
    lines : mapping
        From the path of a figure to its label. A curve over noise levels is averaged over them, without an interval.
    """

    title: str
    lines: Mapping[str, str]
    unit: Unit
    caption: str
    y_label: str = ""
    log_y: bool = False


COURSE = (
    CourseChart(
        "Training and test loss",
        {"denoiser.error_train": "training images", "denoiser.error_test": "test images"},
        "number",
        "Denoising error, averaged over the noise levels of the grid. Test loss that rises while training loss falls "
        "is knowledge of single training images. It cannot tell whether any sample is a copy.",
        y_label="squared error per value",
        log_y=True,
    ),
    CourseChart(
        "Copies",
        {"memorization.ratio": "samples", "memorization.test_ratio": "unseen images"},
        "share",
        "Images much nearer to one training image than to any other (the 1/3 rule). Copies that are altered, such as "
        "blurred or shifted ones, escape this rule.",
    ),
    CourseChart(
        "Sliced Wasserstein distance",
        {"fidelity.swd": "to training images", "fidelity.test_swd": "to test images"},
        "distance",
        "How far samples are from the data, beside as many training images and test images: low is good. Below the "
        "distance to test images, that to training images tells of copying. Values depend on the number of images, so "
        "compare them within this chart only.",
    ),
    CourseChart(
        "Density and coverage",
        {"fidelity.density": "density", "fidelity.coverage": "coverage"},
        "number",
        "Density: whether samples lie where training images lie. Coverage: the share of training images with a sample "
        "nearby. Both are about 1 for a copy of the training set too.",
    ),
    CourseChart(
        "Distance to D*, which can only copy",
        {"denoiser.gap_train": "training images", "denoiser.gap_test": "test images"},
        "number",
        "Squared distance between the model and the denoiser that minimises the training loss, averaged over the noise "
        "levels. It falls as the model begins to copy. It does not show which images are copied.",
        y_label="squared distance per value",
        log_y=True,
    ),
    CourseChart(
        "Distance to the Gaussian model",
        {"gaussian.nmse": "model"},
        "number",
        "Squared distance to the denoiser that knows mean and covariance only, relative to the model's own square, "
        "averaged over the noise levels. It is smallest while the model has learned no more. No value is bad in "
        "itself.",
        y_label="relative squared distance",
        log_y=True,
    ),
)


def course_drawings(
    reports: Sequence[Report], steps: Sequence[float], axis: str, onsets: Onsets | None
) -> list[dict[str, Any]]:
    """Every chart of which anything was measured, with its caption and its table."""
    from markupsafe import Markup

    drawings = []
    for chart in COURSE:
        lines = {path: [_at(report, path) for report in reports] for path in chart.lines}
        if any(one is not None for held in lines.values() for one in held):
            svg = Markup(_drawn(chart, lines, steps, axis, onsets))
            table = _table(chart, lines, steps, axis)
            drawings.append({"title": chart.title, "svg": svg, "caption": chart.caption, "table": table})
    return drawings


def _at(report: Report, path: str) -> Estimate | None:
    """A figure of a report, a curve by its mean over the places where it is defined; None where it has no value."""
    figure = report.figure(path)
    if isinstance(figure, Curve):
        defined = [value for value in figure.value or () if value is not None]
        return Estimate(float(np.mean(defined)), method="mean of the curve", count=figure.count) if defined else None
    return None if figure is None or figure.value is None else figure


def _drawn(
    chart: CourseChart,
    lines: Mapping[str, Sequence[Estimate | None]],
    steps: Sequence[float],
    axis: str,
    onsets: Onsets | None,
) -> str:
    scale, words = SCALES[chart.unit]
    with our_matplotlib(salt=f"course {chart.title}"):
        axes, figure = chart_axes(HEIGHT)
        looks = zip((SAMPLES, BASELINE), DASHES, ("o", "s"), strict=False)
        for (path, held), (colour, dashes, marker) in zip(lines.items(), looks, strict=False):
            known = [(step, one) for step, one in zip(steps, held, strict=True) if one and fits(one, scale)]
            value, low, high = np.array([ends_of(one, scale) for _, one in known], dtype=np.float64).reshape(-1, 3).T
            places = [step for step, _ in known]
            style: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 3.5}
            axes.plot(places, value, linewidth=1.6, label=chart.lines[path], **style)
            axes.fill_between(places, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)
        axes.set_xlabel(axis)
        axes.set_ylabel(chart.y_label or words)
        _scales(axes, chart, steps)
        if onsets is not None:
            _marks(axes, onsets)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2)
        return chart_svg(figure, chart.title, HEIGHT)


def _scales(axes: Axes, chart: CourseChart, steps: Sequence[float]) -> None:
    """The same step axis for every chart; values on a logarithmic axis where the chart asks for it and they are far."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    plain = FuncFormatter(plain_tick)
    low, high = axes.get_ylim()
    if chart.log_y and low > 0 and high / low > LOG_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(plain)
        axes.set_ylabel(f"{axes.get_ylabel()} (log scale)")
    first, last = min(steps), max(steps)
    if first > 0 and last / first > LOG_FROM:
        margin = (last / first) ** IN_VIEW
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(plain)
        axes.set_xlim(first / margin, last * margin)
    else:
        margin = (last - first) * IN_VIEW
        axes.set_xlim(first - margin, last + margin)
    axes.minorticks_off()


def _marks(axes: Axes, onsets: Onsets) -> None:
    """The window to stop in, and both onsets."""
    window = onsets.early_stopping
    if window.first is not None and window.last is not None:
        axes.axvspan(window.first, window.last, color=MUTED, alpha=WINDOW_OPACITY, linewidth=0)
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    for row, (onset, label) in enumerate(((onsets.onset_loss, "loss onset"), (onsets.onset_copy, "copies"))):
        if onset.step.value is not None:
            axes.axvline(onset.step.value, color=INK, linewidth=0.9, linestyle=DASHES[2 * row])
            axes.annotate(label, (onset.step.value, 1), (3, -9 - 11 * row), color=INK, fontsize=9, **place)


def _table(
    chart: CourseChart, lines: Mapping[str, Sequence[Estimate | None]], steps: Sequence[float], axis: str
) -> dict[str, Any]:
    columns = (axis, *chart.lines.values())
    cells = [[_words(one, chart.unit) for one in held] for held in lines.values()]
    rows = [(numbers.number(step), *row) for step, row in zip(steps, zip(*cells, strict=True), strict=True)]
    return {"unit": "values, 95 % intervals in brackets", "columns": columns, "rows": rows}


def _words(figure: Estimate | None, unit: Unit) -> str:
    return numbers.NOT_MEASURED if figure is None else str(numbers.show(figure, unit))
