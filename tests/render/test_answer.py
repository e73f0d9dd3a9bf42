"""The first screen: what was asked, how sure the answer is, what it rests on, for whoever knows no formula."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace

import pytest

from memgen_eval.render.answer import (
    REACH_OF_FEATURES,
    EvidenceLine,
    Tallied,
    cannot_tell,
    compared,
    evidence_lines,
    how_sure,
    question,
)
from memgen_eval.render.charts import CHARTS, DISTANCES, GAP, NOVELTY_FIDELITY, Chart
from memgen_eval.render.contents import chart_table
from memgen_eval.report import Report
from memgen_eval.results import Estimate, Label


def judged(report: Report, label: Label, p_value: float = 6.1e-27) -> Report:
    assert report.verdict is not None
    return replace(report, verdict=replace(report.verdict, label=label, p_value=p_value))


def test_what_was_asked(full_report: Report, empty_report: Report) -> None:
    assert question(full_report) == "Did the model copy its training images?"
    assert question(empty_report) == "How do these samples compare with the training images?"


def test_what_features_add_is_said_where_they_were_compared(full_report: Report, empty_report: Report) -> None:
    assert full_report.verdict is not None
    rule = full_report.verdict.evidence.rules[0]
    for name, said in (("features", True), ("aligned", False)):
        found = replace(full_report.verdict.evidence, rules=(replace(rule, name=name),))
        report = replace(full_report, verdict=replace(full_report.verdict, evidence=found))
        assert (REACH_OF_FEATURES in cannot_tell(report)) == said
    assert len(cannot_tell(empty_report)) == 2


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 32, 48), "32 x 48 pixels in colour"),
        ((1, 28, 28), "28 x 28 pixels in grey"),
        ((5, 8, 8), "5 x 8 x 8 values"),
        ((2,), "1 x 2 values"),
    ],
)
def test_the_sets_in_words(shape: tuple[int, ...], words: str, full_report: Report) -> None:
    report = replace(full_report, settings=replace(full_report.settings, image_shape=shape))
    assert compared(report) == f"1,000 samples compared with 50,000 training images of {words}"


@pytest.mark.parametrize(
    ("p_value", "chance"),
    [
        (1e-300, "fewer than one in a thousand million"),
        (1.1e-9, "fewer than one in a million"),
        (1.1e-6, "at most 1 in 100,000"),
        (1e-5, "at most 1 in 100,000"),
    ],
)
def test_chance_in_words(p_value: float, chance: str, full_report: Report) -> None:
    first, second = how_sure(judged(full_report, "copies", p_value))
    assert (
        first == f"Very sure that there are copies: if nothing were copied, {chance} evaluations would count as many."
    )
    assert second.endswith("here 11 of 10,000 test images.")


def test_what_an_acquittal_leaves_open(full_report: Report) -> None:
    sentences = how_sure(judged(full_report, "no copying found"))
    assert "Up to 4.29 % of what the model draws" in sentences[1]
    assert "If 0.930 % or more were plain copies" in sentences[2]
    assert full_report.memorization is not None
    lacking = replace(
        full_report.memorization,
        largest_compatible_ratio=Estimate.undefined("no samples"),
        detectable_ratio=Estimate.undefined("needs a baseline"),
    )
    assert len(how_sure(judged(replace(full_report, memorization=lacking), "no copying found"))) == 1


def test_doubts_and_cautions_are_said(full_report: Report, empty_report: Report) -> None:
    unsure = how_sure(replace(judged(full_report, "undecided"), cautions=("read upside down",)))
    assert unsure == [
        "Not sure either way: the answer above says what stands against each side.",
        "These counts cannot rule out that 4.29 % of the samples are copies.",
        "The cautions above limit all of this.",
    ]
    assert how_sure(empty_report) == ["There is no verdict, so nothing to be sure of: the figures below stand alone."]


def test_counts_as_shares() -> None:
    assert (
        EvidenceLine("x", Tallied(41, 1000, "samples"), Tallied(0, 2000, "test images")).shares == "4.10 % against 0 %"
    )
    assert EvidenceLine("x", Tallied(1, 0, "samples")).shares == ""
    assert Tallied(1, 0, "samples").share == 0


def test_bars_are_as_long_as_shares(full_report: Report, full_page: str) -> None:
    bars = [float(share) for share in re.findall(r"--share: ([\d.]+)", full_page)]
    both = [line for line in evidence_lines(full_report) if line.samples and line.others]
    shares = [tallied.share for line in both for tallied in (line.samples, line.others) if tallied is not None]
    assert bars == pytest.approx([share / max(shares) for share in shares], abs=1e-4)
    assert max(bars) == 1


def test_only_the_pages_own_script_may_run(full_page: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', full_page)
    script = re.search(r"<script>(.*?)</script>", full_page, re.DOTALL)
    assert policy is not None and script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert html.unescape(policy[1]) == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert full_page.index("Content-Security-Policy") < full_page.index("<style>")


ALL_CHARTS = [chart for listed in CHARTS.values() for chart in listed]


@pytest.mark.parametrize("chart", ALL_CHARTS, ids=lambda chart: chart.name)
def test_every_point_of_a_chart_is_in_its_table(chart: Chart, full_report: Report) -> None:
    if chart.name == "distillation":  # not measured in this report
        return
    table = chart_table(chart, full_report)
    assert table.rows and all(len(row) == len(table.columns) for row in table.rows)
    assert all(cell for row in table.rows for cell in row)
    assert len(table.columns) == (3 if chart.form == "points" else 1 + len(chart.lines))


def test_tables_of_charts_hold_values_with_intervals(full_report: Report) -> None:
    distances = chart_table(DISTANCES, full_report)
    assert distances.columns == ("quantile", "samples", "test images")
    assert [row[0] for row in distances.rows[:2]] == ["0.01", "0.02"] and len(distances.rows) == 99
    assert "grey levels" in distances.rows[0][1]
    assert chart_table(GAP, full_report).columns[0] == "sigma"
    sets = chart_table(NOVELTY_FIDELITY, full_report)
    assert [row[0] for row in sets.rows] == ["training images", "test images", "Gaussian samples", "noise", "samples"]
    assert sets.rows[-1][1:] == ("0.938 (0.916 to 0.960)", "0.710 (0.686 to 0.734)")


def test_a_point_that_one_curve_lacks(full_report: Report) -> None:
    assert full_report.denoiser is not None
    short = full_report.denoiser.gap_test
    assert short.x is not None and short.value is not None
    cut = replace(short, value=short.value[:3], low=None, high=None, x=replace(short.x, values=short.x.values[:3]))
    report = replace(full_report, denoiser=replace(full_report.denoiser, gap_test=cut))
    rows = chart_table(GAP, report).rows
    assert rows[2][2] and not rows[3][2]
