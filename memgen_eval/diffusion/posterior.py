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
from numpy.typing import NDArray

from memgen_eval.compute.products import Products
from memgen_eval.diffusion.tiles import IntegerBlock, IntegerTile, TileDistances, to_digits, undo_digits

DROPPED_MASS = 1e-9  # upper bound of the sum of the weights left out, as a share of the whole
ROUNDED_MASS = 2.0**-20  # upper bound of what rounding the weights of a tile changes, as a share of the whole
SMALLEST_LOGIT = -200.0  # exp is slow where its result is too small to be a normal number
MAX_SINGLE_WEIGHTS = 12  # weights of a tile that are summed one by one: a product with the whole tile would cost more
LARGEST_DIGIT = 127
MAX_WEIGHT_DIGITS = 4
LARGEST_SCALE = LARGEST_DIGIT * 256.0 ** (MAX_WEIGHT_DIGITS - 1)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """The training set's law given a noisy image.

    Attributes
    ----------
    mean : float64, (S, B, D), or None
        D*, data in [-1, 1].
    effective_neighbours : float64, (S, B)
        ``exp(entropy of w)``, from 1 to n.
    own_weight : float64, (S, B)
        Weight of the training images that are identical to x0.
    variance : float64, (S, B), or None
        ``sum_i w_i |y_i - D*|^2`` per value: the mean of ``|D* - x0|^2`` given x. None without the mean.
    """

    mean: Floats | None
    effective_neighbours: Floats
    own_weight: Floats
    variance: Floats | None


@dataclass(frozen=True, eq=False)
class TileWeights:
    """Weights of a tile's images for one noisy image at the R largest sigmas, relative to the tile's largest weight.

    Attributes
    ----------
    image : int
    live : the R largest sigmas
    factor : float64, (R,), the tile's largest weight relative to the largest of all tiles so far
    values : float64, (R, T)
    """

    image: int
    live: slice
    factor: Floats
    values: Floats


class PosteriorSum:
    """Running sums over the tiles for every sigma and noisy image, relative to the largest weight so far.

    Attributes
    ----------
    sigmas, top : float64, (S, B)
        Noise levels, and the largest logits so far.
    mass, weighted_logits, own_mass, weighted_norms : float64, (S, B)
        Sums of weights, of weights times their logarithms, of the weights of images identical to x0, and of weights
        times squared norms.
    images : float64, (S, B, D), or None
        Sums of weights times images, relative to `images_top`, the largest logits when they were last added to.
    images_mass, images_top : float64, (S, B)
        Sums of the weights in `images`, which are rounded for uint8 tiles.
    """

    def __init__(self, sigmas: Floats, dimension: int | None, *, num_train: int) -> None:
        """Before the first tile, for sigmas (S, B); without weighted images where there is no dimension."""
        shape = sigmas.shape
        self.sigmas, self.num_train = sigmas.copy(), num_train
        self.top, self.images_top = np.full(shape, -np.inf), np.full(shape, -np.inf)
        self.mass, self.weighted_logits, self.own_mass = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.weighted_norms, self.images_mass = np.zeros(shape), np.zeros(shape)
        self.images = None if dimension is None else np.zeros((*shape, dimension))

    def add(
        self, image: int, logits: Floats, copies: NDArray[np.intp], norms: Floats, *, out: Floats | None = None
    ) -> TileWeights | None:
        """Add to all sums of one noisy image but those of `images`; return the weights if those are wanted.

        A tile is left out at the sigmas at which its weights cannot matter in the sum over the training set.

        Parameters
        ----------
        logits : float64, (S, T), overwritten
            ``-|x - y|^2 / (2 sigma^2)`` up to a constant for each sigma.
        copies : the tile's images that are identical to x0
        norms : float64, (T,), squared norms of the tile's images
        out : float64, (S, T), memory for the weights
        """
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
        np.maximum(logits, SMALLEST_LOGIT, out=logits)
        weights = np.exp(logits, out=None if out is None else out[live])
        mass = weights.sum(axis=1)
        self.mass[live, image] += factor * mass
        weighted_logits = np.einsum("st,st->s", weights, logits) + mass * (tile_top - new_top)
        self.weighted_logits[live, image] += factor * weighted_logits
        if len(copies):
            self.own_mass[live, image] += factor * weights[:, copies].sum(axis=1)
        if self.images is None:
            return None
        self.weighted_norms[live, image] += factor * np.einsum("st,t->s", weights, norms)
        return TileWeights(image, live, factor, weights)

    def _rescale(self, live: slice, image: int, new_top: Floats) -> None:
        """Make the sums relative to the new largest weight."""
        top = self.top[live, image]
        shift = np.where(np.isinf(top), 0.0, top - new_top)  # before the first tile the sums are zero
        self.weighted_logits[live, image] += self.mass[live, image] * shift
        scale = np.exp(shift)
        for running in (self.mass, self.weighted_logits, self.own_mass, self.weighted_norms, self.images_mass):
            running[live, image] *= scale
        self.top[live, image] = new_top

    def add_images(self, image: int, sigmas: Iterable[int], weighted: Iterable[Floats]) -> None:
        """Add sums of weights times images, (D,) at each of some sigmas, relative to the largest weight so far."""
        assert self.images is not None
        for sigma, value in zip(sigmas, weighted, strict=True):
            total, top = self.images[sigma, image], self.top[sigma, image]
            if self.images_top[sigma, image] != top:
                total *= math.exp(self.images_top[sigma, image] - top)
                self.images_top[sigma, image] = top
            total += value

    def result(self, *, shift: float, scale: float) -> Posterior:
        """The law of ``(y + shift) / scale``, once all tiles of images y have been added. Destroys `images`."""
        entropy = np.log(self.mass) - self.weighted_logits / self.mass
        effective, own = np.exp(entropy), self.own_mass / self.mass
        if self.images is None:
            return Posterior(None, effective, own, None)
        mean = self.images
        mean *= (np.exp(self.images_top - self.top) / self.images_mass)[..., None]
        variance = self.weighted_norms / self.mass - np.einsum("sbd,sbd->sb", mean, mean)
        np.maximum(variance, 0, out=variance)
        variance /= mean.shape[2] * scale**2
        mean += shift
        mean /= scale
        return Posterior(mean, effective, own, variance)


