"""Intervals of figures of two sets, from the values that they take with one image of either set left out.

Both sets are drawn at random, so that both count. The sum of squares of what each image changes is an estimate of the
variance that is too large on average, never too small (Efron & Stein, Annals of Statistics 9, 1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.statistics import jackknife_variance
from memgen_eval.results import Estimate, Z

IntervalOf = Literal["number", "root"]
METHODS: dict[IntervalOf, str] = {
    "number": "jackknife over the images of both sets, normal 95 %",
    "root": "jackknife over the images of both sets, normal 95 % of the square",
}
GAP_METHOD = "jackknife over the images of all three sets, normal 95 %"
NO_SPREAD = "no interval: leaving out any image changes nothing"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A figure of samples (N,) and references (M,), and its values with one of them left out, each in its order.

    Of what is no interval known, `without_sample` and `without_reference` are None, and `reason` says why.
    """

    value: float
    without_sample: Floats | None
    without_reference: Floats | None
    reason: str = ""

    @staticmethod
    def of_influences(value: float, samples: Floats, references: Floats) -> LeftOut:
        """The values with one image left out, from how much each image weighs in the figure, (N,) and (M,)."""
        parts = ((part - part.mean()) / max(len(part) - 1, 1) for part in (samples, references))
        return LeftOut(value, *(value - part for part in parts))

    @property
    def variance(self) -> float:
        """The jackknife's, of both sets together."""
        assert self.without_sample is not None and self.without_reference is not None
        return jackknife_variance(self.without_sample) + jackknife_variance(self.without_reference)


def left_out_estimate(figure: LeftOut, kind: IntervalOf, *, count: int, notes: tuple[str, ...]) -> Estimate:
    """A figure with its normal interval; a root has that of its square."""
    if figure.without_sample is None:
        return Estimate(figure.value, method="no interval", count=count, notes=(figure.reason, *notes))
    value, half = figure.value, Z * math.sqrt(figure.variance)
    if half == 0:
        return Estimate(value, method="no interval", count=count, notes=(NO_SPREAD, *notes))
    ends = max(value - half, 0.0), value + half
    if kind == "root":
        ends = math.sqrt(max(value**2 - 2 * value * half, 0.0)), math.sqrt(value**2 + 2 * value * half)
    return Estimate(value, *ends, METHODS[kind], count, notes)


def left_out_gap(first: LeftOut, second: LeftOut, *, count: int) -> Estimate:
    """First minus second: the same samples against two sets of references, whose deviations are correlated by them."""
    value = first.value - second.value
    parts = (first.without_sample, second.without_sample, first.without_reference, second.without_reference)
    if any(part is None for part in parts):
        reason = first.reason if first.without_sample is None else second.reason
        return Estimate(value, method="no interval", count=count, notes=(reason,))
    of_first, of_second, references, other_references = (np.asarray(part) for part in parts)
    variance = jackknife_variance(of_first - of_second)
    variance += jackknife_variance(references) + jackknife_variance(other_references)
    if variance == 0:
        return Estimate(value, method="no interval", count=count, notes=(NO_SPREAD,))
    half = Z * math.sqrt(variance)
    return Estimate(value, value - half, value + half, GAP_METHOD, count)
