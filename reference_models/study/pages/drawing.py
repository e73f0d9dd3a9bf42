"""Charts of a study as SVG text, in the colours of the page that shows them."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memgen_eval.render.plots import (
    BAND_OPACITY,
    BASELINE,
    DASHES,
    HEIGHT,
    INK,
    MARKERS,
    MUTED,
    SAMPLES,
    WIDTH,
    inline_svg,
    our_matplotlib,
)
from memgen_eval.results import Estimate
from reference_models.study.analysis import FactorFit
from reference_models.study.fits import Bracket
from reference_models.study.outcomes import OnsetName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS: dict[OnsetName, tuple[str, str, Any]] = {
    "onset_copy": (SAMPLES, "o", DASHES[0]),
    "onset_loss": (BASELINE, "s", DASHES[1]),
}
LABELS: dict[OnsetName, tuple[str, str]] = {
    "onset_copy": ("copying", "not yet copying"),
    "onset_loss": ("test loss leaves", "not yet"),
}
LINE_COLOURS = (SAMPLES, BASELINE, INK, MUTED)
FAINTEST = 0.3  # opacity of the first value of a factor; the last is opaque
SPREAD = 1.03  # by which factor both onsets stand apart on the axis of the factor


@dataclass(frozen=True)
class Track:
    """A line of a chart: places, values, and which value of the leading factor it belongs to."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    group: str


@dataclass(frozen=True)
class Series:
    """Estimates at values of a factor, with a name."""

    label: str
    points: tuple[tuple[float, Estimate], ...]


def onset_chart(
    factor: str, onsets: Mapping[OnsetName, Sequence[tuple[float, Bracket]]], fits: Sequence[FactorFit]
) -> str:
    """Onsets against a factor on logarithmic axes: bars between checkpoints, triangles where none was seen, fits."""
    with our_matplotlib(salt=f"onset {factor}"):
        figure, axes = _figure()
        for place, (name, pairs) in enumerate(onsets.items()):
            colour, marker, _ = LOOKS[name]
            shift = SPREAD ** (2 * place - 1)
            _draw_onsets(axes, [(x * shift, onset) for x, onset in pairs], colour, marker, LABELS[name])
        for fit in fits:
            if fit.line:
                colour, _, dashes = LOOKS[fit.onset]
                axes.plot(*zip(*fit.line, strict=True), color=colour, linestyle=dashes, linewidth=1.4)
        _published_line(axes, fits)
        _logarithmic(axes, factor, "steps (log scale)")
        _legend(axes)
        return _svg(figure, f"onsets against {factor}")


def _draw_onsets(
    axes: Axes, pairs: Sequence[tuple[float, Bracket]], colour: str, marker: str, labels: tuple[str, str]
) -> None:
    seen = [(x, onset.low, onset.high) for x, onset in pairs if onset.high is not None]
    unseen = [(x, onset.low) for x, onset in pairs if onset.high is None]
    if seen:
        places, low, high = np.array(seen, dtype=np.float64).T
        middle = np.sqrt(np.maximum(low, high / 2) * high)
        bars = [middle - np.maximum(low, high / 2), high - middle]
        style: dict[str, Any] = {"color": colour, "linewidth": 1.2, "markersize": 4, "alpha": 0.75}
        axes.errorbar(places, middle, yerr=bars, fmt=marker, label=labels[0], **style)
    if unseen:
        places, last = np.array(unseen, dtype=np.float64).T
        style = {"color": colour, "markersize": 6, "fillstyle": "none", "linestyle": "none"}
        axes.plot(places, last, marker="^", label=labels[1], **style)


def _published_line(axes: Axes, fits: Sequence[FactorFit]) -> None:
    """The exponent of papers, through the middle of the first fit."""
    fit = next((fit for fit in fits if fit.line and fit.published is not None), None)
    if fit is None or fit.published is None:
        return
    (left, low), (right, high) = fit.line
    reach = (right / left) ** (fit.published.exponent / 2)
    middle = (low * high) ** 0.5
    label = f"exponent {fit.published.exponent:g}"
    axes.plot(
        [left, right], [middle / reach, middle * reach], color=MUTED, linestyle=DASHES[2], linewidth=1.2, label=label
    )


def tracks_chart(title: str, tracks: Sequence[Track], *, x_label: str, y_label: str, log_x: bool) -> str:
    """A line a run; those of one value of the leading factor are equally opaque, the largest value darkest."""
    groups = list(dict.fromkeys(track.group for track in tracks))
    with our_matplotlib(salt=title):
        figure, axes = _figure()
        named = set[str]()
        for track in tracks:
            place = groups.index(track.group)
            opacity = 1.0 if len(groups) == 1 else FAINTEST + (1 - FAINTEST) * place / (len(groups) - 1)
            label = None if track.group in named else track.group
            named.add(track.group)
            style: dict[str, Any] = {"color": SAMPLES, "alpha": opacity, "linewidth": 1.4, "markersize": 4}
            axes.plot(track.x, track.y, label=label, marker=MARKERS[place % len(MARKERS)], markeredgewidth=0, **style)
            if not log_x and track.x:
                axes.plot(track.x[-1:], track.y[-1:], marker="o", color=INK, markersize=5, fillstyle="none")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log_x:
            _log_ticks(axes, "x")
        if named:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=4, columnspacing=1.2)
        return _svg(figure, title)


def series_chart(title: str, series: Sequence[Series], *, x_label: str, y_label: str) -> str:
    """Estimates over a factor, a line for each kind."""
    with our_matplotlib(salt=title):
        figure, axes = _figure()
        for one, colour, dashes, marker in zip(series, LINE_COLOURS, DASHES, MARKERS, strict=False):
            points = [(x, estimate) for x, estimate in one.points if estimate.value is not None]
            _draw_series(axes, points, one.label, {"color": colour, "linestyle": dashes, "marker": marker})
        axes.set_xlabel(f"{x_label} (log scale)")
        axes.set_ylabel(y_label)
        _log_ticks(axes, "x")
        _legend(axes)
        return _svg(figure, title)


def _draw_series(axes: Axes, points: Sequence[tuple[float, Estimate]], label: str, style: dict[str, Any]) -> None:
    if not points:
        return
    places = sorted({x for x, _ in points})
    values = [[one.value for x, one in points if x == place and one.value is not None] for place in places]
    means = [float(np.mean(held)) for held in values]
    axes.plot(places, means, linewidth=1.6, markersize=4, markeredgewidth=0, label=label, **style)
    for x, one in points:
        if one.low is not None and one.high is not None:
            axes.plot([x, x], [one.low, one.high], color=style["color"], linewidth=3, alpha=2 * BAND_OPACITY)


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, layout="constrained")
    return figure, figure.subplots()


def _logarithmic(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(f"{x_label} (log scale)")
    axes.set_ylabel(y_label)
    _log_ticks(axes, "x")
    _log_ticks(axes, "y")


def _log_ticks(axes: Axes, side: str) -> None:
    """A logarithmic axis with as many ticks as its range needs, written plainly."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis = axes.xaxis if side == "x" else axes.yaxis
    (axes.set_xscale if side == "x" else axes.set_yscale)("log")
    low, high = axes.get_xlim() if side == "x" else axes.get_ylim()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.minorticks_off()


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2)


def _svg(figure: Figure, title: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return inline_svg(stream.getvalue(), html.escape(title))
