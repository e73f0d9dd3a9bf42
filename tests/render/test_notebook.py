"""A report as the value of a notebook cell, and in one line: nothing that changes what stands around it."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from memgen_eval.render.html import render_summary
from memgen_eval.report import Report

ALLOWED = {"div", "p", "strong", "table", "tr", "th", "td", "ul", "li"}


class Tags(HTMLParser):
    """The tags of a fragment, each closed in order, and the names of their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(fragment: str) -> Tags:
    tags = Tags()
    tags.feed(fragment)
    tags.close()
    assert tags.open == []
    return tags


@pytest.mark.parametrize("name", ["full_report", "empty_report", "short_report"])
def test_a_summary_styles_nothing_but_itself(name: str, request: pytest.FixtureRequest) -> None:
    report: Report = request.getfixturevalue(name)
    summary = report._repr_html_()
    tags = tags_of(summary)
    assert tags.tags <= ALLOWED and tags.attributes == {"style"}
    assert len(summary) < 20_000
    text = html.unescape(summary)
    assert report.displayed_sentence in text
    assert all(reason in text for reason in report.skipped.values())
    assert "report.save('report.html')" in text


def test_a_page_is_seen_to_style_more(full_page: str) -> None:
    assert {"style", "body", "h2"} <= set(re.findall(r"<([a-z]+\d?)", full_page))


def test_a_summary_holds_the_headlines_the_cautions_and_the_account_of_each_set(full_report: Report) -> None:
    inputs = {"samples": {"account": "npz, 400 x 3 x 16 x 16"}, "train": {"account": "digits"}}
    provenance = replace(full_report.provenance, inputs=inputs)
    report = replace(full_report, cautions=("the samples are <dark>",), provenance=provenance)
    summary = render_summary(report)
    text = html.unescape(summary)
    assert "Caution: the samples are &lt;dark&gt;" in summary
    assert summary.count("<tr>") > 5 and "memorization ratio" in summary
    assert "samples: npz, 400 x 3 x 16 x 16" in text and "train: digits" in text


def test_one_line(full_report: Report, empty_report: Report) -> None:
    assert full_report.memorization is not None
    ratio = full_report.memorization.ratio.value
    assert repr(full_report) == f"Report('copies', 1000 samples, memorization ratio {ratio:.4g})"
    assert repr(replace(full_report, memorization=None)).endswith("memorization ratio not measured)")
    assert repr(replace(full_report, verdict=None)).startswith("Report('no verdict', ")
    assert "\n" not in repr(empty_report) and len(repr(empty_report)) < 100
