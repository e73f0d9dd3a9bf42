from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, ttest_1samp, ttest_ind

from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.measurements import NoisedSet, Path, Probe
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.probe import probe
from memgen_eval.metrics.denoiser import measure_denoiser, predicted_collapse_sigma

S, N, M = 4, 60, 50
GENERATOR = np.random.default_rng(0)


def positive(num_images: int) -> Any:
    return GENERATOR.uniform(0.1, 1, (S, num_images))


def made_up(num_images: int, matched_index: float) -> NoisedSet:
    length, matched = positive(num_images), positive(num_images)
    gaussian_error, energy, cosine, gaussian_energy = (positive(num_images) for _ in range(4))
    residual = GENERATOR.normal(0, 1, (S, num_images))
    return NoisedSet(
        error=positive(num_images),
        gap=positive(num_images),
        residual=residual,
        residual_variance=residual**2 / 2,
        optimal_error=positive(num_images),
        effective_neighbours=1 + positive(num_images),
        own_weight=np.ones((S, num_images)),
        variance=positive(num_images),
        energy=energy,
        gaussian_error=gaussian_error,
        gaussian_energy=gaussian_energy,
        cosine=cosine,
        to_gaussian=0.3 * length,
        optimal_to_gaussian=length,
        projection=0.4 * length,
        matched_optimal_to_gaussian=matched,
        matched_projection=matched_index * matched,
    )


def without_model(noised: NoisedSet) -> NoisedSet:
    """As measured on the data alone."""
    return NoisedSet(noised.optimal_error, noised.effective_neighbours, noised.own_weight, noised.variance)


def without_gaussian(noised: NoisedSet) -> NoisedSet:
    """As measured of a model where there is no D_G."""
    model = ("error", "gap", "residual", "residual_variance", "energy")
    return replace(without_model(noised), **{name: getattr(noised, name) for name in model})


PROBE = Probe(
    sigmas=np.array([0.1, 1.0, 5.0, 20.0]),
    num_train=1000,
    num_draws=2,
    train=made_up(N, 0.7),
    test=made_up(M, 0.2),
    num_matched=50,
    collapse=np.linspace(0.5, 3, N),
    spectrum=np.array([4.0, 1.0, 0.25]),
    linearity=None,
    projections=None,
    path=Path(np.array([0.5, 5.0]), positive(2)[:2]),
    no_gaussian=None,
    notes=(),
)


@pytest.fixture(scope="module")
def figures() -> Any:
    return measure_denoiser(PROBE, seed=0)


def test_means_have_students_intervals_over_images(figures: Any) -> None:
    for name, side, part in (
        ("error_train", "train", "error"),
        ("gap_test", "test", "gap"),
        ("error_test", "test", "error"),
    ):
        curve, values = getattr(figures, name), getattr(getattr(PROBE, side), part)
        assert curve.count == values.shape[1] and curve.x.values == (0.1, 1.0, 5.0, 20.0) and curve.x.name == "sigma"
        for number in range(S):
            interval = ttest_1samp(values[number], 0).confidence_interval(0.95)
            assert curve.value[number] == pytest.approx(values[number].mean())
            assert (curve.low[number], curve.high[number]) == pytest.approx(interval)
    # of training images the posterior variance, which has the same mean and less spread
    assert figures.optimal_error_train.value == pytest.approx(PROBE.train.variance.mean(axis=1))
    assert figures.optimal_error_test.value == pytest.approx(PROBE.test.optimal_error.mean(axis=1))
    assert figures.optimal_error_train.notes == ()
    rare = PROBE.train.variance.copy()
    rare[0, 3:] *= 1e-3
    noted = measure_denoiser(replace(PROBE, train=replace(PROBE.train, variance=rare)), seed=0).optimal_error_train
    assert "too short" in noted.notes[0]


def test_the_generalization_gap_is_test_minus_train_by_welch(figures: Any) -> None:
    for number in range(S):
        test, train = PROBE.test.error[number], PROBE.train.error[number]
        interval = ttest_ind(test, train, equal_var=False).confidence_interval(0.95)
        curve = figures.generalization_gap
        assert curve.value[number] == pytest.approx(test.mean() - train.mean())
        assert (curve.low[number], curve.high[number]) == pytest.approx(interval)


