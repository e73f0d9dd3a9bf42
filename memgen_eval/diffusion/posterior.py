"""The softmax over training images, streamed: running sums over tiles, and the exact weighted sums of uint8 images.

In reading order: `Posterior`, `PosteriorSum`, then for uint8 tiles `add_integer_tile`, which rounds the weights to
integers (`_add_rounded`) and multiplies their digits with the images (`_add_pending`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memgen_eval.compute.products import Products
from memgen_eval.diffusion.tiles import IntegerBlock, IntegerTile, TileDistances, to_digits, undo_digits

DROPPED_MASS = 1e-9  # upper bound of the sum of the weights left out, as a share of the whole
ROUNDED_MASS = 2.0**-20  # upper bound of what rounding the weights of a tile changes, as a share of the whole
SMALLEST_LOGIT = -200.0  # exp is slow where its result is too small to be a normal number
MAX_SINGLE_WEIGHTS = 12  # weights of a tile that are summed alone: a product with the whole tile would cost more
LARGEST_DIGIT = 127
MAX_WEIGHT_DIGITS = 4
FULL = 512  # rows of digits that are multiplied with a tile together: their products stay in the cache
LARGEST_SCALE = LARGEST_DIGIT * 256.0 ** (MAX_WEIGHT_DIGITS - 1)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """The training set's law given noisy images."""

    mean: Floats | None  # D*, data in [-1, 1], (S, B, D)
    effective_neighbours: Floats  # exp(entropy of w), from 1 to n, (S, B)
    own_weight: Floats  # of the training images that are identical to x0, (S, B)
    variance: Floats | None  # sum_i w_i |y_i - D*|^2 per value: the mean of |D* - x0|^2 given x; (S, B)

    def at(self, number: int) -> Posterior:
        """At one of the sigmas: (B, D) or None, (B,), (B,), (B,) or None."""
        mean, variance = (None if part is None else part[number] for part in (self.mean, self.variance))
        return Posterior(mean, self.effective_neighbours[number], self.own_weight[number], variance)

    def of_images(self, at: slice) -> Posterior:
        """Given some of the noisy images, to be written to."""
        mean, variance = (None if part is None else part[:, at] for part in (self.mean, self.variance))
        return Posterior(mean, self.effective_neighbours[:, at], self.own_weight[:, at], variance)

    @staticmethod
    def empty(shape: tuple[int, ...], dimension: int | None) -> Posterior:
        """To be written to, for (S, B) and D; where there is no dimension, without mean and variance."""
        mean = None if dimension is None else np.empty((*shape, dimension))
        return Posterior(mean, np.empty(shape), np.empty(shape), None if dimension is None else np.empty(shape))


@dataclass(frozen=True, eq=False)
class TileWeights:
    """Weights of a tile's images for one noisy image, at the R sigmas at which they matter."""

    image: int
    sigmas: NDArray[np.intp]  # their numbers, (R,)
    factor: Floats  # makes `values` relative to the largest weight of all tiles so far, (R,)
    values: Floats  # (R, T)


