"""What the reports of a training hold of its onsets, step by step, as arrays."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memgen_eval.comparison.changes import incomparable
from memgen_eval.errors import InputError
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, Estimate

MEAN_GAP = "denoiser.mean_generalization_gap"
FIDELITY = ("fidelity.test_swd", "fidelity.swd")  # the first that was measured; both low where quality is high

Floats = NDArray[np.float64]
_Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tallies:
    """What the 1/3 rule counts at each of K checkpoints, as the verdict counts it.

    Attributes
    ----------
    copies, samples : int64, (K,)
        Different training images that samples copy, and samples that do not repeat one another.
    flagged_unseen, unseen : int64, (K,)
        Images that cannot have been copied: those that the rule flags, and all.
    """

    copies: _Counts
    samples: _Counts
    flagged_unseen: _Counts
    unseen: _Counts


@dataclass(frozen=True, eq=False)
class Tracked:
    """A figure at each of K checkpoints with its 95 % interval, float64 (K,), and the images that it rests on."""

    value: Floats
    low: Floats
    high: Floats
    count: int

    @property
    def half(self) -> Floats:
        """Half the length of the interval, (K,)."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, eq=False)
class Readings:
    """A training as its reports show it.

    Attributes
    ----------
    steps : float64, (K,)
    tallies, ratio, gap, fidelity : or str
        The counts of the 1/3 rule, the memorization ratio, the generalization gap averaged over the noise levels, and
        the figure of fidelity: each in every report, or why it is not.
    fidelity_path : str
        Which figure of fidelity it is.
    judged : bool, (K,)
        Where the verdict is that there are copies: by the 1/3 rule, or by those for altered copies.
    """

    steps: Floats
    tallies: Tallies | str
    ratio: Tracked | str
    gap: Tracked | str
    fidelity: Tracked | str
    fidelity_path: str
    judged: NDArray[np.bool_]


def readings_of(reports: Sequence[Report], steps: Sequence[float]) -> Readings:
    """What the reports say. Raises InputError unless they are of one training set and settings, at ascending steps."""
    places = _checked_steps(reports, steps)
    for step, report in zip(places[1:], reports[1:], strict=True):
        reason = incomparable(reports[0], report)
        if reason is not None:
            raise InputError(f"the reports of steps {places[0]:g} and {step:g} are not of one training: {reason}")
    found = {path: _measured(reports, places, path) for path in FIDELITY}
    path = next((path for path in FIDELITY if isinstance(found[path], Tracked)), FIDELITY[0])
    ratio, gap = (_measured(reports, places, name) for name in ("memorization.ratio", MEAN_GAP))
    judged = np.array([report.verdict is not None and report.verdict.label == "copies" for report in reports])
    return Readings(places, _tallies(reports, places), ratio, gap, found[path], path, judged)


def _checked_steps(reports: Sequence[Report], steps: Sequence[float]) -> Floats:
    if len(reports) < 2 or len(reports) != len(steps):
        raise InputError(
            f"{len(reports)} reports and {len(steps)} steps, expected as many steps as reports, at least 2"
        )
    for step in steps:
        if not isinstance(step, numbers.Real) or isinstance(step, bool) or not 0 <= step < math.inf:
            raise InputError(f"steps holds {step!r:.80}, expected numbers from 0 on")
    places = np.array(steps, dtype=np.float64)
    if not (np.diff(places) > 0).all():
        raise InputError("steps do not ascend: give the reports in the order of the training")
    return places


def _tallies(reports: Sequence[Report], steps: Floats) -> Tallies | str:
    counts = []
    for step, report in zip(steps, reports, strict=True):
        rules = () if report.verdict is None else report.verdict.evidence.rules
        rule = next((rule for rule in rules if rule.name == "ratio"), None)
        if rule is None or not rule.num_unseen:
            return _lacking(step, "verdict beside unseen images")
        counts.append((rule.num_below, rule.num_samples, rule.num_unseen_below, rule.num_unseen))
    return Tallies(*np.array(counts, dtype=np.int64).T)


def _measured(reports: Sequence[Report], steps: Floats, path: str) -> Tracked | str:
    """A figure that every report has, with its interval."""
    ends, counts = [], []
    for step, report in zip(steps, reports, strict=True):
        figure = report.figure(path)
        if not isinstance(figure, Estimate) or figure.value is None or figure.low is None or figure.high is None:
            return _lacking(step, CAPTIONS[path].label)
        ends.append((figure.value, figure.low, figure.high))
        counts.append(figure.count or 0)
    value, low, high = np.array(ends, dtype=np.float64).T
    return Tracked(value, low, high, min(counts))


def _lacking(step: float, what: str) -> str:
    return f"the report of step {step:,g} has no {what}"
