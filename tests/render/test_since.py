"""What moved since an earlier report, in table, markdown and page."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from memgen_eval.render.html import render_html
from memgen_eval.render.several.since import change_rows, moved_rows, since_sentences
from memgen_eval.render.table import plain_table, print_table, render_markdown
from memgen_eval.report import Report
from memgen_eval.results import Curve, Estimate


@pytest.fixture
def earlier(short_report: Report) -> Report:
    assert short_report.memorization is not None and short_report.verdict is not None
    family = replace(
        short_report.memorization,
        ratio=Estimate(0.5, 0.45, 0.55, "m", 1000),
        num_near_identical=Estimate(0.0, method="count", count=1000),
    )
    settings = replace(short_report.settings, checksums={**short_report.settings.checksums, "samples": "other"}, seed=7)
    verdict = replace(short_report.verdict, label="undecided")
    provenance = replace(short_report.provenance, created="2025-12-24T18:00:00+00:00")
    return replace(short_report, memorization=family, settings=settings, verdict=verdict, provenance=provenance)


def test_sentences(short_report: Report, earlier: Report) -> None:
    first, *rest = since_sentences(short_report.compared_with(earlier))
    assert first.startswith("Since the report of 2025-12-24T18:00:00+00:00, 1 of ")
    assert "the chance that any figure is named is at most 5 %" in first
    assert rest[0] == "The verdict was: undecided. It is: copies."
    assert rest[1].startswith("Without an interval to judge by: near-identical samples was 0 and is ")
    same = since_sentences(short_report.compared_with(short_report))
    assert ", none of " in same[0]
    assert same[1] == "Both reports are of the same samples, so no difference is due to the draw of samples."


def test_rows(short_report: Report, earlier: Report) -> None:
    changes = short_report.compared_with(earlier)
    (row,) = moved_rows(changes)
    assert (row.path, row.label) == ("memorization.ratio", "memorization ratio")
    assert str(row.before) == "50 % (45 to 55 %)"
    assert row.change.value.startswith("-") and row.change.value.endswith(" pp")
    (back,) = moved_rows(earlier.compared_with(short_report))
    assert back.change.value == row.change.value.replace("-", "+")
    assert len(change_rows(changes)) == len(changes.figures) > 20


def test_every_form_tells_it(short_report: Report, earlier: Report) -> None:
    changes = short_report.compared_with(earlier)
    sentence = since_sentences(changes)[0]
    table, markdown = plain_table(short_report, since=changes), render_markdown(short_report, since=changes)
    page = render_html(short_report, since=changes)
    for text in (table, markdown, page):
        assert sentence in text
    assert "\nmemorization ratio  50 % (45 to 55 %)" in table
    assert "### Since the earlier report" in markdown and "| memorization ratio | 50 % (45 to 55 %) |" in markdown
    assert '<section id="since">' in page and 'href="#since"' in page
    assert "What differs beyond the figures" in page and "<code>memorization.ratio</code>" in page
    for text in (plain_table(short_report), render_markdown(short_report), render_html(short_report)):
        assert "Since the" not in text and 'id="since"' not in text


def test_a_terminal_groups_the_headlines_alone(short_report: Report, earlier: Report) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    print_table(short_report, since=short_report.compared_with(earlier), file=stream)
    before, _, after = stream.getvalue().partition("Since the report")
    assert "Memorization" in before and "Memorization" not in after


def test_what_cannot_be_compared_is_said_in_one_line(short_report: Report, earlier: Report) -> None:
    other = replace(earlier, settings=replace(earlier.settings, threshold=0.2))
    changes = short_report.compared_with(other)
    words = (
        "Not compared with the report of 2025-12-24T18:00:00+00:00: other settings: threshold was 0.2 and is 0.333333."
    )
    assert since_sentences(changes) == [words]
    assert words in plain_table(short_report, since=changes)
    assert words in render_html(short_report, since=changes)
    assert "| figure | before |" not in render_markdown(short_report, since=changes)


def test_a_curve_is_told_where_it_moved(full_report: Report) -> None:
    assert full_report.denoiser is not None
    curve = full_report.denoiser.gap_train
    assert curve.value is not None and curve.low is not None and curve.high is not None
    grown = tuple(
        tuple(v if i != 4 or v is None else v + 9 for i, v in enumerate(p))
        for p in (curve.value, curve.low, curve.high)
    )
    family = replace(full_report.denoiser, gap_train=replace(curve, value=grown[0], low=grown[1], high=grown[2]))
    changes = replace(full_report, denoiser=family).compared_with(full_report)
    (row,) = moved_rows(changes)
    assert isinstance(curve, Curve) and curve.x is not None
    assert row.label == f"gap to D* on training images at sigma {curve.x.values[4]:.3g}"
    assert row.change.value == "+9.000" or row.change.value.startswith("+9")
