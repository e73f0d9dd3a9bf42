"""How onsets depend on the factors of a grid, and whether normalised time makes one curve of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.resampling import NUM_RESAMPLES, bootstrap, percentile_interval
from memgen_eval.results import Estimate
from reference_models.study.fits import Bracket, fit_line, least_scatter, slope
from reference_models.study.outcomes import OnsetName, Outcome
from reference_models.study.sweep import LENGTHS, Value

Floats = NDArray[np.float64]
REPLICATES = ("seed", "half")  # factors that should not matter: their runs are repetitions of each other
NEARLY = 1.01
LARGEST_SCATTER = 10.0  # of log onsets, a factor of 20,000: beyond it, runs that ended too early bound nothing
UNSEEN = "too many runs ended before their onset to bound it"
TIME_POWERS = {"num_images": -1.0, "batch_size": 1.0, "lr": 1.0}  # T = step * (n_min / n) * (B / B_min) * (lr / lr_min)


@dataclass(frozen=True)
class Published:
    """The exponent that a paper reports for a factor."""

    exponent: float
    source: str


PUBLISHED = {
    "num_images": Published(1.0, "linear in n: Bonnaire et al. 2025; Marion & Wu 2026"),
    "batch_size": Published(-1.0, "1 / B in raw steps: Marion & Wu 2026"),
    "width": Published(-1.0, "1 / W: Bonnaire et al. 2025"),
    "lr": Published(-1.0, "1 / lr, as normalised time supposes; not found by Marion & Wu 2026"),
}


@dataclass(frozen=True)
class FactorFit:
    """The power law of an onset in a factor, the other factors held.

    Attributes
    ----------
    onset, factor : str
        Of what, in what.
    exponent : Estimate
        Slope of log onset on log factor, with its interval; undefined with a reason.
    published : Published or None
        What papers report.
    line : pairs of a value of the factor and an onset in steps
        The fit at the means of the other factors, empty where there is none.
    """

    onset: OnsetName
    factor: str
    exponent: Estimate
    published: Published | None
    line: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Collapse:
    """How far the onsets of all runs lie apart, in raw steps and in normalised time.

    Scatters are standard deviations of natural logarithms; `share` is that in normalised time over that in steps: 0 if
    normalised time makes all onsets one, 1 or more if it does not help. A scatter that the distance of the checkpoints
    alone would give may be none: its interval begins at 0.
    """

    onset: OnsetName
    in_steps: Estimate
    in_time: Estimate
    share: Estimate


def numeric_factors(outcomes: Sequence[Outcome]) -> list[str]:
    """The factors on whose logarithm an onset may depend."""
    return [name for name in _varying(outcomes) if _is_numeric([one.run.factors[name] for one in outcomes])]


def factor_fits(outcomes: Sequence[Outcome], onset: OnsetName) -> list[FactorFit]:
    """A power law in every numeric factor, all in one fit.

    ``log onset = constant + sum_k exponent_k log factor_k + sum_j shift_j + s eps``, a shift for every further value of
    a factor that is not a positive number (precision, parametrization); seeds and halves are repetitions.
    """
    measured = [one for one in outcomes if one.bracket(onset) is not None]
    names = numeric_factors(measured)
    if not names:
        return []
    onsets = [found for one in measured if (found := one.bracket(onset)) is not None]
    design = design_of(measured)
    fits = []
    for column, name in enumerate(names, start=1):
        exponent = slope(onsets, design, column)
        line = () if exponent.value is None else _line(onsets, design, column)
        fits.append(FactorFit(onset, name, exponent, PUBLISHED.get(name), line))
    return fits


def design_of(outcomes: Sequence[Outcome]) -> Floats:
    """A constant, the logarithm of each numeric factor, and an indicator of every further value of the others."""
    columns = [np.ones(len(outcomes))]
    names = numeric_factors(outcomes)
    columns += [np.log([float(one.run.factors[name]) for one in outcomes]) for name in names]
    for name in _varying(outcomes):
        if name not in names:
            values = [one.run.factors[name] for one in outcomes]
            others = list(dict.fromkeys(values))[1:]
            columns += [np.array([value == other for value in values], dtype=np.float64) for other in others]
    return np.stack(columns, axis=1)


def _varying(outcomes: Sequence[Outcome]) -> list[str]:
    """Factors with several values, without repetitions and lengths."""
    names = outcomes[0].run.factors if outcomes else {}
    left_out = (*REPLICATES, *LENGTHS)
    return [name for name in names if name not in left_out and len({one.run.factors[name] for one in outcomes}) > 1]


def _is_numeric(values: Sequence[Value]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values)


def _line(onsets: Sequence[Bracket], design: Floats, column: int) -> tuple[tuple[float, float], ...]:
    coefficients = np.array(fit_line(onsets, design).coefficients)
    middle, ends = design.mean(axis=0), (design[:, column].min(), design[:, column].max())
    rows = [np.where(np.arange(len(middle)) == column, end, middle) for end in ends]
    return tuple((math.exp(row[column]), math.exp(float(row @ coefficients))) for row in rows)


def time_factors(outcomes: Sequence[Outcome]) -> list[float]:
    """By what a run's steps are multiplied to be normalised time ``T`` [1]_; what does not vary is left out.

    References
    ----------
    .. [1] Marion & Wu, 2026, whose T has ``n_min / n``, ``B / B_min`` and ``lr / lr_min``.
    """
    factors = np.ones(len(outcomes))
    for name, power in TIME_POWERS.items():
        if outcomes and name in outcomes[0].run.factors:
            values = np.array([float(one.run.factors[name]) for one in outcomes])
            factors *= (values / values.min()) ** power
    return factors.tolist()


def collapse(outcomes: Sequence[Outcome], onset: OnsetName) -> Collapse | None:
    """How well normalised time collapses the onsets; None where it is the number of steps, or too few were seen."""
    factors = time_factors(outcomes)
    pairs = [(found, factor) for one, factor in zip(outcomes, factors, strict=True) if (found := one.bracket(onset))]
    onsets = [found for found, _ in pairs]
    if len(set(factors)) < 2 or sum(found.seen for found in onsets) < 3:
        return None
    scaled = [found.scaled(factor) for found, factor in pairs]

    def scatters(drawn: NDArray[np.int64]) -> Floats:
        both = [_scatter([held[i] for i in drawn]) for held in (onsets, scaled)]
        return np.array([*both, both[1] / both[0]])

    values = scatters(np.arange(len(onsets)))
    resamples = bootstrap(scatters, len(onsets), seed=0)
    low, high = percentile_interval(resamples[np.isfinite(resamples).all(axis=1)])
    untold = low[:2] <= NEARLY * least_scatter(onsets)
    low = np.where([*untold, untold[1]], 0.0, low)
    method = f"bootstrap over runs, {NUM_RESAMPLES:,} resamples, 95 %"
    unbounded = (high[:2] > LARGEST_SCATTER).tolist()
    open_end = [*unbounded, any(unbounded)]
    in_steps, in_time, share = (
        Estimate(value, first, None if is_open else last, method, len(onsets), notes=(UNSEEN,) * is_open)
        for value, first, last, is_open in zip(values.tolist(), low.tolist(), high.tolist(), open_end, strict=True)
    )
    return Collapse(onset, in_steps, in_time, share)


def _scatter(onsets: Sequence[Bracket]) -> float:
    """The standard deviation of log onsets; of a resample without any onset, NaN."""
    if not any(found.seen for found in onsets):
        return math.nan
    return fit_line(onsets, np.ones((len(onsets), 1))).scatter
