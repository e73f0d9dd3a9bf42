"""What one asks of a report in Python: its figures as a data frame, its charts and galleries as matplotlib figures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from memgen_eval.errors import InputError
from memgen_eval.gates import did_you_mean
from memgen_eval.render.charts import CHARTS, Chart
from memgen_eval.render.gallery import laid
from memgen_eval.render.headlines import baseline_is_test
from memgen_eval.render.numbers import unit_of
from memgen_eval.render.plots import INK, MUTED, RULE, figure_of, is_measured, our_matplotlib
from memgen_eval.report import Report
from memgen_eval.results import Curve, Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

GALLERIES = ("closest", "test_closest", "altered")
MOST_PAIRS = 10  # in a figure
PIXELS_A_INCH, PAIR_WIDTH, PAIR_HEIGHT = 100, 1.1, 2.7  # inches
FRAME_COLUMNS = ("figure", "x", "value", "low", "high", "unit", "count", "method", "notes")


def frame_of(report: Report) -> DataFrame:
    """One row for each estimate, and one for each point of a curve. Raises InputError where pandas is absent."""
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(f"to_frame() needs pandas ({error}); install memgen-eval[pandas]") from error
    return pd.DataFrame(list(_rows(report)), columns=list(FRAME_COLUMNS)).astype({"count": "Int64"})


def _rows(report: Report) -> Iterator[tuple[Any, ...]]:
    for path, figure in report.figures():
        points: list[tuple[float | None, Estimate]]
        if isinstance(figure, Curve) and figure.x is not None and figure.value is not None:
            points = [(x, figure.at(place)) for place, x in enumerate(figure.x.values)]
        elif isinstance(figure, Curve):
            points = [(None, Estimate(None, method=figure.method, count=figure.count, notes=figure.notes))]
        else:
            points = [(None, figure)]
        for x, point in points:
            numbers = (float("nan") if number is None else number for number in (x, point.value, point.low, point.high))
            unit = unit_of(path, report.settings.features)
            yield path, *numbers, unit, point.count, point.method, "; ".join(point.notes)


def plot_of(report: Report, name: str) -> Figure:
    """A chart by its name or by the path of a curve in it, or a gallery. Raises InputError naming what there is."""
    charts = {chart.name: chart for listed in CHARTS.values() for chart in listed}
    by_path = {path: chart for chart in charts.values() for path in chart.lines}
    shown = [key for key, chart in charts.items() if is_measured(chart, report)]
    shown += [gallery for gallery in GALLERIES if _matches(report, gallery)]
    chart = charts.get(name) or by_path.get(name)
    if chart is None and name not in GALLERIES:
        known = [*charts, *GALLERIES, *by_path]
        raise InputError(f"plot: {name!r:.80} is not a chart; {_choices(shown)}{did_you_mean(str(name), known)}")
    if (chart is None and name not in shown) or (chart is not None and chart.name not in shown):
        raise InputError(f"plot: nothing was measured that {name!r} shows; {_choices(shown)}")
    with our_matplotlib(salt=name):
        figure = _gallery(report, name) if chart is None else _chart(chart, report)
        figure.set_facecolor("white")
    vars(figure)["_repr_png_"] = partial(_png, figure)  # Jupyter shows figures by itself only once pyplot is imported
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _choices(shown: list[str]) -> str:
    return f"this report has {', '.join(shown)}" if shown else "this report has no chart"


def _chart(chart: Chart, report: Report) -> Figure:
    figure = figure_of(chart, report)
    figure.suptitle(chart.title, x=0.01, horizontalalignment="left", fontsize=11, color=INK)
    for axes in figure.axes:  # ticks that are made later would be the caller's
        axes.tick_params(color=MUTED, labelcolor=INK, grid_color=RULE, grid_linewidth=0.6)
    figure.set_dpi(PIXELS_A_INCH)
    return figure


def _matches(report: Report, gallery: str) -> tuple[Any, ...]:
    matches: tuple[Any, ...] = () if report.memorization is None else getattr(report.memorization, gallery)
    return matches


def _gallery(report: Report, name: str) -> Figure:
    """Images above, and below each the training image nearest to it; for "altered" that one altered likewise."""
    from matplotlib.figure import Figure

    if report.gallery is None:
        expected = "they are not saved with it: plot it in the process that evaluates"
        raise InputError(f"plot: this report has no longer the pictures of {name!r}; {expected}")
    matches = _matches(report, name)[:MOST_PAIRS]
    above = report.gallery.baseline if name == "test_closest" else report.gallery.samples
    noun = "sample" if name != "test_closest" else "test image" if baseline_is_test(report) else "left out"
    size = (max(PAIR_WIDTH * len(matches), 3 * PAIR_WIDTH), PAIR_HEIGHT)
    figure = Figure(figsize=size, dpi=PIXELS_A_INCH, layout="constrained")
    for place, match in enumerate(matches):
        train = report.gallery.train[match.train_index]
        if name == "altered":
            train = laid(train, match, report.settings.image_shape)
        titles = (f"{noun} {match.sample_index:,}", f"train {match.train_index:,}\n{match.grey_levels:.1f} levels")
        for row, (pixels, title) in enumerate(zip((above[match.sample_index], train), titles, strict=True)):
            axes = figure.add_subplot(2, max(len(matches), 3), row * max(len(matches), 3) + place + 1)
            axes.imshow(pixels.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(title, fontsize=7, color=INK)
            axes.set_axis_off()
    return figure
