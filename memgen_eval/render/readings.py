"""What the curves of the denoiser say, in sentences: where it beats the Gaussian model, and what is odd about it."""

from __future__ import annotations

from itertools import groupby
from typing import Literal

from memgen_eval.render.catalogue import FIGURES
from memgen_eval.render.headlines import at
from memgen_eval.report import Curve, Denoiser, Report

Place = Literal["nearer", "level", "not yet", "undefined"]
WORDS: dict[Place, str] = {
    "level": "not told apart from it at",
    "not yet": "not yet at",
    "undefined": "not compared at",
}


def readings(report: Report) -> list[str]:
    """Sentences to be read beside the charts of the denoiser; none without one."""
    if report.denoiser is None:
        return []
    curve, label = report.denoiser.error_train, FIGURES["denoiser.error_train"].label
    oddities = [f"{label[0].upper()}{label[1:]}: {note}." for note in curve.notes if curve.value is not None]
    sentence = beside_gaussian(report.denoiser)
    return oddities if sentence is None else [sentence, *oddities]


def beside_gaussian(family: Denoiser) -> str | None:
    """At which sigma the model beats the Gaussian denoiser D_G, on test images, or training ones without a test set.

    It does where the interval of the relative error lies below 1, does not yet where it lies above, and cannot be told
    apart where it holds 1. None where the relative error was not measured at all.
    """
    on_test = family.relative_error_test.value is not None
    curve = family.relative_error_test if on_test else family.relative_error_train
    if curve.x is None or not any(value is not None for value in curve.value or ()):
        return None
    places = [_place(curve, index) for index in range(len(curve.x.values))]
    where = {place: _ranges(places, place, curve.x.values) for place in places}
    nearer = where.get("nearer")
    than = "nearer to the clean image than the Gaussian model D_G"
    if nearer is None:
        first = f"nowhere {than}"
    else:
        first = f"{than} at {'every sigma' if len(where) == 1 else f'sigma {nearer}'}"
    others = [f"{words} {where[place]}" for place, words in WORDS.items() if place in where]
    images = "test images" if on_test else "training images, for want of a test set,"
    return f"On noised {images} the model is {'; '.join([first, *others])}."


def _place(curve: Curve, index: int) -> Place:
    point = at(curve, index)
    if point.value is None:
        return "undefined"
    if point.high is not None and point.high < 1:
        return "nearer"
    return "not yet" if point.low is not None and point.low > 1 else "level"


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
