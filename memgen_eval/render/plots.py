"""Charts as SVG text for a page: colours and fonts are CSS variables, and the same report gives the same bytes.

matplotlib is used through figures of its own: no pyplot, no backend chosen, the caller's settings as they were.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.render import numbers
from memgen_eval.render.charts import SIGMA_LABEL, Chart
from memgen_eval.render.headlines import baseline_words
from memgen_eval.report import Report
from memgen_eval.results import GREY_LEVELS, Curve, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 430, 290  # px, before the page scales it
# Colours of a figure in Python; a page takes the variables of its style sheet instead.
VARIABLES = {"#b4470a": "samples", "#1c5fa5": "baseline", "#1d1d1b": "ink", "#65645f": "muted", "#dddbd5": "rule"}
SAMPLES, BASELINE, INK, MUTED, RULE = VARIABLES
COLOURS = (SAMPLES, BASELINE, INK, MUTED)  # of the first line of a chart, the second, the third and the fourth
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D")  # lines stay apart without colours, where they cross too
BAND_OPACITY = 0.18
MOST_MARKERS = 15
NARROW_RANGE = 30.0  # largest over smallest value; an axis below it needs ticks between the powers of ten
WIDE_NOVELTY = 5.0  # beyond it novelty is logarithmic from 1
ANCHORS: dict[str, tuple[Any, ...]] = {
    "copies": ("training images", INK, "s"),
    "baseline": ("{baseline}", BASELINE, "o"),
    "gaussian": ("Gaussian samples", MUTED, "^"),
    "noise": ("noise", MUTED, "X"),
}
WIDEST_RANGE = 1e6  # largest over smallest value on a logarithmic axis; smaller values are cut off

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.minor.visible": False,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "legend.handlelength": 2.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}

Floats = NDArray[np.float64]


def draw(chart: Chart, report: Report) -> str | None:
    """The chart as an ``<svg>`` element; None where none of its curves or points was measured."""
    if not is_measured(chart, report):
        return None
    with our_matplotlib(salt=chart.name):
        figure = figure_of(chart, report)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return inline_svg(stream.getvalue(), chart.title)


def is_measured(chart: Chart, report: Report) -> bool:
    """Whether there is anything to draw."""
    curves = (measured_curve(report, path) for path in chart.lines)
    return any(curve is not None for curve in curves) or (chart.form == "points" and bool(points_of(report)))


def figure_of(chart: Chart, report: Report) -> Figure:
    """The chart as a figure of matplotlib, drawn with the settings that stand: ours inside `our_matplotlib`."""
    from matplotlib.figure import Figure

    curves = [measured_curve(report, path) for path in chart.lines]
    measured = [curve for curve in curves if curve is not None]
    points = points_of(report) if chart.form == "points" else []
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, layout="constrained")
    axes = figure.subplots()
    axes.set_ylabel(chart.y_label + (" (log scale)" if chart.log_y else ""))
    if points:
        _draw_points(axes, points, baseline_words(report))
    else:
        _prepare(axes, chart, report, measured)
    looks = zip(COLOURS, DASHES, MARKERS, strict=True)
    for curve, label, (colour, dashes, marker) in zip(curves, chart.lines.values(), looks, strict=False):
        if curve is not None:
            style = {"color": colour, "linestyle": dashes, "linewidth": 1.6, "marker": marker}
            _draw_curve(axes, chart, curve, style | {"label": label.format(baseline=baseline_words(report))})
    _draw_marks(axes, chart, report)
    axes.legend(**LEGENDS[chart.form])
    return figure


def _prepare(axes: Axes, chart: Chart, report: Report, measured: list[Curve]) -> None:
    """Scales and labels of both axes, for these curves."""
    if chart.form == "cdf":
        _prepare_cdf(axes, measured, in_pixels=report.settings.features == "pixels")
    elif chart.form == "thresholds":
        _prepare_thresholds(axes, report.settings.threshold)
    else:
        _prepare_sigmas(axes, chart, measured)


@dataclass(frozen=True)
class SetPoint:
    """A set in the plane of novelty and fidelity, and how it is drawn."""

    label: str
    novelty: Estimate
    fidelity: Estimate
    colour: str = MUTED
    marker: str = "o"


def points_of(report: Report) -> list[SetPoint]:
    """The anchors, then the samples; none where the samples or the anchors were not measured."""
    novelty, fidelity = (report.figure(path) for path in ("novelty.distance_ratio", "fidelity.precision"))
    if report.fidelity is None or not isinstance(novelty, Estimate) or not isinstance(fidelity, Estimate):
        return []
    points = []
    for anchor in report.fidelity.anchors:
        if anchor.name not in ANCHORS:  # of a report that somebody else wrote
            continue
        label, colour, marker = ANCHORS[anchor.name]
        points.append(SetPoint(label, anchor.novelty, anchor.fidelity, colour, marker))
    if not points:
        return []
    points.append(SetPoint("samples", novelty, fidelity, SAMPLES, "D"))
    measured = [point for point in points if None not in (point.novelty.value, point.fidelity.value)]
    return measured if points[-1] in measured else []


def _draw_points(axes: Axes, points: list[SetPoint], baseline: str) -> None:
    """Novelty on x, fidelity on y, each with its interval; a legend names them, for points may lie close together."""
    axes.set_xlabel(f"novelty: median distance to train over that of {baseline}")
    for point in points:
        x, y = point.novelty.value, point.fidelity.value
        assert x is not None and y is not None
        errors = [[[value - low], [high - value]] for value, low, high in map(_whole, (point.novelty, point.fidelity))]
        axes.errorbar([x], [y], xerr=errors[0], yerr=errors[1], color=point.colour, linewidth=1.2, linestyle="none")
        style: dict[str, Any] = {"color": point.colour, "marker": point.marker, "markersize": 6, "markeredgewidth": 0}
        axes.plot([x], [y], linestyle="none", label=point.label.format(baseline=baseline), **style)
    if max(point.novelty.value or 0 for point in points) > WIDE_NOVELTY:
        axes.set_xscale("symlog", linthresh=1)
    axes.set_ylim(-0.05, 1.05)


def _whole(figure: Estimate) -> tuple[float, float, float]:
    """Value and interval; the value itself where there is no interval."""
    assert figure.value is not None
    low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
    return figure.value, low, high


def measured_curve(report: Report, path: str) -> Curve | None:
    """The curve, None where it has no value."""
    curve = report.figure(path)
    if not isinstance(curve, Curve) or curve.x is None or all(value is None for value in curve.value or ()):
        return None
    return curve


@contextmanager
def our_matplotlib(*, salt: str) -> Iterator[None]:
    """Set matplotlib's own defaults and ours inside, the caller's outside; without a warning of a missing cache."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the warning that its cache folder cannot be written does no harm here
    try:
        import matplotlib as mpl
        from matplotlib import font_manager  # noqa: F401  it searches for fonts while the logger is quiet

        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update({**STYLE, "svg.hashsalt": salt})
            yield
    finally:
        logger.setLevel(level)


