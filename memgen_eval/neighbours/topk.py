"""The K smallest keys of every row over tiles that arrive one after the other; of equal keys the smaller index."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.rows import largest_of

_GROUPS_PER_NEIGHBOUR = 4
_MIN_GROUPS = 64
Rows = NDArray[np.int64]  # row numbers of queries or references


class TopK:
    """The best candidates so far, smallest key first; rows that have seen fewer than K candidates end in (largest, -1).

    Attributes
    ----------
    keys : int32, int64, float32 or float64, (N, K)
    indices : int64, (N, K)
    """

    def __init__(self, num_rows: int, k: int, dtype: Any) -> None:
        """No candidates yet."""
        self.keys: NDArray[Any] = np.full((num_rows, k), largest_of(dtype), dtype=dtype)
        self.indices: NDArray[np.int64] = np.full((num_rows, k), -1, dtype=np.int64)

    def admit_up_to(self, keys: NDArray[np.int64]) -> None:
        """Let no key beyond these, (N,), enter: rows with fewer than K candidates end in some larger key and -1."""
        most = largest_of(self.keys.dtype)
        self.keys[:] = (np.minimum(keys, most - 1) + 1)[:, None]

    def update(self, rows: slice, tile: NDArray[Any], first: int) -> None:
        """Enter the columns of a tile (B, T) into a slice of rows; column c stands for index first + c.

        Tiles must come in ascending order of index. A column enters if its key is below the row's K-th best.
        """
        row, column = _below(tile, self.keys[rows, -1], self.keys.shape[1])
        self._insert(rows.start + row, tile[row, column], first + column, ascending=True)

    def merge(self, rows: slice, keys: NDArray[Any], indices: NDArray[np.int64]) -> None:
        """Enter candidates (B, J), already selected from a later tile, into a slice of rows."""
        row = np.repeat(np.arange(rows.start, rows.stop), keys.shape[1])
        self._insert(row, keys.ravel(), indices.ravel(), ascending=True)

    def admit(self, rows: NDArray[Any], keys: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Enter candidates (P,) of any rows, in any order, none twice; returns the rows that had one."""
        order = np.lexsort((indices, keys, rows))
        _, _, rank = _grouped(rows[order])
        order = order[rank < self.keys.shape[1]]
        return self._insert(rows[order], keys[order], indices[order], ascending=False)

    def _insert(
        self, rows: NDArray[Any], keys: NDArray[Any], indices: NDArray[np.int64], *, ascending: bool
    ) -> NDArray[np.int64]:
        """Enter candidates (P,), their rows in ascending order; `ascending` if so are the indices of each row."""
        if len(rows) == 0:
            return np.empty(0, dtype=np.int64)
        touched, place, rank = _grouped(rows)
        k = self.keys.shape[1]
        all_keys = np.full((len(touched), k + rank.max() + 1), largest_of(self.keys.dtype), dtype=self.keys.dtype)
        all_indices = np.full(all_keys.shape, -1, dtype=np.int64)
        all_keys[:, :k], all_indices[:, :k] = self.keys[touched], self.indices[touched]
        all_keys[place, k + rank], all_indices[place, k + rank] = keys, indices
        if ascending:
            order = np.argsort(all_keys, axis=1, kind="stable")[:, :k]
        else:
            order = np.lexsort((all_indices, all_keys), axis=1)[:, :k]
        self.keys[touched] = np.take_along_axis(all_keys, order, axis=1)
        self.indices[touched] = np.take_along_axis(all_indices, order, axis=1)
        return touched


def _grouped(rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of ascending rows (P,); of each entry its place among them, and its rank within its row."""
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    place = np.repeat(np.arange(len(first)), np.diff(first, append=len(rows)))
    return rows[first], place, np.arange(len(rows)) - first[place]


def _below(tile: NDArray[Any], limit: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns, in ascending order, of all keys below their row's limit that can be among its K best.

    Where a row has no limit yet, the K-th smallest minimum of a group is one: K columns are no larger.
    """
    num_columns = tile.shape[1]
    num_groups = min(num_columns, max(_MIN_GROUPS, _GROUPS_PER_NEIGHBOUR * k))
    minima = _group_minima(tile, num_groups)
    if num_groups >= k and (limit == largest_of(tile.dtype)).any():
        limit = np.minimum(limit, _next(np.partition(minima, k - 1, axis=1)[:, k - 1]))
    flat = _look_into(tile, minima, limit)
    flat.sort()
    return np.divmod(flat, num_columns)


def keys_below(tile: NDArray[Any], limit: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Rows, columns and values, in ascending order, of all keys of a contiguous tile (B, T) below their row's limit."""
    flat = np.flatnonzero(tile < limit[:, None])
    return *np.divmod(flat, tile.shape[1]), tile.ravel()[flat]


def _look_into(tile: NDArray[Any], minima: NDArray[Any], limit: NDArray[Any]) -> NDArray[np.int64]:
    """Flat positions in a contiguous tile of the keys below the limit; only groups with such a minimum are searched."""
    num_columns, num_groups = tile.shape[1], minima.shape[1]
    row, group = np.divmod(np.flatnonzero(minima < limit[:, None]), num_groups)
    column = group[:, None] + num_groups * np.arange(-(-num_columns // num_groups))
    flat = row[:, None] * num_columns + np.minimum(column, num_columns - 1)
    return np.asarray(flat[(tile.ravel()[flat] < limit[row, None]) & (column < num_columns)])


def _group_minima(tile: NDArray[Any], num_groups: int) -> NDArray[Any]:
    num_rows, num_columns = tile.shape
    full, rest = divmod(num_columns, num_groups)
    minima: NDArray[Any] = tile[:, : full * num_groups].reshape(num_rows, full, num_groups).min(axis=1)
    np.minimum(minima[:, :rest], tile[:, full * num_groups :], out=minima[:, :rest])
    return minima


def _next(keys: NDArray[Any]) -> NDArray[Any]:
    """The next larger representable keys."""
    up = np.nextafter(keys, keys.dtype.type(np.inf)) if keys.dtype.kind == "f" else keys + keys.dtype.type(1)
    return np.asarray(up)


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
