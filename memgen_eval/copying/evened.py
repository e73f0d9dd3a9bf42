"""Images compared with the training set once brightness, colour cast and contrast are evened out, and then aligned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.altered.alignment import FEWEST_SIDE, NUM_CANDIDATES, Aligned, align
from memgen_eval.altered.standardized import lacks_contrast, standardized
from memgen_eval.compute.kept import Arrays
from memgen_eval.compute.resources import blocks
from memgen_eval.copying.rules import Rated
from memgen_eval.metrics.ratios import distance_ratios
from memgen_eval.neighbours.distances import pair_distances
from memgen_eval.neighbours.duplicates import without_duplicates
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.topk import Neighbours

EVENED_AT_ONCE, ALIGNED_AT_ONCE = 1024, 10_240  # images

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EvenTrain:
    """The training set to be compared with images evened out.

    Attributes
    ----------
    index : Index
        The training images, standardized.
    images : (n, C, H, W)
        As they are.
    tolerance : float
        Of duplicates among the standardized images.
    flip : bool
        Whether mirrored training images count.
    """

    index: Index
    images: NDArray[Any]
    tolerance: float
    flip: bool

    @property
    def can_align(self) -> bool:
        """Whether the images are large enough to be shifted."""
        return bool(min(self.images.shape[2:]) >= FEWEST_SIDE)


@dataclass(frozen=True, eq=False)
class Evened:
    """What is known of images evened out: ratings, and how each lies on its candidates where they were aligned.

    Attributes
    ----------
    standardized : Rated, (N,)
    aligned : Rated or None, (N,)
        None for images too small to be shifted.
    best : Rows, (N, 4) or None
        View of `VIEWS`, pixels down, pixels right, and whether it is mirrored, of the training image that fits best.
    """

    standardized: Rated
    aligned: Rated | None
    best: Rows | None


def even_out(images: NDArray[Any], train: EvenTrain, *, excluded: Rows | None = None, apart: bool = False) -> Evened:
    """Compare images, (N, C, H, W), with the training set, evened out.

    `excluded` (N,) names the training image that each is not compared with; with `apart`, its duplicates are left out
    too.
    """
    even, flat = _standardized_rows(images)
    num_others = len(train.index) - (excluded is not None)
    table = train.index.search(even, min(NUM_CANDIDATES, num_others), exclude=excluded)
    table = train.index.both_orientations(table) if train.flip else table
    if apart:
        table = without_duplicates(table, tolerance=train.tolerance)
    distinct = train.index.distinct(table, tolerance=train.tolerance)
    ratios = np.minimum(distance_ratios(distinct, squared=True), 1.0)
    ratios[flat] = 1.0
    of_standardized = Rated(ratios, table.indices[:, 0])
    if not train.can_align or table.indices.shape[1] < 2:
        return Evened(of_standardized, None, None)
    aligned, best = _aligned(images, table, train)
    aligned.ratios[flat] = 1.0
    return Evened(of_standardized, aligned, best)


def _standardized_rows(images: NDArray[Any]) -> tuple[NDArray[np.uint8], Bools]:
    """Images standardized, and which of them say nothing, block by block."""
    rows = np.empty((len(images), *standardized(images[:1]).shape[1:]), dtype=np.uint8)
    flat = np.empty(len(images), dtype=bool)
    for block in blocks(len(images), EVENED_AT_ONCE):
        rows[block] = standardized(images[block])
        flat[block] = lacks_contrast(rows[block])
    return rows, flat


def _aligned(images: NDArray[Any], table: Neighbours, train: EvenTrain) -> tuple[Rated, Rows]:
    """Ratings by the two distinct candidates that fit best, each rank its share; and how the best one lies."""
    ranks = train.index.ranks
    own = ranks.shard(len(images))
    images, table = images[own], table[own]
    flipped = np.zeros(table.indices.shape, dtype=bool) if table.flipped is None else table.flipped
    kept = train.index.kept
    if kept.active:
        kept = kept.under(train.index.references.checksum, train.images, train.tolerance, train.flip)

    def rated(rows: slice) -> Arrays:
        return _rated(align(images[rows], train.images, table.indices[rows], flipped[rows]), table[rows], train)

    parts = [
        kept.block(partial(rated, rows), "alignments", images[rows], table.indices[rows], flipped[rows])
        for rows in blocks(max(1, len(images)), ALIGNED_AT_ONCE)
    ]
    columns: Iterator[Any] = zip(*parts, strict=True)
    ratios, nearest, best = (ranks.gather(np.concatenate(part)) for part in columns)
    return Rated(ratios, nearest), best


def _rated(found: Aligned, table: Neighbours, train: EvenTrain) -> tuple[NDArray[np.float64], Rows, Rows]:
    """The squared ratio of the best two distinct candidates, (N,), the best one, (N,), and how it lies, (N, 4)."""
    order = np.argsort(found.squared, axis=1, kind="stable")
    squared = np.take_along_axis(found.squared, order, axis=1)
    candidates = np.take_along_axis(table.indices, order, axis=1)
    rows, first = train.index.rows, candidates[:, 0]
    between = pair_distances(rows, first, rows, candidates[:, 1:], flip=train.flip)  # (N, K - 1)
    distinct = between > train.tolerance**2
    best, second = squared[:, 0], squared[np.arange(len(squared)), 1 + distinct.argmax(axis=1)]
    ratios = np.zeros(len(best))
    np.divide(best, second, out=ratios, where=best > 0)
    ratios[~distinct.any(axis=1) & (best > 0)] = 1.0
    flipped = np.zeros(candidates.shape, dtype=bool) if table.flipped is None else table.flipped
    lies = (found.view, found.down, found.right, flipped.astype(np.int64))
    return ratios, first, np.stack([part[np.arange(len(part)), order[:, 0]] for part in lies], axis=1)