def _floats(values: tuple[float | None, ...]) -> Floats:
    """A curve's values, None as NaN: the line breaks there."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _draw_curve(axes: Axes, chart: Chart, curve: Curve, style: dict[str, Any]) -> None:
    assert curve.x is not None and curve.value is not None
    places, values = _floats(curve.x.values), _floats(curve.value)
    step = max(1, len(places) // MOST_MARKERS)
    sides = (values, places) if chart.form == "cdf" else (places, values)
    axes.plot(*sides, markersize=4, markeredgewidth=0, markevery=step, **style)
    if curve.low is not None and curve.high is not None:
        low, high = _floats(curve.low), _floats(curve.high)
        fill = axes.fill_betweenx if chart.form == "cdf" else axes.fill_between
        band: dict[str, Any] = {"where": np.isfinite(low) & np.isfinite(high), "linewidth": 0, "alpha": BAND_OPACITY}
        fill(places, low, high, color=style["color"], **band)


def _prepare_cdf(axes: Axes, curves: list[Curve], *, in_pixels: bool) -> None:
    """Distances on x from 0, shares on y; grey levels along the top where the distances are of pixels."""
    from matplotlib.ticker import PercentFormatter

    ends = [curve.high or curve.value for curve in curves]
    axes.set_xlim(0, 1.02 * max(value for values in ends for value in values or () if value is not None) or 1)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    if not in_pixels:
        axes.set_xlabel("distance in feature space")
        return
    axes.set_xlabel("distance, root mean square per value on [0, 1]")
    to_grey, from_grey = (lambda d: np.multiply(d, GREY_LEVELS)), (lambda grey: np.divide(grey, GREY_LEVELS))
    top = axes.secondary_xaxis("top", functions=(to_grey, from_grey))
    top.set_xlabel("the same in grey levels")


def _prepare_thresholds(axes: Axes, threshold: float) -> None:
    """The threshold on x, shares on y under a square root, so that one per cent is still seen."""
    from matplotlib.ticker import FixedLocator, PercentFormatter

    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.set_xlabel("threshold c of the ratio d1/d2")
    _vertical(axes, threshold, f"c = {numbers.threshold(threshold)}")


def _prepare_sigmas(axes: Axes, chart: Chart, curves: list[Curve]) -> None:
    """The noise level on x, logarithmic; y as the chart asks."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(plain_tick))
    axes.set_xlabel(SIGMA_LABEL)
    if chart.log_y:
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_formatter(FuncFormatter(plain_tick))
        marked = np.array([mark.y for mark in chart.marks if mark.y is not None])
        drawn = [_floats(curve.value or ()) for curve in curves]
        positive = np.concatenate([values[values > 0] for values in [*drawn, marked]])
        if len(positive):
            low, high = max(positive.min() / 2, positive.max() / WIDEST_RANGE), positive.max() * 2
            axes.set_ylim(low, high)
            if high / low < NARROW_RANGE:
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("e-0", "e-")))
    axes.minorticks_off()


