"""Images compared with training images at the shift, turn and scale at which they agree best.

An image is compared with candidates alone, the nearest training images without alignment: a copy that was moved so far
that its training image is not among them is missed. Unseen images are compared in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.altered.views import VIEWS, View
from memgen_eval.altered.windows import Covered, Geometry, Windows
from memgen_eval.compute.resources import Workers, blocks, num_threads, single_thread, start_workers

NUM_CANDIDATES, NUM_VIEWED = 32, 4  # nearest training images; those that turned and scaled images are laid over
FEWEST_SIDE = 8  # pixels: smaller images have nothing left when their borders are cut
CANDIDATES_AT_ONCE = 32  # whose places a thread holds
MOST_AT_ONCE = 64  # images that are laid over a candidate at once
LAST_BITS = 1e-12  # of a correlation of equal windows

Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Aligned:
    """How well images agree with their candidates at the best shift and view.

    Attributes
    ----------
    squared : float64, (N, K)
        ``1 - r`` with r the correlation of both, about the mean of every channel; half the squared distance of what is
        compared, standardized. 0: equal; 1: unrelated.
    view : int64, (N, K)
        Of `VIEWS`.
    down, right : int64, (N, K)
        Pixels by which the image, seen so, lies below and to the right of the candidate.
    """

    squared: NDArray[np.float64]
    view: Rows
    down: Rows
    right: Rows


def align(images: NDArray[Any], train: NDArray[Any], candidates: Rows, flipped: Bools) -> Aligned:
    """The best agreement of each image with each of its candidates, over all shifts, and views of the best four.

    The centre of an image, without its borders, is laid over every place of the candidate that a shift of at most
    an eighth of the smaller side reaches. What deviates by less than 4 grey levels is taken to deviate by 4, so that
    flat places do not agree. Turned and scaled images are compared only with the four candidates that agree best
    without.

    Parameters
    ----------
    images, train : uint8 or float32, (N, C, H, W) and (n, C, H, W)
        In grey levels, with sides of at least 8 pixels.
    candidates : int64, (N, K)
        Training images, by row.
    flipped : bool, (N, K)
        Whether each is mirrored first.
    """
    if len(images) == 0:  # the share of a process that has none
        nothing = np.zeros(candidates.shape, dtype=np.int64)
        return Aligned(np.zeros(candidates.shape), nothing, nothing, nothing)
    with start_workers(num_threads()) as workers, single_thread():
        plain = _agreement(images, train, candidates, flipped, VIEWS[:1], workers)
        best = np.argsort(plain.squared, axis=1, kind="stable")[:, :NUM_VIEWED]  # (N, 4)
        own, mirror = np.take_along_axis(candidates, best, axis=1), np.take_along_axis(flipped, best, axis=1)
        seen = _agreement(images, train, own, mirror, VIEWS[1:], workers)
    better = seen.squared < np.take_along_axis(plain.squared, best, axis=1)
    for whole, part in zip(vars(plain).values(), vars(replace(seen, view=seen.view + 1)).values(), strict=True):
        np.put_along_axis(whole, best, np.where(better, part, np.take_along_axis(whole, best, axis=1)), axis=1)
    return plain


def _agreement(
    images: NDArray[Any],
    train: NDArray[Any],
    candidates: Rows,
    flipped: Bools,
    views: tuple[View, ...],
    workers: Workers,
) -> Aligned:
    """The best agreement over all shifts and these views."""
    geometry = Geometry.of(images.shape)
    windows = Windows.of(images, views, geometry, workers)
    pairs, mirror = _ByCandidate.of(candidates), flipped.ravel()
    squared = np.empty(candidates.size)
    lies = np.empty(candidates.size, dtype=np.int64)

    def compare(block: slice) -> None:
        group = pairs.groups(block)  # (B, M)
        places = Covered.of(train[pairs.keys[block]], geometry)
        found = _correlations(windows, group // candidates.shape[1], mirror[group], places, geometry)
        squared[group], lies[group] = _best(found)

    workers.map(compare, blocks(len(pairs.keys), CANDIDATES_AT_ONCE))
    size = geometry.shifts
    view, place = np.divmod(lies.reshape(candidates.shape), size * size)
    down, right = np.divmod(place, size)
    return Aligned(squared.reshape(candidates.shape), view, geometry.shift - down, geometry.shift - right)


@dataclass(frozen=True, eq=False)
class _ByCandidate:
    """Pairs of images and candidates by candidate, so that few candidates are looked up more than once.

    Attributes
    ----------
    order : positions of the pairs in (N, K), those of one key beside each other, (P,)
    keys : the training image of up to `MOST_AT_ONCE` pairs, those with few pairs first, (G,)
    starts, counts : where the pairs of each key begin in `order`, and how many there are, (G,)
    """

    order: Rows
    keys: Rows
    starts: Rows
    counts: Rows

    @classmethod
    def of(cls, candidates: Rows) -> _ByCandidate:
        flat = candidates.ravel()
        order = np.argsort(flat, kind="stable")
        keys = flat[order]
        place = np.arange(len(keys)) - np.searchsorted(keys, keys)  # of each pair among those of its candidate
        starts = np.flatnonzero(place % MOST_AT_ONCE == 0)
        counts = np.diff(starts, append=len(keys))
        few_first = np.argsort(counts, kind="stable")
        return cls(order, keys[starts][few_first], starts[few_first], counts[few_first])

    def groups(self, block: slice) -> Rows:
        """The pairs of each of these keys, (B, M); the last one again where there are fewer than M."""
        starts, counts = self.starts[block, None], self.counts[block, None]
        return self.order[starts + np.minimum(np.arange(counts.max()), counts - 1)]


def _correlations(windows: Windows, rows: Rows, mirror: Bools, places: Covered, geometry: Geometry) -> Doubles:
    """Correlations of some images, (B, M), with the candidate of their row at every place, (B, M, V, s, s).

    A candidate is mirrored by mirroring the window and the places instead, which are as many and the same numbers.
    """
    values = windows.values[rows].astype(np.float32)  # (B, M, V, h, C, w)
    values[mirror] = values[mirror][..., ::-1]
    num_keys, num_pairs, num_views = values.shape[:3]
    flat = num_keys, num_pairs * num_views, -1
    covered, num_squares = places.values.reshape(num_keys, -1, geometry.num_values), np.prod(geometry.squares)
    products = (values.reshape(flat) @ covered.swapaxes(1, 2)).astype(np.float64)  # (B, M V, s t)
    products -= windows.sums[rows].reshape(flat) @ places.sums.swapaxes(1, 2) / num_squares
    products /= windows.lengths[rows].reshape(flat) * places.lengths[:, None]
    found = products.reshape(num_keys, num_pairs, num_views, geometry.shifts, -1)
    found[mirror] = found[mirror][..., ::-1]
    return found[..., : geometry.shifts]


def _best(correlations: Doubles) -> tuple[Doubles, Rows]:
    """``1 - r`` at the view and place where images agree best, (B, M), and both as one number."""
    shape = correlations.shape[:2]
    flat = correlations.reshape(shape[0] * shape[1], -1)  # (B M, V s s)
    best = flat.argmax(axis=1)
    apart = 1 - flat[np.arange(len(flat)), best]
    return np.where(apart < LAST_BITS, 0.0, apart).reshape(shape), best.reshape(shape)
