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
from memgen_eval.metrics.gaussian_denoiser import alignment, distil, measure_gaussian_curves

GRID = [0.05, 0.5, 2.0, 10.0]
BESIDE_GAUSSIAN = ("gaussian_error", "gaussian_energy", "cosine", "to_gaussian", "optimal_to_gaussian", "projection")
NAMES = ("nmse", "cosine", "linearity", "gaussian_linearity", "distillation_r2", "distillation_alignment")


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
    figures, beside = measure_gaussian_curves(found, seed=0), found.train
    assert beside.to_gaussian is not None and beside.energy is not None and beside.cosine is not None
    assert figures.nmse.value == pytest.approx(beside.to_gaussian.sum(axis=1) / beside.energy.sum(axis=1))
    assert figures.nmse.value != pytest.approx((beside.to_gaussian / beside.energy).mean(axis=1))
    assert figures.cosine.value == pytest.approx(beside.cosine.mean(axis=1))
    assert all(a < b < c for a, b, c in zip(figures.nmse.low, figures.nmse.value, figures.nmse.high, strict=True))


def test_a_cosine_about_the_mean_is_none_where_there_is_nothing_to_compare(train: Any) -> None:
    found = probed(OptimalDenoiser(train), train)
    assert found.train.gaussian_energy is not None and found.train.cosine is not None
    energy = found.train.gaussian_energy.copy()
    energy[0] *= 0.99e-4 / energy[0].mean()
    energy[1] *= 1.01e-4 / energy[1].mean()
    cosines = found.train.cosine.copy()
    cosines[3, 5] = np.nan  # D was the mean itself
    beside = replace(found.train, gaussian_energy=energy, cosine=cosines)
    curve = measure_gaussian_curves(replace(found, train=beside), seed=0).cosine
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
    for signal in (np.zeros((6, 6)), weights):
        missed, total = distil(Projections(inputs, inputs @ signal + generator.standard_normal(inputs.shape)))
        power = np.trace(signal.T @ signal)
        assert 1 - missed.sum() / total.sum() == pytest.approx(power / (power + 6), abs=0.03)


def test_the_misfit_of_distillation_is_that_of_the_best_map_however_many_directions() -> None:
    """30 directions, 100 images of two draws: fits miss much less of what they have seen, and more of other images."""
    generator, found = np.random.default_rng(1), []
    for offset in (0.0, 1.0):  # the second misfit is one of the image, the same in both draws
        for _ in range(30):
            inputs = generator.standard_normal((1, 100, 2, 30))
            own = generator.standard_normal((1, 100, 1, 30))
            wrong = own if offset else generator.standard_normal((1, 100, 2, 30))
            missed, _ = distil(Projections(inputs, inputs @ generator.standard_normal((30, 30)) + wrong))
            found.append(missed.mean() / 60)
    assert np.mean(found[:30]) == pytest.approx(1, abs=0.02) and np.mean(found[30:]) == pytest.approx(1, abs=0.03)


def test_distillation_is_the_product_of_what_the_fits_with_and_without_an_image_miss() -> None:
    generator = np.random.default_rng(2)
    inputs, outputs = generator.standard_normal((2, 1, 20, 1, 3))
    missed, total = distil(Projections(inputs, outputs))
    x, y = (np.c_[np.ones(20), inputs[0, :, 0]], outputs[0, :, 0])
    for number in range(20):
        others = np.delete(np.arange(20), number)
        seen, unseen = (
            y[number] - x[number] @ np.linalg.lstsq(x[rows], y[rows])[0] for rows in (np.arange(20), others)
        )
        assert missed[0, number] == pytest.approx(seen @ unseen)
        seen, unseen = (y[number] - y[rows].mean(axis=0) for rows in (np.arange(20), others))
        assert total[0, number] == pytest.approx(seen @ unseen)


def test_an_image_that_fixes_a_direction_is_missed_by_nothing() -> None:
    inputs = np.random.default_rng(0).standard_normal((1, 30, 2, 3))
    inputs[..., 2] = 0
    inputs[0, 7, :, 2] = [1, 2]
    missed, _ = distil(Projections(inputs, np.random.default_rng(1).standard_normal((1, 30, 2, 3))))
    assert np.isfinite(missed).all()


def mapped(weights: Any, *, num_images: int = 200) -> Projections:
    """An affine map of random coordinates, at two sigmas."""
    inputs = np.random.default_rng(3).standard_normal((2, num_images, 2, len(weights)))
    return Projections(inputs, inputs @ np.asarray(weights).T + 0.3)


