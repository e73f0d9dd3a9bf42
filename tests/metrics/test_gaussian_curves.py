from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memgen_eval.diffusion.gaussian import GaussianDenoiser
from memgen_eval.diffusion.measurements import Linearity, Probe, Projections
from memgen_eval.diffusion.optimal import OptimalDenoiser
from memgen_eval.diffusion.probe import probe
from memgen_eval.metrics.gaussian_curves import distil, measure_gaussian_curves

GRID = [0.05, 0.5, 2.0, 10.0]
NAMES = ("nmse", "cosine", "linearity", "gaussian_linearity", "distillation_r2")


@pytest.fixture(scope="module")
def train(digits: Any) -> Any:
    return digits[:600]


def probed(model: Any, train: Any, **settings: Any) -> Probe:
    given: dict[str, Any] = {"sigmas": GRID, "num_images": 128} | settings
    return probe(model, optimal=OptimalDenoiser(train), gaussian=GaussianDenoiser(train), **given)


def test_the_gaussian_denoiser_is_gaussian(train: Any) -> None:
    figures = measure_gaussian_curves(probed(GaussianDenoiser(train), train), seed=0)
    assert max(figures.nmse.value) < 1e-10
    assert figures.cosine.value == pytest.approx((1,) * 4, abs=1e-6)
    assert figures.linearity.value == pytest.approx(figures.gaussian_linearity.value, abs=1e-9)
    assert figures.distillation_r2.value == pytest.approx((1,) * 4, abs=1e-6)
    assert figures.distillation_r2.low[0] <= figures.distillation_r2.value[0] <= figures.distillation_r2.high[0]


def test_the_optimal_denoiser_is_not(train: Any) -> None:
    figures = measure_gaussian_curves(probed(OptimalDenoiser(train), train), seed=0)
    assert figures.nmse.value[1] > 0.01 and figures.distillation_r2.value[2] < 0.9
    assert figures.linearity.value[2] < figures.gaussian_linearity.value[2]


def test_nmse_is_a_ratio_of_sums_and_the_cosine_a_mean(train: Any) -> None:
    found = probed(OptimalDenoiser(train), train)
    figures, beside = measure_gaussian_curves(found, seed=0), found.train.gaussian
    assert beside is not None
    assert figures.nmse.value == pytest.approx(beside.departure.sum(axis=1) / beside.energy.sum(axis=1))
    assert figures.nmse.value != pytest.approx((beside.departure / beside.energy).mean(axis=1))
    assert figures.cosine.value == pytest.approx(beside.cosine.mean(axis=1))
    assert all(a < b < c for a, b, c in zip(figures.nmse.low, figures.nmse.value, figures.nmse.high, strict=True))


def test_a_cosine_about_the_mean_is_none_where_there_is_nothing_to_compare(train: Any) -> None:
    found = probed(OptimalDenoiser(train), train)
    assert found.train.gaussian is not None
    energy = found.train.gaussian.gaussian_energy.copy()
    energy[0] *= 0.99e-4 / energy[0].mean()
    energy[1] *= 1.01e-4 / energy[1].mean()
    cosines = found.train.gaussian.cosine.copy()
    cosines[3, 5] = np.nan  # D was the mean itself
    beside = replace(found.train.gaussian, gaussian_energy=energy, cosine=cosines)
    curve = measure_gaussian_curves(replace(found, train=replace(found.train, gaussian=beside)), seed=0).cosine
    assert [value is not None for value in curve.value or ()] == [False, True, True, False]
    assert [value is not None for value in curve.low or ()] == [False, True, True, False] and "0.01" in curve.notes[0]


