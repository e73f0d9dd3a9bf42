"""Intervals of figures of two sets from random groups of both: copies of the figure, of smaller sets.

A figure of k-th neighbours varies about as the inverse of the number of images, as a mean does: the balls around the
images shrink with their number, and what each of them holds stays alike. So the spread of the figure over G disjoint
groups of n/G images of both sets, over G, is about the variance of the figure of n images, with the sampling of both
sets in it. Partitions are repeated, and their spreads averaged. (The jackknife's variance is two to five times too
large: an image that is left out changes the balls of all its neighbours.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memgen_eval.fidelity.jackknife import NO_SPREAD, Floats
from memgen_eval.metrics.statistics import wilson_interval
from memgen_eval.neighbours.topk import Rows
from memgen_eval.results import LEVEL, Estimate

MOST_GROUPS, GROUP_ROWS, FEWEST_ROWS = 10, 150, 10
DEGREES = 16  # of freedom, at least: the number of groups beyond that of partitions
TOO_SMALL = f"no interval: needs {2 * FEWEST_ROWS} images of each set"
ROLES = ("samples", "references")
Role = Literal["samples", "references"]


def num_groups(size: int) -> int:
    """How many groups a set of this size is divided into: 2 to 10, of 150 rows if it has enough; 0 for a small one."""
    return min(MOST_GROUPS, max(2, size // GROUP_ROWS)) if size >= 2 * FEWEST_ROWS else 0


def partitions(size: int, role: Role, count: int) -> list[list[Rows]]:
    """Rows of each of `count` groups of one size, for each partition; samples and references are divided otherwise."""
    if count == 0:
        return []
    rows = size // count
    drawn = [
        np.random.default_rng((ROLES.index(role), number)).permutation(size)
        for number in range(math.ceil(DEGREES / (count - 1)))
    ]
    return [[order[rows * group : rows * (group + 1)] for group in range(count)] for order in drawn]


@dataclass(frozen=True, eq=False)
class Grouped:
    """A figure, and that of each group of each partition, (R, G); `is_share` if it lies in [0, 1].

    `parts` are what each image of both sets gives to a figure that is their mean, (N,) and (M,). The variance is at
    least that of their means: where a few samples lie in very many balls, groups do not show it.
    """

    value: float
    groups: Floats
    is_share: bool
    parts: tuple[Floats, Floats] | None = None

    @property
    def variance(self) -> float:
        """Of the figure."""
        spread = float(self.groups.var(axis=1, ddof=1).mean()) / self.groups.shape[1]
        of_parts = [float(part.var()) / len(part) for part in self.parts or ()]
        return float(max(spread, math.fsum(of_parts)))

    @property
    def quantile(self) -> float:
        """Student's, by the number of groups."""
        from scipy.stats import t

        return float(t.ppf((1 + LEVEL) / 2, self.groups.shape[0] * (self.groups.shape[1] - 1)))

    @property
    def method(self) -> str:
        """How the interval is found."""
        how = "Wilson" if self.is_share else "normal"
        num_partitions, count = self.groups.shape
        return f"{num_partitions} partitions of all sets into {count} groups, {how} 95 % with Student's t"

    def ends(self, count: int) -> tuple[float, float]:
        """The interval; a share's is Wilson's with as many trials as give the variance, at most `count`."""
        if not self.is_share:
            half = self.quantile * math.sqrt(self.variance)
            return max(self.value - half, 0.0), self.value + half
        spread = self.value * (1 - self.value)
        trials = min(spread / self.variance, count) if self.variance > 0 and spread > 0 else float(count)
        return wilson_interval(self.value, trials, quantile=self.quantile)

    def estimate(self, *, count: int, notes: tuple[str, ...]) -> Estimate:
        """The figure with its interval."""
        if self.groups.size == 0:
            return Estimate(self.value, method="no interval", count=count, notes=(TOO_SMALL, *notes))
        if not self.is_share and self.variance == 0:
            return Estimate(self.value, method="no interval", count=count, notes=(NO_SPREAD, *notes))
        return Estimate(self.value, *self.ends(count), self.method, count, notes)

    def gap(self, other: Grouped, *, count: int) -> Estimate:
        """The difference from the figure of the same samples against other references; the samples correlate the two.

        Shares have the interval that Zou's MOVER makes of their own ones, so that it is no point where both are 0 or 1.

        References
        ----------
        .. [1] Zou, "Toward using confidence intervals to compare correlations", Psychological Methods 12, 2007.
        """
        value, parts = self.value - other.value, None
        if self.parts is not None and other.parts is not None:  # sets of one size: the references differ, independently
            parts = self.parts[0] - other.parts[0], self.parts[1] - other.parts[1]
        difference = Grouped(value, self.groups - other.groups, self.is_share, parts)
        if self.groups.size == 0:
            return Estimate(value, method="no interval", count=count, notes=(TOO_SMALL,))
        if self.is_share:
            below, above = self._reach(other, difference.variance, count)
            return Estimate(value, max(value - below, -1.0), min(value + above, 1.0), f"{self.method}, MOVER", count)
        if difference.variance == 0:
            return Estimate(value, method="no interval", count=count, notes=(NO_SPREAD,))
        half = self.quantile * math.sqrt(difference.variance)
        return Estimate(value, value - half, value + half, self.method, count)

    def _reach(self, other: Grouped, variance: float, count: int) -> tuple[float, float]:
        """How far the interval of a difference of shares reaches to either side."""
        scale = 2 * math.sqrt(self.variance * other.variance)
        shared = (self.variance + other.variance - variance) / scale if scale > 0 else 0.0
        (l1, u1), (l2, u2) = self.ends(count), other.ends(count)

        def reach(one: float, two: float) -> float:
            return math.sqrt(max(one**2 + two**2 - 2 * min(max(shared, -1.0), 1.0) * one * two, 0.0))

        return reach(self.value - l1, u2 - other.value), reach(u1 - self.value, other.value - l2)
