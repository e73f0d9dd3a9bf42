"""Reports that somebody else wrote: whatever names they hold, every form shows them, and none of them acts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memgen_eval.render.save import as_text
from memgen_eval.render.table import plain_table
from memgen_eval.report import Report

NAME = "{baseline.__class__} $x$ <script>alert(1)</script> \x1b[2J\n|"


@pytest.mark.parametrize("form", ["html", "markdown", "json", "table"])
def test_rules_and_anchors_with_names_of_their_own(form: str, full_report: Report) -> None:
    assert full_report.verdict is not None and full_report.fidelity is not None
    evidence = full_report.verdict.evidence
    rules = tuple(replace(rule, name=NAME) for rule in evidence.rules)
    verdict = replace(full_report.verdict, evidence=replace(evidence, rules=rules))
    anchors = tuple(replace(anchor, name=NAME) for anchor in full_report.fidelity.anchors)
    assert rules and anchors
    report = replace(full_report, verdict=verdict, fidelity=replace(full_report.fidelity, anchors=anchors))
    text = plain_table(report, full=True) if form == "table" else as_text(report, form, images=False, full=True)
    assert "\x1b" not in text and ("<script>alert" not in text or form == "json")
