"""The K smallest keys of every row over tiles that arrive one after the other: exact, ties to the smaller index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GROUPS_PER_NEIGHBOUR = 4
_MIN_GROUPS = 64


@dataclass(frozen=True)
class TopK:
    """The best candidates so far, smallest key first; rows that have seen fewer than K columns end in (largest, -1).

    Attributes
    ----------
    keys : int32, int64 or float32, (N, K)
    indices : int64, (N, K)
    """

    keys: NDArray[Any]
    indices: NDArray[np.int64]

    @staticmethod
    def empty(num_rows: int, k: int, dtype: Any) -> TopK:
        """No candidates yet for `num_rows` rows."""
        return TopK(np.full((num_rows, k), _largest(np.dtype(dtype))), np.full((num_rows, k), -1, dtype=np.int64))

    def update(self, start: int, tile: NDArray[Any], first: int) -> None:
        """Let the columns of a tile (B, T) into rows start to start + B; column c stands for index first + c.

        Tiles must come in ascending order of index. A column enters if its key is below the row's K-th best.
        """
        mine = slice(start, start + len(tile))
        k = self.keys.shape[1]
        row, column = _below(tile, self.keys[mine, -1], k)
        if len(row) == 0:
            return
        counts = np.bincount(row, minlength=len(tile))
        touched = np.flatnonzero(counts)
        position = k + np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        place = np.repeat(np.arange(len(touched)), counts[touched])
        keys = np.full((len(touched), k + counts.max()), _largest(tile.dtype))
        indices = np.full(keys.shape, -1, dtype=np.int64)
        keys[:, :k], indices[:, :k] = self.keys[mine][touched], self.indices[mine][touched]
        keys[place, position], indices[place, position] = tile[row, column], first + column
        order = np.argsort(keys, axis=1, kind="stable")[:, :k]  # stable: later columns have larger indices
        self.keys[start + touched] = np.take_along_axis(keys, order, axis=1)
        self.indices[start + touched] = np.take_along_axis(indices, order, axis=1)

    def admit(self, rows: NDArray[Any], keys: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Let single candidates (P,) of some rows in, in any order, none twice; the rows that have had any."""
        k = self.keys.shape[1]
        order = np.lexsort((indices, keys, rows))
        touched, first, counts = np.unique(rows[order], return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(first, counts)
        order, place, rank = order[rank < k], np.repeat(np.arange(len(touched)), counts)[rank < k], rank[rank < k]
        width = k + min(k, int(counts.max(initial=0)))
        mine = np.full((len(touched), width), _largest(self.keys.dtype))
        whose = np.full(mine.shape, -1, dtype=np.int64)
        mine[:, :k], whose[:, :k] = self.keys[touched], self.indices[touched]
        mine[place, k + rank], whose[place, k + rank] = keys[order], indices[order]
        order = np.lexsort((whose, mine), axis=1)[:, :k]
        self.keys[touched] = np.take_along_axis(mine, order, axis=1)
        self.indices[touched] = np.take_along_axis(whose, order, axis=1)
        return touched

    def merge(self, start: int, keys: NDArray[Any], indices: NDArray[np.int64]) -> None:
        """Let candidates (B, J) that were already selected from a later tile into rows start to start + B."""
        mine = slice(start, start + len(keys))
        keys, indices = np.hstack([self.keys[mine], keys]), np.hstack([self.indices[mine], indices])
        order = np.argsort(keys, axis=1, kind="stable")[:, : self.keys.shape[1]]
        self.keys[mine] = np.take_along_axis(keys, order, axis=1)
        self.indices[mine] = np.take_along_axis(indices, order, axis=1)


def _below(tile: NDArray[Any], limit: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns, in ascending order, of all keys below their row's limit that can be among its K best.

    Where a row has no limit yet, the K-th smallest minimum of a group is one, for K columns are at most that.
    """
    num_columns = tile.shape[1]
    num_groups = min(num_columns, max(_MIN_GROUPS, _GROUPS_PER_NEIGHBOUR * k))
    minima = _group_minima(tile, num_groups)
    if num_groups >= k and (limit == _largest(tile.dtype)).any():
        limit = np.minimum(limit, _next(np.partition(minima, k - 1, axis=1)[:, k - 1]))
    flat = _look_into(tile, minima, limit)
    flat.sort()
    return np.divmod(flat, num_columns)


def keys_below(tile: NDArray[Any], limit: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Rows, columns and values, in ascending order, of all keys of a contiguous tile (B, T) below their row's limit."""
    flat = np.flatnonzero(tile < limit[:, None])
    return *np.divmod(flat, tile.shape[1]), tile.ravel()[flat]


def _look_into(tile: NDArray[Any], minima: NDArray[Any], limit: NDArray[Any]) -> NDArray[np.int64]:
    """Flat positions in a contiguous tile of keys below the limit, only in groups whose minimum is."""
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


def _largest(dtype: np.dtype[Any]) -> Any:
    return dtype.type(np.inf) if dtype.kind == "f" else dtype.type(np.iinfo(dtype).max)
