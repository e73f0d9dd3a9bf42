"""The softmax over training images, streamed: running sums of each noisy image over tiles, at every sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.compute.products import Products
from memgen_eval.diffusion.tiles import FloatTile, IntegerTile, Seen, Tile, to_digits, undo_digits

DROPPED_MASS = 1e-9  # what the weights left out may add up to, as a share of the whole
TOLERANCE = 2.0**-20  # what rounding the weights of a tile may change at most, as a share of the whole
NOTHING = -200.0  # the logarithm of a weight that counts for nothing
FEW = 12  # weights of a tile that are summed one by one: a product with the whole tile would cost more
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
        ``sum_i w_i |y_i - D*|^2`` per value: what ``|D* - x0|^2`` is on average, given x; None without the mean.
    """

    mean: Tensor | None
    effective_neighbours: Tensor
    own_weight: Tensor
    variance: Tensor | None


@dataclass(frozen=True, eq=False)
class Sums:
    """Running sums over the tiles, for every sigma and noisy image: weights are relative to the largest so far.

    Attributes
    ----------
    sigmas, top, mass, spread, own, energy : float64, (S, B)
        Noise levels, largest logits, and sums of weights, of weights times their logarithms, of the own image's
        weights, of weights times squared norms.
    total : float64, (S, B, D), or None
        Sums of weights times images, relative to `total_top`, an earlier largest one.
    total_mass, total_top : float64, (S, B)
        Sums of these weights, which are rounded.
    """

    sigmas: Floats
    top: Floats
    mass: Floats
    spread: Floats
    own: Floats
    energy: Floats
    total: Floats | None
    total_mass: Floats
    total_top: Floats

    @staticmethod
    def empty(sigmas: Floats, dimension: int | None) -> Sums:
        """Before the first tile, for sigmas (S, B); without `total` where there is no dimension."""
        mass, spread, own, energy, rounded = (np.zeros(sigmas.shape) for _ in range(5))
        total = None if dimension is None else np.zeros((*sigmas.shape, dimension))
        top, total_top = (np.full(sigmas.shape, -np.inf) for _ in range(2))
        return Sums(sigmas, top, mass, spread, own, energy, total, rounded, total_top)


@dataclass(frozen=True, eq=False)
class Staged:
    """Weights of one image at some sigmas that wait for their product with a tile.

    Attributes
    ----------
    sigma : int64, (R,)
    image : int
    factors : float64, (R,)
        What the integer sums are to be multiplied by.
    digits : int8, (M, R, T)
    """

    sigma: NDArray[np.intp]
    image: int
    factors: Floats
    digits: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Scratch:
    """Room for the logits, weights and rounded weights of one image with a tile, (S, T), used over and over."""

    logits: Floats
    weights: Floats
    whole: NDArray[np.int32]

    @staticmethod
    def of(num_sigmas: int, tile_rows: int) -> Scratch:
        """For this number of sigmas and training images."""
        shape = (num_sigmas, tile_rows)
        return Scratch(np.empty(shape), np.empty(shape), np.empty(shape, dtype=np.int32))


def fold(sums: Sums, image: int, seen: Seen, tile: Tile, num_train: int, scratch: Scratch) -> list[Staged]:
    """Add a tile to the sums of one noisy image; what needs a product with the tile is returned.

    `num_train` is the size of the whole set: weights that cannot matter in its sum are left out.
    """
    logits = _logits(sums.sigmas[:, image], seen, scratch)
    tile_top = logits.max(axis=1)
    matters = tile_top - sums.top[:, image] > math.log(DROPPED_MASS / num_train)
    if not matters.any():
        return []
    live = slice(int(np.argmax(matters)), len(logits))  # at low sigma one tile outweighs the others
    tile_top, below = tile_top[live], logits[live]
    below -= tile_top[:, None]
    new_top = np.maximum(sums.top[live, image], tile_top)
    factor = np.exp(tile_top - new_top)
    _rescale(sums, live, image, new_top)
    np.maximum(below, NOTHING, out=below)  # exp is slow where its result is too small to be a normal number
    weights = np.exp(below, out=scratch.weights[live])  # relative to the tile's largest
    mass = weights.sum(axis=1)
    sums.mass[live, image] += factor * mass
    sums.spread[live, image] += factor * (np.einsum("st,st->s", weights, below) + mass * (tile_top - new_top))
    if len(seen.copies):
        sums.own[live, image] += factor * weights[:, seen.copies].sum(axis=1)
    if sums.total is None:
        return []
    sums.energy[live, image] += factor * np.einsum("st,t->s", weights, tile.norms)
    if isinstance(tile, IntegerTile):
        return _add_integers(sums, live, image, factor, weights, tile, scratch.whole[live])
    sums.total_mass[live, image] += factor * mass
    for row, value in enumerate(factor[:, None] * (weights @ tile.rows)):
        _add_to_total(sums, live.start + row, image, value)
    return []


def _logits(sigma: Floats, seen: Seen, scratch: Scratch) -> Floats:
    """``-|x0 + sigma eps - y|^2 / (2 sigma^2)`` but for what all images share, (S, T)."""
    logits: Floats = np.multiply.outer(-0.5 / sigma**2, seen.squared, out=scratch.logits)
    if seen.along is not None:
        logits += np.multiply.outer(1 / sigma, seen.along, out=scratch.weights)
    return logits