def test_the_mean_gap_has_the_interval_of_images_not_of_noise_levels(figures: Any) -> None:
    test, train = (side.error.mean(axis=0) for side in (PROBE.test, PROBE.train))
    interval = ttest_ind(test, train, equal_var=False).confidence_interval(0.95)
    found = figures.mean_generalization_gap
    assert found.value == pytest.approx(np.mean(figures.generalization_gap.value))
    assert (found.low, found.high) == pytest.approx(interval)
    assert found.count == min(len(test), len(train))


def test_the_error_relative_to_the_gaussian_model_is_a_ratio_of_sums(figures: Any) -> None:
    for curve, side in ((figures.relative_error_train, PROBE.train), (figures.relative_error_test, PROBE.test)):
        ratio = side.error.sum(axis=1) / side.gaussian_error.sum(axis=1)
        assert curve.value == pytest.approx(ratio) and curve.notes == ()
        assert curve.value != pytest.approx((side.error / side.gaussian_error).mean(axis=1))
        assert all(a < b < c for a, b, c in zip(curve.low, curve.value, curve.high, strict=True))
        assert "bootstrap over images" in curve.method and curve.count == side.error.shape[1]


def test_nothing_is_relative_to_an_error_that_is_rounding() -> None:
    assert PROBE.train.gaussian_error is not None
    error = PROBE.train.gaussian_error.copy()
    error[0] *= 0.99e-10 / error[0].mean()
    error[1] *= 1.01e-10 / error[1].mean()
    beside = replace(PROBE.train, gaussian_error=error)
    curve = measure_denoiser(replace(PROBE, train=beside), seed=0).relative_error_train
    for part in (curve.value, curve.low, curve.high):
        assert [value is not None for value in part or ()] == [False, True, True, True]
    assert "1e-10" in curve.notes[0]


def test_what_was_odd_about_the_denoiser_stands_with_its_errors(figures: Any) -> None:
    odd = measure_denoiser(replace(PROBE, notes=("it ignores sigma",)), seed=0)
    for name in ("error_train", "error_test", "relative_error_train", "relative_error_test"):
        assert getattr(odd, name).notes == ("it ignores sigma",) and getattr(figures, name).notes == ()
        assert getattr(odd, name).value == getattr(figures, name).value
    assert odd.optimal_error_train == figures.optimal_error_train


def test_the_identitys_band_holds_all_deviations_at_once() -> None:
    """Independent residuals need the largest of S normal deviations, equal ones that of a single one."""
    generator = np.random.default_rng(3)
    own, same = generator.standard_normal((S, 400)), np.tile(generator.standard_normal(400), (S, 1))
    quantiles = []
    for residual in (own, same):
        model = replace(PROBE.train, residual=residual, residual_variance=np.full((S, 400), 4.0))
        band = measure_denoiser(replace(PROBE, train=model), seed=0).identity_residual
        assert band.value == pytest.approx(residual.mean(axis=1)) and "simultaneous" in band.method
        half = np.subtract(band.high, band.value)
        assert np.subtract(band.value, band.low) == pytest.approx(half) and half == pytest.approx([half[0]] * S)
        quantiles.append(half[0] / (2 / np.sqrt(400)))
    assert quantiles == pytest.approx([norm.ppf(0.5 + 0.95 ** (1 / S) / 2), norm.ppf(0.975)], rel=0.05)


def test_the_identitys_band_of_few_images_is_students() -> None:
    few = replace(PROBE.train, residual=np.ones((S, 2)), residual_variance=np.ones((S, 2)))
    band = measure_denoiser(replace(PROBE, train=few), seed=0).identity_residual
    assert np.subtract(band.high, band.value) == pytest.approx([12.706 / np.sqrt(2)] * S, rel=1e-4)


def test_indices_are_ratios_of_sums_with_intervals_around_them(figures: Any) -> None:
    assert figures.memorization_index.value == pytest.approx((0.4,) * S)
    assert figures.matched_memorization_index.value == pytest.approx((0.7,) * S)
    assert figures.test_memorization_index.value == pytest.approx((0.2,) * S)
    assert figures.off_line.value == pytest.approx((0.3 - 0.16,) * S)
    assert (
        "1000 resamples" in figures.memorization_index.method
        and "D* of 50 images" in figures.matched_memorization_index.notes
    )
    # sums, not means of ratios
    length, projection = np.array([[1.0, 3.0]] * S), np.array([[1.0, 0.0]] * S)
    sides = replace(PROBE.train, optimal_to_gaussian=length, projection=projection, to_gaussian=length)
    uneven = replace(PROBE, train=sides)
    curve = measure_denoiser(uneven, seed=0).memorization_index
    assert (
        curve.value == pytest.approx((0.25,) * S)
        and curve.low == pytest.approx((0,) * S)
        and curve.high == pytest.approx((1,) * S)
    )


