"""How rows are prepared for products: translated, perhaps scaled, so that products are exact or lose little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.neighbours.arrays import chunk_rows, dimension, rows
from memgen_eval.neighbours.products import EXACT_FLOAT32_TERMS

_UNIT_ROUNDOFF = 2.0**-24
_CENTRE_ROWS = 1024


@dataclass(frozen=True)
class IntegerFrame:
    """uint8 minus 128 as int8: distances stay the same, norms and products are exact."""

    dtype: Any = np.int8

    def convert(self, block: NDArray[Any]) -> NDArray[Any]:
        """Prepared values of a block (B, D)."""
        return np.asarray(np.bitwise_xor(block, 128)).view(np.int8)

    def norms(self, converted: NDArray[Any]) -> NDArray[Any]:
        """Squared norms of prepared values, int64, (B,)."""
        total = np.zeros(len(converted), dtype=np.int64)
        for first in range(0, converted.shape[1], EXACT_FLOAT32_TERMS):
            part = converted[:, first : first + EXACT_FLOAT32_TERMS].astype(np.float32)
            total += np.einsum("ij,ij->i", part, part).astype(np.int64)
        return total


@dataclass(frozen=True)
class FloatFrame:
    """float32 of the values less a centre, times a power of two that brings all magnitudes below 1.

    With ``u = 2^-24`` and ``g = n u / (1 - n u)``, ``n = D + 16``: a key ``(1 - g) |y|^2 - 2 q.y`` computed from
    prepared rows is at most ``|q - y|^2 - (1 - g) |q|^2`` plus what underflow takes. For g covers the product in any
    order of summation (D u), the rounding of norm and key (3 u) and of both rows to float32 (4 u), all of them at most
    that multiple of ``|q|^2 + |y|^2 >= 2 |q| |y|``. So a reference far out loosens no bound but its own.
    """

    centre: NDArray[np.float64]  # (D,)
    exponent: int
    dtype: Any = np.float32

    @staticmethod
    def around(references: NDArray[Any], largest: float) -> FloatFrame:
        """The frame about the mean of some references, for values of magnitude at most `largest`."""
        some = references[:: max(1, len(references) // _CENTRE_ROWS)][:_CENTRE_ROWS]
        total = np.zeros(dimension(references))
        for start in range(0, len(some), chunk_rows(some)):
            total += rows(some, start, min(start + chunk_rows(some), len(some))).sum(axis=0, dtype=np.float64)
        return FloatFrame(total / len(some), -math.frexp(2 * largest)[1])

    def convert(self, block: NDArray[Any]) -> NDArray[Any]:
        """Prepared values of a block (B, D)."""
        return np.ldexp(block.astype(np.float64) - self.centre, self.exponent).astype(np.float32)

    def norms(self, converted: NDArray[Any]) -> NDArray[Any]:
        """Squared norms of prepared values, float64, (B,)."""
        wide = converted.astype(np.float64)
        return np.asarray(np.einsum("ij,ij->i", wide, wide))

    @property
    def discount(self) -> float:
        """The share g of the squared norms that rounding can take, 1 (no bound at all) beyond 2^23 dimensions."""
        rounding = (len(self.centre) + 16) * _UNIT_ROUNDOFF
        return rounding / (1 - rounding) if rounding < 0.5 else 1.0

    def bounds_of_keys(self, keys: NDArray[Any], query_norms: NDArray[Any]) -> NDArray[np.float64]:
        """What squared distances are at least, in the squared units of the arrays, given keys (N, J)."""
        return self._bounds(keys.astype(np.float64) + (1 - self.discount) * query_norms[:, None])

    def bounds_of_distances(
        self, distances: NDArray[Any], query_norms: NDArray[Any], largest_norm: float
    ) -> NDArray[np.float64]:
        """The same, given squared distances (N, J) that were computed in float32 in whatever way."""
        return self._bounds(distances.astype(np.float64) - 2 * self.discount * (query_norms[:, None] + largest_norm))

    def _bounds(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.discount >= 1:
            return np.full(scaled.shape, -np.inf)
        underflow = len(self.centre) * 2.0**-120  # of flushed denormals, generously
        return np.ldexp(scaled - underflow, -2 * self.exponent)


Frame = IntegerFrame | FloatFrame
