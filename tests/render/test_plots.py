"""Charts: the right curves at the right places, the same bytes each time, and a caller's matplotlib left as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from memgen_eval.render import charts
from memgen_eval.render.charts import CHARTS, Chart
from memgen_eval.render.html import render_html
from memgen_eval.render.plots import draw
from memgen_eval.report import Report
from memgen_eval.results import Axis, Curve, Denoiser

ALL_CHARTS = [chart for listed in CHARTS.values() for chart in listed]
PATH = re.compile(
    r'<path d="(M [^"]*)"[^>]*style="fill: none; [^"]*stroke: var\(--(samples|baseline)\)[^"]*stroke-width: 1\.6'
)


def drawn(chart: Chart, report: Report) -> str:
    svg = draw(chart, report)
    assert svg is not None
    return svg


def lines(svg: str) -> dict[str, list[tuple[float, float]]]:
    """Corners of the longest line of each colour: the curve, not its sample in the legend."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path, colour in PATH.findall(svg):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
        corners = list(zip(numbers[::2], numbers[1::2], strict=True))
        found[colour] = max(found.get(colour, []), corners, key=len)
    return found


@pytest.mark.parametrize("chart", ALL_CHARTS, ids=lambda chart: chart.name)
def test_charts_are_wellformed_named_and_themed(chart: Chart, full_report: Report) -> None:
    svg = draw(chart, full_report)
    if chart.name == "distillation":  # not measured in this report
        assert svg is None
        return
    assert svg is not None
    root = ET.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
    texts = [text for text in root.itertext() if text.strip()]
    assert any(chart.y_label in text for text in texts)
    assert root.attrib["aria-label"] == chart.title
    assert "var(--samples)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg.replace("#ffffff", ""))
    assert "date" not in svg and "http" not in svg and "DejaVu" not in svg


def test_each_axis_has_its_unit(full_report: Report) -> None:
    assert "noise level sigma, data in [-1, 1] (log scale)" in drawn(charts.GAP, full_report)
    assert "the same in grey levels" in drawn(charts.DISTANCES, full_report)
    feature = replace(full_report, settings=replace(full_report.settings, features="inception"))
    svg = drawn(charts.DISTANCES, feature)
    assert "distance in feature space" in svg and "grey levels" not in svg


def test_the_threshold_is_marked(full_report: Report) -> None:
    assert "c = 1/3" in drawn(charts.RATIO, full_report)
    other = replace(full_report, settings=replace(full_report.settings, threshold=0.25))
    assert "c = 0.25" in drawn(charts.RATIO, other)


def test_curves_are_drawn_where_their_values_are(full_report: Report) -> None:
    """Both axes of the distances are linear: pixels are an affine function of distances and shares."""
    novelty = full_report.novelty
    assert novelty is not None
    found = lines(drawn(charts.DISTANCES, full_report))
    for colour, curve in (("samples", novelty.distance_quantiles), ("baseline", novelty.test_distance_quantiles)):
        assert curve.value is not None and curve.x is not None
        (x0, y0), (x1, y1) = found[colour][0], found[colour][-1]
        shares, distances = curve.x.values, curve.value
        assert (y1 - y0) / (shares[-1] - shares[0]) == pytest.approx(
            -y_scale(found, novelty.distance_quantiles), rel=1e-3
        )
        assert x1 > x0
        assert (x1 - x0) / (distances[-1] - distances[0]) == pytest.approx(
            x_scale(found, novelty.distance_quantiles), rel=1e-3
        )
    assert found["samples"][0][0] < found["baseline"][0][0]  # copies: the samples begin further left


def y_scale(found: dict[str, list[tuple[float, float]]], curve: Curve) -> float:
    assert curve.x is not None
    return (found["samples"][0][1] - found["samples"][-1][1]) / (curve.x.values[-1] - curve.x.values[0])


def x_scale(found: dict[str, list[tuple[float, float]]], curve: Curve) -> float:
    assert curve.value is not None and curve.value[0] is not None and curve.value[-1] is not None
    return (found["samples"][-1][0] - found["samples"][0][0]) / (curve.value[-1] - curve.value[0])


def with_gap(report: Report, values: tuple[float | None, ...]) -> Report:
    curve = Curve(values, values, values, x=Axis("sigma", "", (0.1, 1.0, 10.0, 20.0, 40.0)[: len(values)]))
    assert isinstance(report.denoiser, Denoiser)
    return replace(report, denoiser=replace(report.denoiser, gap_train=curve))


