"""How much of the samples the mean and covariance of the training set explain.

All figures at one size, the smallest of samples, test and half of train: each is biased by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import threads_for
from memgen_eval.compute.resources import give_memory_back, single_thread, single_thread_pool
from memgen_eval.diffusion.moments import Principal, principal, project
from memgen_eval.metrics.left_out import Neighbourhood, groups_of_images, left_out_half_width
from memgen_eval.metrics.statistics import permutation
from memgen_eval.results import GREY_LEVELS, Estimate, Gaussian

WASSERSTEIN_DIRECTIONS = 256
OVERLAP_DIRECTIONS = 32
TOO_FEW = "needs two samples, two test images and four training images"
SAMPLE_FIGURES = ("wasserstein", "test_wasserstein", "subspace_overlap", "test_subspace_overlap")
OF_DENOISER = "needs a denoiser: see `measure_gaussian_curves`"
METHOD = "jackknife over {} groups of the set's images, Student's t 95 %"
ALL_ALIKE = "no interval: all images nearly repeat each other"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sketch:
    """A set in the training set's principal coordinates: (M, K) inside, and the mean and variance left outside.

    `outside_mean` (D,) is orthogonal to the K directions, `outside_variance` the summed variance about it.
    """

    inside: Floats
    outside_mean: Floats
    outside_variance: float


def sketch(images: NDArray[Any], *, mean: Floats, directions: Floats) -> Sketch:
    """Project (M, ...) images onto (D, K) principal directions about `mean`, and sum up the rest."""
    inside, outside = project(images, mean, directions)  # (M, K), (M,)
    centre = images.reshape(len(images), -1).mean(axis=0, dtype=np.float64) - mean
    outside_mean = centre - directions @ (directions.T @ centre)
    variance = float(outside.mean() - (outside_mean**2).sum())
    return Sketch(inside, outside_mean, max(variance, 0.0))


def gaussian_wasserstein(first: Sketch, second: Sketch) -> float:
    """The 2-Wasserstein distance (not squared) of the Gaussians with both sets' moments, in the units of the images.

    Exact in the K directions: ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)`` [1]_; outside them the means'
    distance and ``(sqrt(v1) - sqrt(v2))^2`` with v the summed variances, a lower bound. Means are kept apart from
    variances there, so that a shift of all images by a constant is its own length. 0: equal moments.

    References
    ----------
    .. [1] Gelbrich, "On a formula for the L2 Wasserstein metric", Mathematische Nachrichten 147, 1990.
    """
    with single_thread():
        squared = _Law.of(first.inside).squared_to(_Law.of(second.inside))
        return float(np.sqrt(squared + _outside(first, second)))


@dataclass(frozen=True, eq=False)
class _Law:
    """A Gaussian in the K directions: mean (K,) and covariance (K, K)."""

    mean: Floats
    covariance: Floats

    @classmethod
    def of(cls, rows: Floats) -> _Law:
        """With the 1/n moments of rows (M, K)."""
        mean = rows.mean(axis=0)
        offsets = rows - mean
        return cls(mean, offsets.T @ offsets / len(rows))

    def without(self, rows: Floats, count: int) -> _Law:
        """Of the others of `count` rows, once rows (B, K) of them are left out."""
        kept, offsets = count - len(rows), rows - self.mean
        shift = -offsets.sum(axis=0) / kept
        covariance = (count * self.covariance - offsets.T @ offsets) / kept - np.outer(shift, shift)
        return _Law(self.mean + shift, covariance)

    @cached_property
    def root(self) -> Floats:
        """The square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        return root

    def squared_to(self, other: _Law) -> float:
        """Squared W2 to another one."""
        cross = np.sqrt(np.maximum(np.linalg.eigvalsh(self.root @ other.covariance @ self.root), 0.0)).sum()
        means = ((self.mean - other.mean) ** 2).sum()
        return max(float(means + np.trace(self.covariance) + np.trace(other.covariance) - 2 * cross), 0.0)


def _outside(first: Sketch, second: Sketch) -> float:
    means = ((first.outside_mean - second.outside_mean) ** 2).sum()
    return float(means + (np.sqrt(first.outside_variance) - np.sqrt(second.outside_variance)) ** 2)


