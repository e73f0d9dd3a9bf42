"""What was read and what to be cautious of, wherever a report is shown."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import pytest

from memgen_eval.render.html import render_html
from memgen_eval.render.table import plain_table, render_markdown
from memgen_eval.report import Report

CAUTION = "Read upside down, 62 of 250 samples would be copies of training images."
ACCOUNTS = {
    "samples": "400 images of 3 x 32 x 32 (zip 'out.zip'); uint8 in N H W C; 3 hidden files were skipped",
    "train": "joined arr_0 to arr_7; 2 images have a single colour (the first: image 5)",
    "test": "12 grey images read as RGB",
}


def with_accounts(report: Report) -> Report:
    inputs: dict[str, dict[str, Any]] = {name: {"account": words} for name, words in ACCOUNTS.items()}
    return replace(report, cautions=(CAUTION,), provenance=replace(report.provenance, inputs=inputs))


@pytest.mark.parametrize("show", [plain_table, render_markdown, render_html, Report._repr_html_])
def test_every_account_and_caution_is_shown_and_cautions_come_first(show: Any, short_report: Report) -> None:
    report = with_accounts(short_report)
    text = html.unescape(show(report)).replace("\\", "")
    assert all(words in text for words in ACCOUNTS.values())
    assert report.verdict is not None
    assert 0 <= text.index(CAUTION) < text.index(report.displayed_sentence[:60])


def test_a_report_without_accounts_says_nothing_of_them(short_report: Report) -> None:
    bare = replace(short_report, provenance=replace(short_report.provenance, inputs={"samples": {"form": "folder"}}))
    assert "What was read" not in render_html(bare)
    assert "Caution" not in plain_table(bare)
