"""The data-copying test C_T: whether samples are nearer to the training set than unseen images are, cell by cell."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memgen_eval.compute.resources import single_thread
from memgen_eval.diffusion.moments import KEPT_DIRECTIONS, Principal, principal, project
from memgen_eval.errors import InputError
from memgen_eval.metrics.statistics import area_interval, delong
from memgen_eval.results import Estimate

MIN_CELL_IMAGES = 20
DISTINCT_ROWS = 1024
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
    reference_moments: Principal | None = None,
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
    reference_moments : Principal or None
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
    known = reference_moments or principal(images, max(num_components, KEPT_DIRECTIONS))
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
    blur; 0: as fresh images; above: off the data. ``|C_T|`` grows with the root of the sample size: a test statistic,
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
        The interval is that of the cells' mean area ``U / (n m)``, on the logit scale; the numbers of images in the
        cells are taken as given.

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
    found, notes = [], []
    for cell in np.union1d(sample_cell, test_cell):
        inside, inside_test = samples[sample_cell == cell], test[test_cell == cell]
        n, m = len(inside), len(inside_test)
        if min(n, m) < MIN_CELL_IMAGES:
            notes.append(f"cell {cell} left out: {n} samples, {m} test images")
            continue
        found.append((n, m, *delong(inside, inside_test)))
    if not found:
        return Estimate.undefined(f"every cell has fewer than {MIN_CELL_IMAGES} samples or test images")
    n, m, areas, variances = np.array(found).T  # (L,) each
    shares, spread = m / m.sum(), np.sqrt(n * m * (n + m + 1) / 12)
    value = float(shares @ ((areas * n * m - (n * m / 2 - 0.5)) / spread))
    slopes = shares * n * m / spread  # of C_T in the areas
    slope = float(slopes.sum())
    area = min(max(float(slopes @ areas) / slope, 0.0), 1.0)
    variance = float(slopes**2 @ variances) / slope**2
    low, high = (value + slope * (end - area) for end in area_interval(area, variance, int(np.minimum(n, m).sum())))
    count = len(samples)
    notes.append(f"{count:,} samples, {len(test):,} test images, {len(found)} cells")
    return Estimate(value, low, high, "DeLong 95 % of the cells' mean area, on the logit scale", count, tuple(notes))


def _one_each(name: str, values: ArrayLike, num_images: int) -> Floats:
    """`values` as float64, (N,). Raises InputError unless there is one for each image and none is NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (num_images,):
        raise InputError(f"{name} have shape {array.shape}, expected one for each of {num_images} images")
    if np.isnan(array).any():
        raise InputError(f"{name} hold NaN at {int(np.flatnonzero(np.isnan(array))[0])}, expected distances")
    return array
