"""Small sets of uint8 rows, all pairs of which one thread multiplies at once, while other threads have other sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.products import SLICE, Products
from memgen_eval.compute.resources import blocks
from memgen_eval.compute.rows import IntegerTransform, dimension, read_rows
from memgen_eval.neighbours.balls import Membership, count_pairs

MOST_ROWS = 2048
NUM_BANDS = 8  # of rows: what lies below the diagonal of a symmetric product is copied
COLUMNS_OF_A_GROUP = 16  # of which the smallest is looked at
_BYTES = IntegerTransform()
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SmallSet:
    """uint8 rows less 128, (M, D), and their squared norms, (M,)."""

    values: NDArray[np.int8]
    norms: NDArray[np.int32]

    @staticmethod
    def of(rows: NDArray[Any]) -> SmallSet:
        """Of rows (M, ...)."""
        values = _BYTES.apply(read_rows(rows, slice(0, len(rows))))
        return SmallSet(values, _BYTES.norms(values).astype(np.int32))

    @staticmethod
    def holds(rows: NDArray[Any], size: int) -> bool:
        """Whether it can hold this number of the rows (M, ...), so that int32 holds squared distances."""
        return rows.dtype == np.uint8 and size <= MOST_ROWS and dimension(rows) <= SLICE

    def squared_to(self, other: SmallSet, products: Products) -> NDArray[np.int32]:
        """Squared distances to the rows of another one, (M, N)."""
        return self._squared(products.multiply(self.values, products.pack(other.values)), other.norms)

    def nearest_others(self, k: int, products: Products) -> Integers:
        """Squared distances of each row to its K nearest others, nearest first, (M, K), K < M."""
        found = np.empty((len(self.norms), len(self.norms)), dtype=np.int32)
        for band in blocks(len(found), -(-len(found) // NUM_BANDS)):
            right = slice(band.start, None)
            found[band, right] = products.multiply(self.values[band], products.pack(self.values[right]))
            found[band.stop :, band] = found[band, band.stop :].T
        squared = self._squared(found, self.norms)
        np.fill_diagonal(squared, np.iinfo(np.int32).max)
        flat = places_of_smallest(squared, k)
        return k_smallest(flat // len(squared), squared.ravel()[flat].astype(np.int64), k)

    def _squared(self, products: NDArray[np.int32], norms: NDArray[np.int32]) -> NDArray[np.int32]:
        """Squared distances from products, which they overwrite."""
        np.multiply(products, -2, out=products)
        np.add(products, norms, out=products)
        return np.asarray(np.add(products, self.norms[:, None], out=products))


def places_of_smallest(keys: NDArray[np.int32], k: int) -> Integers:
    """Places in a flattened block (B, M) that hold the K smallest keys of each row, and few others."""
    num_groups = keys.shape[1] // COLUMNS_OF_A_GROUP
    if num_groups < k:
        return np.arange(keys.size)
    grouped = keys[:, : num_groups * COLUMNS_OF_A_GROUP].reshape(len(keys), COLUMNS_OF_A_GROUP, num_groups)
    limits = np.partition(grouped.min(axis=1), k - 1, axis=1)[:, k - 1, None]  # K groups have a key of at most this
    return np.flatnonzero(keys <= limits)


def k_smallest(rows: Integers, values: Integers, k: int) -> Integers:
    """The K smallest values of each row, ascending, (B, K), given K or more of each, (S,), and their rows, (S,)."""
    order = np.lexsort((values, rows))
    starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    return np.asarray(values[order][starts[:, None] + np.arange(k)])


def small_memberships(
    queries: SmallSet, query_radii: Integers, references: SmallSet, radii: Integers, products: Products
) -> tuple[Membership, Membership]:
    """As `memberships` counts them."""
    squared = queries.squared_to(references, products)
    near = np.zeros(squared.shape, dtype=bool)
    if radii.shape[1]:
        near |= squared <= _largest(radii)
    if query_radii.shape[1]:
        near |= squared <= _largest(query_radii)[:, None]
    flat = np.flatnonzero(near)
    row, column = np.divmod(flat, squared.shape[1])
    sides = query_radii[row], radii[column]
    inside, around = count_pairs(row, column, squared.ravel()[flat], sides, squared.shape)
    return Membership(*inside), Membership(*around)


def _largest(radii: Integers) -> NDArray[np.int32]:
    return np.asarray(np.minimum(radii.max(axis=1), np.iinfo(np.int32).max), dtype=np.int32)
