"""Writing reports: whole or not at all, over nothing that was there, in UTF-8, anywhere that can be written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memgen_eval.errors import InputError
from memgen_eval.render.save import save_report
from memgen_eval.report import Report


def strict(text: str) -> object:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("r.json", "{"),
        ("r.html", "<!DOCTYPE html>"),
        ("R.HTM", "<!DOCTYPE html>"),
        ("r.md", "## memgen-eval: copies"),
        ("r.markdown", "## memgen-eval: copies"),
    ],
)
def test_the_suffix_decides(name: str, start: str, short_report: Report, tmp_path: Path) -> None:
    short_report.save(tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize("name", ["report", "report.txt", "report.json.gz"])
def test_other_suffixes_are_refused(name: str, full_report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.json, \.html, \.htm or \.md"):
        save_report(full_report, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_json_is_strict_and_comes_back(full_report: Report, tmp_path: Path) -> None:
    names = {"samples": {"17": "\u4e2d\u6587 \udcff \U0001f600.png"}}  # the second is a byte that is no UTF-8
    report = replace(full_report, provenance=replace(full_report.provenance, names=names))
    save_report(report, tmp_path / "r.json")
    assert strict((tmp_path / "r.json").read_text(encoding="utf-8")) == report.to_dict()
    again = Report.load(tmp_path / "r.json")
    assert again == report
    assert again.provenance == report.provenance
