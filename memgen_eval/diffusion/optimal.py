"""D*: the denoiser that minimises the training loss exactly, streamed over the training set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memgen_eval.diffusion.blocks import BLOCK_ROWS, padded, working_device
from memgen_eval.diffusion.inputs import as_images, centred_rows, check_noisy, levels_of
from memgen_eval.diffusion.sigmas import check_sigmas
from memgen_eval.errors import InputError

TILE_VALUES = 2**21  # values of a block of training images: 16 MiB as float64
MAX_TILE_ROWS = 512  # with 64 queries 2^15 weights: what torch does on one thread, without waiting for another
MIN_TILE_ROWS = 16
RESIDENT_VALUES = 2**24  # a set of so many values stays converted between calls: 128 MiB
PASS_VALUES = 2**24  # values of running sums that one pass over the training set carries: 128 MiB
DROPPED_MASS = 1e-9  # what the weights left out may add up to, as a share of the whole
FEW = 6  # so many weights of a row in a tile are summed one by one: a product with the whole tile would cost more
LOWEST = -1e300  # below every logit, and finite: 0 * LOWEST is 0


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
class _Tile:
    """A block of training images, float64 (R, D), and their squared norms (R,)."""

    rows: Tensor
    norms: Tensor


@dataclass(frozen=True, eq=False)
class _Block:
    """64 queries and their running sums over the tiles: largest logit, sum of weights, of weights times logits, ..."""

    num_rows: int
    x0: Tensor  # (Q, D)
    norms: Tensor  # (Q,)
    eps: Tensor | None  # (Q, D)
    sigmas: Tensor  # (S, Q)
    top: Tensor  # (S, Q)
    mass: Tensor  # (S, Q)
    spread: Tensor  # (S, Q)
    own: Tensor  # (S, Q)
    energy: Tensor  # (S, Q), of weights times squared norms
    total: Tensor | None  # (S, Q, D)


@dataclass(frozen=True, eq=False)
class OptimalDenoiser:
    """The empirical-optimal denoiser, ``D*(x; sigma) = sum_i w_i y_i``, ``w = softmax(-|x - y_i|^2 / (2 sigma^2))``.

    It minimises the denoising loss on the training set; a sampler that follows it can only reproduce training images.
    Computed in float64; relative error of an image at most 1e-5 for sigma from 0.002 to 80.

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
    Cost of B noisy images: 4 B N D operations, fewer at low sigma; the training set is read in blocks of 16 MiB.
    The result of an image does not depend on the images beside it.
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
        sigmas = check_noisy(x, sigma, self.shape)[None] * levels
        rows = x.detach().to(working_device(x.device)).double().flatten(1) * levels
        found = self._posterior(rows, None, sigmas.to(rows.device), with_mean=True)
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
        found = self.posterior(x0, eps, check_sigmas(sigmas))
        assert found.mean is not None
        device = x0.device if isinstance(x0, Tensor) else torch.device("cpu")
        return found.mean.float().reshape(*found.mean.shape[:2], *self.shape).to(device)

    def posterior(self, x0: Any, eps: Any, sigmas: NDArray[np.float64], *, with_mean: bool = True) -> Posterior:
        """Weights' statistics, and D* itself, of ``x0 + sigma * eps``, on the CPU; sigmas (S,) or (S, B), positive."""
        device = working_device(x0.device) if isinstance(x0, Tensor) else torch.device("cpu")
        clean, noise = as_images(x0, "x0"), as_images(eps, "eps")
        for name, given in (("x0", clean), ("eps", noise)):
            if given.shape[1:] != self.shape or len(given) != len(clean):
                raise InputError(
                    f"{name} has shape {given.shape}: x0 and eps are (B, {', '.join(map(str, self.shape))})"
                )
        levels = levels_of(self.train)
        rows = torch.from_numpy(centred_rows(clean) * (levels / levels_of(clean))).to(device)
        grid = torch.from_numpy(
            np.broadcast_to(sigmas.reshape(len(sigmas), -1) * levels, (len(sigmas), len(clean))).copy()
        )
        return self._posterior(
            rows, torch.from_numpy(centred_rows(noise)).to(device), grid.to(device), with_mean=with_mean
        )

    def _posterior(self, x0: Tensor, eps: Tensor | None, sigmas: Tensor, *, with_mean: bool) -> Posterior:
        """Of x0 (B, D), eps (B, D) and sigmas (S, B) in the units of the training rows."""
        per_block = BLOCK_ROWS * len(sigmas) * (x0.shape[1] if with_mean else 1)
        rows_per_pass = BLOCK_ROWS * max(1, PASS_VALUES // per_block)
        found = []
        for start in range(0, len(x0), rows_per_pass):
            blocks = [
                _block(x0[at], None if eps is None else eps[at], sigmas[:, at], with_mean=with_mean)
                for at in _slices(start, min(start + rows_per_pass, len(x0)))
            ]
            for tile in self._tiles(x0.device):
                for block in blocks:
                    self._meet(block, tile)
            found += [_finish(block, levels_of(self.train)) for block in blocks]
        if not found:
            empty = sigmas.new_zeros(len(sigmas), 0)
            return Posterior(x0.new_zeros(len(sigmas), 0, x0.shape[1]), empty, empty, empty)
        means = [one.mean for one in found if one.mean is not None]
        variances = [one.variance for one in found if one.variance is not None]
        return Posterior(
            torch.cat(means, dim=1) if with_mean else None,
            torch.cat([one.effective_neighbours for one in found], dim=1),
            torch.cat([one.own_weight for one in found], dim=1),
            torch.cat(variances, dim=1) if with_mean else None,
        )

    @cached_property
    def _resident(self) -> tuple[_Tile, ...]:
        return tuple(self._converted(torch.device("cpu")))

    def _tiles(self, device: torch.device) -> Iterator[_Tile]:
        small = self.train.size <= RESIDENT_VALUES and device.type == "cpu"
        yield from self._resident if small else self._converted(device)

    def _converted(self, device: torch.device) -> Iterator[_Tile]:
        """Blocks of training images whose shape depends on the training set alone."""
        dimension = math.prod(self.shape)
        num_rows = max(MIN_TILE_ROWS, min(MAX_TILE_ROWS, TILE_VALUES // dimension))
        for start in range(0, len(self.train), num_rows):
            rows = torch.from_numpy(centred_rows(self.train[start : start + num_rows])).to(device)
            norms = torch.from_numpy(np.einsum("rd,rd->r", rows.cpu().numpy(), rows.cpu().numpy())).to(device)
            yield _Tile(rows, norms)

    def _meet(self, block: _Block, tile: _Tile) -> None:
        """Add a tile to the running sums of a block, for every sigma."""
        # integers and quarters below 2^53 for uint8: the squared distance of a copy is exactly 0
        squared = block.norms[:, None] + tile.norms - 2 * (block.x0 @ tile.rows.T)  # (Q, R)
        along = None if block.eps is None else block.eps @ tile.rows.T  # (Q, R)
        same = 0.25 if levels_of(self.train) > 1 else 1e-12 * (block.norms[:, None] + tile.norms)
        copies = torch.nonzero(
            squared[: block.num_rows] <= (same if isinstance(same, float) else same[: block.num_rows])
        )
        least = -math.log(len(self.train) / DROPPED_MASS)
        for number, sigma in enumerate(block.sigmas):
            logits = squared * (-0.5 / sigma**2)[:, None]
            if along is not None:
                logits.addcmul_(along, (1 / sigma)[:, None].expand_as(along))
            _fold(block, number, logits, copies, tile, least)


def _slices(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, BLOCK_ROWS):
        yield slice(first, min(first + BLOCK_ROWS, stop))


def _block(x0: Tensor, eps: Tensor | None, sigmas: Tensor, *, with_mean: bool) -> _Block:
    num_rows = len(x0)
    x0 = padded(x0)
    grid = torch.cat([sigmas, sigmas.new_ones(len(sigmas), BLOCK_ROWS - num_rows)], dim=1)
    norms = torch.from_numpy(np.einsum("qd,qd->q", x0.cpu().numpy(), x0.cpu().numpy())).to(x0.device)
    zeros = torch.zeros_like(grid)
    total = x0.new_zeros(*grid.shape, x0.shape[1]) if with_mean else None
    return _Block(
        num_rows, x0, norms, None if eps is None else padded(eps), grid,
        torch.full_like(grid, LOWEST), zeros, zeros.clone(), zeros.clone(), zeros.clone(), total,
    )  # fmt: skip


def _fold(block: _Block, number: int, logits: Tensor, copies: Tensor, tile: _Tile, least: float) -> None:
    """Streaming softmax: rescale what is there to the new largest logit, and add this tile's weights."""
    top, mass, spread, own = block.top[number], block.mass[number], block.spread[number], block.own[number]
    new_top = torch.maximum(top, logits.amax(dim=1))
    below = logits.sub_(new_top[:, None])  # (Q, R), at most 0
    weights = torch.exp(below)
    weights.masked_fill_(below < least, 0)
    weights[block.num_rows :] = 0
    rescale = torch.exp(top - new_top)
    spread.add_(mass * (top - new_top)).mul_(rescale).add_((weights * below).sum(dim=1))
    mass.mul_(rescale).add_(weights.sum(dim=1))
    own.mul_(rescale)
    if len(copies):
        own.index_add_(0, copies[:, 0], weights[copies[:, 0], copies[:, 1]])
    top.copy_(new_top)
    if block.total is not None:
        block.energy[number].mul_(rescale).add_((weights * tile.norms).sum(dim=1))
        if (rescale != 1).any():
            block.total[number].mul_(rescale[:, None])
        _add_images(block.total[number], weights, tile)


def _add_images(total: Tensor, weights: Tensor, tile: _Tile) -> None:
    """Add the weighted sum of a tile's images; each row goes by its own weights alone, whatever stands beside it."""
    counts = torch.count_nonzero(weights, dim=1)
    few = (counts <= FEW) if total.device.type == "cpu" else torch.zeros_like(counts, dtype=torch.bool)
    if not few.all():
        total.addmm_(weights.masked_fill(few[:, None], 0), tile.rows)
    if (few & (counts > 0)).any():
        row, column = torch.nonzero(weights * few[:, None], as_tuple=True)
        total.index_add_(0, row, weights[row, column][:, None] * tile.rows[column])


def _finish(block: _Block, levels: float) -> Posterior:
    rows = slice(block.num_rows)
    mass = block.mass[:, rows]
    entropy = torch.log(mass) - block.spread[:, rows] / mass
    effective, own = torch.exp(entropy), block.own[:, rows] / mass
    if block.total is None:
        return Posterior(None, effective, own, None)
    mean = block.total[:, rows] / mass[..., None]
    spread = block.energy[:, rows] / mass - torch.from_numpy(np.square(mean.cpu().numpy()).sum(axis=2)).to(mass.device)
    variance = spread.clamp(min=0) / (mean.shape[2] * levels**2)
    return Posterior(mean / levels, effective, own, variance)
