"""How a time that is known between two checkpoints only depends on the factors of a grid: a censored log-normal fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memgen_eval.results import LEVEL, Estimate

Floats = NDArray[np.float64]
FINEST = 12**-0.5  # of the distance of two checkpoints: how far a place between them scatters by itself
LEAST_SCATTER = 1e-9  # of log times
MOST_STEPS = 200  # of Newton's method
WIDEST = 100.0  # how far from its slope the end of an interval is looked for
METHOD = "profile likelihood of a log-normal model with interval censoring, 95 %"


@dataclass(frozen=True)
class Bracket:
    """When something began: after step `low` and by step `high`; None if it had not at `low`, the last checkpoint."""

    low: float
    high: float | None

    @property
    def seen(self) -> bool:
        """Whether it began at all."""
        return self.high is not None

    @property
    def log_ends(self) -> tuple[float, float]:
        """Natural logarithms of both ends, minus infinity for 0, infinity for an onset that was not seen."""
        low = math.log(self.low) if self.low > 0 else -math.inf
        return low, math.inf if self.high is None else math.log(self.high)

    def scaled(self, factor: float) -> Bracket:
        """The same onset in another unit of time."""
        return Bracket(self.low * factor, None if self.high is None else self.high * factor)


@dataclass(frozen=True)
class Line:
    """A fitted model ``log onset = design @ coefficients + scatter * eps`` and its log likelihood."""

    coefficients: tuple[float, ...]
    scatter: float
    log_likelihood: float


def fit_line(onsets: Sequence[Bracket], design: Floats) -> Line:
    """Maximum likelihood of log-normal onsets with interval censoring, natural logarithms.

    ``sum_i log [Phi((log high_i - m_i) / s) - Phi((log low_i - m_i) / s)]``, ``m = design @ coefficients``, is concave
    in ``1 / s`` and ``coefficients / s`` [1]_, so Newton's method finds its maximum. The scatter s is at least
    ``1 / sqrt(12)`` of the median distance of the ends: without it all lines through all intervals are equally likely.

    Parameters
    ----------
    onsets : N of them
        At least one of them seen.
    design : float64, (N, P)
        Of full rank.

    References
    ----------
    .. [1] Burridge, "A Note on Maximum Likelihood Estimation for Regression Models Using Grouped Data", 1981.
    """
    return _fit(_log_ends(onsets), design)


def _log_ends(onsets: Sequence[Bracket]) -> Floats:
    return np.array([onset.log_ends for onset in onsets])  # (N, 2)


def _fit(ends: Floats, design: Floats) -> Line:
    centre = float(np.median(ends[np.isfinite(ends)]))  # large offsets would make Newton's method slow
    start = np.zeros(design.shape[1] + 1)
    start[0] = 1 / max(float(np.std(ends[np.isfinite(ends)])), _least(ends))
    theta = _maximum(lambda theta: _log_likelihood(theta, ends - centre, design), start, 1 / _least(ends))
    coefficients = theta[1:] / theta[0] + np.linalg.lstsq(design, np.full(len(design), centre), rcond=None)[0]
    value = _log_likelihood(theta, ends - centre, design)[0]
    return Line(tuple(coefficients.tolist()), float(1 / theta[0]), value)


def slope(onsets: Sequence[Bracket], design: Floats, column: int) -> Estimate:
    """One coefficient of `fit_line`, with its interval of profile likelihood.

    The drop of the log likelihood at the ends is ``n/2 log(1 + t^2 / (n - P))``, t the quantile of Student's
    distribution and n the number of onsets seen: where these are known exactly it is the interval of least squares.
    """
    num_seen, num_columns = sum(onset.seen for onset in onsets), design.shape[1]
    reason = _why_undefined(onsets, design)
    if reason is not None:
        return Estimate.undefined(reason, count=len(onsets))
    line = fit_line(onsets, design)
    value, free = line.coefficients[column], num_seen - num_columns
    notes = _censored_notes(onsets)
    if free < 1:
        why = f"an interval needs at least {num_columns + 1} runs with an onset"
        return Estimate(value, method="no interval", count=len(onsets), notes=(why, *notes))
    from scipy.stats import t

    drop = num_seen / 2 * math.log1p(float(t.ppf((1 + LEVEL) / 2, free)) ** 2 / free)
    least = line.log_likelihood - drop

    def excess(candidate: float) -> float:
        return _profile(onsets, design, column, candidate) - least

    low, high = (_end(excess, value, sign * max(line.scatter, 1e-3)) for sign in (-1, 1))
    return Estimate(value, low, high, METHOD, len(onsets), notes)


def _why_undefined(onsets: Sequence[Bracket], design: Floats) -> str | None:
    seen = [place for place, onset in enumerate(onsets) if onset.seen]
    if len(seen) < design.shape[1]:
        return f"{len(seen)} runs with an onset, a fit needs at least {design.shape[1]}"
    if np.linalg.matrix_rank(design[seen]) < design.shape[1]:
        return "the runs with an onset do not tell the factors apart"
    return None


def _censored_notes(onsets: Sequence[Bracket]) -> tuple[str, ...]:
    num_unseen = sum(not onset.seen for onset in onsets)
    return (f"{num_unseen} of {len(onsets)} runs ended before their onset",) if num_unseen else ()


def _profile(onsets: Sequence[Bracket], design: Floats, column: int, value: float) -> float:
    """The largest log likelihood with one coefficient held."""
    moved = _log_ends(onsets) - value * design[:, [column]]
    return _fit(moved, np.delete(design, column, axis=1)).log_likelihood


def _end(excess: Callable[[float], float], value: float, step: float) -> float | None:
    """Where a concave profile falls below zero on one side; None where it does not."""
    from scipy.optimize import brentq

    inside, outside = value, value + step
    while excess(outside) > 0:
        step *= 2
        inside, outside = outside, outside + step
        if abs(outside - value) > WIDEST:
            return None
    return float(brentq(excess, inside, outside, xtol=1e-6))


def least_scatter(onsets: Sequence[Bracket]) -> float:
    """The smallest scatter that a fit finds: that of a place between two checkpoints."""
    return _least(_log_ends(onsets))


def _least(ends: Floats) -> float:
    widths = np.diff(ends[np.isfinite(ends).all(axis=1)], axis=1)
    return max(LEAST_SCATTER, FINEST * float(np.median(widths))) if len(widths) else LEAST_SCATTER


def _log_likelihood(theta: Floats, ends: Floats, design: Floats) -> tuple[float, Floats, Floats]:
    """Value, gradient (P + 1,) and Hessian in ``theta = (1, coefficients) / scatter``."""
    middle = design @ theta[1:]
    z = theta[0] * ends - middle[:, None]  # (N, 2), infinite where an end is
    log_mass = _log_mass(z[:, 0], z[:, 1])
    weights = np.exp(-(z**2) / 2 - log_mass[:, None]) / math.sqrt(2 * math.pi)  # density at both ends over the mass
    finite = np.where(np.isfinite(ends), ends, 0.0)
    z = np.where(np.isfinite(z), z, 0.0)
    rows = np.stack([np.concatenate([finite[:, [end]], -design], axis=1) for end in (0, 1)])  # d z / d theta
    signs = np.array([-1.0, 1.0])
    pieces = np.einsum("e,ne,enp->np", signs, weights, rows)
    curved = -np.einsum("e,ne,enp,enq->pq", signs, weights * z, rows, rows)
    return float(log_mass.sum()), pieces.sum(axis=0), curved - pieces.T @ pieces


def _log_mass(low: Floats, high: Floats) -> Floats:
    """``log(Phi(high) - Phi(low))``, taken in the tail where it is exact."""
    from scipy.special import log_ndtr

    upper = low > 0
    low, high = np.where(upper, -high, low), np.where(upper, -low, high)
    larger, smaller = log_ndtr(high), log_ndtr(low)
    return np.asarray(larger + np.log(-np.expm1(np.minimum(smaller - larger, -1e-300))))


def _maximum(evaluate: Callable[[Floats], tuple[float, Floats, Floats]], theta: Floats, largest: float) -> Floats:
    """The maximum of a concave function with ``0 < theta[0] <= largest``, by Newton's method with halved steps."""
    value, gradient, hessian = evaluate(theta)
    for _ in range(MOST_STEPS):
        free = slice(1, None) if theta[0] >= largest and gradient[0] >= 0 else slice(0, None)
        step = np.zeros_like(theta)
        ridge = 1e-12 * np.trace(-hessian[free, free]) * np.eye(len(theta[free]))
        step[free] = np.linalg.solve(ridge - hessian[free, free], gradient[free])
        if float(gradient @ step) < 1e-12:
            break
        room = (largest if step[0] > 0 else 0.1 * theta[0]) - theta[0]
        share = min(1.0, room / step[0]) if step[0] else 1.0
        while (after := evaluate(theta + share * step))[0] <= value and share > 1e-12:
            share /= 2
        if after[0] <= value:
            break
        theta = theta + share * step
        value, gradient, hessian = after
    return theta
