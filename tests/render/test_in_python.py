"""A report in Python's hands: copied, pickled, compared, as a data frame, and its charts as figures of matplotlib."""

from __future__ import annotations

import copy
import io
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import noise_images
from memgen_eval import InputError, Report, evaluate
from memgen_eval.render.charts import CHARTS
from memgen_eval.render.notebook import FRAME_COLUMNS, GALLERIES
from memgen_eval.results import Curve, Estimate

TRAIN = noise_images(0, 60, (8, 8, 3))


@pytest.fixture(scope="module")
def measured() -> Report:
    """With pictures, and with the samples that were drawn."""

    def sampler(n: int, seeds: list[int]) -> Any:
        return TRAIN[[seed % 60 for seed in seeds]]

    return evaluate(sampler, train=TRAIN, num_samples=24, metrics=["memorization", "novelty"])


def replaced(report: Report) -> Report:
    replacing: Any = getattr(copy, "replace", replace)  # of Python 3.13
    other: Report = replacing(report)
    return other


COPIES: list[Callable[[Report], Report]] = [copy.copy, copy.deepcopy, replaced]
COPIES += [lambda report: pickle.loads(pickle.dumps(report))]


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "replace", "pickle"])
def test_a_copy_is_equal_and_holds_pictures_and_samples(copied: Callable[[Report], Report], measured: Report) -> None:
    other = copied(measured)
    assert other == measured and other is not measured
    assert other.to_dict() == measured.to_dict()
    assert other._repr_html_() == measured._repr_html_()
    assert np.array_equal(other.samples, measured.samples)
    assert other.gallery is not None and measured.gallery is not None
    assert all(np.array_equal(other.gallery.train[i], image) for i, image in measured.gallery.train.items())


def test_another_figure_makes_another_report(measured: Report) -> None:
    assert measured.novelty is not None
    other = replace(measured, novelty=replace(measured.novelty, auc=Estimate(0.5)))
    assert other != measured
    assert replace(measured, provenance=replace(measured.provenance, threads=99)) == measured


def test_a_frame_holds_every_figure_and_every_point(full_report: Report) -> None:
    pytest.importorskip("pandas", reason="makes data frames, of the extra pandas")
    frame = full_report.to_frame()
    assert tuple(frame.columns) == FRAME_COLUMNS
    assert list(dict.fromkeys(frame["figure"])) == [path for path, _ in full_report.figures()]
    for path, figure in full_report.figures():
        rows = frame[frame["figure"] == path]
        curve = isinstance(figure, Curve) and figure.x is not None
        points = [figure.at(i) for i in range(len(figure.x.values))] if curve else [figure]  # type: ignore[union-attr]
        assert [number(v) for v in rows["value"]] == [point.value for point in points]
        assert [number(v) for v in rows["high"]] == [point.high for point in points]
        if curve:
            assert tuple(rows["x"]) == figure.x.values  # type: ignore[union-attr]
    ratio = frame[frame["figure"] == "memorization.ratio"].iloc[0]
    assert ratio["unit"] == "share" and ratio["count"] == 1000 and math.isnan(ratio["x"])


def number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def test_a_frame_of_a_report_without_figures(empty_report: Report) -> None:
    pytest.importorskip("pandas", reason="makes data frames, of the extra pandas")
    assert tuple(empty_report.to_frame().columns) == FRAME_COLUMNS


def test_without_pandas_one_line_says_what_to_install(full_report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"^to_frame\(\) needs pandas \(.*\); install memgen-eval\[pandas\]$"):
        full_report.to_frame()


CURVES = [(path, chart.name) for listed in CHARTS.values() for chart in listed for path in chart.lines]


@pytest.mark.parametrize(("path", "name"), CURVES)
def test_a_curve_is_drawn_in_its_chart(path: str, name: str, full_report: Report) -> None:
    curve = full_report.figure(path)
    if name == "distillation":  # not measured in this report
        with pytest.raises(InputError, match=f"nothing was measured that '{path}' shows; this report has "):
            full_report.plot(path)
        return
    drawn = full_report.plot(path)
    assert drawn._repr_png_() == full_report.plot(name)._repr_png_()  # type: ignore[attr-defined]
    if isinstance(curve, Curve) and curve.value is not None and curve.x is not None:
        values = np.array([np.nan if v is None else v for v in curve.value])
        lines = [np.asarray(data, dtype=float) for line in drawn.axes[0].lines for data in line.get_data()]
        assert any(data.shape == values.shape and np.array_equal(data, values, equal_nan=True) for data in lines)


def test_plots_leave_the_caller_alone_and_can_be_kept(full_report: Report) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"xtick.color": "#00ff00", "font.size": 30}):
        before = dict(mpl.rcParams)
        figure = full_report.plot("novelty-fidelity")
        assert dict(mpl.rcParams) == before
        stream = io.BytesIO()
        figure.savefig(stream, format="svg")
    assert b"#00ff00" not in stream.getvalue()
    again = pickle.loads(pickle.dumps(figure))
    assert again._repr_png_()[:4] == b"\x89PNG"


def test_pictures_are_those_of_the_gallery(measured: Report) -> None:
    assert measured.memorization is not None and measured.gallery is not None
    figure = measured.plot("closest")
    match = measured.memorization.closest[0]
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2]]
    pictures = (measured.gallery.samples[match.sample_index], measured.gallery.train[match.train_index])
    assert all(np.array_equal(one, other.transpose(1, 2, 0)) for one, other in zip(shown, pictures, strict=True))
    assert f"train {match.train_index}" in figure.axes[1].get_title()
    assert [axes.get_title().split()[0] for axes in measured.plot("test_closest").axes[:2]] == ["left", "train"]


def test_altered_copies_lie_beside_the_training_image_altered_likewise(full_report: Report) -> None:
    if full_report.gallery is None:
        with pytest.raises(InputError, match="no longer the pictures of 'altered'"):
            full_report.plot("altered")
    else:
        assert len(full_report.plot("altered").axes) >= 2


def test_a_loaded_report_has_charts_but_no_pictures(measured: Report) -> None:
    loaded = Report.from_dict(measured.to_dict())
    assert loaded.plot("distances").axes
    with pytest.raises(InputError, match="'closest'; they are not saved with it: plot it in the process"):
        loaded.plot("closest")


def test_unknown_names_are_told_the_known_ones(full_report: Report, empty_report: Report) -> None:
    with pytest.raises(InputError) as caught:
        full_report.plot("distancs")
    message = str(caught.value)
    assert "\n" not in message and message.endswith("; did you mean distances?")
    named = message.partition("this report has ")[2].partition(";")[0].split(", ")
    measured = {chart.name for listed in CHARTS.values() for chart in listed} - {"distillation"}
    assert measured <= set(named) <= measured | set(GALLERIES)
    with pytest.raises(InputError, match=r"nothing was measured that 'errors' shows; this report has no chart$"):
        empty_report.plot("errors")
