"""Models from the same noise, beside models whose samples are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from memgen_eval import GaussianDenoiser, Images, OptimalDenoiser, probability_flow_distance
from memgen_eval.data.images import ImageSet
from memgen_eval.data.sources import load_images
from memgen_eval.diffusion.gaussian import spectrum
from memgen_eval.diffusion.inputs import draw_noises
from memgen_eval.diffusion.sampling import NOISE, karras_sigmas
from reference_models.study.comparing import (
    NOISE_SEED,
    TrainedModel,
    compare_halves,
    compare_with_teacher,
    nearest_cosines,
    pairs_of_halves,
)
from reference_models.study.sweep import Sweep

SIGMA_MAX = 80.0


def image_set(seed: int, num_images: int, *, spread: float = 30.0) -> ImageSet:
    levels = np.random.default_rng(seed).normal(128, spread, (num_images, 1, 2, 2))
    return load_images(Images(levels.clip(0, 255).round().astype(np.uint8)), argument="train")


def test_pairs_differ_in_half_alone() -> None:
    sweep = Sweep({}, {"seed": (0, 1), "half": ("first", "second"), "width": (8, 16)})
    pairs = pairs_of_halves(sweep.runs())
    assert len(pairs) == 4
    for first, second in pairs:
        assert {**first.settings, "half": "second"} == second.settings
    assert pairs_of_halves(Sweep({}, {"seed": (0, 1), "half": ("first",)}).runs()) == []


def test_two_models_that_know_the_distribution_agree() -> None:
    truth = GaussianDenoiser(image_set(0, 500).array())
    models = [TrainedModel(truth, image_set(seed, 50), image_set(9, 100)) for seed in (1, 2)]
    found = compare_halves(("a", "b"), *models, num_samples=128)
    assert found.cosine.value == pytest.approx(1) and found.reproducibility.value == 1 and found.distance.value == 0
    assert found.unrelated_cosine.low is not None and found.unrelated_cosine.high is not None
    assert found.unrelated_cosine.low < 0 < found.unrelated_cosine.high
    assert found.nearest_cosine.value == pytest.approx(found.test_nearest_cosine.value, abs=0.03)
    assert found.optimal_distance.value is not None and found.optimal_distance.value > 0.1


def test_two_models_that_know_their_images_by_heart_do_not() -> None:
    sets = [image_set(seed, 20) for seed in (1, 2)]
    models = [TrainedModel(OptimalDenoiser(held.array()), held, None) for held in sets]
    found = compare_halves(("a", "b"), *models, num_samples=64)
    assert found.optimal_distance.value == 0 and found.nearest_cosine.value == pytest.approx(1, abs=1e-4)
    assert found.cosine.value is not None and found.cosine.value < 0.9
    assert found.unrelated_cosine.value is None and "no test images" in found.test_nearest_cosine.notes[0]
    expected = probability_flow_distance(models[0].denoiser, models[1].denoiser, (1, 2, 2), num_samples=64)
    assert found.distance == expected


def heun(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """By what Heun's steps scale a direction of variance `values`, from noise of variance 1 to the sample."""
    sigmas = [*karras_sigmas(18).tolist(), 0.0]
    scale = np.full(len(values), sigmas[0])
    for sigma, following in pairwise(sigmas):
        slope = sigma / (values + sigma**2) * scale
        ahead = scale + (following - sigma) * slope
        if following > 0:
            slope = (slope + following / (values + following**2) * ahead) / 2
        scale = scale + (following - sigma) * slope
    return scale


def exact(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same along the exact path: ``x0 = m + sqrt(l / (T^2 + l)) (T eps - m)``."""
    return np.asarray(SIGMA_MAX * np.sqrt(values / (SIGMA_MAX**2 + values)))


@pytest.mark.parametrize(("scale", "tolerance"), [(heun, 1e-4), (exact, 0.06)])
def test_a_gaussian_student_of_a_gaussian_teacher_in_closed_form(
    scale: Callable[[NDArray[np.float64]], NDArray[np.float64]], tolerance: float
) -> None:
    sets = [image_set(0, 200, spread=30), image_set(1, 200, spread=50)]
    student = TrainedModel(GaussianDenoiser(sets[1].array()), sets[1], None)
    found = compare_with_teacher("a", student, GaussianDenoiser(sets[0].array()), num_samples=64)
    eps = draw_noises((1, 2, 2), np.arange(64), seed=NOISE_SEED, name=NOISE).reshape(64, -1).astype(np.float64)
    ends = []
    for images in sets:
        law = spectrum(images.array())
        matrix = law.directions * scale(law.values) @ law.directions.T  # of eps
        ends.append(law.mean + (eps - law.mean / SIGMA_MAX) @ matrix)
    expected = math.sqrt(np.square(ends[0] - ends[1]).sum(axis=1).mean())
    assert found.generalization_error.value == pytest.approx(expected, rel=tolerance)
    assert found.memorization_error.value is not None and found.memorization_error.value > 0.1


def test_a_student_that_knows_its_images_by_heart_has_no_memorization_error() -> None:
    images = image_set(1, 20)
    student = TrainedModel(OptimalDenoiser(images.array()), images, None)
    found = compare_with_teacher("a", student, GaussianDenoiser(image_set(0, 500).array()), num_samples=64)
    assert found.memorization_error.value == 0
    assert found.generalization_error.value is not None and found.generalization_error.value > 0.1


def test_nearest_cosines_of_many_images_beside_all_products() -> None:
    generator = np.random.default_rng(0)
    rows, images = (generator.standard_normal((count, 5)) for count in (30, 2500))
    assert np.array_equal(nearest_cosines(rows, images), (rows @ images.T).max(axis=1))
