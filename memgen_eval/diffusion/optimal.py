"""D*: the denoiser that minimises the training loss exactly, streamed over the training set.

The plain formula, ``softmax(-|x - y|^2 / (2 sigma^2)) @ y``, is `add_float_tile` and serves float training sets. The
same formula in exact integers, for uint8 training sets, is `add_integer_tile` (posterior.py, tiles.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.compute.engines import integer_products, threads_for
from memgen_eval.compute.kept import NOWHERE, Arrays, Kept
from memgen_eval.compute.products import Products
from memgen_eval.compute.resources import blocks, single_thread, start_workers, unforked_threads
from memgen_eval.compute.rows import dimension, row_blocks
from memgen_eval.diffusion.inputs import (
    BLOCK_ROWS,
    NoisedImages,
    as_images,
    centred_rows,
    check_noisy,
    check_sigmas,
    padded,
    unit_scale,
    working_device,
)
from memgen_eval.diffusion.posterior import Posterior, PosteriorSum, add_integer_tile
from memgen_eval.diffusion.tiles import (
    IntegerBlock,
    IntegerTile,
    TileDistances,
    integer_norms,
    integer_tiles,
    tile_rows,
)
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.errors import InputError

RESIDENT_VALUES = 2**24  # the largest set, in values, that stays converted between calls
MIN_ROWS, MAX_ROWS = 8, 64  # noisy images that meet a uint8 tile together
BLOCK_SUMS = 1024  # upper bound of noisy images times sigmas of such a block
BRACKET_RATIO = 1.01  # of a collapse noise, at which its bracket is closed
NUM_SECTIONS = 8  # sigmas tried inside a bracket in one pass over the training set
HALF = 0.5  # an integer tile holds uint8 minus 128, centred rows hold uint8 minus 127.5
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
    For a uint8 training set, and in `curve`, computed on the processor wherever x is: integers give the same bits on
    every machine. For a float one D*(x) is computed where x is, in float64; on the processor where the device knows no
    float64 (mps). Cost of B noisy images: about 20 B N D int8 operations, fewer at low sigma (4 B N D in float64 for
    float sets); the training set is read in blocks of 12 MiB. The result of an image does not depend on the images next
    to it.
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
        levels, scale = check_noisy(x, sigma, self.shape), unit_scale(self.train)
        device = working_device(x.device)
        if device.type != "cpu" and self.train.dtype != np.uint8:
            return device_mean(self.train, x.detach().to(device).double().flatten(1), levels).float().reshape(x.shape)
        with unforked_threads():
            sigmas = levels[None].numpy() * scale
            rows = x.detach().to("cpu", torch.float64).flatten(1).numpy() * scale
            return torch.from_numpy(self._means(rows, None, sigmas)[0]).reshape(x.shape).to(x.device)

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
            means = self._means(*self._centred(x0, eps, check_sigmas(sigmas)))
            return torch.from_numpy(means).reshape(*means.shape[:2], *self.shape).to(device)

    def posterior(self, x0: Any, eps: Any, sigmas: Floats, *, with_mean: bool = True) -> Posterior:
        """Weights' statistics, and D* itself, of ``x0 + sigma * eps``, on the CPU; sigmas (S,) or (S, B), positive."""
        with unforked_threads():
            rows, noise, grid = self._centred(x0, eps, sigmas)
            found = Posterior.empty(grid.shape, rows.shape[1] if with_mean else None)

            def keep(at: slice, sums: PosteriorSum) -> None:
                sums.write(found.of_images(at), *self._units)

            self._read_once(rows, noise, grid, keep, with_mean=with_mean, with_law=True)
            return found

    @property
    def _units(self) -> tuple[float, float]:
        """What is added to values of the tiles, and what they are divided by, for data in [-1, 1]."""
        return HALF if self.train.dtype == np.uint8 else 0.0, unit_scale(self.train)

    def _centred(self, x0: Any, eps: Any, sigmas: Floats) -> tuple[Floats, Floats, Floats]:
        """x0 (B, D), eps (B, D) and sigmas (S, B) in centred units of the training set."""
        clean, noise = as_images(x0, "x0"), as_images(eps, "eps")
        for name, given in (("x0", clean), ("eps", noise)):
            if given.shape[1:] != self.shape or len(given) != len(clean):
                raise InputError(
                    f"{name} has shape {given.shape}: x0 and eps are (B, {', '.join(map(str, self.shape))})"
                )
        scale = unit_scale(self.train)
        rows = centred_rows(clean) * (scale / unit_scale(clean))
        grid = np.broadcast_to(sigmas.reshape(len(sigmas), -1) * scale, (len(sigmas), len(clean)))
        return rows, centred_rows(noise), grid

    def _means(self, x0: Floats, eps: Floats | None, sigmas: Floats) -> NDArray[np.float32]:
        """D* alone, data in [-1, 1], (S, B, D), of x0 (B, D), eps (B, D) and sigmas (S, B) in centred units."""
        means = np.empty((*sigmas.shape, x0.shape[1]), dtype=np.float32)

        def keep(at: slice, sums: PosteriorSum) -> None:
            sums.write_means(means[:, at], *self._units)

        self._read_once(x0, eps, sigmas, keep, with_mean=True, with_law=False)
        return means

    def _read_once(
        self,
        x0: Floats,
        eps: Floats | None,
        sigmas: Floats,
        keep: Callable[[slice, PosteriorSum], None],
        *,
        with_mean: bool,
        with_law: bool,
    ) -> None:
        """Read the training set once; `keep` is given the sums of each block of noisy images, (B, ...), when complete.

        A training set that stays converted meets one block after the other, whose sums then fit the cache.
        """
        integers = self.train.dtype == np.uint8
        num_threads = 1 if integers and self._products.own_threads else threads_for(2.0 * x0.size * len(self.train))
        num_rows = _rows_per_block(len(x0), len(sigmas), num_threads) if integers else BLOCK_ROWS

        def start(at: slice) -> SummedBlock:
            dimension = x0.shape[1] if with_mean else None
            sums = PosteriorSum(sigmas[:, at], dimension, num_train=len(self.train), with_law=with_law)
            clean, noise = x0[at], None if eps is None else eps[at]
            if integers:
                add = partial(add_integer_tile, sums, self._products, IntegerBlock.of(clean - HALF, noise))
            else:
                add = partial(add_float_tile, sums, clean, noise)
            return SummedBlock(at, sums, add)

        def start_and_finish(at: slice) -> None:
            block = start(at)
            for tile in self._resident:
                block.add(tile)
            keep(at, block.sums)

        rows = list(blocks(len(x0), num_rows))
        # BLAS uses one thread for floats, so that no sum depends on their number
        with start_workers(num_threads) as workers, nullcontext() if integers else single_thread():
            if self.train.size <= RESIDENT_VALUES:
                _ = self._resident  # converted once, by this thread
                workers.map(start_and_finish, rows)
                return
            started = workers.map(start, rows)
            for tile in self._read():
                workers.map(partial(_add_tile, tile), started)
            workers.map(lambda block: keep(block.at, block.sums), started)

    @cached_property
    def _products(self) -> Products:
        return integer_products("auto", work=2.0 * BLOCK_ROWS * self.train.size, width=dimension(self.train))

    @cached_property
    def _norms(self) -> Floats:
        return integer_norms(self.train)

    @cached_property
    def _resident(self) -> tuple[Any, ...]:
        return tuple(self._read())

    def _read(self) -> Iterator[FloatTile] | Iterator[IntegerTile]:
        if self.train.dtype == np.uint8:
            return integer_tiles(self.train, self._norms, self._products)
        return float_tiles(self.train)