@pytest.mark.parametrize("chart", ALL_CHARTS, ids=lambda chart: chart.name)
def test_lines_are_told_apart_without_colours(chart: Chart, full_report: Report) -> None:
    """Each has dashes and a marker of its own."""
    if chart.form == "points" or chart.name == "distillation":
        return
    svg = drawn(chart, full_report)
    styles = re.findall(r'style="fill: none; ([^"]*stroke-width: 1\.6[^"]*)"', svg)
    assert len({tuple(re.findall(r"stroke-dasharray: ([^;]*)", style)) for style in styles}) == len(chart.lines)
    shapes = {
        tuple(map(float, re.findall(r"-?[\d.]+", path))) for path in re.findall(r'<path id="\w+" d="([^"]*)"/>', svg)
    }
    assert len({shape for shape in shapes if max(map(abs, shape)) < 5}) == len(chart.lines)  # not the bands


def test_a_line_breaks_where_nothing_was_measured(full_report: Report) -> None:
    whole = drawn(charts.GAP, with_gap(full_report, (0.1, 0.2, 0.3, 0.2, 0.1)))
    broken = drawn(charts.GAP, with_gap(full_report, (0.1, 0.2, None, 0.2, 0.1)))
    assert [path.count("M") for path, colour in PATH.findall(whole) if colour == "samples"] == [1, 1]  # curve, legend
    assert [path.count("M") for path, colour in PATH.findall(broken) if colour == "samples"] == [2, 1]


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (0.1,), (-0.1, 0.0, 0.2)])
def test_values_that_a_logarithm_does_not_know(values: tuple[float, ...], full_report: Report) -> None:
    assert "NaN" not in drawn(charts.GAP, with_gap(full_report, values))


def ticks(svg: str) -> set[str]:
    return set(re.findall(r">(-?[\d.,e-]+)</text>", svg))


def test_a_logarithm_over_less_than_two_decades_has_more_than_powers_of_ten(full_report: Report) -> None:
    assert {"0.5", "1", "2"} <= ticks(drawn(charts.RELATIVE_ERRORS, full_report))
    assert {"0.1", "0.01"} <= ticks(drawn(charts.ERRORS, full_report)) and "0.02" not in ticks(
        drawn(charts.ERRORS, full_report)
    )


def test_a_mark_on_a_logarithmic_axis_is_inside_it(full_report: Report) -> None:
    assert full_report.denoiser is not None
    low = Curve((0.001, 0.002), x=Axis("sigma", "", (0.1, 1.0)))
    family = replace(full_report.denoiser, relative_error_train=low, relative_error_test=Curve.undefined("no test"))
    assert {"0.001", "1"} <= ticks(drawn(charts.RELATIVE_ERRORS, replace(full_report, denoiser=family)))


def test_identical_copies_are_drawn(full_report: Report) -> None:
    assert full_report.novelty is not None
    zero = Curve((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), x=Axis("quantile", "", (0.25, 0.75)))
    novelty = replace(
        full_report.novelty, distance_quantiles=zero, test_distance_quantiles=Curve.undefined("no baseline")
    )
    assert "samples" in drawn(charts.DISTANCES, replace(full_report, novelty=novelty))


@pytest.mark.parametrize("name", ["empty_report", "undefined_report"])
@pytest.mark.parametrize("chart", ALL_CHARTS, ids=lambda chart: chart.name)
def test_nothing_measured_nothing_drawn(chart: Chart, name: str, request: pytest.FixtureRequest) -> None:
    assert draw(chart, request.getfixturevalue(name)) is None


BEFORE = """
import logging, matplotlib
matplotlib.use("pdf")
matplotlib.rcParams["axes.labelpad"] = 40
matplotlib.rcParams["font.family"] = "no such font"
before = dict(matplotlib.rcParams.copy()), logging.getLogger("matplotlib").level
"""
DRAW = """
import sys
from memgen_eval.render.html import render_html
from memgen_eval.report import Report
sys.stdout.buffer.write(render_html(Report.load(sys.argv[1])).encode())
"""
AFTER = """
assert (dict(matplotlib.rcParams.copy()), logging.getLogger("matplotlib").level) == before
assert "matplotlib.pyplot" not in sys.modules
"""
ROOT = Path(__file__).parents[2]


def run_alone(script: str, report: Report, folder: Path, **environment: str) -> str:
    """Standard output of a fresh process, which must say nothing else."""
    report.save(folder / "r.json")
    command = [sys.executable, "-W", "error", "-c", script, str(folder / "r.json")]
    variables = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    variables |= {"PYTHONPATH": str(ROOT)} | environment
    run = subprocess.run(command, env=variables, capture_output=True, check=False)
    assert run.stderr.decode() == ""
    return run.stdout.decode()


def test_a_callers_settings_change_nothing_and_are_not_changed(short_report: Report, tmp_path: Path) -> None:
    page = run_alone(BEFORE + DRAW + AFTER, short_report, tmp_path)
    assert page == render_html(Report.from_dict(short_report.to_dict()))


def test_no_home_no_warning(short_report: Report, tmp_path: Path) -> None:
    nowhere = {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/proc/x", "XDG_CONFIG_HOME": "/proc/x"}
    assert run_alone(DRAW, short_report, tmp_path, **nowhere).count("<svg") == 1
