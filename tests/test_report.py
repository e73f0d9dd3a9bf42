"""Reports there and back: nothing lost, nothing invented, nothing accepted that no evaluation wrote."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

import memgen_eval.results
from checking import SCHEMA, strict_json
from made_reports import ESTIMATE, full_report
from memgen_eval import GateError, InputError, Report
from memgen_eval.report import SCHEMA_VERSION, dumps
from memgen_eval.results import FAMILIES, FAMILY_TYPES, Axis, Curve, Estimate, Family, Gallery, Match

EMPTY: dict[str, Any] = dict.fromkeys(("verdict", *FAMILIES))


def without_families() -> Report:
    return replace(full_report(), **EMPTY, skipped={"memorization": "not asked for", "verdict": "no memorization"})


def written(report: Report) -> dict[str, Any]:
    return json.loads(dumps(report.to_dict()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [full_report, without_families])
def test_there_and_back(make: Callable[[], Report], tmp_path: Path) -> None:
    report = make()
    data = strict_json(dumps(report.to_dict()))
    again = Report.from_dict(data)
    assert again == report
    assert again.provenance == report.provenance
    assert again.to_dict() == data == report.to_dict()
    assert dumps(again.to_dict()) == dumps(report.to_dict())
    report.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == Report.load(str(tmp_path / "r.json")) == report


def test_every_field_is_written_and_no_image() -> None:
    report = replace(full_report(), gallery=Gallery({0: b"pixels"}, {}, {}))
    data = report.to_dict()
    assert next(iter(data)) == "schema_version" and data["schema_version"] == SCHEMA_VERSION
    assert set(data) == {f.name for f in fields(Report)} - {"gallery", "samples"}
    for family in FAMILIES:
        assert set(data[family]) == {f.name for f in fields(getattr(report, family))}
    assert "pixels" not in dumps(data)
    assert data["memorization"]["ratio"] == {
        "value": 0.25,
        "low": 0.125,
        "high": 0.5,
        "method": "Clopper-Pearson 95 %",
        "count": 400,
        "notes": ["a note", "another, with ünïcode"],
    }


NAMES = {
    "memorization": "ratio plain_ratio test_ratio excess ratio_curve test_ratio_curve calibrated_threshold "
    "calibrated_ratio test_calibrated_ratio calibrated_excess calibrated_p_value "
    "standardized_ratio test_standardized_ratio standardized_p_value aligned_ratio test_aligned_ratio aligned_p_value "
    "carlini test_carlini carlini_absolute "
    "carlini_patch feature_similarity test_feature_similarity feature_threshold "
    "calibrated_feature_similarity feature_p_value feature_margin_threshold calibrated_feature_margin "
    "feature_margin_p_value repetition test_repetition "
    "num_distinct_copied num_near_identical test_num_near_identical largest_compatible_ratio detectable_ratio "
    "copies closest test_closest altered",
    "novelty": "distance_quantiles test_distance_quantiles distance_median test_distance_median distance_ratio auc "
    "relative_auc ct relative_ct authenticity test_authenticity",
    "fidelity": "precision recall density coverage fid kid swd test_precision test_recall test_density test_coverage "
    "test_fid test_kid test_swd gap_precision gap_recall gap_density gap_coverage gap_fid gap_kid gap_swd "
    "anchors",
    "denoiser": "error_train error_test relative_error_train relative_error_test generalization_gap "
    "mean_generalization_gap gap_train gap_test gap_path optimal_error_train optimal_error_test identity_residual "
    "memorization_index matched_memorization_index test_memorization_index off_line effective_neighbours "
    "effective_neighbours_train collapse_sigma predicted_collapse_sigma",
    "gaussian": "nmse cosine linearity gaussian_linearity distillation_r2 distillation_alignment wasserstein "
    "test_wasserstein subspace_overlap test_subspace_overlap",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_the_figures(family: str) -> None:
    """They are the language of gates and loggers: none may change unseen."""
    assert [f.name for f in fields(getattr(full_report(), family))] == NAMES[family].split()


def test_an_entry_of_the_lists() -> None:
    match = full_report().to_dict()["memorization"]["copies"][0]
    assert list(match) == ["sample_index", "train_index", "distance", "grey_levels", "ratio", "flipped"]


def test_only_provenance_and_pictures_may_differ() -> None:
    report = full_report()
    elsewhere = replace(report.provenance, host={"name": "other"}, seconds={"search": 9.5}, threads=7)
    assert replace(report, provenance=elsewhere, gallery=Gallery({}, {}, {})) == report
    assert replace(report, settings=replace(report.settings, seed=5)) != report
    assert replace(report, skipped={}) != report
    assert report.verdict is not None
    assert replace(report, verdict=replace(report.verdict, p_value=0.2)) != report
    assert report.memorization is not None
    moved = replace(ESTIMATE, low=0.12)
    assert replace(report, memorization=replace(report.memorization, ratio=moved)) != report


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ESTIMATE.value = 1.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        full_report().verdict = None  # type: ignore[misc]


Spoil = Callable[[dict[str, Any]], object]
EXPECTED = f"expected {SCHEMA_VERSION}"
SPOILT: list[tuple[str, Spoil, str]] = [
    ("another version", lambda d: d.update(schema_version=1), f"report: schema_version is 1, {EXPECTED}"),
    ("no version", lambda d: d.pop("schema_version"), "schema_version is None"),
    ("a true version", lambda d: d.update(schema_version=True), f"report: schema_version is True, {EXPECTED}"),
    ("an unknown field", lambda d: d.update(extra=1), "report: expected no field extra"),
    ("a field less", lambda d: d.pop("novelty"), "report: expected a field novelty"),
    ("a figure less", lambda d: d["novelty"].pop("auc"), "report.novelty: expected a field auc"),
    ("an estimate's end", lambda d: d["novelty"]["auc"].pop("low"), "report.novelty.auc: expected a field low"),
    ("a gallery", lambda d: d.update(gallery=None), "expected no field gallery"),
    ("a text value", lambda d: d["novelty"]["auc"].update(value="0.5"), "report.novelty.auc.value: expected float"),
    ("a true value", lambda d: d["novelty"]["auc"].update(value=True), "report.novelty.auc.value: expected float"),
    ("NaN", lambda d: d["novelty"]["auc"].update(value=math.nan), "report.novelty.auc.value: expected a finite"),
    ("infinity", lambda d: d["novelty"]["auc"].update(low=-math.inf), "report.novelty.auc.low: expected a finite"),
    ("a part of an image", lambda d: d["novelty"]["auc"].update(count=1.5), "report.novelty.auc.count: expected int"),
    ("one note", lambda d: d["novelty"]["auc"].update(notes="n"), "report.novelty.auc.notes: expected a list"),
    ("a number noted", lambda d: d["novelty"]["auc"].update(notes=[1]), r"auc.notes\[0\]: expected str"),
    ("a list for a family", lambda d: d.update(novelty=[]), "report.novelty: expected an object"),
    ("another label", lambda d: d["verdict"].update(label="guilty"), "report.verdict.label: expected one of copies"),
    ("a hole in a curve", lambda d: d["novelty"]["distance_quantiles"].update(value=[[]]), "value.0.: expected float"),
    ("a curve without places", lambda d: d["novelty"]["distance_quantiles"].update(x=None), "quantiles.x: expected an"),
    (
        "a place more",
        lambda d: d["denoiser"]["gap_train"]["x"]["values"].append(9),
        "gap_train.value: expected a list of 4",
    ),
    ("an end less", lambda d: d["denoiser"]["gap_train"]["low"].pop(), "gap_train.low: expected a list of 3"),
    (
        "other places",
        lambda d: d["denoiser"]["matched_memorization_index"]["x"].update(values=[1, 2, 3]),
        "x: expected the pl",
    ),
    ("one flip", lambda d: d["memorization"]["copies"][1].update(flipped=1), r"copies\[1\].flipped: expected bool"),
    ("a reason that is none", lambda d: d["skipped"].update(fid=3), r"report.skipped\['fid'\]: expected str"),
    ("reasons in a list", lambda d: d.update(skipped=["fid"]), "report.skipped: expected an object"),
    ("no settings", lambda d: d.update(settings=None), "report.settings: expected an object"),
    ("a number beyond floats", lambda d: d["novelty"]["auc"].update(value=10**400), "auc.value: expected a finite"),
    ("a long name", lambda d: d.update({"x" * 10_000: 1}), "report: expected no field x{80};"),
    ("a long version", lambda d: d.update(schema_version="1" * 10_000), "schema_version is '1{79}, expected"),
    ("unwritten settings", lambda d: d["settings"].pop("seed"), "report.settings: expected a field seed"),
]


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT])
def test_anything_else_is_refused(spoil: Spoil, message: str, tmp_path: Path) -> None:
    data = written(full_report())
    spoil(data)
    with pytest.raises(InputError, match=message) as raised:
        Report.from_dict(data)
    assert "\n" not in str(raised.value)
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=r"spoilt\.json: report"):
        Report.load(path)


@pytest.mark.parametrize("data", [None, [], "report", 1, {}])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(InputError, match=f"schema_version is None, {EXPECTED}"):
        Report.from_dict(data)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"null", b"<html>"],
    ids=["empty", "cut", "no UTF-8", "nested", "endless number", "null", "a page"],
)
def test_files_that_are_no_reports_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "no report.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no report\.json: ") as raised:
        Report.load(path)
    assert "\n" not in str(raised.value)


def test_what_is_not_a_file_of_a_report_is_never_opened(tmp_path: Path) -> None:
    """A FIFO would be waited for; a file of zeros without end would fill the memory."""
    os.mkfifo(tmp_path / "fifo.json")
    with (tmp_path / "endless.json").open("wb") as file:
        file.truncate(2**40)
    for name, message in (("fifo.json", "is not a file"), ("endless.json", "no report is as large")):
        with pytest.raises(InputError, match=message):
            Report.load(tmp_path / name)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json: no such file; give the JSON report that --json wrote"):
        Report.load(tmp_path / "gone.json")
    with pytest.raises(InputError, match="is not a file; give the file that --json wrote"):
        Report.load(tmp_path)


def test_whole_numbers_stand_for_floats() -> None:
    data = written(full_report())
    data["novelty"]["auc"]["value"] = 1
    again = Report.from_dict(data)
    assert again.novelty is not None and again.novelty.auc.value == 1
    assert again.to_dict() == data


def test_json_is_strict_and_readable() -> None:
    text = dumps({"name": "ünï", "x": [1.5]})
    assert text == '{\n  "name": "ünï",\n  "x": [\n    1.5\n  ]\n}\n'
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            dumps({"x": number})


def test_figures_are_all_there_in_order() -> None:
    report = full_report()
    found = dict(report.figures())
    assert len(found) == len(list(report.figures())) == sum(len(names.split()) for names in NAMES.values()) - 5
    assert [path.split(".")[0] for path in found] == sorted((path.split(".")[0] for path in found), key=FAMILIES.index)
    assert found["novelty.auc"] is report.novelty.auc  # type: ignore[union-attr]
    assert {type(figure) for figure in found.values()} == {Estimate, Curve}
    assert dict(without_families().figures()) == {}
    some = replace(without_families(), novelty=report.novelty)
    assert {path.split(".")[0] for path in dict(some.figures())} == {"novelty"}


def test_scalars_are_flat_finite_numbers() -> None:
    report = full_report()
    assert report.novelty is not None
    novelty = replace(report.novelty, auc=Estimate.undefined("no test set"), ct=Estimate(3.0, method="count"))
    flat = replace(report, novelty=novelty).scalars()
    assert not any(path.startswith("novelty.auc") for path in flat)
    assert flat["novelty.ct"] == 3.0 and "novelty.ct.low" not in flat
    assert (flat["memorization.ratio"], flat["memorization.ratio.low"], flat["memorization.ratio.high"]) == (
        0.25,
        0.125,
        0.5,
    )
    assert "memorization.ratio_curve" not in flat
    assert all(isinstance(value, float) and math.isfinite(value) for value in flat.values())
    assert without_families().scalars() == {}


def test_undefined_figures_have_a_reason_and_nothing_else() -> None:
    assert Estimate.undefined("why", count=3) == Estimate(None, None, None, "undefined", 3, ("why",))
    assert Curve.undefined("why") == Curve(None, None, None, "undefined", None, ("why",), None)


def test_the_displayed_sentence_names_files() -> None:
    report = full_report()
    assert report.verdict is not None
    first = Match(3, 5, 0.0, 0.0, 0.0, False)
    evidence = replace(report.verdict.evidence, first_near_identical=first)
    verdict = replace(report.verdict, sentence="Sentence.", evidence=evidence)
    names = {"samples": {"3": "a.png"}, "train": {"4": "no.png"}}

    def sentence(found: dict[str, dict[str, str]]) -> str:
        return replace(report, verdict=verdict, provenance=replace(report.provenance, names=found)).displayed_sentence

    assert sentence(names) == "Sentence. (sample 3 is a.png)"
    assert sentence({"train": {"5": "t.png"}, **names, "samples": {}}) == "Sentence."
    assert sentence({"train": {"5": "t.png"}, "samples": {"3": "a.png"}}) == (
        "Sentence. (sample 3 is a.png; training image 5 is t.png)"
    )
    assert sentence({}) == "Sentence."
    unnamed = replace(verdict, evidence=replace(evidence, first_near_identical=None))
    assert replace(report, verdict=unnamed).displayed_sentence == "Sentence."
    assert without_families().displayed_sentence == "No verdict: no memorization."
    assert replace(without_families(), skipped={}).displayed_sentence == "No verdict: it was not asked for."


def test_require_reads_gates() -> None:
    report = full_report()
    report.require("memorization.ratio.high < 0.51")
    with pytest.raises(GateError, match=r"required 'novelty.auc > 0.3', but novelty.auc is 0.25"):
        report.require("novelty.auc > 0.3")
    with pytest.raises(InputError, match="names nothing"):
        report.require("novelty.nothing > 0.3")


def test_printed_and_shown_in_a_notebook() -> None:
    report = without_families()
    assert "No verdict" in str(report)
    assert "No verdict" in report._repr_html_()


def test_a_figure_is_found_by_its_path() -> None:
    report = full_report()
    assert report.novelty is not None
    assert report.figure("novelty.auc") is report.novelty.auc
    assert isinstance(report.figure("denoiser.gap_train"), Curve)
    assert without_families().figure("novelty.auc") is None
    for path in ("novelty.aucc", "auc", "memorization.copies", "settings.seed"):
        with pytest.raises(InputError, match="names nothing in a report, expected the path of a figure"):
            report.figure(path)


@pytest.mark.parametrize("kind", FAMILY_TYPES.values(), ids=FAMILIES)
def test_an_undefined_family_gives_the_reason_for_every_figure(kind: type[Family]) -> None:
    parts: dict[str, Any] = {"Estimate": Estimate.undefined("why"), "Curve": Curve.undefined("why")}
    family = kind.undefined("why")
    assert family == kind(**{f.name: parts.get(str(f.type), ()) for f in fields(kind)})
    assert type(family) is kind


def test_one_point_of_a_curve() -> None:
    curve = Curve((0.5, None), (0.25, None), None, "m", 9, ("n",), Axis("sigma", "", (1.0, 2.0)))
    assert curve.at(0) == Estimate(0.5, 0.25, None, "m", 9, ("n",))
    assert curve.at(1) == Estimate(None, None, None, "m", 9, ("n",))


def test_the_parts_are_found_where_they_always_were() -> None:
    for name in ("Estimate", "Curve", "Verdict"):
        assert getattr(memgen_eval, name) is getattr(memgen_eval.results, name)
    SCHEMA.check_schema(SCHEMA.schema)
    assert Axis("sigma", "", (0.1,)).values == (0.1,)