@dataclass(frozen=True, eq=False)
class SummedBlock:
    """Noisy images that meet every tile together: which they are, their sums, and what adds a tile to these."""

    at: slice
    sums: PosteriorSum
    add: Callable[[Any], None]


def _add_tile(tile: Any, block: SummedBlock) -> None:
    block.add(tile)


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


def add_float_tile(sums: PosteriorSum, x0: Floats, eps: Floats | None, tile: FloatTile) -> None:
    """Add a tile of training images y to ``softmax(-|x - y|^2 / (2 sigma^2)) @ y`` of up to 64 noisy images.

    x is ``x0 + sigma eps``: ``-|x - y|^2 / (2 sigma^2) = -|x0 - y|^2 / (2 sigma^2) + <eps, y> / sigma + constant``.
    """
    y = tile.y  # (T, D)
    x0_y = _padded(x0) @ y.T  # (64, T)
    eps_y = None if eps is None else _padded(eps) @ y.T  # (64, T)
    memory = np.empty((2, len(sums.sigmas), len(y)))
    for row, norm in enumerate(np.einsum("qd,qd->q", x0, x0)):
        squared = norm + tile.norms - 2 * x0_y[row]  # |x0 - y|^2, (T,)
        copies = np.flatnonzero(squared <= SAME * (norm + tile.norms))
        seen = TileDistances(squared, None if eps_y is None else eps_y[row], copies)
        weights = sums.add(row, seen, tile.norms, memory)  # softmax of -|x - y|^2 / (2 sigma^2), (S, T)
        if weights is not None:
            sums.add_images_mass(weights)
            sums.add_images(weights.image, weights.sigmas, weights.factor, weights.values @ y)  # (S, D)


