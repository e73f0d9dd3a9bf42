"""How far samples lie from the training set, beside how far images lie that the training set does not hold.

Distances in the chosen feature space, never mirrored. None of these figures enters the verdict: blur and low contrast
bring images nearer to the training set without copying anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memgen_eval.metrics.data_copying import Cells, Partition, _one_each, data_copying_test
from memgen_eval.metrics.ratios import distance_ratios
from memgen_eval.metrics.resampling import percentile_interval, percentile_method, resampled_quantiles
from memgen_eval.metrics.statistics import NO_BASELINE, auc, proportion
from memgen_eval.neighbours.distances import pair_distances
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.results import Axis, Curve, Estimate, Novelty

QUANTILES = tuple(j / 100 for j in range(1, 100))
COPIED_BYTES = 2**26  # of training rows that are searched for at once
OTHERS = 5  # neighbours of an image, of which the second to the last are compared with the first
NO_MEDIAN = "the median distance of the baseline is 0"
ONE_IMAGE = "an interval needs two images"
NO_OTHERS = "needs another training image beside the nearest"
Floats = NDArray[np.float64]


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


def known_distances(
    tables: Sequence[Neighbours], index: Index, partition: Partition | str, *, skip_own: str | None = None
) -> list[Distances]:
    """What the family needs to know of the images that each table was searched for.

    `index` is that of the training images in the tables' space, `partition` divides it, or says why it is not divided;
    `skip_own` says why own distances are not wanted.
    """
    own: Sequence[Floats | str] = [skip_own or NO_OTHERS] * len(tables)
    if skip_own is None and len(index) >= 2 + any(table.excluded is not None for table in tables):
        own = _own_distances(tables, index)
    cells = [
        partition if isinstance(partition, str) else partition.assign(np.asarray(table.queries)) for table in tables
    ]
    return [Distances(*known) for known in zip(tables, own, cells, strict=True)]


def _own_distances(tables: Sequence[Neighbours], index: Index) -> list[Floats]:
    """From the nearest training image of each image to that one's own nearest other, (N,) for each table.

    Where another of the image's neighbours is nearer to the first than the image is, that distance stands for it: it is
    no smaller, and says the same of authenticity. An image left out of train may be that other one: both distances are
    then equal, and only a larger one is authentic.
    """
    known = [_among_neighbours(table, index) for table in tables]
    unknown = [table.distances[:, 0] <= found for table, found in zip(tables, known, strict=True)]
    firsts = np.unique(np.concatenate([table.indices[rows, 0] for table, rows in zip(tables, unknown, strict=True)]))
    step = max(1, COPIED_BYTES // index.rows[:1].nbytes)
    pieces = [firsts[start : start + step] for start in range(0, len(firsts), step)]
    own = [index.search(index.rows[rows], 1, exclude=rows).distances[:, 0] for rows in pieces]
    for table, found, rows in zip(tables, known, unknown, strict=True):
        if rows.any():
            found[rows] = np.concatenate(own)[np.searchsorted(firsts, table.indices[rows, 0])] * table.factor
    return known


def _among_neighbours(table: Neighbours, index: Index) -> Floats:
    """From the first neighbour of each image to the nearest of a few others, (N,); infinite where there are none."""
    first, others = table.indices[:, 0], table.indices[:, 1:OTHERS]
    if others.shape[1] == 0:
        return np.full(len(table), np.inf)
    squared = pair_distances(index.rows, first, index.rows, others).astype(np.float64)
    return np.asarray(np.sqrt(squared.min(axis=1)) * table.factor)


def measure_novelty(samples: Distances, baseline: Distances | None = None, *, seed: int) -> Novelty:
    """The family, from distances in report units."""
    quantiles, median, medians = _quantiles(samples.neighbours, seed=(seed, 0))
    family = replace(
        Novelty.undefined(NO_BASELINE),
        distance_quantiles=quantiles,
        distance_median=median,
        authenticity=_authenticity(samples),
    )
    if baseline is None:
        return family
    test_quantiles, test_median, test_medians = _quantiles(baseline.neighbours, seed=(seed, 1))
    first, test_first = samples.neighbours.distances[:, 0], baseline.neighbours.distances[:, 0]
    relative_auc = relative_ct = Estimate.undefined("needs two training neighbours of each image")
    if min(known.neighbours.indices.shape[1] for known in (samples, baseline)) > 1:
        relative, test_relative = (distance_ratios(known.neighbours) for known in (samples, baseline))
        relative_auc = auc(relative, test_relative)
        relative_ct = _data_copying(samples, baseline, relative, test_relative)
    return replace(
        family,
        test_distance_quantiles=test_quantiles,
        test_distance_median=test_median,
        distance_ratio=_distance_ratio(median, test_median, medians, test_medians),
        auc=auc(first, test_first),
        relative_auc=relative_auc,
        ct=_data_copying(samples, baseline, first, test_first),
        relative_ct=relative_ct,
        test_authenticity=_authenticity(baseline),
    )


def with_notes(family: Novelty, *, samples: tuple[str, ...], baseline: tuple[str, ...]) -> Novelty:
    """The family with these notes on the figures that rest on samples, on the baseline, or on both.

    A figure that has a twin, `test_` before its name, rests on the samples alone, and the twin on the baseline alone.
    """
    noted: dict[str, Any] = {}
    names = [field.name for field in fields(family)]
    for name in names:
        figure = getattr(family, name)
        notes = samples * (not name.startswith("test_")) + baseline * (f"test_{name}" not in names)
        if figure.value is not None:
            noted[name] = replace(figure, notes=(*figure.notes, *notes))
    return replace(family, **noted)


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
    resamples = resampled_quantiles(distances, QUANTILES, seed=seed)  # (R, S)
    low, high = percentile_interval(resamples)
    curve = Curve(tuple(values.tolist()), tuple(low.tolist()), tuple(high.tolist()), method, len(distances), (), axis)
    median = Estimate(float(values[middle]), float(low[middle]), float(high[middle]), method, len(distances))
    return curve, median, resamples[:, middle]


def _distance_ratio(
    median: Estimate, test_median: Estimate, medians: Floats | None, test_medians: Floats | None
) -> Estimate:
    assert median.value is not None and test_median.value is not None
    if test_median.value == 0:
        return Estimate.undefined(NO_MEDIAN)
    count = min(c for c in (median.count, test_median.count) if c is not None)
    if medians is None or test_medians is None:
        value = median.value / test_median.value
        return Estimate(value, method="no interval", count=count, notes=(ONE_IMAGE,))
    return median_ratio((median.value, test_median.value), (medians, test_medians), count=count)


def median_ratio(medians: tuple[float, float], resampled: tuple[Floats, Floats], *, count: int) -> Estimate:
    """The first median over the second, which is not 0, with the interval of their resamples, (R,) each."""
    value = medians[0] / medians[1]
    if resampled[1].min() == 0:
        return Estimate(value, method="no interval", count=count, notes=("the baseline's median is 0 in resamples",))
    low, high = percentile_interval((resampled[0] / resampled[1])[:, None])
    return Estimate(value, float(low[0]), float(high[0]), percentile_method(), count)