@pytest.mark.parametrize(("shift", "published"), [(0.0, 1.0), (1.0, 0.99721), (3.0, 0.99781)])
def test_linearity_of_an_affine_denoiser(shift: float, published: float) -> None:
    """Exactly 1 without a bias; with one below 1: d = 64, eigenvalues 0.1 to 4, sigma 1."""
    spectrum = np.linspace(0.1, 4, 64)
    data = np.random.default_rng(0).standard_normal((3000, 64)) * np.sqrt(spectrum) + shift
    gains = torch.from_numpy(spectrum / (spectrum + 1)).float()

    def affine(x: Tensor, sigma: Tensor) -> Tensor:
        return shift + gains * (x - shift)

    found = probe(
        affine,
        optimal=OptimalDenoiser(data),
        gaussian=GaussianDenoiser(data),
        sigmas=[1.0],
        num_images=2000,
        num_draws=1,
    )
    value = measure_gaussian_curves(found, seed=0).linearity.value
    assert value == pytest.approx((published,), abs=1e-6 if shift == 0 else 4e-4)
    if shift:
        assert found.linearity is not None and found.linearity.gaussian.mean() == pytest.approx(published, abs=2e-3)


def test_intervals_of_linearity_are_over_pairs(train: Any) -> None:
    found = replace(
        probed(OptimalDenoiser(train), train), linearity=Linearity(np.full((4, 30), 0.5), np.full((4, 30), 0.25))
    )
    figures = measure_gaussian_curves(found, seed=0)
    assert figures.linearity.value == (0.5,) * 4 and figures.gaussian_linearity.value == (0.25,) * 4
    assert figures.linearity.count == 30


def test_distillation_finds_an_affine_map_again_and_nothing_in_noise() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((2, 200, 2, 6))
    weights, bias = generator.standard_normal((6, 6)), generator.standard_normal(6)
    missed, total = distil(Projections(inputs, inputs @ weights + bias))
    assert missed.shape == (2, 200) and (missed / total).max() < 1e-20
    missed, total = distil(Projections(inputs, generator.standard_normal(inputs.shape)))
    assert 1 - missed.sum() / total.sum() < 0  # fitted noise predicts worse than the mean on other images
    halves = distil(Projections(inputs, inputs @ weights + generator.standard_normal(inputs.shape)))
    signal = np.trace(weights.T @ weights)
    assert 1 - halves[0].sum() / halves[1].sum() == pytest.approx(signal / (signal + 6), abs=0.03)


def test_distillation_predicts_images_that_the_fit_has_not_seen() -> None:
    """Each image has its own offset: draws of one image must not stand on both sides of the fit."""
    generator = np.random.default_rng(0)
    inputs = np.repeat(generator.standard_normal((1, 40, 1, 18)), 2, axis=2)
    missed, total = distil(Projections(inputs, np.repeat(generator.standard_normal((1, 40, 1, 18)), 2, axis=2)))
    assert 1 - missed.sum() / total.sum() < 0


def test_too_few_inputs_give_no_distillation(train: Any) -> None:
    enough = measure_gaussian_curves(probed(OptimalDenoiser(train), train), seed=0).distillation_r2
    few = measure_gaussian_curves(probed(OptimalDenoiser(train), train, num_images=127), seed=0).distillation_r2
    assert enough.value is not None and "32 directions" in enough.notes[0]
    assert few.value is None and "256" in few.notes[0]


def test_what_cannot_be_measured_says_why(train: Any) -> None:
    alone = measure_gaussian_curves(probed(None, train), seed=0)
    assert all(getattr(alone, name).notes == ("needs a denoiser",) for name in NAMES)
    large = replace(probed(OptimalDenoiser(train), train, num_images=8), no_gaussian="too large")
    large = replace(large, train=replace(large.train, gaussian=None))
    assert all(getattr(measure_gaussian_curves(large, seed=0), name).notes == ("too large",) for name in NAMES)


def test_the_same_probe_and_seed_give_the_same_figures(train: Any) -> None:
    found = probed(OptimalDenoiser(train), train)
    assert measure_gaussian_curves(found, seed=0) == measure_gaussian_curves(found, seed=0)
