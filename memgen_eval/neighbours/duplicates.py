"""Second neighbours that do not duplicate the first, and all neighbours within a radius: tables looked at wider."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import EngineName
from memgen_eval.compute.resources import blocks
from memgen_eval.compute.rows import check_pair, dimension, largest_of
from memgen_eval.errors import InputError
from memgen_eval.neighbours.distances import block_distances, pair_distances
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.search import nearest_neighbours
from memgen_eval.neighbours.topk import Neighbours, Rows

NO_NEIGHBOUR = -1  # the index in column 1 where every other reference duplicates the first neighbour
_WIDER = 64  # neighbours that are searched for before every reference is looked at
_QUERY_ROWS = 1024
_EXHAUSTED_VALUES = 2**22


class SecondNeighbours:
    """Second neighbours of a table, (N,), filled in row by row; index -1 where none is known yet."""

    def __init__(self, table: Neighbours, references: NDArray[Any], limit: float) -> None:
        """A reference duplicates another one if their squared distance is at most `limit`."""
        self.references, self.limit, self.flip = references, limit, table.flipped is not None
        self.squared = np.full_like(table.squared_distances[:, 0], largest_of(table.squared_distances.dtype))
        self.indices = np.full(len(table), NO_NEIGHBOUR)
        self.flipped = np.zeros(len(table), dtype=bool)

    def settle(self, table: Neighbours, rows: Rows) -> Rows:
        """Take the first column of a table of `rows` that does not duplicate column 0; returns the rows without one."""
        open_rows = np.arange(len(table))
        for column in range(1, table.indices.shape[1]):
            first, other = table.indices[open_rows, 0], table.indices[open_rows, column, None]
            between = pair_distances(self.references, first, self.references, other, flip=self.flip)[:, 0]
            found = open_rows[between > self.limit]
            self.squared[rows[found]] = table.squared_distances[found, column]
            self.indices[rows[found]] = table.indices[found, column]
            if table.flipped is not None:
                self.flipped[rows[found]] = table.flipped[found, column]
            open_rows = open_rows[between <= self.limit]
        return rows[open_rows]

    def exhaust(self, table: Neighbours, rows: Rows) -> Rows:
        """Take from all references the nearest that does not duplicate column 0; returns the rows without one."""
        for block in blocks(len(table), _QUERY_ROWS):
            self._exhaust_block(table[block], rows[block])
        found = np.flatnonzero(self.indices[rows] >= 0)
        if self.flip:
            queries = np.asarray(table.queries)
            plain = pair_distances(queries, found, self.references, self.indices[rows[found], None])[:, 0]
            self.flipped[rows[found]] = self.squared[rows[found]] < plain
        return rows[self.indices[rows] < 0]

    def _exhaust_block(self, table: Neighbours, rows: Rows) -> None:
        firsts, own = np.unique(table.indices[:, 0], return_inverse=True)
        for start, tile in _tiles(self.references):
            distinct = block_distances(self.references[firsts], tile, flip=self.flip) > self.limit  # (F, T)
            columns = np.flatnonzero(distinct.any(axis=0))
            if len(columns) == 0:
                continue
            distances = _allowed_distances(table, tile[columns], start + columns)  # (B, C)
            distances[~distinct[own][:, columns]] = largest_of(distances.dtype)
            nearest = distances.argmin(axis=1)
            value = distances[np.arange(len(rows)), nearest]
            better = value < self.squared[rows]
            self.squared[rows[better]] = value[better]
            self.indices[rows[better]] = start + columns[nearest[better]]


def distinct_neighbours(
    neighbours: Neighbours, references: Any, *, tolerance: float, engine: EngineName | None = None
) -> Neighbours:
    """The nearest reference, and the nearest one that does not duplicate it.

    Column 0 is column 0 of the table. Column 1 is the nearest reference whose distance to the first neighbour is above
    `tolerance` (at most `tolerance`: a duplicate), ties to the smaller index, the query's left-out reference left out.
    Where no such reference is left its index is `NO_NEIGHBOUR` (-1), and its squared distance says what the ratio of
    both is: the largest int64 (inf for floats) where the first neighbour lies within `tolerance` of the query, a copy
    then, ratio 0; that of column 0 otherwise, and the ratio is undefined: 1, below no threshold.

    Parameters
    ----------
    neighbours : Neighbours, (N, K >= 1)
        Training neighbours of each query, nearest first.
    references : uint8 or float, (M, ...), or References
        Those that were searched.
    tolerance : float
        In the units of ``neighbours.distances``, finite, not negative. 0 merges exact duplicates only.
    engine : str, optional
        For wider searches; see `nearest_neighbours`.

    Returns
    -------
    Neighbours, (N, 2)
        If the table knows both orientations, distances between references are the smaller of both, too.

    Raises
    ------
    InputError
        If `tolerance` is negative or not finite, if the references are not those of the table, or if a wider search is
        needed and the table has no queries.

    Notes
    -----
    Queries whose K neighbours all duplicate the first are searched again with 64 neighbours; those still open are
    compared with every reference, in blocks, the duplicates of their first neighbour left out.
    """
    searched = _same_references(neighbours, references)
    limit, references = _squared(tolerance, neighbours, name="tolerance"), searched.rows
    second = SecondNeighbours(neighbours, references, limit)
    open_rows = second.settle(neighbours, np.arange(len(neighbours)))
    if len(open_rows) and _is_worth_widening(neighbours, references):
        open_rows = second.settle(_wider(_searchable(neighbours)[open_rows], searched, engine), open_rows)
    if len(open_rows) and neighbours.indices.shape[1] < _available(neighbours, references):
        open_rows = second.exhaust(_searchable(neighbours)[open_rows], open_rows)
    first = neighbours.squared_distances[open_rows, 0]
    second.squared[open_rows] = np.where(first <= limit, largest_of(first.dtype), first)
    flipped = neighbours.flipped
    return replace(
        neighbours,
        squared_distances=np.column_stack([neighbours.squared_distances[:, 0], second.squared]),
        indices=np.column_stack([neighbours.indices[:, 0], second.indices]),
        flipped=None if flipped is None else np.column_stack([flipped[:, 0], second.flipped]),
    )


def neighbours_within(
    neighbours: Neighbours, references: Any, *, radius: float, engine: EngineName | None = None
) -> tuple[Rows, Rows]:
    """All references nearer to a query than a radius: ``distance < radius``, strictly.

    Parameters
    ----------
    neighbours : Neighbours, (N, K)
        Training neighbours of each query, nearest first.
    references : uint8 or float, (M, ...), or References
        Those that were searched.
    radius : float
        In the units of ``neighbours.distances``, finite, not negative.

    Returns
    -------
    rows, indices : int64, (P,) and (P,)
        The pairs, by query, then by reference; a query's left-out reference is left out.

    Raises
    ------
    InputError
        As `distinct_neighbours`.

    Notes
    -----
    Queries with all K neighbours within the radius are searched wider, at last against every reference.
    """
    searched = _same_references(neighbours, references)
    limit, references = _squared(radius, neighbours, name="radius"), searched.rows
    rows, columns = np.nonzero(neighbours.squared_distances < limit)
    pairs = [(rows, neighbours.indices[rows, columns])]
    open_rows = np.flatnonzero(neighbours.squared_distances[:, -1] < limit)
    if len(open_rows) and _is_worth_widening(neighbours, references):
        table = _wider(_searchable(neighbours)[open_rows], searched, engine)
        rows, columns = np.nonzero(table.squared_distances < limit)
        pairs.append((open_rows[rows], table.indices[rows, columns]))
        open_rows = open_rows[table.squared_distances[:, -1] < limit]
    if len(open_rows) and neighbours.indices.shape[1] < _available(neighbours, references):
        pairs += _all_within(_searchable(neighbours)[open_rows], open_rows, references, limit)
    row, index = (np.concatenate(part) for part in zip(*pairs, strict=True))
    flat = np.unique(row * len(references) + index)
    return np.divmod(flat, len(references))


def without_duplicates(table: Neighbours, *, tolerance: float) -> Neighbours:
    """The table of training images left out one at a time without neighbours that duplicate these, (N, K') of (N, K).

    Neighbours at most `tolerance` from a query are dropped, and as many columns are kept as every row has; at least
    two, or all there are. Where a row has fewer, its last neighbours stand in for them, so that their ratio is near 1
    and nothing is concluded.
    """
    close = table.distances <= tolerance  # (N, K)
    num_columns = table.indices.shape[1]
    kept = max(min(2, num_columns), num_columns - int(close.sum(axis=1).max(initial=0)))
    order = np.argsort(close, axis=1, kind="stable")[:, :kept]
    scarce = np.take_along_axis(close, order, axis=1)
    order[scarce] = num_columns - 1
    squared = np.take_along_axis(table.squared_distances, order, axis=1)
    indices = np.take_along_axis(table.indices, order, axis=1)
    flipped = None if table.flipped is None else np.take_along_axis(table.flipped, order, axis=1)
    return replace(table, squared_distances=squared, indices=indices, flipped=flipped)


def _same_references(neighbours: Neighbours, given: Any) -> References:
    searched = References.of(given)
    references = searched.rows
    if neighbours.squared_distances.dtype == np.int64 and references.dtype != np.uint8:
        raise InputError(f"references hold {references.dtype}, neighbours are of uint8: give the references searched")
    if neighbours.indices.max(initial=-1) >= len(references):
        raise InputError(
            f"neighbours name reference {neighbours.indices.max()} and references have {len(references)} rows: "
            "give the references that were searched"
        )
    if neighbours.queries is not None:
        check_pair(neighbours.queries, references, flip=neighbours.flipped is not None)
    return searched


def _squared(distance: float, neighbours: Neighbours, *, name: str) -> float:
    """A distance in the squared units of the arrays."""
    if not (math.isfinite(distance) and distance >= 0):
        raise InputError(f"{name}={distance!r} is not a distance: give a finite number that is not negative")
    return float(distance / neighbours.factor) ** 2


def _available(neighbours: Neighbours, references: NDArray[Any]) -> int:
    return len(references) - (neighbours.excluded is not None)


def _searchable(neighbours: Neighbours) -> Neighbours:
    """The same table, if it has its queries."""
    if neighbours.queries is None:
        raise InputError("neighbours have no queries to search wider with: give a table from nearest_neighbours")
    return neighbours


def _is_worth_widening(neighbours: Neighbours, references: NDArray[Any]) -> bool:
    num_columns = int(neighbours.indices.shape[1])
    return num_columns < min(_WIDER // 2, _available(neighbours, references))


def _wider(neighbours: Neighbours, references: References, engine: EngineName | None) -> Neighbours:
    """The same queries with 64 neighbours, or all there are."""
    k = min(_WIDER, _available(neighbours, references.rows))
    flip = neighbours.flipped is not None
    return nearest_neighbours(neighbours.queries, references, k, exclude=neighbours.excluded, flip=flip, engine=engine)


def _all_within(
    neighbours: Neighbours, rows: Rows, references: NDArray[Any], limit: float
) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of these queries, numbered by `rows`, with all references below a squared distance."""
    for block in blocks(len(neighbours), _QUERY_ROWS):
        for start, tile in _tiles(references):
            row, column = np.nonzero(_allowed_distances(neighbours[block], tile, start + np.arange(len(tile))) < limit)
            yield rows[block][row], start + column


def _allowed_distances(neighbours: Neighbours, tile: NDArray[Any], indices: Rows) -> NDArray[Any]:
    """Squared distances of the queries to references with these indices, the largest number for the one left out."""
    distances = block_distances(np.asarray(neighbours.queries), tile, flip=neighbours.flipped is not None)
    if neighbours.excluded is not None:
        distances[neighbours.excluded[:, None] == indices] = largest_of(distances.dtype)
    return distances


def _tiles(references: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    num_rows = max(16, min(4096, _EXHAUSTED_VALUES // dimension(references)))
    for tile in blocks(len(references), num_rows):
        yield tile.start, references[tile]
