"""Every figure has a name, a unit and a meaning; every curve is drawn; every headline has a value to compare with."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import jsonschema
import pytest

from memgen_eval.render.answer import evidence
from memgen_eval.render.charts import CHARTS, Chart
from memgen_eval.render.contents import COMPARED, FAMILY_TITLES, compare
from memgen_eval.render.headlines import headlines
from memgen_eval.render.numbers import unit_of
from memgen_eval.report import Report, schema
from memgen_eval.results import (
    CAPTIONS,
    FAMILIES,
    Denoiser,
    Estimate,
    Fidelity,
    Gaussian,
    Label,
    Memorization,
    Novelty,
)

KINDS = {
    "memorization": Memorization,
    "novelty": Novelty,
    "fidelity": Fidelity,
    "denoiser": Denoiser,
    "gaussian": Gaussian,
}
FIELDS = {
    f"{family}.{f.name}": f.type
    for family, kind in KINDS.items()
    for f in fields(kind)
    if f.type in ("Estimate", "Curve")
}
JUDGED = re.compile(r"\bbad\b|suspicious|property of the data|fault of the run")
CURVES = {path for path, kind in FIELDS.items() if kind == "Curve"}


@pytest.mark.parametrize("name", ["full_report", "empty_report", "undefined_report"])
def test_the_reports_of_these_tests_are_reports(name: str, request: pytest.FixtureRequest) -> None:
    report: Report = request.getfixturevalue(name)
    jsonschema.validate(report.to_dict(), schema())
    assert Report.from_dict(report.to_dict()) == report


def test_every_figure_has_an_entry_and_no_entry_is_stray() -> None:
    assert set(CAPTIONS) == set(FIELDS)
    assert tuple(FAMILY_TITLES) == FAMILIES
    assert len({caption.label for caption in CAPTIONS.values()}) == len(CAPTIONS)


@pytest.mark.parametrize("path", CAPTIONS)
def test_entries_are_short_plain_sentences(path: str) -> None:
    caption = CAPTIONS[path]
    assert (caption.label + caption.meaning).isascii()
    assert len(caption.label) <= 46
    assert caption.meaning.endswith(".") and caption.meaning[0].isupper()
    assert len(caption.meaning) <= 270


@pytest.mark.parametrize("chart", [chart for charts in CHARTS.values() for chart in charts], ids=lambda c: c.name)
def test_captions_say_which_way_is_bad(chart: Chart) -> None:
    assert JUDGED.search(chart.caption)


def test_headlines_say_which_way_is_bad(full_report: Report) -> None:
    assert [line.path for line in headlines(full_report) if not JUDGED.search(line.meaning)] == []


def test_every_curve_is_drawn_once() -> None:
    drawn = [path for family in CHARTS for path in _paths(family)]
    assert sorted(drawn) == sorted(CURVES)
    assert all(path.startswith(f"{family}.") for family in CHARTS for path in _paths(family))


def _paths(family: str) -> list[str]:
    return [path for chart in CHARTS[family] for path in chart.lines]


def test_comparisons_name_estimates() -> None:
    named = [
        f"{family}.{name}"
        for family, names in COMPARED.items()
        for first in names
        for name in (first, *CAPTIONS[f"{family}.{first}"].beside)
    ]
    assert {FIELDS[path] for path in named} == {"Estimate"}


# Shown whether measured or not.
OF_SAMPLES = ["ratio", "excess", "aligned_ratio", "num_near_identical", "auc", "relative_auc"]


def test_a_dozen_headlines_each_with_a_control(full_report: Report) -> None:
    lines = headlines(full_report)
    assert [line.path.split(".")[1] for line in lines] == [
        *OF_SAMPLES,
        "precision",
        "coverage",
        "fid",
        "matched_memorization_index",
        "gap_train",
        "generalization_gap",
        "nmse",
    ]
    assert all(line.control for line in lines)
    assert lines[0].control == "test images: 0.11 % (0.04 to 0.18 %)"


def test_figures_that_were_not_measured_say_so(undefined_report: Report) -> None:
    lines = headlines(undefined_report)
    assert [line.path.split(".")[1] for line in lines] == OF_SAMPLES
    assert {(line.shown.value, line.shown.reason) for line in lines} == {("not measured", "one image is too few")}


def test_skipped_families_have_no_headlines(empty_report: Report) -> None:
    assert headlines(empty_report) == []
    assert evidence(empty_report) == []
    assert compare(empty_report, "fidelity") == []


def test_the_baseline_is_called_by_its_name(full_report: Report) -> None:
    def control(baseline: str) -> str:
        settings = replace(full_report.settings, baseline=baseline)
        return headlines(replace(full_report, settings=settings))[0].control

    assert control("test").startswith("test images: ")
    assert control("train, leave one out").startswith("training images left out: ")
    assert control("none").startswith("baseline images: ")


def test_evidence_names_counts_p_value_and_bounds(full_report: Report) -> None:
    assert dict(evidence(full_report)) == {
        "flagged as copies (nearest training image under 1/3 as far as the next)": (
            "32 of 1,000 samples, 11 of 10,000 test images"
        ),
        "ratio rule, pictures counted once (Fisher's exact test)": (
            "27 of 990 pictures, 12 of 11,000 unseen images; chance of as many if nothing is copied: p = 6.1e-27"
        ),
        "d1/d2 below that of almost all unseen images": (
            "54 of 990 pictures, 55 of 11,000 unseen images; chance of as many if nothing is copied: p = 4.5e-31"
        ),
        "the same, brightness, colours and contrast evened out": (
            "58 of 990 pictures, 55 of 11,000 unseen images; chance of as many if nothing is copied: p = 2.1e-33"
        ),
        "the same, after the best shift, turn and scale too": (
            "61 of 990 pictures, 55 of 11,000 unseen images; chance of as many if nothing is copied: p = 8.8e-36"
        ),
        "near-identical to a training image (root mean square difference up to 11.4 grey levels), flagged or not": (
            "24 of 1,000 samples, 0 of 10,000 test images"
        ),
        "test images also in the training set": "2 of 10,000; without them p = 8.4e-27",
        "distinct samples": "990 of 1,000",
    }


BOUND = "copies that these counts cannot rule out (95 % confidence)"


def test_one_bound_stands_where_the_sentence_gives_none(full_report: Report) -> None:
    assert full_report.verdict is not None and full_report.memorization is not None

    def labelled(label: Label) -> Report:
        assert full_report.verdict is not None
        return replace(full_report, verdict=replace(full_report.verdict, label=label))

    report = labelled("undecided")
    assert dict(evidence(report))[BOUND] == "up to 4.29 % of the samples"
    family = replace(full_report.memorization, largest_compatible_ratio=Estimate.undefined("no samples"))
    assert dict(evidence(replace(report, memorization=family)))[BOUND] == "not measured: no samples"
    assert BOUND not in dict(evidence(replace(report, memorization=None)))
    assert BOUND not in dict(evidence(full_report))
    assert BOUND not in dict(evidence(labelled("no copying found")))


def test_a_tolerance_that_was_not_measured_is_not_shown(full_report: Report) -> None:
    settings = replace(full_report.settings, duplicate_tolerance=None)
    assert "near-identical to a training image, flagged or not" in dict(
        evidence(replace(full_report, settings=settings))
    )


def test_grey_levels_are_for_pixels_only() -> None:
    assert unit_of("novelty.distance_median", "pixels") == "distance"
    assert unit_of("novelty.distance_median", "inception") == "feature distance"
    assert unit_of("gaussian.wasserstein", "inception") == "distance"


def test_a_curve_without_any_value_is_no_headline(full_report: Report) -> None:
    assert full_report.gaussian is not None
    nowhere = replace(full_report.gaussian.nmse, value=(None,) * 15)
    report = replace(full_report, gaussian=replace(full_report.gaussian, nmse=nowhere))
    assert "gaussian.nmse" not in [line.path for line in headlines(report)]
