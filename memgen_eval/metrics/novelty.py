"""How far samples lie from the training set, beside how far images lie that the training set does not hold.

Distances in the chosen feature space, never mirrored. None of these figures enters the verdict: blur and low contrast
bring images nearer to the training set without copying anything.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memgen_eval.diffusion.moments import Moments, moments, project
from memgen_eval.errors import InputError
from memgen_eval.metrics.memorization import distance_ratios
from memgen_eval.metrics.statistics import (
    auc,
    bootstrap,
    percentile_interval,
    percentile_method,
    proportion,
)
from memgen_eval.neighbours.table import Neighbours
from memgen_eval.neighbours.threads import single_thread
from memgen_eval.report import Axis, Curve, Estimate, Novelty

QUANTILES = tuple(j / 100 for j in range(1, 100))
MIN_CELL_IMAGES = 20
DISTINCT_ROWS = 1024
OF_SAMPLES = ("distance_quantiles", "distance_median", "authenticity")
OF_BASELINE = ("test_distance_quantiles", "test_distance_median", "test_authenticity")
ONE_IMAGE = "an interval needs two images"

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Partition:
    """Cells of the space of images: nearest of `centres` (L, K) in the principal coordinates of the training set."""

    mean: Floats
    directions: Floats
    centres: Floats

    def assign(self, images: ArrayLike) -> Cells:
        """The cell of each image, (N, ...) -> int64 (N,)."""
        coordinates, _ = project(np.asarray(images), self.mean, self.directions)  # (N, K)
        squared: Floats = ((coordinates[:, None, :] - self.centres) ** 2).sum(axis=2)  # (N, L)
        cells: Cells = squared.argmin(axis=1)
        return cells


def partition(
    references: ArrayLike,
    *,
    num_cells: int = 3,
    num_components: int = 64,
    seed: int = 0,
    reference_moments: Moments | None = None,
) -> Partition:
    """k-means cells on the first principal components of the training images.

    Parameters
    ----------
    references : array, (M, ...), uint8 or float
        Training images or their features.
    num_cells, num_components : int
        Cut to the number of images and of values.
    seed : int
        Of the k-means initialisation.
    reference_moments : Moments or None
        Where they are known already.

    Returns
    -------
    Partition
        Its `assign` tells the cell of any image.

    Raises
    ------
    InputError
        For no images, no cells, no components, or more than 12,288 values an image.

    References
    ----------
    .. [1] Meehan, Chaudhuri & Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative Models", 2020.
    """
    images = np.asarray(references)
    if len(images) == 0:
        raise InputError("references hold no images; a partition needs at least one")
    if num_cells < 1 or num_components < 1:
        raise InputError(f"num_cells={num_cells}, num_components={num_components}: expected at least 1 of each")
    known = reference_moments or moments(images)
    directions = known.directions(min(num_components, len(known.mean)))
    coordinates, _ = project(images, known.mean, directions)
    return Partition(known.mean, directions, _centres(coordinates, num_cells, seed=seed))


def _centres(coordinates: Floats, num_cells: int, *, seed: int) -> Floats:
    """k-means centres, (N, K) -> (L, K)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    coordinates = coordinates.astype(np.float32)  # more than the cells need
    num_cells = min(num_cells, _num_distinct(coordinates, num_cells))
    with single_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal images may differ in the last bit of a product
        fitted = KMeans(num_cells, n_init=10, random_state=seed % 2**32, copy_x=False).fit(coordinates)
    return np.asarray(fitted.cluster_centers_, dtype=np.float64)


def _num_distinct(rows: NDArray[Any], most: int) -> int:
    """How many different rows there are, counted up to `most`."""
    found = rows[:0]
    for start in range(0, len(rows), DISTINCT_ROWS):
        found = np.unique(np.concatenate([found, rows[start : start + DISTINCT_ROWS]]), axis=0)
        if len(found) >= most:
            return most
    return len(found)