def plain_tick(value: float, _: int | None) -> str:
    """A tick of an axis as a plain number."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}".replace("e-0", "e-")


LEGENDS: dict[str, dict[str, Any]] = {
    "cdf": {"loc": "lower right"},
    "points": {"loc": "best"},
    "thresholds": {"loc": "upper left"},
    "sigmas": {"loc": "lower left", "bbox_to_anchor": (0, 1.02), "ncols": 2},
}


def _draw_marks(axes: Axes, chart: Chart, report: Report) -> None:
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    row = 0
    for mark in chart.marks:
        if mark.y is not None:
            axes.axhline(mark.y, color=MUTED, linewidth=0.8)
            axes.annotate(mark.label, (1, mark.y), (4, 0), va="center", color=INK, fontsize=9, **beside)
        figure = None if mark.x_path is None else report.figure(mark.x_path)
        if isinstance(figure, Estimate) and figure.value is not None:
            _vertical(axes, figure.value, mark.label, row)
            row += 1


def _vertical(axes: Axes, x: float, label: str, row: int = 0) -> None:
    axes.axvline(x, color=MUTED, linewidth=0.8)
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(label, (x, 1), (4, -9 - 11 * row), color=INK, fontsize=9, **place)


def inline_svg(svg: str, title: str, *, height: int = HEIGHT) -> str:
    """What a page needs of a standalone SVG file: no header, no unused ids, colours and fonts from the style sheet."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in used else "", svg)
    for sentinel, variable in VARIABLES.items():
        svg = svg.replace(sentinel, f"var(--{variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", svg)
    opening = f'<svg class="chart" role="img" aria-label="{title}" viewBox="0 0 {WIDTH} {height}">'
    return opening + svg[svg.index(">") + 1 :].strip()
