"""Outcomes of runs that were never made: onsets by a known law, and curves that rise there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from memgen_eval.results import Estimate
from memgen_eval.trajectory.onsets import EarlyStopping, Onset, Onsets
from reference_models.study.fits import Bracket
from reference_models.study.outcomes import Course, Outcome
from reference_models.study.sweep import PlannedRun, Value

LADDER = tuple(round(2 ** (k / 3)) for k in range(18, 43))  # 64 to 16,384
NONE = Estimate.undefined("not a part of this test")


def bracket(time: float, steps: Sequence[int] = LADDER) -> Bracket:
    """The checkpoints between which a time lies."""
    before = [step for step in steps if step < time]
    after = [step for step in steps if step >= time]
    return Bracket(float(before[-1]) if before else 0.0, float(after[0]) if after else None)


def onset(time: float) -> Onset:
    found = bracket(time)
    if found.high is None:
        return Onset(Estimate(None, found.low, method="censored", notes=("no onset within the run",)), found.low, None)
    return Onset(Estimate(found.high, found.low, found.high, "made"), found.low or None, None)


def outcome(factors: Mapping[str, Value], time: float) -> Outcome:
    """A run that begins to copy at `time`, and whose test loss has left its training loss at a third of it."""
    rates = [1 / (1 + (time / step) ** 4) for step in LADDER]
    found = Onsets(
        steps=tuple(map(float, LADDER)),
        onset_loss=onset(time / 3),
        onset_copy=onset(time),
        memorization_rate=Estimate(0.3, 0.25, 0.35, "made"),
        memorization_rate_per_step=NONE,
        quality_plateau=NONE,
        peak_step=NONE,
        peak_fidelity=Estimate(0.02, 0.018, 0.023, "made"),
        fidelity="fidelity.test_swd",
        early_stopping=EarlyStopping(128.0, 256.0, ()),
    )
    course = Course(
        LADDER,
        ratio=tuple(Estimate(rate, 0.9 * rate, min(1.0, 1.1 * rate), "made", 500) for rate in rates),
        test_ratio=tuple(Estimate(0.001) for _ in LADDER),
        novelty=tuple(Estimate(1.4 - 0.4 * min(1, s / 400) - rate) for s, rate in zip(LADDER, rates, strict=True)),
        fidelity=tuple(Estimate(min(1.0, step / 600)) for step in LADDER),
    )
    name = ",".join(f"{key}={value}" for key, value in factors.items())
    command = f"memgen-train --data digits --out runs/{name} --trajectory --no-evaluate"
    return Outcome(PlannedRun(name, dict(factors), {"data": "digits", **factors}), command, found, course)


def outcomes(
    factors: Mapping[str, Sequence[Value]],
    exponents: Mapping[str, float],
    *,
    first: float,
    scatter: float,
    seed: int = 0,
) -> list[Outcome]:
    """A grid whose onsets follow a power law in the factors, and lie about it by `scatter` in natural logarithms."""
    generator = np.random.default_rng(seed)
    made = []
    for cell in itertools.product(*factors.values()):
        held = dict(zip(factors, cell, strict=True))
        power = sum(exponent * math.log(float(held[name])) for name, exponent in exponents.items())
        made.append(outcome(held, first * math.exp(power + scatter * generator.standard_normal())))
    return made
