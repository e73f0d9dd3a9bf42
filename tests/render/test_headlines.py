"""Where the curves of the headlines are read: a copier has to look like one, and nothing else may."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import Tensor

from memgen_eval import GaussianDenoiser, OptimalDenoiser, evaluate
from memgen_eval.data.sources import load_images
from memgen_eval.render.headlines import Headline, headlines, largest_excess, last_up_to
from memgen_eval.report import Report
from memgen_eval.results import Axis, Curve, Estimate

CURVES = ("denoiser.matched_memorization_index", "denoiser.gap_train", "denoiser.generalization_gap", "gaussian.nmse")


def read(report: Report) -> dict[str, Headline]:
    return {line.path: line for line in headlines(report) if line.path in CURVES}


def value(line: Headline) -> float:
    return float(line.shown.value)


def control(line: Headline) -> float:
    return float(line.control.split(": ")[1].split(" (")[0])


@pytest.fixture(scope="module")
def copier_and_gaussian() -> tuple[dict[str, Headline], dict[str, Headline]]:
    """Headlines of D* with the errors of a trained network, which grow with sigma, and of the Wiener denoiser."""
    train = load_images("digits", argument="train").array()[:100]
    optimal, gaussian = OptimalDenoiser(train), GaussianDenoiser(train)

    def trained(x: Tensor, sigma: Tensor) -> Tensor:
        return optimal(x, sigma) + 0.006 * sigma[:, None, None, None]

    found = [
        evaluate(
            train,
            train=train,
            test="digits:test",
            denoiser=denoiser,
            metrics=["denoiser", "gaussian.nmse"],
            num_denoiser_images=50,
            num_draws=1,
        )
        for denoiser in (trained, gaussian)
    ]
    return read(found[0]), read(found[1])


def test_a_copier_looks_like_one(copier_and_gaussian: tuple[dict[str, Headline], dict[str, Headline]]) -> None:
    """At sigma 80 its gap to D* is larger than that of the Wiener denoiser anywhere."""
    copier, gaussian = copier_and_gaussian
    index, gap, generalization, nmse = (copier[path] for path in CURVES)
    assert value(index) - control(index) > 0.5
    assert value(gap) < 0.001 < value(gaussian[gap.path])
    assert value(generalization) > 4 * value(gaussian[generalization.path])
    assert value(nmse) > 0.1
    assert gap.label == "gap to D* on training images at sigma 0.699, where D* copies"


def test_the_wiener_denoiser_does_not(copier_and_gaussian: tuple[dict[str, Headline], dict[str, Headline]]) -> None:
    index, gap, generalization, nmse = (copier_and_gaussian[1][path] for path in CURVES)
    assert value(index) == control(index) == value(nmse) == 0
    assert value(gap) > control(gap) / 2
    assert value(generalization) < 0.05


def test_the_index_is_read_where_it_exceeds_its_control_most(full_report: Report) -> None:
    assert full_report.denoiser is not None
    high, low = [0.2] * 15, [0.1] * 15
    high[4], low[4] = 0.9, 0.1
    high[9], low[9] = 0.95, 0.9  # larger, and no more than quality gives
    named = {"matched_memorization_index": high, "test_memorization_index": low}
    curves = {name: replace(full_report.denoiser.error_train, value=tuple(part)) for name, part in named.items()}
    line = read(replace(full_report, denoiser=replace(full_report.denoiser, **curves)))[CURVES[0]]
    assert line.label == "matched memorization index at sigma 0.214, its largest excess"
    assert value(line) == 0.9 and control(line) == 0.1


def test_the_others_are_read_at_the_collapse(full_report: Report) -> None:
    """The collapse sigma of this report is 5.75, its grid has 4.14 and 7.48."""
    assert full_report.denoiser is not None
    labels = [line.label for path, line in read(full_report).items() if path != CURVES[0]]
    assert [label.partition(" at sigma ")[2] for label in labels] == ["4.14, where D* copies"] * 3
    gap = full_report.denoiser.gap_train
    assert gap.value is not None
    hole = replace(gap, value=tuple(None if i == 9 else v for i, v in enumerate(gap.value)))
    report = replace(full_report, denoiser=replace(full_report.denoiser, gap_train=hole))
    assert read(report)["denoiser.gap_train"].label.endswith("at sigma 2.29, where D* copies")


@pytest.mark.parametrize("collapse", [Estimate.undefined("stays below 1/2"), Estimate(0.01)])
def test_without_a_collapse_on_the_grid_they_are_left_out(collapse: Estimate, full_report: Report) -> None:
    assert full_report.denoiser is not None
    report = replace(full_report, denoiser=replace(full_report.denoiser, collapse_sigma=collapse))
    assert list(read(report)) == [CURVES[0]]
    assert "denoiser.gap_train" in dict(report.figures())


def test_a_control_that_was_not_measured_is_said_to_be_so(full_report: Report) -> None:
    assert full_report.denoiser is not None
    nowhere = Curve.undefined("needs a test set")
    family = replace(full_report.denoiser, gap_test=nowhere, test_memorization_index=nowhere)
    lines = read(replace(full_report, denoiser=family))
    assert CURVES[0] not in lines
    assert lines["denoiser.gap_train"].control == "on test images: not measured"


def test_places_on_curves() -> None:
    axis = Axis("sigma", "", (1.0, 2.0, 3.0, 4.0))
    curve, zero = Curve((None, 2.0, 1.0, 2.0), x=axis), Curve((0.0,) * 4, x=axis)
    assert largest_excess(curve, zero) == 1  # the first of equals
    assert largest_excess(curve, Curve((0.0, None, None, None), x=axis)) is None
    assert largest_excess(curve, Curve.undefined("why")) is largest_excess(Curve.undefined("why"), zero) is None
    assert last_up_to(curve, 3.0) == 2 and last_up_to(curve, 2.9) == 1
    assert last_up_to(curve, 1.0) is None
