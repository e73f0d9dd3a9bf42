"""Noisy images meeting a tile: squared distances and products with the noise, once for all sigmas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.diffusion.blocks import BLOCK_ROWS
from memgen_eval.diffusion.fixed_point import Multiplier, fixed_point, inner_products
from memgen_eval.diffusion.training_tiles import FloatTile, Tile

SAME_INTEGER = 0.25  # squared distances of different uint8 images are 1 or more
SAME_FLOAT = 1e-12  # of the squared norms: what rounding leaves of a squared distance of nought

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Met:
    """What `fold` needs of Q noisy images and T training images.

    Attributes
    ----------
    squared : float64, (Q, T)
        ``|x0 - y|^2``.
    along : float64, (Q, T), or None
        ``<eps, y>``.
    same : bool, (Q, T)
        Whether y is x0 itself.
    """

    squared: Floats
    along: Floats | None
    same: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Queries:
    """Up to 64 clean images (Q, D) in the units of the tiles, their squared norms, and their noise, which may be None.

    For integer tiles both are digits; for float tiles both are padded to 64 rows, so that no product depends on Q.
    """

    x0: Any
    eps: Any
    norms: Floats

    @staticmethod
    def of(x0: Floats, eps: Floats | None, *, integers: bool) -> Queries:
        """Rows prepared for tiles of this kind."""
        prepare = fixed_point if integers else _padded
        return Queries(prepare(x0), None if eps is None else prepare(eps), np.einsum("qd,qd->q", x0, x0))

    def meet(self, tile: Tile, multiply: Multiplier) -> Met:
        """All of them with all images of a tile."""
        num_rows, norms = len(self.norms), self.norms[:, None]
        if isinstance(tile, FloatTile):
            squared = norms + tile.norms - 2 * (self.x0 @ tile.rows.T)[:num_rows]
            along = None if self.eps is None else (self.eps @ tile.rows.T)[:num_rows]
            return Met(squared, along, squared <= SAME_FLOAT * (norms + tile.norms))
        # integers, and below 2^53: the squared distance of a copy is exactly 0
        squared = norms + tile.norms - 2 * inner_products(self.x0, tile.packed, multiply)
        along = None if self.eps is None else inner_products(self.eps, tile.packed, multiply)
        return Met(squared, along, squared <= SAME_INTEGER)


def _padded(rows: Floats) -> Floats:
    return np.concatenate([rows, np.zeros((BLOCK_ROWS - len(rows), rows.shape[1]))])
