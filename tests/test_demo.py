"""The demo keeps its promise: two pages, of which one tells of copies and the other does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from checking import checked
from reference_models import demo


def test_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reports = []

    def kept(*arguments: object, **keywords: object) -> object:
        reports.append(checked(evaluate(*arguments, **keywords)))
        return reports[-1]

    evaluate = demo.evaluate
    monkeypatch.setattr(demo, "evaluate", kept)
    folder = tmp_path / "some" / "where"
    assert demo.main(folder) == 0
    copies, unseen = reports
    assert copies.verdict is not None and copies.verdict.label == "copies"
    assert unseen.verdict is not None and unseen.verdict.label == "no copying found"
    out = capsys.readouterr().out
    for name, report in zip(("copies.html", "unseen.html"), reports, strict=True):
        page = (folder / name).read_text(encoding="utf-8")
        assert str(folder / name) in out and report.displayed_sentence in out
        assert page.count("data:image/") > 64
        assert "http://" not in page.replace("http://www.w3.org", "") and 'src="http' not in page