def _without(own: Sketch, rows: Floats, mean: Floats, directions: Floats, *, count: int) -> Sketch:
    """What lies outside, of the others of `count` images, once rows (B, D) of them are left out; nothing inside."""
    kept, centred = count - len(rows), rows - mean
    inside = centred @ directions
    total = centred.sum(axis=0)
    squares = float((centred**2).sum() - (inside**2).sum())
    outside_mean = (count * own.outside_mean - (total - directions @ (directions.T @ total))) / kept
    of_all = own.outside_variance + float((own.outside_mean**2).sum())
    variance = (count * of_all - squares) / kept - float((outside_mean**2).sum())
    return Sketch(inside, outside_mean, max(variance, 0.0))


def _wasserstein(
    images: NDArray[Any],
    reference: Sketch,
    neighbourhood: Neighbourhood,
    *,
    mean: Floats,
    directions: Floats,
    scale: float,
    seed: int,
) -> Estimate:
    """`gaussian_wasserstein` times `scale`, with its interval; `neighbourhood` is that of the reference."""
    own, rows = sketch(images, mean=mean, directions=directions), images.reshape(len(images), -1)
    groups = groups_of_images(own.inside, neighbourhood, seed=seed)
    with single_thread():
        law, other = _Law.of(own.inside), _Law.of(reference.inside)
        value = math.sqrt(other.squared_to(law) + _outside(own, reference)) * scale

        def without(mine: NDArray[np.int64]) -> float:
            rest = _without(own, rows[mine].astype(np.float64), mean, directions, count=len(rows))
            squared = other.squared_to(law.without(rest.inside, len(rows)))
            return math.sqrt(squared + _outside(rest, reference)) * scale

        return _with_interval(value, groups, without, work=10.0 * directions.shape[1] ** 3)


def _with_interval(
    value: float, groups: NDArray[np.int64], without: Callable[[NDArray[np.int64]], float], *, work: float
) -> Estimate:
    """A figure with the interval of its values `without` the images of each group, of so much `work` each."""
    num_groups, count = int(groups.max()) + 1, len(groups)
    if num_groups < 2:
        return Estimate(value, method="no interval", count=count, notes=(ALL_ALIKE,))
    parts = [np.flatnonzero(groups == number) for number in range(num_groups)]
    with single_thread_pool(threads_for(num_groups * work)) as pool:
        half = left_out_half_width(np.array(list(pool.map(without, parts))))
    return Estimate(value, max(value - half, 0.0), value + half, METHOD.format(num_groups), count)


def subspace_overlap(first: Floats, second: Floats) -> float:
    """Mean squared cosine of the principal angles between two subspaces, orthonormal (D, Q) each.

    1: the same subspace; Q/D: two random ones.
    """
    return min(float(((first.T @ second) ** 2).sum() / first.shape[1]), 1.0)  # rounding may pass 1


def _overlap(images: NDArray[Any], reference: Floats, other: NDArray[Any], *, seed: int) -> Estimate:
    """Overlap of a set's leading directions with the reference's (D, Q), those of `other` images.

    Images are left out inside a basis that holds both sets' directions.
    """
    num_directions, rows = reference.shape[1], images.reshape(len(images), -1)
    own = principal(images, 2 * num_directions).kept  # as many more to leave images out in
    value = subspace_overlap(own[:, :num_directions], reference)
    with single_thread():
        basis, _ = np.linalg.qr(np.concatenate([own, reference], axis=1))  # (D, R)
    centre = rows.mean(axis=0, dtype=np.float64)
    coordinates, others = (project(of_set, centre, basis)[0] for of_set in (images, other))  # (M, R)
    groups = groups_of_images(coordinates, Neighbourhood.of(others), seed=seed)
    with single_thread():
        target, law = basis.T @ reference, _Law.of(coordinates)

        def without(mine: NDArray[np.int64]) -> float:
            _, vectors = np.linalg.eigh(law.without(coordinates[mine], len(rows)).covariance)
            return subspace_overlap(vectors[:, -num_directions:], target)

        found = _with_interval(value, groups, without, work=10.0 * basis.shape[1] ** 3)
    return found if found.high is None else replace(found, high=min(found.high, 1.0))


@dataclass(frozen=True, eq=False)
class Drawn:
    """Some images of a set, copied only where and as long as they are used."""

    images: NDArray[Any]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the images drawn."""
        return (len(self.rows), *self.images.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The images, (M, C, H, W)."""
        assert dtype is None and copy is not False
        return self.images[self.rows]


ImageRows = NDArray[Any] | Drawn