def test_an_index_is_none_where_both_denoisers_are_one(figures: Any) -> None:
    length = PROBE.train.optimal_to_gaussian.copy()
    length[0] *= 0.9e-3 / length[0].mean()
    length[1] *= 1.1e-3 / length[1].mean()
    length[2] = 0
    sides = replace(PROBE.train, optimal_to_gaussian=length, projection=0.4 * length)
    curves = measure_denoiser(replace(PROBE, train=sides), seed=0)
    for curve in (curves.memorization_index, curves.off_line):
        known = [value is not None for value in curve.value or ()]
        assert known == [False, True, False, True]
        assert [value is not None for value in curve.low or ()] == known
        assert "0.001" in curve.notes[0]


def test_neighbours_are_medians(figures: Any) -> None:
    assert figures.effective_neighbours.value == pytest.approx(np.median(PROBE.test.effective_neighbours, axis=1))
    assert figures.effective_neighbours_train.value == pytest.approx(
        np.median(PROBE.train.effective_neighbours, axis=1)
    )
    assert all(
        low <= high
        for low, high in zip(figures.effective_neighbours.low, figures.effective_neighbours.high, strict=True)
    )


def test_the_path_has_noise_levels_of_its_own(figures: Any) -> None:
    assert figures.gap_path.x.values == (0.5, 5.0)
    assert figures.gap_path.value == pytest.approx(PROBE.path.gap.mean(axis=1))


def test_collapse_is_a_median_inside_the_grid(figures: Any) -> None:
    assert figures.collapse_sigma.value == pytest.approx(1.75)
    assert 0.5 < figures.collapse_sigma.low < 1.75 < figures.collapse_sigma.high < 3
    for sigmas, side in (([0.0, 0.0, 1.0], "below 1/2 from 0.1"), ([np.inf, np.inf, 1.0], "above 1/2 up to 20")):
        outside = measure_denoiser(replace(PROBE, collapse=np.array(sigmas)), seed=0).collapse_sigma
        assert outside.value is None and side in outside.notes[0]
    mixed = measure_denoiser(replace(PROBE, collapse=np.array([0.0, 1.0, 1.0, np.inf])), seed=0).collapse_sigma
    assert mixed.value == 1 and mixed.low == pytest.approx(0.1) and mixed.high == pytest.approx(20)


@pytest.mark.parametrize(("dimension", "num_train", "published"), [(32, 2000, 1.282), (64, 4000, 1.838)])
def test_the_predicted_collapse_of_isotropic_data_is_known(dimension: int, num_train: int, published: float) -> None:
    found = predicted_collapse_sigma(np.ones(dimension), num_train=num_train)
    assert found == pytest.approx(1 / np.sqrt(num_train ** (2 / dimension) - 1)) and found == pytest.approx(
        published, abs=1e-3
    )
    assert predicted_collapse_sigma(np.full(dimension, 9.0), num_train=num_train) == pytest.approx(3 * found)


def test_the_predicted_collapse_solves_its_equation() -> None:
    for spectrum, num_train in (
        (np.array([4.0, 1.0, 0.25]), 2),
        (np.geomspace(300, 1e-6, 900), 50_000),
        (np.array([1e-9]), 7),
    ):
        sigma = predicted_collapse_sigma(spectrum, num_train=num_train)
        assert np.log1p(spectrum / sigma**2).sum() / 2 == pytest.approx(np.log(num_train))


def test_nothing_is_predicted_for_one_image() -> None:
    one = measure_denoiser(replace(PROBE, num_train=1), seed=0)
    same = measure_denoiser(replace(PROBE, spectrum=np.empty(0)), seed=0)
    assert one.predicted_collapse_sigma.value is None and same.predicted_collapse_sigma.value is None


