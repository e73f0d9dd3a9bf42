"""Models that are compared from the same noise: with one of the other half, with D* of its images, with a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memgen_eval import OptimalDenoiser, pair_distance, reproducibility, sample
from memgen_eval.data.images import ImageSet
from memgen_eval.results import LEVEL, Estimate
from reference_models.study.sweep import PlannedRun

NUM_SAMPLES = 256
NOISE_SEED = 0
BLOCK_ROWS = 1024  # training images that are compared at once

Floats = NDArray[np.float64]
Denoise = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class TrainedModel:
    """A model as it is compared: its denoiser, the images it was trained on, and unseen ones where there are any."""

    denoiser: Denoise
    train: ImageSet
    test: ImageSet | None


@dataclass(frozen=True)
class HalvesCompared:
    """Two models that differ in the half of the images that they were trained on alone, from the same noise.

    Cosines are of pixels about the mean of both training sets; samples that have nothing in common have 0. Distances
    are Euclidean, data in [-1, 1].

    Attributes
    ----------
    cosine : Estimate
        Between the samples of both models from the same noise, mean. High: both learned the same distribution.
    unrelated_cosine : Estimate
        The same for independent pairs of test images: what two new images of the kind have in common.
    reproducibility : Estimate
        Share of the pairs whose cosine exceeds 0.6.
    nearest_cosine : Estimate
        Between a sample and the most similar image that its own model was trained on, mean over both models.
    test_nearest_cosine : Estimate
        The same for test images: what an image that was not copied has.
    distance : Estimate
        Probability flow distance between both models.
    optimal_distance : Estimate
        That between a model and ``D*`` of its training images, root mean square over both models: 0 for a memorizer.
    """

    names: tuple[str, str]
    cosine: Estimate
    unrelated_cosine: Estimate
    reproducibility: Estimate
    nearest_cosine: Estimate
    test_nearest_cosine: Estimate
    distance: Estimate
    optimal_distance: Estimate


@dataclass(frozen=True)
class Taught:
    """A student beside the teacher whose samples it was trained on [1]_: the truth is known.

    Attributes
    ----------
    generalization_error : Estimate
        Probability flow distance to the teacher: 0 if the student learned the teacher's distribution.
    memorization_error : Estimate
        That to ``D*`` of the student's training images: 0 if it can only reproduce them.

    References
    ----------
    .. [1] Zhang et al., "Understanding Generalization in Diffusion Models via Probability Flow Distance", 2025.
    """

    name: str
    generalization_error: Estimate
    memorization_error: Estimate


def pairs_of_halves(runs: Sequence[PlannedRun]) -> list[tuple[PlannedRun, PlannedRun]]:
    """The pairs of runs that differ in `half` alone, the first half first."""
    places: dict[tuple[tuple[str, object], ...], dict[object, PlannedRun]] = {}
    for run in runs:
        others = tuple((name, value) for name, value in run.settings.items() if name != "half")
        places.setdefault(others, {})[run.settings.get("half")] = run
    return [(held["first"], held["second"]) for held in places.values() if {"first", "second"} <= held.keys()]


def compare_halves(
    names: tuple[str, str], first: TrainedModel, second: TrainedModel, *, num_samples: int = NUM_SAMPLES
) -> HalvesCompared:
    """Two models on disjoint halves, at the same noise [1]_.

    References
    ----------
    .. [1] Kadkhodaie et al., "Generalization in diffusion models arises from geometry-adaptive harmonic
       representations", ICLR 2024, whose cosines are not centred: unrelated images are similar then.
    """
    models = first, second
    drawn = [samples_of(model.denoiser, model.train, num_samples=num_samples) for model in models]
    optimal = [samples_of(optimal_of(model.train), model.train, num_samples=num_samples) for model in models]
    trained = [unit_rows(model.train) for model in models]
    mean = np.concatenate(trained).mean(axis=0)
    pairs = [centred(rows, mean) for rows in drawn]
    nearest = [nearest_cosines(rows, centred(images, mean)) for rows, images in zip(pairs, trained, strict=True)]
    unrelated, test_nearest = _of_unseen(first.test, [centred(images, mean) for images in trained], mean)
    return HalvesCompared(
        names,
        cosine=mean_of(np.einsum("nd,nd->n", *pairs)),
        unrelated_cosine=unrelated,
        reproducibility=reproducibility(*pairs),
        nearest_cosine=mean_of(np.mean(nearest, axis=0)),
        test_nearest_cosine=test_nearest,
        distance=pair_distance(*drawn),
        optimal_distance=pair_distance(np.concatenate(drawn), np.concatenate(optimal)),
    )


def compare_with_teacher(
    name: str, student: TrainedModel, teacher: Denoise, *, num_samples: int = NUM_SAMPLES
) -> Taught:
    """A student's distances to the truth and to the memory of its images."""
    drawn, taught, copied = (
        samples_of(denoiser, student.train, num_samples=num_samples)
        for denoiser in (student.denoiser, teacher, optimal_of(student.train))
    )
    return Taught(name, pair_distance(taught, drawn), pair_distance(copied, drawn))


def optimal_of(images: ImageSet) -> OptimalDenoiser:
    """``D*`` of a model's training images: what it would be if it knew them by heart, and nothing else."""
    return OptimalDenoiser(images.array())


def samples_of(denoiser: Denoise, images: ImageSet, *, num_samples: int) -> Floats:
    """Where a denoiser leads the noise that all models are given, float64 (N, D), data in [-1, 1]."""
    drawn = sample(denoiser, num_samples, images.shape, seed=NOISE_SEED)
    return np.asarray(drawn.numpy().reshape(num_samples, -1), dtype=np.float64)


def unit_rows(images: ImageSet) -> Floats:
    """Images as float64 (N, D) in [-1, 1]."""
    return np.asarray(images.array().reshape(len(images), -1) / 127.5 - 1)


def centred(rows: Floats, mean: Floats) -> Floats:
    """Directions of rows from a mean, of length 1; a row that is the mean itself stays 0."""
    moved = rows - mean
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(np.divide(moved, norms, out=np.zeros_like(moved), where=norms > 0))


def nearest_cosines(rows: Floats, images: Floats) -> Floats:
    """The largest cosine of each row (N, D) with any of the images (M, D), both of length 1."""
    blocks = [images[start : start + BLOCK_ROWS] for start in range(0, len(images), BLOCK_ROWS)]
    return np.asarray(np.max([(rows @ block.T).max(axis=1) for block in blocks], axis=0))


def mean_of(values: ArrayLike) -> Estimate:
    """A mean with Student's interval."""
    from scipy.stats import t

    held = np.asarray(values, dtype=np.float64)
    count, value = len(held), float(held.mean())
    if count < 2:
        return Estimate(value, method="no interval", count=count, notes=("an interval needs two images",))
    half = float(t.ppf((1 + LEVEL) / 2, count - 1) * held.std(ddof=1) / np.sqrt(count))
    return Estimate(value, value - half, value + half, "Student's t over images, 95 %", count)


def _of_unseen(test: ImageSet | None, trained: Sequence[Floats], mean: Floats) -> tuple[Estimate, Estimate]:
    """What unseen images have in common with each other, and with the training images."""
    if test is None:
        why = "the set brings no test images"
        return Estimate.undefined(why), Estimate.undefined(why)
    rows = centred(unit_rows(test), mean)
    half = len(rows) // 2
    nearest = np.mean([nearest_cosines(rows, images) for images in trained], axis=0)
    return mean_of(np.einsum("nd,nd->n", rows[:half], rows[half : 2 * half])), mean_of(nearest)
