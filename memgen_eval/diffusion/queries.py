"""Noisy images meeting a tile: squared distances and products with the noise, once for all sigmas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.diffusion.blocks import BLOCK_ROWS
from memgen_eval.diffusion.fixed_point import FixedPoint, digit_products, fixed_point, undo_digits
from memgen_eval.diffusion.training_tiles import FloatTile, Tile
from memgen_eval.neighbours.products import Products

SAME_INTEGER = 0.25  # squared distances of different uint8 images are 1 or more
SAME_FLOAT = 1e-12  # of the squared norms: what rounding leaves of a squared distance of nought

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Seen:
    """What one noisy image, ``x0 + sigma eps``, has seen of a tile.

    Attributes
    ----------
    squared : float64, (T,)
        ``|x0 - y|^2`` of the tile's images.
    along : float64, (T,), or None
        ``<eps, y>``; None for no noise.
    copies : int64, (C,)
        Images of the tile that are x0 itself.
    """

    squared: Floats
    along: Floats | None
    copies: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Met:
    """Noisy images that have met a tile; what one of them has seen is computed when it is asked for.

    Attributes
    ----------
    x0, eps : products with the tile's images
        float64 (Q, T) for float tiles, and of digits, (M, Q, T), for integer ones; `eps` may be None.
    """

    queries: Queries
    tile: Tile
    x0: NDArray[Any]
    eps: NDArray[Any] | None

    def seen(self, row: int) -> Seen:
        """By one of them; of uint8 images the squared distances are whole numbers, and that of a copy is 0."""
        norms = self.queries.norms[row] + self.tile.norms
        squared = norms - 2 * _values(self.x0, self.queries.x0, row)
        along = None if self.eps is None else _values(self.eps, self.queries.eps, row)
        same = SAME_FLOAT * norms if isinstance(self.tile, FloatTile) else SAME_INTEGER
        return Seen(squared, along, np.flatnonzero(squared <= same))


@dataclass(frozen=True, eq=False)
class Queries:
    """Up to 64 clean images (Q, D) in the units of the tiles, their noise, which may be None, and squared norms of x0.

    For integer tiles both are digits; for float tiles both are padded to 64 rows, so that no product depends on Q.
    `first` says which image of the pass comes first.
    """

    first: int
    x0: Any
    eps: Any
    norms: Floats

    @staticmethod
    def of(first: int, x0: Floats, eps: Floats | None, *, integers: bool) -> Queries:
        """Rows prepared for tiles of this kind."""
        prepare = fixed_point if integers else _padded
        return Queries(first, prepare(x0), None if eps is None else prepare(eps), np.einsum("qd,qd->q", x0, x0))

    def meet(self, tile: Tile, products: Products) -> Met:
        """All of them with all images of a tile."""
        if isinstance(tile, FloatTile):
            return Met(self, tile, self.x0 @ tile.rows.T, None if self.eps is None else self.eps @ tile.rows.T)
        x0 = digit_products(self.x0, tile.packed, products)
        eps = None if self.eps is None else digit_products(self.eps, tile.packed, products)
        return Met(self, tile, x0, eps)


def _values(products: NDArray[Any], rows: Any, row: int) -> Floats:
    """Products of one row with a tile, (T,)."""
    if isinstance(rows, FixedPoint):
        return np.asarray(np.ldexp(undo_digits(products[:, row]), rows.exponents[row]))
    return np.asarray(products[row])


def _padded(rows: Floats) -> Floats:
    return np.concatenate([rows, np.zeros((BLOCK_ROWS - len(rows), rows.shape[1]))])
