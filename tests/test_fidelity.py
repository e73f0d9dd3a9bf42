"""The fidelity family from end to end: what is measured where, its size, its anchors, and what is said otherwise."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from checking import evaluated, figures
from conftest import Pixels
from memgen_eval import InputError, Reference, Report, evaluate
from memgen_eval.fidelity import family
from memgen_eval.fidelity.feature_distances import NEEDS_TORCH_FIDELITY, torch_fidelity
from memgen_eval.render.html import render_html
from memgen_eval.render.table import plain_table
from memgen_eval.results import Anchor, Estimate, Fidelity

IMAGES = np.random.default_rng(0).permutation(np.rint(load_digits().images * 255 / 16).astype(np.uint8))[:, None]
TRAIN, TEST, FRESH = IMAGES[:700], IMAGES[700:1000], IMAGES[1000:1250]
NAMES = ("precision", "recall", "density", "coverage", "fid", "kid", "swd")
IN_PIXELS = ("precision", "recall", "density", "coverage", "swd")


def rows_of_8(images: torch.Tensor) -> torch.Tensor:
    return images.float().mean(dim=(1, 2))


def measured(samples: Any, **keywords: Any) -> Fidelity:
    given: dict[str, Any] = {"train": TRAIN, "test": TEST, "metrics": ["fidelity", "novelty.distance_ratio"]} | keywords
    found = evaluated(samples, **given).fidelity
    assert found is not None
    return found


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluated(FRESH, train=TRAIN, test=TEST)


@pytest.fixture(scope="module")
def in_pixels(report: Report) -> Fidelity:
    assert report.fidelity is not None
    return report.fidelity


def value(figure: Estimate) -> float:
    assert figure.value is not None
    return figure.value


def test_pixels_have_all_but_fid_and_kid_at_one_size(in_pixels: Fidelity) -> None:
    for against in ("", "test_", "gap_"):
        for name in NAMES:
            figure: Estimate = getattr(in_pixels, f"{against}{name}")
            assert (figure.value is not None) == (name in IN_PIXELS)
            assert figure.count == 250  # of 250 samples, 300 test images and two halves of 350
            if figure.value is None:
                assert "features=" in figure.notes[0]
            else:
                assert figure.low is not None and figure.high is not None
                assert figure.low <= figure.value <= figure.high
    gap = value(in_pixels.precision) - value(in_pixels.test_precision)
    assert value(in_pixels.gap_precision) == pytest.approx(gap)


def test_notes_say_k_projections_and_what_unseen_images_give(in_pixels: Fidelity) -> None:
    assert in_pixels.precision.notes[0] == "k = 3" and in_pixels.coverage.notes[0] == "k = 5"
    assert in_pixels.swd.notes[0] == "256 projections"
    unseen = measured(TEST[:250], test=TEST)
    assert unseen.precision.notes[1].startswith("with test images in the samples' place: 0.")
    assert any("in the samples' place" in note for note in in_pixels.swd.notes)


def anchors(found: Fidelity) -> dict[str, Anchor]:
    return {anchor.name: anchor for anchor in found.anchors}


def test_the_anchors_bound_the_plane(in_pixels: Fidelity) -> None:
    places = anchors(in_pixels)
    assert list(places) == ["copies", "baseline", "gaussian", "noise"]
    assert (places["copies"].novelty.value, places["copies"].fidelity.value) == (0.0, 1.0)
    assert places["baseline"].novelty.value == 1.0
    assert 0.4 < value(places["baseline"].fidelity) < 1
    assert value(places["noise"].novelty) > value(places["gaussian"].novelty) > 1
    assert value(places["noise"].fidelity) == 0.0
    assert value(places["gaussian"].fidelity) < value(places["baseline"].fidelity)
    for anchor in in_pixels.anchors:
        for figure in (anchor.novelty, anchor.fidelity):
            assert figure.low is not None and figure.high is not None
            assert figure.low <= value(figure) <= figure.high
    assert places["noise"].fidelity.high is not None and places["noise"].fidelity.high > 0


def test_copies_of_the_whole_training_set_are_perfect_in_every_figure() -> None:
    found = measured(TRAIN, test=None)
    assert (found.precision.value, found.coverage.value) != (None, None)
    half = evaluated(TRAIN[:300], train=TRAIN[:300].repeat(2, axis=0), test=TEST, metrics="fidelity").fidelity
    assert half is not None
    assert value(half.precision) > 0.9 and value(half.test_precision) < value(half.precision)


def test_without_a_test_set_its_figures_say_so() -> None:
    found = measured(FRESH, test=None)
    assert found.test_precision.notes == ("needs a test set",) and found.gap_swd.value is None
    assert "needs features" not in found.test_fid.notes[0]
    assert any(note.startswith("with the other half of train in the") for note in found.precision.notes)
    assert list(anchors(found)) == ["copies", "baseline", "gaussian", "noise"]


@pytest.mark.skipif(torch_fidelity() is None, reason="torch-fidelity cannot be imported here")
def test_features_have_every_figure() -> None:
    found = measured(FRESH, features=rows_of_8)
    for f in fields(found):
        if f.name != "anchors":
            assert getattr(found, f.name).value is not None, f.name
    assert found.fid.notes[0].startswith("extrapolated in 1/n")
    assert found.kid.notes[0].startswith("100 subsets of 125 images")
    places = anchors(found)
    assert value(places["noise"].novelty) > 1 and places["copies"].fidelity.value == 1.0
    blurred = measured(TEST[:250] // 2, features=rows_of_8)
    assert value(blurred.fid) > 10 * value(found.fid) and value(blurred.kid) > value(found.kid)


def test_without_torch_fidelity_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "torch_fidelity", lambda: None)
    found = measured(FRESH, features=rows_of_8)
    assert found.fid.notes == found.gap_kid.notes == (NEEDS_TORCH_FIDELITY,)
    assert found.precision.value is not None and found.swd.value is not None
    assert "memgen-eval[fidelity]" in NEEDS_TORCH_FIDELITY and "\n" not in NEEDS_TORCH_FIDELITY


def test_features_that_are_not_finite_are_refused() -> None:
    def spoiled(images: torch.Tensor) -> torch.Tensor:
        found = rows_of_8(images)
        found[0, 0] = float("nan")
        return found

    with pytest.raises(InputError, match="NaN or infinity"):
        evaluate(FRESH, train=TRAIN, test=TEST, features=spoiled, metrics="fidelity")


def test_samples_that_are_brighter_by_40_grey_levels_are_40_away() -> None:
    """The root mean square of 256 projections of a shift is known to 5 per cent; the laws are equal otherwise."""
    dark = np.random.default_rng(1).integers(0, 20, (1200, 3, 8, 8), dtype=np.uint8)
    found = measured(dark[:300] + 40, train=dark[300:900], test=dark[900:])
    assert 255 * value(found.swd) == pytest.approx(40, rel=0.15)
    assert 255 * value(found.test_swd) == pytest.approx(40, rel=0.15)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_few_images(count: int) -> None:
    found = measured(FRESH[:count])
    reasons = [getattr(found, name).notes[0] for name in IN_PIXELS if getattr(found, name).value is None]
    assert len(reasons) == {1: 5, 2: 4, 3: 4, 4: 2, 5: 2, 6: 0}[count]
    assert all("needs" in reason for reason in reasons)


def test_samples_that_repeat_count_once() -> None:
    repeated = np.concatenate([FRESH[:120], FRESH[:60]])
    found = measured(repeated)
    assert found.precision.count == 120
    assert any("60 samples that repeat another sample exactly" in note for note in found.precision.notes)


def test_budgets_and_a_kept_reference_change_nothing(report: Report) -> None:
    small = evaluated(FRESH, train=TRAIN, test=TEST, memory_budget="1MiB")
    assert figures(small) == figures(report)
    kept = Reference(TRAIN, TEST)
    assert [figures(evaluated(FRESH, train=kept)) for _ in range(2)] == [figures(report)] * 2


def test_floats_that_stay_floats() -> None:
    scaled = [images.astype(np.float32) / 127.5 - 1 for images in (FRESH, TRAIN, TEST)]
    found = evaluated(
        scaled[0], train=scaled[1], test=scaled[2], quantize=False, value_range=(-1, 1), metrics=["fidelity"]
    ).fidelity
    exact = measured(FRESH, metrics="fidelity")
    assert found is not None
    for name in IN_PIXELS:
        assert value(getattr(found, name)) == pytest.approx(value(getattr(exact, name)), rel=1e-3)


def test_single_figures_are_those_of_the_family(in_pixels: Fidelity) -> None:
    alone = measured(FRESH, metrics="fidelity.gap_swd")
    assert alone.gap_swd == in_pixels.gap_swd
    assert alone.precision.value is None and alone.anchors == ()


def test_page_and_table_show_it(report: Report) -> None:
    page, table = render_html(report), plain_table(report)
    assert "novelty: median distance to train over that of test images" in page
    for words in ("training images", "Gaussian samples", "noise", "precision against train"):
        assert words in page
    assert "precision against train" in table and "coverage against train" in table
    without = replace(report, fidelity=replace(report.fidelity, anchors=()))  # type: ignore[type-var]
    assert "novelty: median distance" not in render_html(without)


def blurred(images: Pixels) -> Pixels:
    wide = images.astype(np.float64)
    return np.rint((wide + np.roll(wide, 1, -1) + np.roll(wide, 1, -2)) / 3).astype(np.uint8)


def test_blur_and_collapse_fall_where_they_should(in_pixels: Fidelity) -> None:
    soft = measured(blurred(FRESH))
    assert value(soft.coverage) < value(in_pixels.coverage) and value(soft.swd) > value(in_pixels.swd)
    noise = np.random.default_rng(0).integers(-3, 4, (250, 1, 8, 8))
    few = np.clip(FRESH[:10].repeat(25, axis=0) + noise, 0, 255).astype(np.uint8)
    collapsed = measured(few)
    assert value(collapsed.recall) < 0.2 and value(collapsed.coverage) < 0.5 * value(in_pixels.coverage)
