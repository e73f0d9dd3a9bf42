"""What a study finds in runs with known onsets, and how its files and its page show it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_studies import outcome, outcomes
from memgen_eval.results import Estimate
from memgen_eval.trajectory.onsets import Onset
from reference_models.study.analysis import Collapse, collapse, design_of, factor_fits, numeric_factors, time_factors
from reference_models.study.comparing import HalvesCompared, Taught
from reference_models.study.outcomes import ONSETS, Outcome
from reference_models.study.pages.page import study_page
from reference_models.study.results import Results
from reference_models.study.sweep import Sweep
from render.browsing import chromium, opened

FACTORS = {"num_images": (50, 100, 200, 400), "batch_size": (32, 128), "precision": ("float32", "bfloat16")}
FIGURE = Estimate(0.5, 0.4, 0.6, "made", 100)


@pytest.fixture(scope="module")
def grid() -> list[Outcome]:
    return outcomes(FACTORS, {"num_images": 1.0, "batch_size": -1.0}, first=2000, scatter=0.1, seed=1)


@pytest.fixture(scope="module")
def collapses(grid: list[Outcome]) -> list[Collapse]:
    return [found for name in ONSETS if (found := collapse(grid, name)) is not None]


@pytest.fixture(scope="module")
def results(grid: list[Outcome], collapses: list[Collapse]) -> Results:
    names = [one.run.name for one in grid]
    return Results(
        Sweep({"data": "digits", "steps": 16384}, FACTORS, "gaussian"),
        tuple(grid),
        {"num_images=800": "memgen-train: the loss is nan <at> step 300"},
        tuple(fit for name in ONSETS for fit in factor_fits(grid, name)),
        tuple(collapses),
        tuple(HalvesCompared((name, f"{name}, other"), *[FIGURE] * 7) for name in names[:3]),
        tuple(Taught(name, FIGURE, FIGURE) for name in names[:3]),
    )


def test_power_laws_are_found(grid: list[Outcome]) -> None:
    for onset in ONSETS:
        fits = {fit.factor: fit for fit in factor_fits(grid, onset)}
        assert list(fits) == ["num_images", "batch_size"]
        for factor, exponent in (("num_images", 1.0), ("batch_size", -1.0)):
            found = fits[factor].exponent
            assert found.low is not None and found.high is not None and found.low < exponent < found.high
            (left, low), (right, high) = fits[factor].line
            assert math.log(high / low) / math.log(right / left) == pytest.approx(found.value)
            published = fits[factor].published
            assert published is not None and published.exponent == exponent


def test_what_is_not_a_positive_number_shifts_the_line(grid: list[Outcome]) -> None:
    assert numeric_factors(grid) == ["num_images", "batch_size"]
    design = design_of(grid)
    assert design.shape == (16, 4) and set(design[:, 3]) == {0.0, 1.0}
    assert np.array_equal(np.exp(design[:, 1]).round(), [one.run.factors["num_images"] for one in grid])


def test_seeds_halves_and_lengths_are_repetitions() -> None:
    factors = {"seed": (0, 1), "half": ("first", "second"), "steps": (10, 20), "dropout": (0.0, 0.1), "width": (8,)}
    made = outcomes(factors, {}, first=500, scatter=0.1)
    assert numeric_factors(made) == [] and design_of(made).shape == (16, 2) and factor_fits(made, "onset_copy") == []


def test_normalised_time() -> None:
    factors = {"num_images": (50, 200), "batch_size": (16, 64), "lr": (1e-4, 3e-4), "width": (8, 16)}
    made = outcomes(factors, {}, first=500, scatter=0.1)
    for one, factor in zip(made, time_factors(made), strict=True):
        held = {name: float(value) for name, value in one.run.factors.items()}
        expected = 50 / held["num_images"] * held["batch_size"] / 16 * held["lr"] / 1e-4
        assert factor == pytest.approx(expected)


def test_normalised_time_collapses_what_follows_it(collapses: list[Collapse]) -> None:
    for found in collapses:
        assert found.in_time.value is not None and found.in_time.value < 0.2
        assert found.in_steps.value is not None and found.in_steps.value > 0.7
        assert found.share.high is not None and found.share.high < 0.3


def test_a_collapse_as_fine_as_the_checkpoints_may_be_complete() -> None:
    made = outcomes({"num_images": (50, 100, 200), "seed": (0, 1)}, {"num_images": 1.0}, first=9.5, scatter=0.0)
    found = collapse(made, "onset_copy")
    assert found is not None and found.in_time.low == found.share.low == 0
    assert found.in_steps.low is not None and found.in_steps.low > 0.1


def test_runs_that_show_only_on_which_side_they_lie_leave_the_scatter_open() -> None:
    """Onsets before the first checkpoint, and after the last one."""
    made = outcomes({"num_images": (50, 100), "seed": (0, 1, 2)}, {}, first=500, scatter=0.1)
    early = Onset(Estimate(64.0, 0.0, 64.0), None, 81.0)
    late = Onset(Estimate(None, low=1000.0, notes=("no onset within the run",)), 1000.0, None)
    sides = [early] * 3 + [late] * 3
    cut = [replace(one, onsets=replace(one.onsets, onset_copy=side)) for one, side in zip(made, sides, strict=True)]
    found = collapse(cut, "onset_copy")
    assert found is not None and found.in_steps.high is None and found.share.high is None
    assert found.in_steps.value is not None and math.isfinite(found.in_steps.value)
    assert found.in_steps.notes == ("too many runs ended before their onset to bound it",)


def test_normalised_time_does_not_collapse_another_law() -> None:
    made = outcomes({"num_images": (50, 100, 200, 400), "seed": (0, 1)}, {}, first=700, scatter=0.1)
    found = collapse(made, "onset_copy")
    assert found is not None and found.share.low is not None and found.share.low > 1


def test_a_study_without_normalised_time_has_no_collapse() -> None:
    assert collapse(outcomes({"seed": (0, 1, 2)}, {}, first=500, scatter=0.1), "onset_copy") is None


def test_onsets_that_cannot_be_measured_are_left_out() -> None:
    made = outcomes({"num_images": (50, 100, 200), "seed": (0, 1)}, {"num_images": 1.0}, first=9, scatter=0.1)
    unmeasured = Onset(Estimate.undefined("no denoiser"), None, None)
    without = [replace(one, onsets=replace(one.onsets, onset_loss=unmeasured)) for one in made]
    assert factor_fits(without, "onset_loss") == [] and collapse(without, "onset_loss") is None
    assert factor_fits(without, "onset_copy") == factor_fits(made, "onset_copy")


def test_the_table_has_a_row_a_run(results: Results) -> None:
    rows = list(csv.DictReader(io.StringIO(results.to_csv())))
    assert len(rows) == 16
    first, last = rows[0], rows[-4]
    assert (first["name"], first["num_images"], first["batch_size"]) == (results.outcomes[0].run.name, "50", "32")
    assert float(first["onset_copy_after"]) < float(first["onset_copy_by"])
    assert first["memorization_rate_low"] == "0.25" and first["command"].startswith("memgen-train --data digits")
    assert (last["num_images"], last["batch_size"], last["onset_copy_by"]) == ("400", "32", "")
    assert last["onset_copy_after"] == "16384.0"


def test_the_data_are_strict_json(results: Results) -> None:
    data = json.loads(results.to_json(), parse_constant=pytest.fail)
    assert len(data["runs"]) == 16 and data["failed"] == dict(results.failed)
    assert data["fits"][0]["factor"] == "num_images" and data["fits"][0]["exponent"]["low"] is not None
    assert data["runs"][0]["course"]["steps"][0] == 64 and data["sweep"]["teacher"] == "gaussian"


def test_the_page_says_it_in_words(results: Results) -> None:
    page = study_page(results)
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "14 of 16 finished runs began to copy" in words
    assert re.search(r"as num_images to the power [\d.]+ \(95 % interval [\d.]+ to [\d.]+\). Published: 1", words)
    assert "num_images=800 is not finished: memgen-train: the loss is nan &lt;at&gt; step 300" in page
    assert page == study_page(results)


def test_a_study_of_nothing_has_a_page_too() -> None:
    empty = Results(Sweep({"data": "digits"}, {"seed": (0,)}), (), {"seed=0": "it said nothing"}, (), (), (), ())
    assert "0 of 0 finished runs" in study_page(empty) and empty.to_csv() == "name\n"
    one = replace(empty, outcomes=(outcome({"seed": 0}, 300),), failed={})
    assert "Copies over training" in study_page(one)


@pytest.fixture(scope="module")
def address(results: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("pages") / "study.html"
    path.write_text(study_page(results), encoding="utf-8")
    return path.as_uri()


def test_the_page_fits_every_screen(address: str) -> None:
    with chromium() as browser:
        for width in (360, 768, 1280, 1920):
            with opened(browser, address, width=width) as page:
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.said == [] and page.asked == [address]
        with opened(browser, address, java_script_enabled=False, color_scheme="dark") as page:
            assert "When do these models begin to copy?" in page.inner_text("h1")
