"""Charts of several reports as SVG text: intervals one under the other, and lines over the steps of a training."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memgen_eval.render import numbers
from memgen_eval.render.plots import (
    BAND_OPACITY,
    BASELINE,
    DASHES,
    HEIGHT,
    SAMPLES,
    WIDTH,
    inline_svg,
    our_matplotlib,
)
from memgen_eval.render.several.members import HeadlineOfAll
from memgen_eval.results import GREY_LEVELS, Estimate, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_HEIGHT, FRAME_HEIGHT = 34, 84  # px, of a chart of intervals
LONGEST_NAME = 22  # characters of a name on an axis
LARGEST_DRAWN = 1e15
SCALES: dict[Unit, tuple[float, str]] = {
    "share": (100.0, "%"),
    "points": (100.0, "percentage points"),
    "count": (1.0, "images"),
    "distance": (GREY_LEVELS, "grey levels"),
    "feature distance": (1.0, "distance in feature space"),
    "sigma": (1.0, "noise level sigma"),
    "number": (1.0, "value"),
}


def intervals(line: HeadlineOfAll, names: Sequence[str]) -> str:
    """A headline of each report under the other: a point and its interval, and the control's next to them."""
    height = FRAME_HEIGHT + ROW_HEIGHT * len(names)
    scale, words = SCALES[line.unit]
    with our_matplotlib(salt=line.path):
        axes, figure = chart_axes(height)
        rows = range(len(names))
        for held, colour, marker, shift, label in (
            (line.estimates, SAMPLES, "o", -0.12, "samples"),
            (line.controls, BASELINE, "s", 0.12, "control"),
        ):
            places = [(row, one) for row, one in zip(rows, held, strict=True) if one is not None and fits(one, scale)]
            for row, one in places:
                value, low, high = ends_of(one, scale)
                style: dict[str, Any] = {"color": colour, "linewidth": 1.4, "capsize": 3, "markersize": 5}
                bars = [[value - low], [high - value]]
                fill = "none" if label == "control" else colour
                name = label if row == places[0][0] else None
                axes.errorbar(value, row + shift, xerr=bars, fmt=marker, markerfacecolor=fill, label=name, **style)
        axes.set_yticks(list(rows), [_short(name) for name in names], parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(words)
        axes.grid(visible=False, axis="y")
        _legend(axes, line)
        return chart_svg(figure, line.label, height)


def over_steps(line: HeadlineOfAll, steps: Sequence[float], axis: str) -> str:
    """A headline over the steps of a training, with its band, and its control in dashes."""
    scale, words = SCALES[line.unit]
    with our_matplotlib(salt=line.path):
        axes, figure = chart_axes(HEIGHT)
        for held, colour, dashes, marker, label in (
            (line.estimates, SAMPLES, DASHES[0], "o", "samples"),
            (line.controls, BASELINE, DASHES[1], "s", "control"),
        ):
            if not any(one is not None and fits(one, scale) for one in held):
                continue
            ends = [ends_of(one, scale) if one is not None and fits(one, scale) else (np.nan,) * 3 for one in held]
            value, low, high = np.array(ends, dtype=np.float64).T
            style: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 4}
            axes.plot(steps, value, linewidth=1.6, label=label, **style)
            axes.fill_between(steps, low, high, color=colour, alpha=BAND_OPACITY, linewidth=0)
        axes.set_xlabel(axis)
        axes.set_ylabel(words)
        if axis.startswith("report"):
            axes.set_xticks(list(steps))
        elif min(steps) > 0 and max(steps) / min(steps) > 50:
            axes.set_xscale("log")
        axes.margins(x=0.02)
        _legend(axes, line)
        return chart_svg(figure, line.label, HEIGHT)


def chart_axes(height: int) -> tuple[Axes, Any]:
    """Empty axes, `height` px high, and the figure that they are on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")
    return figure.subplots(), figure


def ends_of(figure: Estimate, scale: float) -> tuple[float, float, float]:
    """Value and interval, which may be none or on one side, and never on the wrong side of the value."""
    assert figure.value is not None
    low, high = (figure.value if end is None else end for end in (figure.low, figure.high))
    return figure.value * scale, min(low, figure.value) * scale, max(high, figure.value) * scale


def fits(figure: Estimate, scale: float) -> bool:
    """Whether an axis can hold the figure: a report that was tampered with may say anything."""
    return all(abs(end) < LARGEST_DRAWN for end in ends_of(figure, scale))


def _legend(axes: Axes, line: HeadlineOfAll) -> None:
    if any(one is not None for one in line.controls):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2)


def _short(name: str) -> str:
    shown = numbers.visible(name)
    return shown if len(shown) <= LONGEST_NAME else f"...{shown[3 - LONGEST_NAME :]}"


def chart_svg(figure: Any, title: str, height: int) -> str:
    """The figure as an ``<svg>`` element for a page."""
    import html

    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names in other scripts are drawn by the browser, in its own font
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return inline_svg(stream.getvalue(), html.escape(title), height=height)
