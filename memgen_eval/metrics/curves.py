"""Curves over noise levels with intervals: the image is the sampling unit, its noise draws are averaged already."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.resampling import bootstrap, percentile_interval, percentile_method
from memgen_eval.results import LEVEL, Axis, Curve, Estimate

Floats = NDArray[np.float64]


def sigma_axis(sigmas: Floats) -> Axis:
    """Noise levels, data in [-1, 1]."""
    return Axis("sigma", "", tuple(sigmas.tolist()))


def mean_curve(values: Floats, x: Axis, *, level: float = LEVEL, notes: tuple[str, ...] = ()) -> Curve:
    """Means over images with Student's intervals, values (S, N)."""
    from scipy.stats import t

    mean, count = values.mean(axis=1), values.shape[1]
    if count < 2:
        return _without_interval(floats(mean), count, x, notes)
    half = t.ppf((1 + level) / 2, count - 1) * values.std(axis=1, ddof=1) / np.sqrt(count)
    method = f"Student's t over images, {100 * level:.6g} %"
    return Curve(floats(mean), floats(mean - half), floats(mean + half), method, count, notes, x)


def difference_curve(first: Floats, second: Floats, x: Axis, *, notes: tuple[str, ...] = ()) -> Curve:
    """Mean over the images of the first set minus that of the second, (S, N) and (S, M), with Welch's intervals."""
    from scipy.stats import t

    mean, count = first.mean(axis=1) - second.mean(axis=1), min(first.shape[1], second.shape[1])
    if count < 2:
        return _without_interval(floats(mean), count, x, notes)
    parts = [side.var(axis=1, ddof=1) / side.shape[1] for side in (first, second)]
    variance = parts[0] + parts[1]
    lost = sum(part**2 / (side.shape[1] - 1) for part, side in zip(parts, (first, second), strict=True))
    freedom = np.divide(variance**2, lost, out=np.full(len(variance), float(count - 1)), where=np.asarray(lost) > 0)
    half = t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance)
    return Curve(floats(mean), floats(mean - half), floats(mean + half), "Welch's t over images, 95 %", count, notes, x)


def mean_difference(first: Floats, second: Floats) -> Estimate:
    """Mean over the images of the first set minus that of the second, (N,) and (M,), with Welch's interval."""
    return difference_curve(first[np.newaxis], second[np.newaxis], Axis("image", "", (0.0,))).at(0)


def ratio_of_sums_curve(
    numerator: Floats,
    denominator: Floats,
    x: Axis,
    *,
    defined: NDArray[np.bool_],
    seed: int,
    notes: tuple[str, ...] = (),
) -> Curve:
    """Ratio of sums over images, (S, N) each, with a bootstrap over images; None where not `defined`, (S,)."""

    def ratios(rows: NDArray[np.int64]) -> Floats:
        top, bottom = numerator[:, rows].sum(axis=1), denominator[:, rows].sum(axis=1)
        return np.asarray(np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0))

    return resampled_curve(ratios, numerator.shape[1], x, defined=defined, seed=seed, notes=notes)


def median_curve(values: Floats, x: Axis, *, seed: int, notes: tuple[str, ...] = ()) -> Curve:
    """Medians over images, (S, N), with a bootstrap over images."""
    medians = lambda rows: np.median(values[:, rows], axis=1)  # noqa: E731
    return resampled_curve(medians, values.shape[1], x, seed=seed, notes=notes)


def resampled_curve(
    statistic: Any,
    num_images: int,
    x: Axis,
    *,
    defined: NDArray[np.bool_] | bool = True,
    seed: int,
    notes: tuple[str, ...] = (),
) -> Curve:
    """`statistic` of image indices, (S,), with a bootstrap over images; None where not `defined`, (S,)."""
    value = statistic(np.arange(num_images))
    if num_images < 2:
        return _without_interval(floats(value, defined), num_images, x, notes)
    ends = percentile_interval(bootstrap(statistic, num_images, seed=seed))
    # where a resample has no value, neither end is known
    middle, low, high = (floats(part, defined) for part in (value, *ends))
    return Curve(middle, low, high, percentile_method(), num_images, notes, x)


def _without_interval(value: tuple[float | None, ...], count: int, x: Axis, notes: tuple[str, ...]) -> Curve:
    return Curve(value, method="no interval", count=count, notes=("an interval needs two images", *notes), x=x)


def floats(values: Any, defined: NDArray[np.bool_] | bool = True) -> tuple[float | None, ...]:
    """Values as a report holds them: None where not defined or not finite."""
    kept = np.isfinite(values) & defined
    return tuple(float(value) if known else None for value, known in zip(values, kept, strict=True))