def data_copying_test(
    sample_distances: ArrayLike, test_distances: ArrayLike, *, sample_cells: ArrayLike, test_cells: ArrayLike
) -> Estimate:
    """C_T, how much farther from the training set samples lie than test images do, cell by cell.

    In each cell ``Z = (U - (n m / 2 - 1/2)) / sqrt(n m (n + m + 1) / 12)`` with U the number of pairs in which the
    sample is farther, ties one half; averaged with the cells' shares of the test images. Much below 0: copying, or
    blur; 0: as fresh images; above: off the data. |C_T| grows with the root of the sample size: a test statistic,
    never a rate. Cells with fewer than 20 samples or 20 test images are left out and named in the notes.

    Parameters
    ----------
    sample_distances, test_distances : float, (N,) and (M,)
        To the nearest training image.
    sample_cells, test_cells : int, (N,) and (M,)
        From `Partition.assign`.

    Returns
    -------
    Estimate
        The interval combines those of the cells' U, each side by itself, the shares taken as given.

    Raises
    ------
    InputError
        If distances and cells are not of one length, or a distance is NaN.

    References
    ----------
    .. [1] Meehan, Chaudhuri & Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative Models", 2020.
    """
    sample_cell, test_cell = np.asarray(sample_cells), np.asarray(test_cells)
    samples = _one_each("sample_distances", sample_distances, len(sample_cell))
    test = _one_each("test_distances", test_distances, len(test_cell))
    weights, scores, below, above, notes = [], [], [], [], []
    for cell in np.union1d(sample_cell, test_cell):
        inside, inside_test = samples[sample_cell == cell], test[test_cell == cell]
        n, m = len(inside), len(inside_test)
        if min(n, m) < MIN_CELL_IMAGES:
            notes.append(f"cell {cell} left out: {n} samples, {m} test images")
            continue
        area = auc(inside, inside_test)
        assert area.value is not None and area.low is not None and area.high is not None
        spread = math.sqrt(n * m * (n + m + 1) / 12)
        weights.append(m)
        scores.append((area.value * n * m - (n * m / 2 - 0.5)) / spread)
        below.append((area.value - area.low) * n * m / spread)
        above.append((area.high - area.value) * n * m / spread)
    if not weights:
        return Estimate.undefined(f"every cell has fewer than {MIN_CELL_IMAGES} samples or test images")
    shares = np.array(weights) / np.sum(weights)
    value = float(shares @ np.array(scores))
    low, high = value - math.hypot(*(shares * below)), value + math.hypot(*(shares * above))
    count = len(samples)
    notes.append(f"{count:,} samples, {len(test):,} test images, {len(weights)} cells")
    return Estimate(value, low, high, "DeLong 95 % of each cell, combined", count, tuple(notes))