class PosteriorSum:
    """Running sums over the tiles for every sigma and noisy image, relative to the largest weight so far."""

    def __init__(self, sigmas: Floats, dimension: int | None, *, num_train: int, with_law: bool) -> None:
        """Before the first tile, for sigmas (S, B); without sums of images where there is no dimension.

        Entropy, own weight and variance are left out where the law is not wanted beside its mean.
        """
        shape = sigmas.shape
        self.sigmas, self.num_train, self.with_law = sigmas.copy(), num_train, with_law
        self.top = np.full(shape, -np.inf)  # largest logits so far
        self.mass = np.zeros(shape)  # sums of weights
        self.weighted_logits = np.zeros(shape)  # sums of weights times their logarithms
        self.weighted_norms = np.zeros(shape)  # sums of weights times squared norms
        self.own_mass = np.zeros(shape)  # sums of the weights of images identical to x0
        self.images = None if dimension is None else np.empty((*shape, dimension))  # sums of weights times images
        self.images_mass = np.zeros(shape)  # sums of the weights in `images`, which are rounded for uint8 tiles
        self.images_top = np.full(shape, -np.inf)  # the largest logits when `images` was last added to

    def add(self, image: int, seen: TileDistances, norms: Floats, memory: Floats) -> TileWeights | None:
        """Add a tile to all sums of one noisy image but those of `images`; return its weights if these are wanted.

        A tile, whose images have squared norms (T,), is left out at the sigmas at which its weights cannot matter in
        the sum over the training set. Logits and weights are written to `memory`, (2, S, T), which is faster than new.
        """
        logits = seen.logits(self.sigmas[:, image], memory)  # (S, T)
        tile_top = logits.max(axis=1)
        matters = tile_top - self.top[:, image] > math.log(DROPPED_MASS / self.num_train)
        if not matters.any():
            return None
        live = slice(int(np.argmax(matters)), len(logits))  # at low sigma one tile outweighs the others
        tile_top, logits = tile_top[live], logits[live]
        logits -= tile_top[:, None]
        new_top = np.maximum(self.top[live, image], tile_top)
        factor = np.exp(tile_top - new_top)
        self._rescale(live, image, new_top)
        torch.from_numpy(logits).clamp_(min=SMALLEST_LOGIT)  # in half the time of numpy
        weights = np.exp(logits, out=memory[1, live])
        mass = weights.sum(axis=1)
        self.mass[live, image] += factor * mass
        if self.with_law:
            weighted_logits = np.einsum("st,st->s", weights, logits) + mass * (tile_top - new_top)
            self.weighted_logits[live, image] += factor * weighted_logits
            if len(seen.copies):
                self.own_mass[live, image] += factor * weights[:, seen.copies].sum(axis=1)
        if self.images is None:
            return None
        if self.with_law:
            self.weighted_norms[live, image] += factor * np.einsum("st,t->s", weights, norms)
        return TileWeights(image, np.arange(live.start, live.stop), factor, weights)

    def _rescale(self, live: slice, image: int, new_top: Floats) -> None:
        """Make the sums relative to the new largest weight."""
        top = self.top[live, image]
        shift = np.where(np.isinf(top), 0.0, top - new_top)  # before the first tile the sums are zero
        self.weighted_logits[live, image] += self.mass[live, image] * shift
        scale = np.exp(shift)
        for running in (self.mass, self.weighted_logits, self.own_mass, self.weighted_norms, self.images_mass):
            running[live, image] *= scale
        self.top[live, image] = new_top

    def add_images_mass(self, weights: TileWeights) -> None:
        """Add the weights with which a tile's images are added."""
        self.images_mass[weights.sigmas, weights.image] += weights.factor * weights.values.sum(axis=1)

    def add_images(self, image: int, sigmas: Iterable[int], factor: Floats, weighted: Iterable[Any]) -> None:
        """Add sums of weights times images, (D,) at each of R sigmas, times factors (R,); see `TileWeights`."""
        assert self.images is not None
        for sigma, scale, values in zip(sigmas, factor, weighted, strict=True):
            total, top, before = self.images[sigma, image], self.top[sigma, image], self.images_top[sigma, image]
            self.images_top[sigma, image] = top
            if before == -np.inf:  # the first tile
                np.multiply(values, scale, out=total)
                continue
            if before != top:
                total *= math.exp(before - top)
            total += scale * values

    def write_means(self, means: NDArray[np.float32], shift: float, scale: float) -> None:
        """D* of ``(y + shift) / scale``, once all tiles of images y have been added, (S, B, D)."""
        assert self.images is not None
        factor = np.exp(self.images_top - self.top) / self.images_mass
        for index in np.ndindex(*factor.shape):
            mean = self.images[index] * factor[index]
            mean += shift
            mean /= scale
            means[index] = mean

    def write(self, found: Posterior, shift: float, scale: float) -> None:
        """The law of ``(y + shift) / scale``, once all tiles of images y have been added."""
        entropy = np.log(self.mass) - self.weighted_logits / self.mass
        found.effective_neighbours[:] = np.exp(entropy)
        found.own_weight[:] = self.own_mass / self.mass
        if self.images is None or found.mean is None or found.variance is None:
            return
        factor, spread = np.exp(self.images_top - self.top) / self.images_mass, self.weighted_norms / self.mass
        for index in np.ndindex(*factor.shape):
            mean = self.images[index] * factor[index]
            variance = max(spread[index] - np.einsum("d,d->", mean, mean), 0.0)
            found.variance[index] = variance / (len(mean) * scale**2)
            found.mean[index] = (mean + shift) / scale