def test_alignment_of_maps_that_are_known() -> None:
    falling = np.diag(np.geomspace(1, 0.01, 12))
    assert alignment(mapped(falling), num_directions=4) == pytest.approx([1, 1], abs=1e-12)
    assert alignment(mapped(falling[::-1]), num_directions=4) == pytest.approx([0, 0], abs=1e-12)
    # outputs count, not inputs: the same output directions from turned inputs, and the other way round
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((12, 12)))[0]
    assert alignment(mapped(falling @ turn), num_directions=4) == pytest.approx([1, 1], abs=1e-12)
    expected = (turn[:4, :4] ** 2).sum() / 4
    assert alignment(mapped(turn @ falling), num_directions=4) == pytest.approx([expected] * 2, abs=1e-12)
    # a plane turned by half a right angle out of the leading four: cosines 1, 1, 1 and cos(45 degrees)
    half = np.eye(12)
    half[np.ix_([3, 4], [3, 4])] = np.array([[1, -1], [1, 1]]) / 2**0.5
    assert alignment(mapped(half @ falling), num_directions=4) == pytest.approx([3.5 / 4] * 2, abs=1e-12)


def test_alignment_of_random_maps_is_that_of_chance() -> None:
    generator = np.random.default_rng(5)
    drawn = [alignment(mapped(generator.standard_normal((12, 12))), num_directions=4) for _ in range(100)]
    assert np.mean(drawn) == pytest.approx(4 / 12, abs=0.02)


def test_alignment_is_not_defined_where_nothing_tells_directions_apart() -> None:
    found = mapped(np.diag(np.geomspace(1, 0.01, 12)))
    found.outputs[1] = 0.3  # a constant
    assert np.isfinite(alignment(found, num_directions=4)).tolist() == [True, False]
    found.outputs[1] = found.inputs[1]  # the identity
    assert np.isfinite(alignment(found, num_directions=4)).tolist() == [True, False]
    for margin, told in ((1.5e-7, True), (0.5e-7, False)):
        found.outputs[1] = found.inputs[1] @ np.diag([3, 2, 1.5, 1 + margin] + [1.0] * 8)
        assert np.isfinite(alignment(found, num_directions=4)).tolist() == [True, told]


@pytest.mark.filterwarnings("ignore:the denoiser's error")
def test_alignment_of_denoisers(train: Any) -> None:
    turn = torch.from_numpy(np.random.default_rng(1).standard_normal((64, 64)) / 8).float()
    wiener = GaussianDenoiser(train)
    curves = [
        measure_gaussian_curves(probed(model, train, num_images=256), seed=0).distillation_alignment
        for model in (wiener, lambda x, sigma: wiener(x, sigma).flatten(1).mm(turn).reshape(x.shape))
    ]
    width = min(64, len(wiener.spectrum.values))
    assert curves[0].value == pytest.approx((1,) * 4, abs=1e-6)
    assert curves[1].value == pytest.approx((32 / width,) * 4, abs=0.12)
    for curve in curves:
        assert curve.low is None and curve.method == "no interval" and curve.count == 256 and len(curve.notes) == 1
        assert f"32 of {width} directions: chance gives {32 / width:.3g}" in curve.notes[0]


def test_where_alignment_is_none_a_note_says_why(train: Any) -> None:
    wiener = GaussianDenoiser(train)

    def half(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.where((sigma < 1).reshape(-1, 1, 1, 1), x, wiener(x, sigma))

    curve = measure_gaussian_curves(probed(half, train, num_images=256), seed=0).distillation_alignment
    assert [value is None for value in curve.value or ()] == [True, True, False, False]
    assert "does not tell its 32 leading directions" in curve.notes[1]


def test_too_few_inputs_give_no_distillation(train: Any) -> None:
    enough = measure_gaussian_curves(probed(OptimalDenoiser(train), train), seed=0).distillation_r2
    few = measure_gaussian_curves(probed(OptimalDenoiser(train), train, num_images=127), seed=0).distillation_r2
    assert enough.value is not None and "32 directions" in enough.notes[0]
    assert few.value is None and "256" in few.notes[0]
    for num_images, why in ((127, "256"), (128, "all of the 32 directions")):
        found = probed(OptimalDenoiser(train), train, num_images=num_images)
        curve = measure_gaussian_curves(found, seed=0).distillation_alignment
        assert curve.value is None and why in curve.notes[0]


def test_what_cannot_be_measured_says_why(train: Any) -> None:
    alone = measure_gaussian_curves(probed(None, train), seed=0)
    assert all(getattr(alone, name).notes == ("needs a denoiser",) for name in NAMES)
    large = replace(probed(OptimalDenoiser(train), train, num_images=8), no_gaussian="too large")
    large = replace(large, train=replace(large.train, **dict.fromkeys(BESIDE_GAUSSIAN)))
    assert all(getattr(measure_gaussian_curves(large, seed=0), name).notes == ("too large",) for name in NAMES)


def test_the_same_probe_and_seed_give_the_same_figures(train: Any) -> None:
    found = probed(OptimalDenoiser(train), train)
    assert measure_gaussian_curves(found, seed=0) == measure_gaussian_curves(found, seed=0)
