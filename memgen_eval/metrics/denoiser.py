"""How near the model's denoiser is to the optimal one, which can only copy, and at which noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.curves import (
    difference_curve,
    floats,
    mean_curve,
    mean_difference,
    median_curve,
    ratio_of_sums_curve,
    resampled_curve,
    sigma_axis,
)
from memgen_eval.metrics.resampling import NUM_RESAMPLES, percentile_interval, percentile_method, resampled_medians
from memgen_eval.results import LEVEL, Axis, Curve, Denoiser, Estimate

if TYPE_CHECKING:  # its module imports torch
    from memgen_eval.diffusion.measurements import NoisedSet, Probe

MIN_SPAN = 1e-3  # mean square of D* - D_G per value below which no index is defined
MIN_ERROR = 1e-10  # mean squared error of D_G per value below which it is rounding: nothing is relative to it
FEW_CARRY = 20  # inputs of which one carries little, unless errors are rare and large
RARE = "where a few images carry most of the error, below the collapse, its interval is too short"
NO_MODEL = "needs a denoiser"
NO_TEST = "needs a test set that the model has not seen"
NO_PATH = "needs a sampler of this library: its path is not known otherwise"

Floats = NDArray[np.float64]


def measure_denoiser(found: Probe, *, seed: int) -> Denoiser:
    """Errors, gaps to D*, memorization index with its control, and what the data alone says, against sigma.

    Squares are per value, data in [-1, 1]. ``relative_error = E|D - x0|^2 / E|D_G - x0|^2``: below 1 where the model is
    nearer to the clean images than the Wiener denoiser, 1 for that one. ``gap``: 0 for a pure copier.
    ``memorization_index``: 0 at the Wiener denoiser, 1 at D*, not clipped. To be compared are
    `matched_memorization_index` and `test_memorization_index`: a model that saw neither set gives the same curve twice.

    Parameters
    ----------
    found : Probe
        Of one denoiser, or of the data alone: then what needs a denoiser is undefined, with that reason.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Denoiser
        Means have Student's intervals over images, differences Welch's, ratios and medians a bootstrap over images;
        `identity_residual` has a simultaneous band, that covers 0 at every sigma in 95 of 100 runs.
    """
    x, no_test = sigma_axis(found.sigmas), Curve.undefined(NO_TEST)
    train, test, path = found.train, found.test, found.path
    return Denoiser(
        error_train=_mean(train.error, x, notes=found.notes),
        error_test=no_test if test is None else _mean(test.error, x, notes=found.notes),
        relative_error_train=_relative_error(found, train, x, seed=seed),
        relative_error_test=_relative_error(found, test, x, seed=seed),
        generalization_gap=_generalization_gap(train, test, x),
        mean_generalization_gap=_mean_generalization_gap(train, test),
        gap_train=_mean(train.gap, x),
        gap_test=no_test if test is None else _mean(test.gap, x),
        gap_path=Curve.undefined(NO_PATH) if path is None else mean_curve(path.gap, sigma_axis(path.sigmas)),
        optimal_error_train=_optimal_error_train(train, x),
        optimal_error_test=no_test if test is None else mean_curve(test.optimal_error, x),
        identity_residual=_identity_residual(train, x, seed=seed),
        memorization_index=_index(found, train, x, seed=seed, matched=False),
        matched_memorization_index=_index(found, train, x, seed=seed, matched=True),
        test_memorization_index=_index(found, test, x, seed=seed, matched=True),
        off_line=_off_line(found, x, seed=seed),
        effective_neighbours=_neighbours(test, x, seed=seed),
        effective_neighbours_train=_neighbours(train, x, seed=seed),
        collapse_sigma=_collapse(found, seed=seed),
        predicted_collapse_sigma=_predicted_collapse(found),
    )


def _mean(values: Floats | None, x: Axis, *, notes: tuple[str, ...] = ()) -> Curve:
    return Curve.undefined(NO_MODEL) if values is None else mean_curve(values, x, notes=notes)


def _relative_error(found: Probe, noised: NoisedSet | None, x: Axis, *, seed: int) -> Curve:
    """``E|D - x0|^2 / E|D_G - x0|^2`` on the same noisy inputs, sums over images."""
    if noised is None:
        return Curve.undefined(NO_TEST)
    if noised.error is None or noised.gaussian_error is None:
        return Curve.undefined(why_no_gaussian(found))
    defined = noised.gaussian_error.mean(axis=1) >= MIN_ERROR
    notes = () if defined.all() else (f"None where the error of D_G is below {MIN_ERROR:g} per value",)
    return ratio_of_sums_curve(
        noised.error, noised.gaussian_error, x, defined=defined, seed=seed, notes=notes + found.notes
    )


def _generalization_gap(train: NoisedSet, test: NoisedSet | None, x: Axis) -> Curve:
    """Test minus train: 0 for a model that does not know its training images."""
    if test is None:
        return Curve.undefined(NO_TEST)
    if test.error is None or train.error is None:
        return Curve.undefined(NO_MODEL)
    return difference_curve(test.error, train.error, x)


def _mean_generalization_gap(train: NoisedSet, test: NoisedSet | None) -> Estimate:
    """The gap averaged over the grid: each image's mean over the noise levels first, as these are not independent."""
    if test is None:
        return Estimate.undefined(NO_TEST)
    if test.error is None or train.error is None:
        return Estimate.undefined(NO_MODEL)
    return mean_difference(test.error.mean(axis=0), train.error.mean(axis=0))


