"""Reports of a training whose laws are known: counts, gaps and fidelity by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from made_reports import full_report
from memgen_eval import Report
from memgen_eval.results import Estimate, RuleFinding

NUM_SAMPLES, NUM_UNSEEN, UNSEEN_RATE = 500, 700, 0.003
SE = 0.004  # the standard error of a gap
TEMPLATE = full_report()

Floats = NDArray[np.float64]


def ladder(last: int, *, first: int = 64, per_doubling: int = 3) -> Floats:
    """Steps that grow by a factor of 1.26."""
    count = int(per_doubling * np.log2(last / first)) + 1
    return np.unique(np.round(first * 2 ** (np.arange(count) / per_doubling)))


def estimate(value: float, half: float, count: int) -> Estimate:
    return Estimate(value, value - half, value + half, "made up", count)


def report_of(
    *, copies: int, flagged_unseen: int, gap: float, swd: float, num_samples: int = NUM_SAMPLES, se: float = SE
) -> Report:
    """A report with these counts of the 1/3 rule, this mean gap and this fidelity; its verdict names no copies."""
    verdict, memorization, denoiser, fidelity = (
        TEMPLATE.verdict,
        TEMPLATE.memorization,
        TEMPLATE.denoiser,
        TEMPLATE.fidelity,
    )
    assert verdict is not None and memorization is not None and denoiser is not None and fidelity is not None
    rule = RuleFinding("ratio", copies, num_samples, flagged_unseen, NUM_UNSEEN, 0.5, 0.5)
    return replace(
        TEMPLATE,
        verdict=replace(verdict, label="no copying found", evidence=replace(verdict.evidence, rules=(rule,))),
        memorization=replace(memorization, ratio=estimate(copies / num_samples, 0.01, num_samples)),
        denoiser=replace(denoiser, mean_generalization_gap=estimate(gap, 1.96 * se, 128)),
        fidelity=replace(fidelity, test_swd=estimate(swd, 0.002, 300)),
    )


def reports_of(
    copies: Sequence[int], *, flagged_unseen: int, gaps: Sequence[float], swd: Sequence[float]
) -> list[Report]:
    """One report a checkpoint."""
    rows = zip(copies, gaps, swd, strict=True)
    return [report_of(copies=int(c), flagged_unseen=flagged_unseen, gap=float(g), swd=float(s)) for c, g, s in rows]


def rising(steps: Floats, *, onset: float) -> Floats:
    """A share of copies that rises from 0 at the onset to 1 at eight times as many steps, along log step."""
    return np.clip(np.log(np.maximum(steps, onset) / onset) / np.log(8), 0, 1)
