"""D*: the denoiser that minimises the training loss exactly, streamed over the training set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.compute.engines import integer_products, threads_for
from memgen_eval.compute.products import Products
from memgen_eval.compute.resources import Workers, single_thread, start_workers, unforked_threads
from memgen_eval.compute.rows import dimension
from memgen_eval.diffusion.inputs import BLOCK_ROWS, as_images, centred_rows, check_noisy, check_sigmas, levels_of
from memgen_eval.diffusion.posterior import Posterior, Scratch, Staged, Sums, finish, fold, joined, mix
from memgen_eval.diffusion.tiles import Queries, Tile, float_tiles, integer_norms, integer_tiles
from memgen_eval.errors import InputError

RESIDENT_VALUES = 2**24  # the largest set, in values, that stays converted between calls
PASS_VALUES = 2**24  # values of running sums that one pass over the training set carries: 128 MiB
MIN_ROWS, MAX_ROWS = 8, 32  # noisy images of a block
BLOCK_SUMS = 1024  # of a block with one tile, at all sigmas
HALF = 0.5  # uint8 minus 128, the integers, lie so far below uint8 minus 127.5, the centred grey levels

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
        levels = levels_of(self.train)
        with unforked_threads():
            sigmas = check_noisy(x, sigma, self.shape)[None].numpy() * levels
            rows = x.detach().to("cpu", torch.float64).flatten(1).numpy() * levels
            found = self._posterior(rows, None, sigmas, with_mean=True)
            assert found.mean is not None
            return found.mean[0].float().reshape(x.shape).to(x.device)

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
            return found.mean.float().reshape(*found.mean.shape[:2], *self.shape).to(device)

    def posterior(self, x0: Any, eps: Any, sigmas: Floats, *, with_mean: bool = True) -> Posterior:
        """Weights' statistics, and D* itself, of ``x0 + sigma * eps``, on the CPU; sigmas (S,) or (S, B), positive."""
        clean, noise = as_images(x0, "x0"), as_images(eps, "eps")
        for name, given in (("x0", clean), ("eps", noise)):
            if given.shape[1:] != self.shape or len(given) != len(clean):
                raise InputError(
                    f"{name} has shape {given.shape}: x0 and eps are (B, {', '.join(map(str, self.shape))})"
                )
        levels = levels_of(self.train)
        rows = centred_rows(clean) * (levels / levels_of(clean))
        grid = np.broadcast_to(sigmas.reshape(len(sigmas), -1) * levels, (len(sigmas), len(clean)))
        return self._posterior(rows, centred_rows(noise), grid, with_mean=with_mean)

    def _posterior(self, x0: Floats, eps: Floats | None, sigmas: Floats, *, with_mean: bool) -> Posterior:
        """Of x0 (B, D), eps (B, D) and sigmas (S, B) in centred units of the training set."""
        num_values = len(sigmas) * (x0.shape[1] if with_mean else 1)  # of an image's sums
        rows_per_pass = BLOCK_ROWS * max(1, PASS_VALUES // (BLOCK_ROWS * num_values))
        found = []
        for start in range(0, max(len(x0), 1), rows_per_pass):
            at = slice(start, start + rows_per_pass)
            found.append(self._pass(x0[at], None if eps is None else eps[at], sigmas[:, at], with_mean=with_mean))
        return joined(found)

    def _pass(self, x0: Floats, eps: Floats | None, sigmas: Floats, *, with_mean: bool) -> Posterior:
        """One reading of the training set."""
        integers = self.train.dtype == np.uint8
        shift = HALF if integers else 0.0
        sums = Sums.empty(sigmas.copy(), x0.shape[1] if with_mean else None)
        count = 1 if integers and self._products.own_threads else threads_for(2.0 * x0.size * len(self.train))
        num_rows = _rows_per_block(len(x0), len(sigmas), count) if integers else BLOCK_ROWS
        blocks = [slice(start, start + num_rows) for start in range(0, len(x0), num_rows)]
        queries = [
            Queries.of(at.start, x0[at] - shift, None if eps is None else eps[at], integers=integers) for at in blocks
        ]
        with start_workers(count) as workers, nullcontext() if integers else single_thread():
            for tile in self._tiles():
                self._add_tile(sums, queries, tile, workers)
        return finish(sums, shift, levels_of(self.train))

    def _add_tile(self, sums: Sums, queries: list[Queries], tile: Tile, workers: Workers) -> None:
        """Every block of noisy images does all its work with the tile on one thread."""

        def add(rows: slice) -> None:
            for block in queries[rows]:
                met = block.meet(tile, self._products)
                scratch = Scratch.of(len(sums.sigmas), len(tile.norms))
                staged: list[Staged] = []
                for row in range(len(block.norms)):
                    staged += fold(sums, block.first + row, met.seen(row), tile, len(self.train), scratch)
                mix(sums, staged, tile, self._products)

        workers(add, len(queries), chunk_rows=1)

    @cached_property
    def _products(self) -> Products:
        return integer_products("auto", work=2.0 * BLOCK_ROWS * self.train.size, width=dimension(self.train))

    @cached_property
    def _resident(self) -> tuple[Tile, ...]:
        return tuple(self._read())

    def _tiles(self) -> Iterator[Tile]:
        yield from self._resident if self.train.size <= RESIDENT_VALUES else self._read()

    @cached_property
    def _norms(self) -> Floats:
        return integer_norms(self.train)

    def _read(self) -> Iterator[Tile]:
        if self.train.dtype != np.uint8:
            return float_tiles(self.train)
        return integer_tiles(self.train, self._norms, self._products)


def _rows_per_block(num_rows: int, num_sigmas: int, num_threads: int) -> int:
    """Noisy images that meet a uint8 tile together: sums of integers are the same however they are shared out."""
    most = max(1, min(MAX_ROWS, BLOCK_SUMS // num_sigmas))
    return min(most, max(MIN_ROWS, -(-num_rows // num_threads)))