def _rescale(sums: Sums, live: slice, image: int, new_top: Floats) -> None:
    """Let the sums so far be relative to the new largest weight."""
    top = sums.top[live, image]
    shift = np.where(np.isinf(top), 0.0, top - new_top)  # nothing is there before the first tile
    rescale = np.exp(shift)
    sums.spread[live, image] += sums.mass[live, image] * shift
    for running in (sums.mass, sums.spread, sums.own, sums.energy, sums.total_mass):
        running[live, image] *= rescale
    sums.top[live, image] = new_top


def _add_integers(
    sums: Sums,
    live: slice,
    image: int,
    factor: Floats,
    weights: Floats,
    tile: IntegerTile,
    whole: NDArray[np.int32],
) -> list[Staged]:
    """Weights rounded to integers: their sums are exact, and the same one by one and as products of digits."""
    few = (weights > 0.5 / LARGEST_SCALE).sum(axis=1) <= FEW  # (S,)
    num_digits = _digits_needed(factor * weights.shape[1], sums.mass[live, image])
    num_digits[few] = MAX_WEIGHT_DIGITS
    scale = LARGEST_DIGIT * 256.0 ** (num_digits - 1)  # (S,)
    weights *= scale[:, None]
    np.copyto(whole, np.rint(weights, out=weights), casting="unsafe")  # (S, T)
    factor = factor / scale
    sums.total_mass[live, image] += factor * whole.sum(axis=1, dtype=np.int64)
    for row in np.flatnonzero(few):
        columns = np.flatnonzero(whole[row])
        mixed = whole[row, columns].astype(np.int64) @ tile.rows[columns].astype(np.int64)  # (D,)
        _add_to_total(sums, live.start + row, image, factor[row] * mixed)
    staged = []
    for count in range(1, MAX_WEIGHT_DIGITS + 1):
        rows = np.flatnonzero(~few & (num_digits == count))
        if len(rows):
            digits = to_digits(whole[rows].view(np.uint32), count)
            staged.append(Staged(live.start + rows, image, factor[rows], digits))
    return staged


def _digits_needed(roundings: Floats, mass: Floats) -> NDArray[np.int64]:
    """Digits of the weights with which ``roundings`` half units of the last one stay below the tolerance."""
    needed = np.log2(np.maximum(roundings / mass / TOLERANCE, 1)) / 8
    return np.clip(np.ceil(needed), 1, MAX_WEIGHT_DIGITS).astype(np.int64)


def mix(sums: Sums, staged: list[Staged], tile: Tile, products: Products) -> None:
    """Add the weighted sums of a tile's images: one integer product of all digits of the weights with the images."""
    if isinstance(tile, FloatTile) or not staged:
        return
    digits = np.concatenate([one.digits.reshape(-1, len(tile.rows)) for one in staged])  # (R, T)
    mixed = products.multiply(digits, tile.mixing)  # (R, D)
    first = 0
    for one in staged:
        num_digits, width = one.digits.shape[:2]
        stop = first + num_digits * width
        whole = undo_digits(mixed[first:stop].reshape(num_digits, width, -1))  # (R, D)
        whole *= one.factors[:, None]
        for sigma, value in zip(one.sigma, whole, strict=True):
            _add_to_total(sums, sigma, one.image, value)
        first = stop


def _add_to_total(sums: Sums, sigma: Any, image: Any, value: Floats) -> None:
    """Add a weighted sum of images that is relative to the largest weight so far; the total becomes so here only."""
    assert sums.total is not None
    total, top = sums.total[sigma, image], sums.top[sigma, image]
    if sums.total_top[sigma, image] != top:
        total *= math.exp(sums.total_top[sigma, image] - top)
        sums.total_top[sigma, image] = top
    total += value


def finish(sums: Sums, shift: float, levels: float) -> Posterior:
    """From sums over all tiles of images ``y - shift`` to the law of y / levels."""
    entropy = np.log(sums.mass) - sums.spread / sums.mass
    effective, own = torch.from_numpy(np.exp(entropy)), torch.from_numpy(sums.own / sums.mass)
    if sums.total is None:
        return Posterior(None, effective, own, None)
    mean = sums.total
    mean *= (np.exp(sums.total_top - sums.top) / sums.total_mass)[..., None]
    variance = sums.energy / sums.mass - np.einsum("sbd,sbd->sb", mean, mean)
    np.maximum(variance, 0, out=variance)
    variance /= mean.shape[2] * levels**2
    mean += shift
    mean /= levels
    return Posterior(torch.from_numpy(mean), effective, own, torch.from_numpy(variance))


def joined(parts: Sequence[Posterior]) -> Posterior:
    """One after the other along the images."""
    if len(parts) == 1:
        return parts[0]
    means = [part.mean for part in parts if part.mean is not None]
    variances = [part.variance for part in parts if part.variance is not None]
    return Posterior(
        torch.cat(means, dim=1) if means else None,
        torch.cat([part.effective_neighbours for part in parts], dim=1),
        torch.cat([part.own_weight for part in parts], dim=1),
        torch.cat(variances, dim=1) if variances else None,
    )