@dataclass(frozen=True, eq=False)
class PendingSum:
    """Rounded weights of one image at R sigmas, as digits, (M, R, T), that wait for their product with the tile."""

    image: int
    sigmas: NDArray[np.intp]
    factor: Floats
    digits: NDArray[np.int8]


def add_integer_tile(sums: PosteriorSum, products: Products, block: IntegerBlock, tile: IntegerTile) -> None:
    """Add the training images of a uint8 tile to the sums of a block of noisy images: all products are exact."""
    memory, pending = np.empty((2, len(sums.sigmas), len(tile.norms))), list[PendingSum]()
    for image, seen in block.distances(tile, products):
        weights = sums.add(image, seen, tile.norms, memory)
        if weights is not None:
            pending += _add_rounded(sums, weights, tile)
        if sum(one.digits[..., 0].size for one in pending) >= FULL:
            _add_pending(sums, pending, tile, products)
            pending = []
    if pending:
        _add_pending(sums, pending, tile, products)


def _add_rounded(sums: PosteriorSum, weights: TileWeights, tile: IntegerTile) -> list[PendingSum]:
    """Round the weights to integers; where few are not zero, add their images alone, and return the others.

    Sums with integer weights are exact, and the same of few images and as products of digits.
    """
    values, mass = weights.values, sums.mass[weights.sigmas, weights.image]
    counted = values > 0.5 / LARGEST_SCALE  # (R, T)
    few = np.array([np.count_nonzero(row) for row in counted]) <= MAX_SINGLE_WEIGHTS  # (R,)
    num_digits = _digits_needed(weights.factor * values.shape[1], mass)
    if few.any():
        rows, places = np.flatnonzero(few), np.flatnonzero(counted[few].any(axis=0))
        rounded = _rounded(weights, rows, LARGEST_SCALE, places)
        weighted = torch.from_numpy(rounded.values) @ torch.from_numpy(tile.rows[places].astype(np.float64))
        sums.add_images_mass(rounded)
        sums.add_images(weights.image, rounded.sigmas, rounded.factor, weighted.numpy())
    pending = []
    for count in range(1, MAX_WEIGHT_DIGITS + 1):
        rows = np.flatnonzero(~few & (num_digits == count))
        if len(rows):
            rounded = _rounded(weights, rows, LARGEST_DIGIT * 256.0 ** (count - 1))
            sums.add_images_mass(rounded)
            digits = to_digits(rounded.values.astype(np.int32).view(np.uint32), count)
            pending.append(PendingSum(weights.image, rounded.sigmas, rounded.factor, digits))
    return pending


def _rounded(
    weights: TileWeights, rows: NDArray[np.intp], scale: float, places: NDArray[np.intp] | None = None
) -> TileWeights:
    """Weights at some of the sigmas, of all or some images of the tile, as whole numbers: relative to 1 / scale."""
    values = weights.values[rows] if places is None else weights.values[np.ix_(rows, places)]
    values *= scale
    np.rint(values, out=values)
    return TileWeights(weights.image, weights.sigmas[rows], weights.factor[rows] / scale, values)


def _digits_needed(roundings: Floats, mass: Floats) -> NDArray[np.int64]:
    """Digits of the weights with which ``roundings`` half units of the last one stay below `ROUNDED_MASS`."""
    needed = np.log2(np.maximum(roundings / mass / ROUNDED_MASS, 1)) / 8
    return np.clip(np.ceil(needed), 1, MAX_WEIGHT_DIGITS).astype(np.int64)


def _add_pending(sums: PosteriorSum, pending: list[PendingSum], tile: IntegerTile, products: Products) -> None:
    """Multiply all pending digits with the images, one after the other, (P, D), and add these sums."""
    digits = np.concatenate([one.digits.reshape(-1, len(tile.rows)) for one in pending])
    found = products.multiply(digits, tile.packed_columns)
    first = 0
    for one in pending:
        num_digits, num_sigmas = one.digits.shape[:2]
        stop = first + num_digits * num_sigmas
        weighted = undo_digits(found[first:stop].reshape(num_digits, num_sigmas, -1))  # (R, D)
        sums.add_images(one.image, one.sigmas, one.factor, weighted)
        first = stop