def _padded(rows: Floats) -> Floats:
    """64 rows, so that no product depends on their number."""
    return np.concatenate([rows, np.zeros((BLOCK_ROWS - len(rows), rows.shape[1]))])


def device_mean(train: NDArray[Any], x: Tensor, sigmas: Tensor) -> Tensor:
    """``softmax(-|x - y|^2 / (2 sigma^2)) @ y`` of a float training set y (N, ...), where x is.

    x (B, D) is float64, sigmas (B,). Tiles travel to the device one by one, and weights are relative to the largest so
    far; blocks of 64 rows, so that no sum depends on their number.
    """
    scale = 0.5 / sigmas.to(x.device).square()[:, None]  # (B, 1)
    norms, total = x.square().sum(dim=1, keepdim=True), torch.zeros_like(x)
    top, mass = torch.full_like(scale, -torch.inf, device=x.device), torch.zeros_like(scale)
    for _, block in row_blocks(train, tile_rows(train, value_bytes=8)):
        y = torch.tensor(block, dtype=torch.float64, device=x.device)  # (T, D)
        y_norms = y.square().sum(dim=1)
        for start in range(0, len(x), BLOCK_ROWS):
            at, num_rows = slice(start, start + BLOCK_ROWS), min(BLOCK_ROWS, len(x) - start)
            products = (padded(x[at]) @ y.T)[:num_rows]  # (64, T)
            logits = -(norms[at] + y_norms - 2 * products) * scale[at]
            new_top = torch.maximum(top[at], logits.amax(dim=1, keepdim=True))
            kept, weights = (top[at] - new_top).exp(), (logits - new_top).exp()
            mass[at] = kept * mass[at] + weights.sum(dim=1, keepdim=True)
            total[at] = kept * total[at] + (padded(weights) @ y)[:num_rows]
            top[at] = new_top
    return total / mass


def _rows_per_block(num_rows: int, num_sigmas: int, num_threads: int) -> int:
    """Noisy images that meet a uint8 tile together: sums of integers are the same however they are shared out."""
    most = max(1, min(MAX_ROWS, BLOCK_SUMS // num_sigmas))
    return min(most, max(MIN_ROWS, -(-num_rows // num_threads)))


def collapse_sigmas(
    optimal: OptimalDenoiser,
    inputs: NoisedImages,
    sigmas: Floats,
    own_weight: Floats,
    *,
    ranks: Ranks = ALONE,
    kept: Kept = NOWHERE,
) -> Floats:
    """For each image's first noise draw, the sigma at which the weight of the image itself falls through 1/2, to 1 %.

    With ``A_i = |y - y_i|^2`` and ``b_i = <eps, y - y_i>`` the odds against the image itself are
    ``sum_i exp(-A_i / (2 sigma^2) - b_i / sigma)``. A term below 1 grows with sigma, and one that has passed 1 stays
    above it: so the odds pass 1 once, brackets from the grid are safe, and the median of these sigmas is the sigma at
    which the median weight is 1/2.

    Parameters
    ----------
    optimal : OptimalDenoiser
        That holds the images.
    inputs : NoisedImages
        N training images.
    sigmas : (S,)
        The grid, increasing.
    own_weight : (S, T)
        Of the noised images, on the grid; those of the first draw come first.
    ranks : Ranks
        They share the images.
    kept : Kept
        Where the weights are kept, for a key that holds the training set.

    Returns
    -------
    float64, (N,)
        0 where the weight is below 1/2 on the whole grid, infinite where it is above.
    """
    passed = (own_weight[:, : len(inputs.indices)] >= 0.5).sum(axis=0)  # (N,)
    found = np.where(passed == 0, 0.0, np.inf)
    inside = np.flatnonzero((passed > 0) & (passed < len(sigmas)))
    low, high = sigmas[passed[inside] - 1], sigmas[passed[inside]]
    mine = ranks.shard(len(inside))

    def weights_at(tried: Floats) -> Arrays:
        if mine.start == mine.stop:
            return (np.empty((NUM_SECTIONS, 0)),)
        x0, eps = inputs.take(inside[mine])
        return (optimal.posterior(x0, eps, tried, with_mean=False).own_weight,)

    while inside.size and (high / low).max() > BRACKET_RATIO:
        tried = np.geomspace(low, high, NUM_SECTIONS + 2)  # (sections, N)
        own = tried[1:-1, mine]
        (weights,) = kept.block(partial(weights_at, own), "collapse", inputs.name, inside[mine], own)
        steps = (ranks.gather(weights, axis=1) >= 0.5).sum(axis=0)  # (N,)
        columns = np.arange(len(inside))
        low, high = tried[steps, columns], tried[steps + 1, columns]
    found[inside] = np.sqrt(low * high)
    return found
