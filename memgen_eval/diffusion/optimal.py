"""D*: the denoiser that minimises the training loss exactly, streamed over the training set.

The plain formula, ``softmax(-|x - y|^2 / (2 sigma^2)) @ y``, is `add_float_tile` and serves float training sets. The
same formula in exact integers, for uint8 training sets, is `add_integer_tile` (posterior.py, tiles.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.compute.engines import integer_products, threads_for
from memgen_eval.compute.products import Products
from memgen_eval.compute.resources import Share, sharing, single_thread, unforked_threads
from memgen_eval.compute.rows import dimension, row_blocks
from memgen_eval.diffusion.inputs import BLOCK_ROWS, as_images, centred_rows, check_noisy, check_sigmas, unit_scale
from memgen_eval.diffusion.posterior import Posterior, PosteriorSum, add_integer_tile
from memgen_eval.diffusion.tiles import IntegerBlock, IntegerTile, integer_norms, integer_tiles, tile_rows
from memgen_eval.errors import InputError

RESIDENT_VALUES = 2**24  # the largest set, in values, that stays converted between calls
PASS_VALUES = 2**24  # values of running sums that one pass over the training set carries: 128 MiB
MIN_ROWS, MAX_ROWS = 8, 32  # noisy images that meet a uint8 tile together
BLOCK_SUMS = 1024  # upper bound of noisy images times sigmas of such a block
HALF = 0.5  # uint8 minus 128, the values of an integer tile, plus a half are the centred grey levels
SAME = 1e-12  # upper bound of the squared distance of equal floats after rounding, as a share of their squared norms

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OptimalDenoiser:
    """The empirical-optimal denoiser, ``D*(x; sigma) = sum_i w_i y_i``, ``w = softmax(-|x - y_i|^2 / (2 sigma^2))``.

    It minimises the denoising loss on the training set; a sampler that follows it can only reproduce training images.
    For uint8 training sets all products are sums of integers: weights are rounded to at most 32 bits of a block's
    largest. Relative error of an image at most 3e-6 for sigma from 0.002 to 80.

    Parameters
    ----------
    train : uint8 or float, (N, ...)
        uint8 is mapped by ``x / 127.5 - 1``, floats are taken as they are. Any trailing shape, (N, 1) too.

    Raises
    ------
    InputError
        For a training set that is empty, of another type, or not finite.

    Notes
    -----
    Computed on the processor. Cost of B noisy images: about 20 B N D int8 operations, fewer at low sigma (4 B N D in
    float64 for float sets); the training set is read in blocks of 12 MiB. The result of an image does not depend on the
    images next to it.
    """

    train: Any

    def __post_init__(self) -> None:
        """Check the training set once."""
        object.__setattr__(self, "train", as_images(self.train, "train"))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an image."""
        return tuple(self.train.shape[1:])

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """D*(x; sigma) for x float (B, ...), sigma a number or (B,); float32 on the device of x."""
        scale = unit_scale(self.train)
        with unforked_threads():
            sigmas = check_noisy(x, sigma, self.shape)[None].numpy() * scale
            rows = x.detach().to("cpu", torch.float64).flatten(1).numpy() * scale
            found = self._posterior(rows, None, sigmas, with_mean=True)
            assert found.mean is not None
            return torch.from_numpy(found.mean[0]).float().reshape(x.shape).to(x.device)

    def curve(self, x0: Any, eps: Any, sigmas: Any) -> Tensor:
        """``D*(x0 + sigma * eps)`` for all sigmas at once, sharing the products.

        Parameters
        ----------
        x0 : uint8, or float in [-1, 1], (B, ...)
            Clean images.
        eps : float32, (B, ...)
            Noise, shared by all sigmas.
        sigmas : (S,)
            Positive, increasing.

        Returns
        -------
        float32, (S, B, ...), on the device of x0
        """
        device = x0.device if isinstance(x0, Tensor) else torch.device("cpu")
        with unforked_threads():
            found = self.posterior(x0, eps, check_sigmas(sigmas))
            assert found.mean is not None
            return torch.from_numpy(found.mean).float().reshape(*found.mean.shape[:2], *self.shape).to(device)

    def posterior(self, x0: Any, eps: Any, sigmas: Floats, *, with_mean: bool = True) -> Posterior:
        """Weights' statistics, and D* itself, of ``x0 + sigma * eps``, on the CPU; sigmas (S,) or (S, B), positive."""
        clean, noise = as_images(x0, "x0"), as_images(eps, "eps")
        for name, given in (("x0", clean), ("eps", noise)):
            if given.shape[1:] != self.shape or len(given) != len(clean):
                raise InputError(
                    f"{name} has shape {given.shape}: x0 and eps are (B, {', '.join(map(str, self.shape))})"
                )
        scale = unit_scale(self.train)
        rows = centred_rows(clean) * (scale / unit_scale(clean))
        grid = np.broadcast_to(sigmas.reshape(len(sigmas), -1) * scale, (len(sigmas), len(clean)))
        return self._posterior(rows, centred_rows(noise), grid, with_mean=with_mean)

    def _posterior(self, x0: Floats, eps: Floats | None, sigmas: Floats, *, with_mean: bool) -> Posterior:
        """Of x0 (B, D), eps (B, D) and sigmas (S, B) in centred units of the training set."""
        num_values = len(sigmas) * (x0.shape[1] if with_mean else 1)  # of an image's sums
        rows_per_pass = BLOCK_ROWS * max(1, PASS_VALUES // (BLOCK_ROWS * num_values))
        parts = []
        for start in range(0, max(len(x0), 1), rows_per_pass):
            at = slice(start, start + rows_per_pass)
            sums = PosteriorSum(sigmas[:, at], x0.shape[1] if with_mean else None, num_train=len(self.train))
            add = self._add_integers if self.train.dtype == np.uint8 else self._add_floats
            add(sums, x0[at], None if eps is None else eps[at])
            shift = HALF if self.train.dtype == np.uint8 else 0.0
            parts.append(sums.result(shift=shift, scale=unit_scale(self.train)))
        return _concatenated(parts)

    def _add_floats(self, sums: PosteriorSum, x0: Floats, eps: Floats | None) -> None:
        """One reading of a float training set; BLAS uses one thread, so that no sum depends on their number."""
        starts = range(0, len(x0), BLOCK_ROWS)
        with sharing(threads_for(2.0 * x0.size * len(self.train))) as share, single_thread():
            for tile in self._tiles():
                _for_each(starts, share, partial(add_float_tile, sums, x0, eps, tile))

    def _add_integers(self, sums: PosteriorSum, x0: Floats, eps: Floats | None) -> None:
        """One reading of a uint8 training set."""
        num_threads = 1 if self._products.own_threads else threads_for(2.0 * x0.size * len(self.train))
        num_rows = _rows_per_block(len(x0), len(sums.sigmas), num_threads)
        slices = [slice(start, start + num_rows) for start in range(0, len(x0), num_rows)]
        blocks = [IntegerBlock.of(at.start, x0[at] - HALF, None if eps is None else eps[at]) for at in slices]
        with sharing(num_threads) as share:
            for tile in self._tiles():
                _for_each(blocks, share, partial(add_integer_tile, sums, tile, self._products))

    @cached_property
    def _products(self) -> Products:
        return integer_products("auto", work=2.0 * BLOCK_ROWS * self.train.size, width=dimension(self.train))

    @cached_property
    def _norms(self) -> Floats:
        return integer_norms(self.train)

    @cached_property
    def _resident(self) -> tuple[Any, ...]:
        return tuple(self._read())

    def _tiles(self) -> Iterable[Any]:
        return self._resident if self.train.size <= RESIDENT_VALUES else self._read()

    def _read(self) -> Iterator[FloatTile] | Iterator[IntegerTile]:
        if self.train.dtype == np.uint8:
            return integer_tiles(self.train, self._norms, self._products)
        return float_tiles(self.train)


@dataclass(frozen=True, eq=False)
class FloatTile:
    """Training images as they are, (T, D), and their squared norms, (T,)."""

    y: Floats
    norms: Floats


def float_tiles(train: NDArray[Any]) -> Iterator[FloatTile]:
    """All images of a float training set (N, ...)."""
    for _, block in row_blocks(train, tile_rows(train, value_bytes=8)):
        y = block.astype(np.float64)
        yield FloatTile(y, np.einsum("td,td->t", y, y))


def add_float_tile(sums: PosteriorSum, x0: Floats, eps: Floats | None, tile: FloatTile, first: int) -> None:
    """Add a tile of training images y to ``softmax(-|x - y|^2 / (2 sigma^2)) @ y`` of 64 noisy images, in float64.

    x is ``x0 + sigma eps``: ``-|x - y|^2 / (2 sigma^2) = -|x0 - y|^2 / (2 sigma^2) + <eps, y> / sigma + constant``.
    """
    y, at = tile.y, slice(first, first + BLOCK_ROWS)  # (T, D)
    x0_y = _padded(x0[at]) @ y.T  # (64, T)
    eps_y = None if eps is None else _padded(eps[at]) @ y.T  # (64, T)
    for row, x0_norm in enumerate(np.einsum("qd,qd->q", x0[at], x0[at])):
        image, sigma = first + row, sums.sigmas[:, first + row]  # (S,)
        norms = x0_norm + tile.norms  # (T,)
        squared = norms - 2 * x0_y[row]  # |x0 - y|^2, (T,)
        logits = np.multiply.outer(-0.5 / sigma**2, squared)  # (S, T)
        if eps_y is not None:
            logits += np.multiply.outer(1 / sigma, eps_y[row])
        weights = sums.add(image, logits, np.flatnonzero(squared <= SAME * norms), tile.norms)  # softmax, (R, T)
        if weights is not None:
            sums.images_mass[weights.live, image] += weights.factor * weights.values.sum(axis=1)
            weighted = weights.factor[:, None] * (weights.values @ y)  # (R, D)
            sums.add_images(image, range(weights.live.start, weights.live.stop), weighted)


def _padded(rows: Floats) -> Floats:
    """64 rows, so that no product depends on their number."""
    return np.concatenate([rows, np.zeros((BLOCK_ROWS - len(rows), rows.shape[1]))])


def _for_each(blocks: Sequence[Any], share: Share, add: Callable[[Any], None]) -> None:
    """Every block of noisy images does all its work with a tile on one thread."""
    share(lambda number, _: add(blocks[number]), len(blocks), chunk_rows=1)


def _rows_per_block(num_rows: int, num_sigmas: int, num_threads: int) -> int:
    """Noisy images that meet a uint8 tile together: sums of integers are the same however they are shared out."""
    most = max(1, min(MAX_ROWS, BLOCK_SUMS // num_sigmas))
    return min(most, max(MIN_ROWS, -(-num_rows // num_threads)))


def _concatenated(parts: Sequence[Posterior]) -> Posterior:
    """One after the other along the images."""
    if len(parts) == 1:
        return parts[0]
    means = [part.mean for part in parts if part.mean is not None]
    variances = [part.variance for part in parts if part.variance is not None]
    return Posterior(
        np.concatenate(means, axis=1) if means else None,
        np.concatenate([part.effective_neighbours for part in parts], axis=1),
        np.concatenate([part.own_weight for part in parts], axis=1),
        np.concatenate(variances, axis=1) if variances else None,
    )
