"""What the curves of the denoiser say, in sentences: where it beats the Wiener denoiser, and what is odd about it."""

from __future__ import annotations

from itertools import groupby
from typing import Literal

from memgen_eval.render.catalogue import FIGURES
from memgen_eval.render.headlines import at
from memgen_eval.report import Curve, Denoiser, Report

Place = Literal["nearer", "level", "farther", "undefined"]
WORDS: dict[Place, str] = {
    "level": "no clear difference at",
    "farther": "farther away at",
    "undefined": "not compared at",
}


def readings(report: Report) -> list[str]:
    """Sentences on the charts of the denoiser; none without one."""
    if report.denoiser is None:
        return []
    curve, label = report.denoiser.error_train, FIGURES["denoiser.error_train"].label
    oddities = [f"{label[0].upper()}{label[1:]}: {note}." for note in curve.notes if curve.value is not None]
    sentence = against_gaussian(report.denoiser)
    return oddities if sentence is None else [sentence, *oddities]


def against_gaussian(family: Denoiser) -> str | None:
    """At which sigma the model beats the Wiener denoiser D_G, on test images, or training ones without a test set.

    It does where the interval of the relative error lies below 1, and does not where it lies above; where it holds 1
    there is no clear difference. None where the relative error was not measured at all.
    """
    on_test = family.relative_error_test.value is not None
    curve = family.relative_error_test if on_test else family.relative_error_train
    if curve.x is None or not any(value is not None for value in curve.value or ()):
        return None
    places = [_place(curve, index) for index in range(len(curve.x.values))]
    where = {place: _ranges(places, place, curve.x.values) for place in places}
    nearer = where.get("nearer")
    than = "nearer to the clean image than D_G (mean and covariance only)"
    if nearer is None:
        first = f"nowhere {than}"
    else:
        first = f"{than} at {'every sigma' if len(where) == 1 else f'sigma {nearer}'}"
    others = [f"{words} {where[place]}" for place, words in WORDS.items() if place in where]
    images = "test images" if on_test else "training images (there is no test set)"
    return f"On noised {images} the model is {'; '.join([first, *others])}."


def _place(curve: Curve, index: int) -> Place:
    point = at(curve, index)
    if point.value is None:
        return "undefined"
    if point.high is not None and point.high < 1:
        return "nearer"
    return "farther" if point.low is not None and point.low > 1 else "level"


def _ranges(places: list[Place], wanted: Place, sigmas: tuple[float, ...]) -> str:
    """The sigmas of a kind: neighbours of the grid as a range."""
    runs = [
        [sigma for _, sigma in run]
        for place, run in groupby(zip(places, sigmas, strict=True), lambda pair: pair[0])
        if place == wanted
    ]
    ends = [[f"{sigma:.3g}" for sigma in (run[0], run[-1])[: len(run)]] for run in runs]
    *before, last = [" to ".join(pair) for pair in ends]
    return f"{', '.join(before)} and {last}" if before else last