def test_collapse_of_gaussian_data_is_where_theory_puts_it() -> None:
    """The mean weight is 0.575 at the predicted sigma for d = 32, n = 2,000, and falls to 0.168 at 1.4 of it."""
    train = np.random.default_rng(5).standard_normal((2000, 32))
    optimal, sigma = OptimalDenoiser(train), 1.282
    eps = np.random.default_rng(6).standard_normal((1000, 32)).astype(np.float32)
    found = optimal.posterior(train[:1000], eps, np.array([0.7, 1.0, 1.4]) * sigma, with_mean=False).own_weight.mean(
        axis=1
    )
    assert found == pytest.approx([0.942, 0.575, 0.168], abs=0.03)
    figures = measure_denoiser(probe(None, optimal=optimal, gaussian=GaussianDenoiser(train), num_images=256), seed=0)
    assert figures.predicted_collapse_sigma.value == pytest.approx(sigma, rel=0.02)
    assert figures.collapse_sigma.value == pytest.approx(sigma, rel=0.1)


def test_what_cannot_be_measured_says_why() -> None:
    alone = replace(PROBE, train=without_model(PROBE.train), test=None, path=None, spectrum=None)
    figures = measure_denoiser(replace(alone, num_matched=None), seed=0)
    for name in (
        "error_train",
        "relative_error_train",
        "gap_train",
        "identity_residual",
        "memorization_index",
        "off_line",
    ):
        assert getattr(figures, name).value is None and "denoiser" in getattr(figures, name).notes[0], name
    for name in (
        "error_test",
        "relative_error_test",
        "gap_test",
        "generalization_gap",
        "mean_generalization_gap",
        "matched_memorization_index",
        "test_memorization_index",
    ):
        assert getattr(figures, name).value is None and "test set" in getattr(figures, name).notes[0], name
    for name in ("effective_neighbours", "optimal_error_test"):
        assert getattr(figures, name).value is None and "test set" in getattr(figures, name).notes[0], name
    assert figures.gap_path.value is None and figures.predicted_collapse_sigma.value is None
    assert figures.optimal_error_train.value is not None and figures.collapse_sigma.value is not None
    large = replace(PROBE, train=without_gaussian(PROBE.train), spectrum=None, no_gaussian="too large")
    assert measure_denoiser(large, seed=0).memorization_index.notes == ("too large",)
    assert measure_denoiser(large, seed=0).relative_error_train.notes == ("too large",)
    blind = replace(PROBE, test=without_model(PROBE.test))
    for name in ("relative_error_test", "mean_generalization_gap"):
        assert "denoiser" in getattr(measure_denoiser(blind, seed=0), name).notes[0]
    data = replace(blind, train=without_model(PROBE.train), num_matched=None)
    assert measure_denoiser(data, seed=0).matched_memorization_index.notes == ("needs a denoiser",)
    assert measure_denoiser(large, seed=0).predicted_collapse_sigma.notes == ("too large",)


def test_one_image_has_values_and_no_intervals() -> None:
    one = OptimalDenoiser(np.zeros((1, 3)))
    figures = measure_denoiser(
        probe(GaussianDenoiser(one.train), optimal=one, gaussian=GaussianDenoiser(one.train), test=np.ones((1, 3))),
        seed=0,
    )
    assert figures.gap_train.value == pytest.approx((0,) * 15) and figures.gap_train.low is None
    assert figures.generalization_gap.low is None and figures.mean_generalization_gap.low is None
    assert figures.memorization_index.value == (None,) * 15
    assert figures.relative_error_train.value == (None,) * 15  # D_G is the image itself


def test_the_wiener_denoiser_on_gaussian_data_has_the_error_of_theory() -> None:
    """On fresh data sum l s^2 / (l + s^2); D* below half the collapse noise copies, and errs far more on fresh data."""
    generator, spectrum = np.random.default_rng(1), np.linspace(0.5, 1.5, 32)
    train, test = (generator.standard_normal((2000, 32)) * np.sqrt(spectrum) for _ in range(2))
    optimal, gaussian = OptimalDenoiser(train), GaussianDenoiser(train)
    collapse = predicted_collapse_sigma(spectrum, num_train=2000)
    sigmas = np.array([0.5, 2.0]) * collapse
    figures = measure_denoiser(
        probe(gaussian, optimal=optimal, gaussian=gaussian, test=test, sigmas=sigmas, num_images=1000), seed=0
    )
    theory = [(spectrum * s**2 / (spectrum + s**2)).mean() for s in sigmas]
    assert figures.error_test.value == pytest.approx(theory, rel=0.05)
    assert (
        figures.optimal_error_train.value[0] < 0.01 * theory[0] and figures.optimal_error_test.value[0] > 2 * theory[0]
    )
    # at the first of both the residual is tiny and positive nearly always: rare large negative ones make up for it
    low, high = figures.identity_residual.low, figures.identity_residual.high
    assert low is not None and high is not None and max(low) <= 0 <= min(high)
    # error - gap = optimal error, on training images
    error, gap, least = (getattr(figures, name).value for name in ("error_train", "gap_train", "optimal_error_train"))
    assert np.allclose(np.subtract(error, gap), least, atol=0.02)


