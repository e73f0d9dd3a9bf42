"""What the curves of the denoiser are said to say, on the page, in the terminal and in markdown."""

from __future__ import annotations

import html
from dataclasses import replace

import pytest

from memgen_eval.render.contents import against_gaussian, of_denoiser, of_features, readings
from memgen_eval.render.html import render_html
from memgen_eval.render.table import plain_table, render_markdown
from memgen_eval.report import Report
from memgen_eval.results import Axis, Curve, Denoiser

SIGMAS = (0.02, 0.118, 0.5, 4.2, 7.5, 13.6, 80.0)
TEST = "On noised test images the model is "
NEARER = "nearer to the clean image than D_G (mean and covariance only)"


def relative(kinds: str) -> Curve:
    """A curve whose interval is below 1 (b), above it (a), around it (o), open (x), or nowhere (n)."""
    made = {"b": (0.8, 0.7, 0.9), "a": (1.2, 1.1, 1.3), "o": (0.99, 0.9, 1.1), "x": (0.5, None, None)}
    value, low, high = zip(*(made.get(kind, (None, None, None)) for kind in kinds), strict=True)
    return Curve(value, low, high, "bootstrap", 256, x=Axis("sigma", "", SIGMAS[: len(kinds)]))


def sentence_of(report: Report) -> str | None:
    assert isinstance(report.denoiser, Denoiser)
    return against_gaussian(report.denoiser)


def reported(report: Report, *, test: Curve, train: Curve) -> Report:
    assert isinstance(report.denoiser, Denoiser)
    return replace(report, denoiser=replace(report.denoiser, relative_error_test=test, relative_error_train=train))


@pytest.mark.parametrize(
    ("kinds", "rest"),
    [
        ("abbboaa", f"{NEARER} at sigma 0.118 to 4.2; no clear difference at 7.5; farther away at 0.02 and 13.6 to 80."),  # noqa: E501
        ("bbbbbbb", f"{NEARER} at every sigma."),
        ("aaaaaaa", f"nowhere {NEARER}; farther away at 0.02 to 80."),
        ("ooooooo", f"nowhere {NEARER}; no clear difference at 0.02 to 80."),
        ("oaaaaaa", f"nowhere {NEARER}; no clear difference at 0.02; farther away at 0.118 to 80."),
        ("bobab", f"{NEARER} at sigma 0.02, 0.5 and 7.5; no clear difference at 0.118; farther away at 4.2."),
        ("nbbbbbn", f"{NEARER} at sigma 0.118 to 13.6; not compared at 0.02 and 80."),
        ("bbnbbbb", f"{NEARER} at sigma 0.02 to 0.118 and 4.2 to 80; not compared at 0.5."),
        ("xxxxxxx", f"nowhere {NEARER}; no clear difference at 0.02 to 80."),
        ("b", f"{NEARER} at every sigma."),
        ("o", f"nowhere {NEARER}; no clear difference at 0.02."),
    ],
)  # fmt: skip
def test_the_sentence_on_the_gaussian_model(kinds: str, rest: str, full_report: Report) -> None:
    report = reported(full_report, test=relative(kinds), train=relative("b" * 7))
    assert sentence_of(report) == TEST + rest


def test_an_interval_that_ends_at_one_tells_nothing_apart(full_report: Report) -> None:
    exact = Curve((1.0,) * 2, (1.0,) * 2, (1.0,) * 2, x=Axis("sigma", "", (1.0, 2.0)))
    report = reported(full_report, test=exact, train=exact)
    assert sentence_of(report) == f"{TEST}nowhere {NEARER}; no clear difference at 1 to 2."


def test_without_a_test_set_it_is_of_training_images(full_report: Report) -> None:
    report = reported(full_report, test=Curve.undefined("needs a test set"), train=relative("bo"))
    assert sentence_of(report) == (
        f"On noised training images (there is no test set) the model is {NEARER} at sigma 0.02; "
        "no clear difference at 0.118."
    )


@pytest.mark.parametrize("curve", [Curve.undefined("why"), relative("nnn")])
def test_nothing_is_said_where_nothing_was_compared(curve: Curve, full_report: Report) -> None:
    report = reported(full_report, test=curve, train=curve)
    assert of_denoiser(report) == []
    assert "the model is" not in plain_table(report) and "noised test images the model is" not in render_html(report)


def test_reports_without_a_denoiser_say_nothing(empty_report: Report, undefined_report: Report) -> None:
    assert readings(empty_report) == readings(undefined_report) == []


def test_sentences_stand_in_every_form_of_the_report(full_report: Report) -> None:
    assert full_report.denoiser is not None
    odd = "the denoiser's output is the same for sigma = 0.02 and 80: it ignores <sigma>\x1b"
    errors = replace(full_report.denoiser.error_train, notes=(odd,))
    report = replace(full_report, denoiser=replace(full_report.denoiser, error_train=errors))
    sentence = sentence_of(report)
    shown = f"Denoising error, training images: {odd}.".replace("\x1b", r"\x1b")
    assert sentence is not None and of_denoiser(report)[0] == sentence
    assert readings(report) == [*of_features(report), *of_denoiser(report)]
    for full in (False, True):
        lines = plain_table(report, full=full).splitlines()
        assert sentence in lines and shown in lines
        assert f"- {sentence}".replace("_", r"\_") in render_markdown(report, full=full).splitlines()
        assert "it ignores &lt;sigma" in render_markdown(report, full=full)
    page = render_html(report)
    section = page[page.index('<section id="denoiser">') : page.index('<section id="gaussian">')]
    assert f"<p>{sentence}</p>" in section and f"<p>{shown}</p>" in html.unescape(section)
    assert "<sigma>" not in page


def test_a_calibrated_share_is_read_with_its_threshold_and_p_value(full_report: Report) -> None:
    (sentence,) = of_features(full_report)
    place = (
        "2.0 % of the samples are more similar to a training image than the threshold calibrated on test images, "
        "a cosine of 0.91 (p = 3.2e-15)."
    )
    assert sentence == f"{place} None of this enters the verdict."
    page = render_html(full_report)
    section = page[page.index('<section id="memorization">') : page.index('<section id="novelty">')]
    assert sentence in section and sentence in plain_table(full_report)