@dataclass(frozen=True, eq=False)
class MatchedSets:
    """Images of one number M: samples, test (None without one) and two halves of train, (M, C, H, W) uint8 or float."""

    samples: ImageRows
    test: ImageRows | None
    train: ImageRows
    other_train: ImageRows


def match_sets(
    samples: NDArray[Any], test: NDArray[Any] | None, train: NDArray[Any], *, seed: int
) -> MatchedSets | None:
    """As many images of each set, and of each half of train, as the smallest has, drawn; None for fewer than two.

    Without test images the second half of train takes their place, and does not limit the number.
    """
    size = min(len(samples), len(train) if test is None else len(test), len(train) // 2)
    if size < 2:
        return None
    halves = permutation(len(train), seed=seed)
    return MatchedSets(
        samples=Drawn(samples, permutation(len(samples), seed=seed)[:size]),
        test=None if test is None else Drawn(test, permutation(len(test), seed=seed)[:size]),
        train=Drawn(train, halves[:size]),
        other_train=Drawn(train, halves[size : 2 * size]),
    )


def measure_gaussian(
    sets: MatchedSets,
    *,
    train_moments: Principal,
    grey_levels: float = GREY_LEVELS,
    seed: int,
    notes: tuple[str, ...] = (),
) -> Gaussian:
    """D.5: Wasserstein distance and subspace overlap of samples, of test images, and of two halves of train.

    Parameters
    ----------
    sets : MatchedSets
        All of one size M >= 2.
    train_moments : Principal
        Of the whole training set: its leading K = min(256, M/4) directions are used.
    grey_levels : float
        What one unit of a report is in the units of the images.
    seed : int
        Of the groups of images.
    notes : tuple of str
        What limits the figures of the samples.
    """
    size, dimension = len(sets.samples), len(train_moments.mean)
    num_directions = min(WASSERSTEIN_DIRECTIONS, max(size // 4, 1), dimension)
    directions = train_moments.directions(num_directions)
    scale = 1 / (grey_levels * math.sqrt(dimension))

    def sketched(images: ImageRows) -> Sketch:
        return sketch(np.asarray(images), mean=train_moments.mean, directions=directions)

    reference = sketched(sets.train)
    between_halves = gaussian_wasserstein(sketched(sets.other_train), reference) * scale
    give_memory_back()
    of_all = f"{num_directions} directions"
    own_notes = (of_all, f"two halves of train: {between_halves:.4g}", *notes)
    control = sets.other_train if sets.test is None else sets.test
    control_notes = ("the other half of train: no test set was given",) if sets.test is None else ()
    overlap, test_overlap = _overlaps(sets, control, size=size, seed=seed)
    give_memory_back()  # before other arrays of this size
    frame = {"mean": train_moments.mean, "directions": directions}
    near = Neighbourhood.of(reference.inside)
    wasserstein, test_wasserstein = (
        _noted(_wasserstein(np.asarray(images), reference, near, scale=scale, seed=seed, **frame), more)
        for images, more in ((sets.samples, own_notes), (control, (of_all, *control_notes)))
    )
    overlap = _noted(overlap, notes)
    return replace(
        Gaussian.undefined(OF_DENOISER),
        wasserstein=wasserstein,
        test_wasserstein=test_wasserstein,
        subspace_overlap=overlap,
        test_subspace_overlap=test_overlap,
    )


def _noted(found: Estimate, notes: tuple[str, ...]) -> Estimate:
    return replace(found, notes=(*found.notes, *notes))


def with_sample_figures(family: Gaussian, of_samples: Gaussian) -> Gaussian:
    """The family with the figures of samples from another one."""
    return replace(family, **{name: getattr(of_samples, name) for name in SAMPLE_FIGURES})


def _overlaps(sets: MatchedSets, control: ImageRows, *, size: int, seed: int) -> tuple[Estimate, Estimate]:
    num_directions, dimension = min(OVERLAP_DIRECTIONS, size // 4), int(np.prod(sets.train.shape[1:]))
    if num_directions == 0 or num_directions >= dimension:
        why = (
            "needs four images of each set" if num_directions == 0 else f"all directions of {dimension} values coincide"
        )
        undefined = Estimate.undefined(why, count=size)
        return undefined, undefined
    train = np.asarray(sets.train)
    reference = principal(train, 2 * num_directions).kept[:, :num_directions]
    first, second = (_overlap(np.asarray(images), reference, train, seed=seed) for images in (sets.samples, control))
    return first, second