def _one_each(name: str, values: ArrayLike, num_images: int) -> Floats:
    """`values` as float64, (N,). Raises InputError unless there is one for each image and none is NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (num_images,):
        raise InputError(f"{name} have shape {array.shape}, expected one for each of {num_images} images")
    if np.isnan(array).any():
        raise InputError(f"{name} hold NaN at {int(np.flatnonzero(np.isnan(array))[0])}, expected distances")
    return array


def authenticity(neighbours: Neighbours, *, own_distances: ArrayLike) -> Estimate:
    """Share of samples farther from their nearest training image than that image is from its own nearest.

    ``d1 > own``, strictly. 0 for exact copies; its value for fresh images is not 0.5 but depends on the data (1/3 in
    one dimension, 0.82 for 64-dimensional Gaussian data): compare with the same share for test images.

    Parameters
    ----------
    neighbours : Neighbours, (N, K >= 1)
        Training neighbours of each sample.
    own_distances : float, (N,)
        From each sample's nearest training image to that image's own nearest other training image, in the same units.

    Raises
    ------
    InputError
        If there is not one own distance for each sample, or one is NaN.

    References
    ----------
    .. [1] Alaa, van Breugel, Saveliev & van der Schaar, "How Faithful is your Synthetic Data?", ICML 2022.
    """
    own = _one_each("own_distances", own_distances, len(neighbours))
    return proportion(neighbours.distances[:, 0] > own)


@dataclass(frozen=True, eq=False)
class Distances:
    """What the family knows of one set: training neighbours (N, K), own distances (N,) and cells (N,), or why not."""

    neighbours: Neighbours
    own_distances: Floats | str
    cells: Cells | str


def measure_novelty(samples: Distances, baseline: Distances | None, *, reason: str, seed: int) -> Novelty:
    """The family, from distances in report units; `reason` says why there is no baseline."""
    quantiles, median, medians = _quantiles(samples.neighbours, seed=(seed, 0))
    undefined = Estimate.undefined(reason)
    if baseline is None:
        return Novelty(
            distance_quantiles=quantiles,
            test_distance_quantiles=Curve.undefined(reason),
            distance_median=median,
            test_distance_median=undefined,
            distance_ratio=undefined,
            auc=undefined,
            relative_auc=undefined,
            ct=undefined,
            relative_ct=undefined,
            authenticity=_authenticity(samples),
            test_authenticity=undefined,
        )
    test_quantiles, test_median, test_medians = _quantiles(baseline.neighbours, seed=(seed, 1))
    first, test_first = samples.neighbours.distances[:, 0], baseline.neighbours.distances[:, 0]
    relative, test_relative = _relative(samples.neighbours), _relative(baseline.neighbours)
    return Novelty(
        distance_quantiles=quantiles,
        test_distance_quantiles=test_quantiles,
        distance_median=median,
        test_distance_median=test_median,
        distance_ratio=_median_ratio(median, test_median, medians, test_medians),
        auc=auc(first, test_first),
        relative_auc=_both(relative, test_relative, auc),
        ct=_data_copying(samples, baseline, first, test_first),
        relative_ct=_both(relative, test_relative, lambda x, y: _data_copying(samples, baseline, x, y)),
        authenticity=_authenticity(samples),
        test_authenticity=_authenticity(baseline),
    )


def with_notes(family: Novelty, *, samples: tuple[str, ...], baseline: tuple[str, ...]) -> Novelty:
    """The family with these notes on the figures that rest on samples, on the baseline, or on both."""
    noted: dict[str, Any] = {}
    for name in (field.name for field in fields(family)):
        figure = getattr(family, name)
        notes = samples * (name not in OF_BASELINE) + baseline * (name not in OF_SAMPLES)
        if figure.value is not None:
            noted[name] = replace(figure, notes=(*figure.notes, *notes))
    return replace(family, **noted)


def _both(first: Floats | None, second: Floats | None, measure: Any) -> Estimate:
    if first is None or second is None:
        return Estimate.undefined("needs two training neighbours of each image")
    estimate: Estimate = measure(first, second)
    return estimate


def _relative(neighbours: Neighbours) -> Floats | None:
    return distance_ratios(neighbours) if neighbours.indices.shape[1] > 1 else None


def _authenticity(known: Distances) -> Estimate:
    if isinstance(known.own_distances, str):
        return Estimate.undefined(known.own_distances)
    return authenticity(known.neighbours, own_distances=known.own_distances)


def _data_copying(samples: Distances, baseline: Distances, first: Floats, test_first: Floats) -> Estimate:
    if isinstance(samples.cells, str) or isinstance(baseline.cells, str):
        return Estimate.undefined(samples.cells if isinstance(samples.cells, str) else str(baseline.cells))
    return data_copying_test(first, test_first, sample_cells=samples.cells, test_cells=baseline.cells)


def _quantiles(neighbours: Neighbours, *, seed: tuple[int, ...]) -> tuple[Curve, Estimate, Floats | None]:
    """Quantiles of nearest distances as a curve, their median, and the median's resamples (R,); None for one image."""
    distances, method = neighbours.distances[:, 0], percentile_method()
    values, axis = np.quantile(distances, QUANTILES), Axis("quantile", "", QUANTILES)
    middle = QUANTILES.index(0.5)
    if len(distances) < 2:
        curve = Curve(tuple(values.tolist()), method="no interval", count=1, notes=(ONE_IMAGE,), x=axis)
        return curve, Estimate(float(values[middle]), method="no interval", count=1, notes=(ONE_IMAGE,)), None
    order = np.argsort(distances)
    ranked = distances[order]

    def resampled(drawn: NDArray[np.int64]) -> Floats:
        times = np.bincount(drawn, minlength=len(ranked))[order]
        return np.asarray(np.quantile(np.repeat(ranked, times), QUANTILES))  # of sorted values: three times as fast

    resamples = bootstrap(resampled, len(distances), seed=seed)  # (R, S)
    low, high = percentile_interval(resamples)
    curve = Curve(tuple(values.tolist()), tuple(low.tolist()), tuple(high.tolist()), method, len(distances), (), axis)
    median = Estimate(float(values[middle]), float(low[middle]), float(high[middle]), method, len(distances))
    return curve, median, resamples[:, middle]


def _median_ratio(
    median: Estimate, test_median: Estimate, medians: Floats | None, test_medians: Floats | None
) -> Estimate:
    assert median.value is not None and test_median.value is not None
    if test_median.value == 0:
        return Estimate.undefined("the median distance of the baseline is 0")
    value = median.value / test_median.value
    count = min(c for c in (median.count, test_median.count) if c is not None)
    if medians is None or test_medians is None:
        return Estimate(value, method="no interval", count=count, notes=(ONE_IMAGE,))
    if test_medians.min() == 0:
        return Estimate(value, method="no interval", count=count, notes=("the baseline's median is 0 in resamples",))
    low, high = percentile_interval((medians / test_medians)[:, None])
    return Estimate(value, float(low[0]), float(high[0]), percentile_method(), count)
