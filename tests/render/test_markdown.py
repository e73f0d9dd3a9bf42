"""The summary of a CI step."""

from __future__ import annotations

from dataclasses import replace

from memgen_eval.render.table import render_markdown
from memgen_eval.report import Report


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace(r"\|", "\0").strip("|").split("|")]


def test_verdict_evidence_headlines_skipped(full_report: Report) -> None:
    text = render_markdown(full_report)
    assert text.startswith("## memgen-eval: copies\n\nThe samples hold copies of training images: 32 of 1,000 samples")
    assert "- ratio rule, pictures counted once (Fisher's exact test): 27 of 990 pictures, 12 of 11,000 unseen" in text
    assert "unseen images; chance of as many if nothing is copied: p = 6.1e-27" in text
    assert "| memorization ratio | 3.2 % | 2.1 to 4.3 % | test images: 0.11 % (0.04 to 0.18 %) |" in text
    assert text.endswith(
        "### Skipped\n\n- memorization.feature\\_similarity: needs a feature extractor for copy detection\n"
    )


def test_full_adds_every_figure(full_report: Report) -> None:
    text = render_markdown(full_report, full=True)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    figures = len(list(full_report.figures()))
    assert len(rows) == (13 + 2) + figures + 2 * 5
    assert all(len(cells(row)) in (4, 5) for row in rows)
    assert "| feature similarity | not measured |  |  | needs a feature extractor for copy detection |" in text


def test_names_are_words(full_report: Report) -> None:
    names = {"samples": {"17": 'a|b "><img src=x onerror=alert(1)>`c`\n| d\x1b[31m.png'}}
    skipped = {"denoiser": "boom </script>\n| x | y"}
    report = replace(full_report, provenance=replace(full_report.provenance, names=names), skipped=skipped)
    text = render_markdown(report)
    assert "<" not in text and "\x1b" not in text
    assert r'a\|b "\>&lt;img src=x onerror=alert(1)\>\`c\`\\n\| d\\x1b\[31m.png' in text
    assert r"- denoiser: boom &lt;/script\>\\n\| x \| y" in text


def test_nothing_measured(empty_report: Report, undefined_report: Report) -> None:
    text = render_markdown(empty_report, full=True)
    assert text.startswith("## memgen-eval: no verdict\n\nNo verdict: not asked for.\n\n### Skipped")
    assert "| memorization ratio | not measured |  | one image is too few |" in render_markdown(undefined_report)
    assert render_markdown(replace(empty_report, skipped={})).endswith("### Skipped\n\n- nothing\n")


def test_notes_do_not_break_tables(full_report: Report) -> None:
    assert full_report.memorization is not None
    ratio = replace(full_report.memorization.ratio, notes=("a|b\n<c>",))
    report = replace(full_report, memorization=replace(full_report.memorization, ratio=ratio))
    text = render_markdown(report, full=True)
    assert r"| 1,000 | a\|b\\n&lt;c\> |" in text
    assert all(len(cells(row)) in (4, 5) for row in text.splitlines() if row.startswith("|"))
