"""The demo keeps its promise: two pages, of which one tells of copies and the other does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from checking import checked
from made_reports import full_report
from memgen_eval import Report
from memgen_eval.render.headlines import headlines
from memgen_eval.results import Label
from reference_models import demo


def figure(report: Report, path: str) -> tuple[float, float]:
    """A headline of the denoiser and its control."""
    line = next(line for line in headlines(report) if line.path == path)
    return float(line.shown.value), float(line.control.split(": ")[1].split(" (")[0])


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
    index, control = figure(few, "denoiser.matched_memorization_index")
    assert index - control > 0.2  # the model is nearer to the D* of its own images than to that of unseen ones
    (gap, gap_on_test), (other_gap, other_gap_on_test) = (figure(report, "denoiser.gap_train") for report in reports)
    assert gap < 0.75 * gap_on_test and other_gap > 0.9 * other_gap_on_test
    out, err = capsys.readouterr()
    for name, report in zip(("few.html", "many.html"), reports, strict=True):
        page = (folder / name).read_text(encoding="utf-8")
        assert str(folder / name) in out and report.displayed_sentence in out
        assert page.count("data:image/") > 64
        assert "http://" not in page.replace("http://www.w3.org", "") and 'src="http' not in page
    assert out.splitlines()[-1] == demo.conclusion(few, many)
    assert [line.split(",")[0] for line in err.splitlines() if line.startswith("training on 100 digits")] == [
        f"training on 100 digits: {done}% done" for done in (20, 40, 60, 80, 100)
    ]


@pytest.mark.parametrize(
    ("first", "second", "said", "as_expected"),
    [
        ("copies", "no copying found", "copies its training images; the model of 90 digits was not ", True),
        ("copies", "undecided", "copies its training images; the model of 90 digits could not be judged.", True),
        ("copies", "copies", "copies its training images; the model of 90 digits copies its training images.", False),
        ("undecided", "undecided", "could not be judged; the model of 90 digits could not be judged.", False),
        ("no copying found", "copies", "was not found to copy; the model of 90 digits copies ", False),
    ],
)  # fmt: skip
def test_the_last_sentence_is_that_of_the_verdicts(first: Label, second: Label, said: str, as_expected: bool) -> None:
    made = full_report()
    assert made.verdict is not None
    few, many = (
        replace(
            made,
            verdict=replace(made.verdict, label=label),
            settings=replace(made.settings, num_train=num_train),
        )
        for label, num_train in ((first, 10), (second, 90))
    )
    sentence = demo.conclusion(few, many)
    assert sentence.startswith(f"Open both pages in a browser: the model of 10 digits {said}")
    assert ("The demo expects" not in sentence) == as_expected == demo.shows_memorization(few, many)