class Scratch:
    """Memory for the logits, weights and rounded weights of one image with a tile, (S, T), used over and over."""

    def __init__(self, num_sigmas: int, num_rows: int) -> None:
        """For this number of sigmas and training images."""
        self.logits, self.weights = np.empty((num_sigmas, num_rows)), np.empty((num_sigmas, num_rows))
        self.rounded = np.empty((num_sigmas, num_rows), dtype=np.int32)

    def fill_logits(self, sigma: Floats, seen: TileDistances) -> Floats:
        """``-|x0 + sigma eps - y|^2 / (2 sigma^2)`` up to a constant for each sigma (S,): (S, T)."""
        np.multiply.outer(-0.5 / sigma**2, seen.squared, out=self.logits)
        if seen.along_noise is not None:
            self.logits += np.multiply.outer(1 / sigma, seen.along_noise, out=self.weights)
        return self.logits


@dataclass(frozen=True, eq=False)
class PendingSum:
    """Rounded weights of one image at R sigmas that wait for their product with a tile.

    Attributes
    ----------
    sigmas : int64, (R,)
    image : int
    factors : float64, (R,), by which the integer sums are to be multiplied
    digits : int8, (M, R, T)
    """

    sigmas: NDArray[np.intp]
    image: int
    factors: Floats
    digits: NDArray[np.int8]


def add_integer_tile(sums: PosteriorSum, tile: IntegerTile, products: Products, block: IntegerBlock) -> None:
    """Add the training images of a uint8 tile to the sums of a block of noisy images: all products are exact."""
    scratch = Scratch(len(sums.sigmas), len(tile.rows))
    pending: list[PendingSum] = []
    for image, seen in block.distances(tile, products):
        logits = scratch.fill_logits(sums.sigmas[:, image], seen)
        weights = sums.add(image, logits, seen.copies, tile.norms, out=scratch.weights)
        if weights is not None:
            pending += _add_rounded(sums, weights, tile, scratch)
    if pending:
        digits = np.concatenate([one.digits.reshape(-1, len(tile.rows)) for one in pending])  # (P, T)
        _add_pending(sums, pending, products.multiply(digits, tile.packed_columns))


def _add_rounded(sums: PosteriorSum, weights: TileWeights, tile: IntegerTile, scratch: Scratch) -> list[PendingSum]:
    """Round the weights to integers, and add the images of the sigmas at which few are not zero; return the others.

    Sums with integer weights are exact, and the same one by one and as products of digits.
    """
    live, image, values = weights.live, weights.image, weights.values
    rounded = scratch.rounded[live]
    few = (values > 0.5 / LARGEST_SCALE).sum(axis=1) <= MAX_SINGLE_WEIGHTS  # (R,)
    num_digits = _digits_needed(weights.factor * values.shape[1], sums.mass[live, image])
    num_digits[few] = MAX_WEIGHT_DIGITS
    scale = LARGEST_DIGIT * 256.0 ** (num_digits - 1)  # (R,)
    values *= scale[:, None]
    np.copyto(rounded, np.rint(values, out=values), casting="unsafe")  # (R, T)
    factor = weights.factor / scale
    sums.images_mass[live, image] += factor * rounded.sum(axis=1, dtype=np.int64)
    for row in np.flatnonzero(few):
        columns = np.flatnonzero(rounded[row])
        weighted = rounded[row, columns].astype(np.int64) @ tile.rows[columns].astype(np.int64)  # (D,)
        sums.add_images(image, [live.start + row], [factor[row] * weighted])
    pending = []
    for count in range(1, MAX_WEIGHT_DIGITS + 1):
        rows = np.flatnonzero(~few & (num_digits == count))
        if len(rows):
            digits = to_digits(rounded[rows].view(np.uint32), count)
            pending.append(PendingSum(live.start + rows, image, factor[rows], digits))
    return pending


def _digits_needed(roundings: Floats, mass: Floats) -> NDArray[np.int64]:
    """Digits of the weights with which ``roundings`` half units of the last one stay below `ROUNDED_MASS`."""
    needed = np.log2(np.maximum(roundings / mass / ROUNDED_MASS, 1)) / 8
    return np.clip(np.ceil(needed), 1, MAX_WEIGHT_DIGITS).astype(np.int64)


def _add_pending(sums: PosteriorSum, pending: list[PendingSum], products: NDArray[Any]) -> None:
    """Add the weighted sums of images, given the products of all pending digits with the images, (P, D)."""
    first = 0
    for one in pending:
        num_digits, width = one.digits.shape[:2]
        stop = first + num_digits * width
        weighted = undo_digits(products[first:stop].reshape(num_digits, width, -1))  # (R, D)
        weighted *= one.factors[:, None]
        sums.add_images(one.image, one.sigmas, weighted)
        first = stop
