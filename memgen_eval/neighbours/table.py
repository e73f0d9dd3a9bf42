"""The table that a search returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # row numbers of queries or references


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Nearest references of each query, nearest first, ties to the smaller index.

    Attributes
    ----------
    squared_distances : int64 (uint8 arrays, exact) or float64, (N, K)
        In the squared units of the arrays that were searched, whatever `factor` is.
    indices : int64, (N, K)
        Rows of the references.
    flipped : bool, (N, K), or None
        Where the reference is nearer when mirrored left to right; None if only one orientation was searched.
    factor : float
        The factor of `distances`; see `scaled`.
    queries : array, (N, ...), or None
        The queries, so that a wider search can be made from the table alone.
    excluded : int64, (N,), or None
        The reference that each query was not compared with.
    """

    squared_distances: NDArray[Any]
    indices: NDArray[np.int64]
    flipped: NDArray[np.bool_] | None = None
    factor: float = 1.0
    queries: NDArray[Any] | None = field(default=None, repr=False, compare=False)
    excluded: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: Any) -> Neighbours:
        """The neighbours of some queries: a slice, a mask or indices."""
        return replace(
            self,
            squared_distances=self.squared_distances[rows],
            indices=self.indices[rows],
            flipped=None if self.flipped is None else self.flipped[rows],
            queries=None if self.queries is None else self.queries[rows],
            excluded=None if self.excluded is None else self.excluded[rows],
        )

    @property
    def distances(self) -> NDArray[np.float64]:
        """Euclidean distances, float64, (N, K), in the units of the arrays searched times `factor`."""
        return np.sqrt(self.squared_distances.astype(np.float64)) * self.factor

    def scaled(self, factor: float) -> Neighbours:
        """The same table in other units: every distance times `factor` (positive)."""
        return replace(self, factor=self.factor * factor)