def _optimal_error_train(train: NoisedSet, x: Axis) -> Curve:
    """The mean posterior variance: of ``|D* - x0|^2`` the mean over all x0 that x leaves possible, not one draw of it.

    It has the same mean over training images and noise, and about half the spread below the collapse.
    """
    largest = np.sort(train.variance, axis=1)[:, -max(1, train.variance.shape[1] // FEW_CARRY) :]
    rare = bool((largest.sum(axis=1) > train.variance.sum(axis=1) / 2).any())
    return mean_curve(train.variance, x, notes=(RARE,) if rare else ())


def _identity_residual(train: NoisedSet, x: Axis, *, seed: int) -> Curve:
    """``E|D - x0|^2 - E|D - D*|^2 - E|D* - x0|^2``, zero in expectation over training images and noise, for any D.

    Below the collapse nearly all residuals are tiny and of one sign, and rare large ones make up for them: their own
    spread says nothing where no large one was met, so that the posterior's is taken where it is larger. How often the
    largest of all deviations is met is found by turning the signs of whole images: residuals of one image go together.
    """
    if train.residual is None or train.residual_variance is None:
        return Curve.undefined(NO_MODEL)
    mean, count = train.residual.mean(axis=1), train.residual.shape[1]
    if count < 2:
        return mean_curve(train.residual, x)
    squares = np.maximum(train.residual_variance.sum(axis=1), (train.residual**2).sum(axis=1))
    spread = np.sqrt(squares)  # (S,)
    half = _largest_deviation(train.residual, train.residual_variance, seed=seed) * spread / count
    method = f"simultaneous band of 95 %, own or posterior variance, {NUM_RESAMPLES} turns of the images' signs"
    return Curve(floats(mean), floats(mean - half), floats(mean + half), method, count, x=x)


def _largest_deviation(residual: Floats, variance: Floats, *, seed: int) -> float:
    """What the largest sum over images, in units of its spread, stays below in 95 of 100 runs; (S, N) each."""
    from scipy.stats import t

    signed = np.sign(residual) * np.sqrt(variance)
    spread = np.sqrt((signed**2).sum(axis=1, keepdims=True))
    parts = np.divide(signed, spread, out=np.zeros_like(signed), where=spread > 0)
    turns = np.random.default_rng(seed).choice((-1.0, 1.0), (NUM_RESAMPLES, residual.shape[1]))
    largest = np.abs(turns @ parts.T).max(axis=1)
    return float(max(np.quantile(largest, LEVEL), t.ppf((1 + LEVEL) / 2, residual.shape[1] - 1)))


def _index(found: Probe, noised: NoisedSet | None, x: Axis, *, seed: int, matched: bool) -> Curve:
    """``<D - D_G, D* - D_G> / |D* - D_G|^2``, sums over images."""
    if noised is None or (matched and found.test is None):
        return Curve.undefined(NO_TEST)
    projection, length = noised.projection, noised.optimal_to_gaussian
    if matched:
        projection, length = noised.matched_projection, noised.matched_optimal_to_gaussian
    if projection is None or length is None:
        return Curve.undefined(why_no_gaussian(found))
    notes = (f"D* of {found.num_matched:,} images",) if matched else ()
    defined = _apart(length)
    return ratio_of_sums_curve(projection, length, x, defined=defined, seed=seed, notes=_notes(defined) + notes)


def _off_line(found: Probe, x: Axis, *, seed: int) -> Curve:
    """``|D - D_G|^2 / |D* - D_G|^2 - index^2``: 0 on the line between the two extremes."""
    to_gaussian, length, projection = found.train.to_gaussian, found.train.optimal_to_gaussian, found.train.projection
    if to_gaussian is None or length is None or projection is None:
        return Curve.undefined(why_no_gaussian(found))

    def distances(rows: NDArray[np.int64]) -> Floats:
        total = length[:, rows].sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # 0/0 becomes None
            along = projection[:, rows].sum(axis=1) / total
            return np.asarray(to_gaussian[:, rows].sum(axis=1) / total - along**2)

    defined = _apart(length)
    return resampled_curve(distances, length.shape[1], x, defined=defined, seed=seed, notes=_notes(defined))


def _apart(optimal_to_gaussian: Floats) -> NDArray[np.bool_]:
    return np.asarray(optimal_to_gaussian.mean(axis=1) >= MIN_SPAN)


def _notes(defined: NDArray[np.bool_]) -> tuple[str, ...]:
    return () if defined.all() else (f"None where the mean square of D* - D_G is below {MIN_SPAN:g} per value",)


def why_no_gaussian(found: Probe) -> str:
    """Why nothing is measured against D_G."""
    return NO_MODEL if found.train.error is None else found.no_gaussian or NO_MODEL


def _neighbours(noised: NoisedSet | None, x: Axis, *, seed: int) -> Curve:
    """Median of ``exp(entropy of w)``: the number of training images that D* mixes."""
    return Curve.undefined(NO_TEST) if noised is None else median_curve(noised.effective_neighbours, x, seed=seed)


def _collapse(found: Probe, *, seed: int) -> Estimate:
    """The largest sigma at which the median weight of a noised training image's own image is at least 1/2."""
    sigmas, count = found.collapse, len(found.collapse)
    low_end, high_end = float(found.sigmas[0]), float(found.sigmas[-1])
    value = float(np.median(sigmas))
    if not low_end <= value <= high_end:
        side = f"above 1/2 up to {high_end:g}" if value > high_end else f"below 1/2 from {low_end:g}"
        return Estimate.undefined(f"the weight of the own image stays {side}, the end of the grid", count=count)
    if count < 2:
        return Estimate(value, method="no interval", count=count, notes=("an interval needs two images",))
    # an image whose sigma lies outside the grid counts at its end
    resamples = resampled_medians(sigmas, seed=seed)[:, None]
    low, high = percentile_interval(np.clip(resamples, low_end, high_end))
    return Estimate(value, float(low[0]), float(high[0]), percentile_method(), count, ("found to 1 %",))


def _predicted_collapse(found: Probe) -> Estimate:
    """Where a Gaussian channel carries ``log n``: ``1/2 sum log(1 + l_i / sigma^2) = log n``."""
    if found.spectrum is None:
        return Estimate.undefined(found.no_gaussian or NO_MODEL)
    if found.num_train < 2 or len(found.spectrum) == 0:
        return Estimate.undefined("needs two different training images")
    sigma = predicted_collapse_sigma(found.spectrum, num_train=found.num_train)
    return Estimate(sigma, method="from the spectrum", count=found.num_train)


def predicted_collapse_sigma(spectrum: Floats, *, num_train: int) -> float:
    """The sigma at which noisy Gaussian data of this spectrum still tells `num_train` images apart, on average.

    ``1/2 sum log(1 + l_i / sigma^2) = log n``; for isotropic data ``s0 / sqrt(n^(2/d) - 1)`` [1]_.

    Parameters
    ----------
    spectrum : float64, (R,)
        Positive eigenvalues of the covariance.
    num_train : int
        n, at least 2.

    References
    ----------
    .. [1] Biroli, Bonnaire, De Bortoli & Mezard, "Dynamical regimes of diffusion models", Nature Comm. 15, 2024.
    """
    from scipy.optimize import brentq

    def surplus(log_sigma: float) -> float:
        return float(np.log1p(spectrum / math.exp(2 * log_sigma)).sum()) / 2 - math.log(num_train)

    # at the upper end the sum is at most log(n) / 2, at the lower one its largest term alone is log(2 n)
    total, largest = float(spectrum.sum()), float(spectrum.max())
    upper = 0.5 * math.log(total / math.log(num_train))
    lower = 0.5 * math.log(largest) - math.log(2 * num_train)
    return math.exp(brentq(surplus, lower, upper, xtol=1e-12))