@pytest.mark.filterwarnings("ignore:the denoiser's")
def test_the_error_relative_to_the_gaussian_model_of_denoisers_that_are_known(digits: Any) -> None:
    train, test, sigmas = digits[:800], digits[800:1200], [0.05, 0.3, 1.0, 4.0]
    optimal, gaussian = OptimalDenoiser(train), GaussianDenoiser(train)
    mean = torch.from_numpy(gaussian.spectrum.mean).float().reshape(1, 8, 8)
    itself, copier, blind = (
        measure_denoiser(
            probe(model, optimal=optimal, gaussian=gaussian, test=test, sigmas=sigmas, num_images=128), seed=0
        )
        for model in (GaussianDenoiser(train), optimal, lambda x, sigma: mean.expand(x.shape))
    )
    for curve in (itself.relative_error_train, itself.relative_error_test):
        assert curve.value == curve.low == curve.high == (1.0,) * 4
    assert max(copier.relative_error_train.high[:2]) < 0.01 and copier.relative_error_train.high[2] < 0.6
    assert copier.relative_error_test.low[0] > 10
    for curve in (blind.relative_error_train, blind.relative_error_test):
        assert min(curve.low) > 1 and curve.value == tuple(sorted(curve.value, reverse=True))


@pytest.mark.filterwarnings("ignore:the denoiser's output is the same")
def test_the_identity_relative_to_the_gaussian_model_is_that_of_theory() -> None:
    """On fresh Gaussian data sigma^2 over the Wiener error: ``d / sum l / (l + sigma^2)``."""
    generator, spectrum = np.random.default_rng(2), np.linspace(0.5, 1.5, 32)
    train, test = (generator.standard_normal((4000, 32)) * np.sqrt(spectrum) for _ in range(2))
    sigmas = np.array([0.1, 1.0, 10.0])
    found = probe(
        lambda x, sigma: x,
        optimal=OptimalDenoiser(train[:100]),
        gaussian=GaussianDenoiser(train),
        test=test,
        sigmas=sigmas,
        num_images=1000,
    )
    theory = [1 / (spectrum / (spectrum + s**2)).mean() for s in sigmas]
    assert measure_denoiser(found, seed=0).relative_error_test.value == pytest.approx(theory, rel=0.03)


def test_the_optimal_and_the_gaussian_denoiser_are_the_ends_of_the_line(digits: Any) -> None:
    train, test = digits[:800], digits[800:1200]
    optimal, gaussian = OptimalDenoiser(train), GaussianDenoiser(train)
    ends = [
        measure_denoiser(probe(model, optimal=optimal, gaussian=gaussian, test=test, num_images=128), seed=0)
        for model in (optimal, gaussian)
    ]
    for figures, index in zip(ends, (1, 0), strict=True):
        known = [value for value in figures.memorization_index.value or () if value is not None]
        assert len(known) > 5 and known == pytest.approx([index] * len(known), abs=1e-6)
        apart = [value for value in figures.off_line.value or () if value is not None]
        assert apart == pytest.approx([0] * len(apart), abs=1e-6)
        residual = figures.identity_residual
        assert residual.low is not None and residual.high is not None
        half = np.subtract(residual.high, residual.low) / 2
        assert (np.abs(residual.value) <= 1.1 * half + 1e-9).all()  # one run in twenty leaves the band by a little
    place = 6  # sigma = 0.70, below the collapse of these digits
    memorizing, control = ends[0].matched_memorization_index, ends[0].test_memorization_index
    assert memorizing.low is not None and control.high is not None
    assert memorizing.low[place] > 0.9 and control.high[place] < 0.6
    innocent, same = ends[1].matched_memorization_index.value, ends[1].test_memorization_index.value
    assert innocent is not None and same is not None and abs(innocent[place]) < 1e-6 and abs(same[place]) < 1e-6


def test_the_same_probe_and_seed_give_the_same_figures(figures: Any) -> None:
    assert measure_denoiser(PROBE, seed=0) == figures
    assert measure_denoiser(PROBE, seed=1).off_line.value == figures.off_line.value
