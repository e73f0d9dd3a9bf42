"""The demo keeps its promise: two pages, of which one tells of copies and the other does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from checking import checked
from memgen_eval import Report
from reference_models import demo


def test_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps than the demo itself, at which the small model copies one sample in five or so already."""
    reports: list[Report] = []

    def kept(*arguments: object, **keywords: object) -> Report:
        reports.append(checked(evaluate_model(*arguments, **keywords)))
        return reports[-1]

    evaluate_model = demo.evaluate_model
    monkeypatch.setattr(demo, "evaluate_model", kept)
    folder = tmp_path / "some" / "where"
    assert demo.main(folder, num_steps=500, num_samples=300) == 0
    few, many = reports
    assert few.verdict is not None and few.verdict.label == "copies" and few.settings.num_train == demo.FEW
    assert many.verdict is not None and many.verdict.label == "no copying found"
    assert few.denoiser is not None and few.gaussian is not None and many.denoiser is not None
    index, control = few.denoiser.matched_memorization_index, few.denoiser.test_memorization_index
    excess = [a - b for a, b in zip(index.value or (), control.value or (), strict=True) if None not in (a, b)]
    assert max(excess) > 0.2  # the model is nearer to the D* of its own images than to that of unseen ones
    out = capsys.readouterr().out
    for name, report in zip(("few.html", "many.html"), reports, strict=True):
        page = (folder / name).read_text(encoding="utf-8")
        assert str(folder / name) in out and report.displayed_sentence in out
        assert page.count("data:image/") > 64
        assert "http://" not in page.replace("http://www.w3.org", "") and 'src="http' not in page
