"""Which rows of one set lie in the balls around the rows of another, counted exactly, both ways round.

A ball holds its border: a row lies in it if its squared distance is at most the squared radius. One product of all
pairs serves both sides; keys decide where their bounds do, and the other pairs are compared exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import threads_for
from memgen_eval.compute.resources import CHUNK_ROWS, MIN_BLOCK_ROWS, Workers, blocks, plan_blocks, start_workers
from memgen_eval.compute.rows import FloatTransform, IntegerTransform, check_pair, dimension
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.neighbours.candidates import ReferenceTile, Resources, prepare
from memgen_eval.neighbours.distances import distance_dtype, row_distances
from memgen_eval.neighbours.topk import Rows

_PAIR_BYTES = 160  # of everything that is held for a pair that lies in a ball
_CHUNKS_AT_ONCE = 8  # for each thread: their counts wait to be added up


@dataclass(frozen=True, eq=False)
class Membership:
    """Points (P,) in balls (B,) that have R radii each.

    Attributes
    ----------
    num_balls : int64, (P, R)
        How many balls hold each point, by radius.
    num_points : int64, (B, R)
        How many points each ball holds.
    """

    num_balls: NDArray[np.int64]
    num_points: NDArray[np.int64]


def memberships(
    queries: NDArray[Any],
    query_radii: NDArray[Any],
    references: NDArray[Any],
    reference_radii: NDArray[Any],
    *,
    resources: Resources,
    ranks: Ranks = ALONE,
) -> tuple[Membership, Membership]:
    """Queries in the balls around references, and references in the balls around queries.

    Parameters
    ----------
    queries, references : uint8 or float, (N, ...) and (M, ...)
        Of the same trailing shape.
    query_radii, reference_radii : int64 (both sets uint8) or float64, (N, Q) and (M, R)
        Squared radii, as `squared_distances` gives them; Q or R may be 0.
    resources : Resources
        The engine, and bytes held at once beyond the arguments and the counts.
    ranks : Ranks
        They share the queries; every one gets the whole.

    Notes
    -----
    One product of N M D multiplications, and float64 differences of the float pairs that are within rounding of a
    radius. The counts are the same for any engine, memory budget, number of threads and ranks.
    """
    largest = check_pair(queries, references, flip=False)
    exact = distance_dtype(queries, references) == np.int64
    transform = IntegerTransform() if exact else FloatTransform.around(references, largest)
    own = ranks.shard(len(queries))
    crossing = _Crossing(queries, query_radii, references, reference_radii, transform)
    inside, around = crossing.counted(own, resources)
    return inside.joined(own, ranks, share_points=True), around.joined(own, ranks, share_points=False)


class BallTally:
    """Counts of points in balls so far, (P, R) and (B, R)."""

    def __init__(self, num_points: int, num_balls: int, num_radii: int) -> None:
        self.by_point = np.zeros((num_points, num_radii), dtype=np.int64)
        self.by_ball = np.zeros((num_balls, num_radii), dtype=np.int64)

    def add(self, points: slice, balls: slice, counts: PairCounts) -> None:
        """Enter what was counted of a block of points and a block of balls."""
        self.by_point[points] += counts[0]
        self.by_ball[balls] += counts[1]

    def joined(self, own: slice, ranks: Ranks, *, share_points: bool) -> Membership:
        """The counts of all ranks, of which each has its own points, or its own balls."""
        if ranks.size == 1:
            return Membership(self.by_point, self.by_ball)
        return Membership(
            *(
                ranks.gather(part[own]) if shared else ranks.gather(part[None]).sum(axis=0)
                for part, shared in ((self.by_point, share_points), (self.by_ball, not share_points))
            )
        )


PairCounts = tuple[NDArray[np.int64], NDArray[np.int64]]  # of points and of balls of a chunk


def _counted(points: Rows, balls: Rows, held: NDArray[np.bool_], num_points: int, num_balls: int) -> PairCounts:
    """How many pairs (S,) each point and each ball has, given which radii hold the pair, (S, R)."""
    by_point, by_ball = (np.zeros((size, held.shape[1]), dtype=np.int64) for size in (num_points, num_balls))
    for column, chosen in enumerate(held.T):
        by_point[:, column] = np.bincount(points[chosen], minlength=num_points)
        by_ball[:, column] = np.bincount(balls[chosen], minlength=num_balls)
    return by_point, by_ball


def count_pairs(
    rows: Rows, columns: Rows, squared: NDArray[Any], radii: tuple[NDArray[Any], NDArray[Any]], shape: tuple[int, ...]
) -> tuple[PairCounts, PairCounts]:
    """Counts of a chunk of N queries in the balls of M references, and of the references in theirs; shape is (N, M).

    Given the pairs (S,) that may lie in a ball, their squared distances, and the radii of both rows, (S, Q) and (S, R).
    """
    around, inside = (squared[:, None] <= side for side in radii)
    num_queries, num_references = shape
    return (
        _counted(rows, columns, inside, num_queries, num_references),
        _counted(columns, rows, around, num_references, num_queries),
    )


@dataclass(frozen=True, eq=False)
class _Crossing:
    """All pairs of two sets, and the squared radii of both."""

    queries: NDArray[Any]
    query_radii: NDArray[Any]
    references: NDArray[Any]
    reference_radii: NDArray[Any]
    transform: IntegerTransform | FloatTransform

    def counted(self, own: slice, resources: Resources) -> tuple[BallTally, BallTally]:
        """The pairs of a slice of the queries: they in the references' balls, and the references in theirs."""
        num_queries, num_references = len(self.queries), len(self.references)
        inside = BallTally(num_queries, num_references, self.reference_radii.shape[1])
        around = BallTally(num_references, num_queries, self.query_radii.shape[1])
        work, width = 2.0 * (own.stop - own.start) * num_references * dimension(self.queries), dimension(self.queries)
        products = resources.engine.products(self.transform, work, width)
        plan = plan_blocks(dimension=width, value_bytes=products.value_bytes, keep=0, budget=resources.budget)
        with start_workers(threads_for(work)) as workers:
            callers = products.callers(workers)
            for rows in blocks(own.stop, plan.resident_rows, start=own.start):
                prepared, norms = prepare(self.queries, rows, self.transform)
                for tile_rows in blocks(num_references, plan.tile_rows):
                    tile = ReferenceTile.of(self.references, tile_rows, self.transform, products)
                    block = _Block(self, rows, prepared, norms, tile, tile_rows)
                    for chunk, first, second in block.parts(callers, resources.budget):
                        inside.add(chunk, tile_rows, first)
                        around.add(tile_rows, chunk, second)
        return inside, around


@dataclass(frozen=True, eq=False)
class _Block:
    """Queries that are prepared, and a tile of references."""

    crossing: _Crossing
    rows: slice
    prepared: NDArray[Any]
    norms: NDArray[Any]
    tile: ReferenceTile
    tile_rows: slice

    def parts(self, workers: Workers, budget: int) -> Iterator[tuple[slice, PairCounts, PairCounts]]:
        """The counts of each chunk of the queries, in order."""
        most = budget // (2 * workers.count * _PAIR_BYTES * (self.tile_rows.stop - self.tile_rows.start))
        size = max(MIN_BLOCK_ROWS, min(CHUNK_ROWS, most))
        slacks = self._slacks()
        for group in blocks(self.rows.stop, size * _CHUNKS_AT_ONCE * workers.count, start=self.rows.start):
            yield from workers.map(partial(self._counts, slacks), blocks(group.stop, size, start=group.start))

    def _slacks(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """How much the lower bounds of squared distances may fall short, as a part of each row; None if by nothing."""
        transform = self.crossing.transform
        if isinstance(transform, IntegerTransform):
            return None
        _, norms = prepare(self.crossing.references, self.tile_rows, transform)
        return transform.slack(self.norms), transform.slack(norms)

    def _counts(
        self, slacks: tuple[NDArray[np.float64], NDArray[np.float64]] | None, chunk: slice
    ) -> tuple[slice, PairCounts, PairCounts]:
        whole, local = self.crossing, slice(chunk.start - self.rows.start, chunk.stop - self.rows.start)
        lower = whole.transform.bounds_of_keys(self.tile.keys(self.prepared[local]), self.norms[local])  # (B, T)
        query_radii, radii = whole.query_radii[chunk], whole.reference_radii[self.tile_rows]
        margin = 1.0 if slacks is None else 1 + (dimension(whole.queries) + 16) * 2.0**-51
        flat = np.flatnonzero(_near(lower, query_radii, radii, margin))
        row, column = np.divmod(flat, lower.shape[1])
        squared, sides = lower.ravel()[flat], (query_radii[row], radii[column])
        if slacks is not None:
            highest = (squared + slacks[0][local][row] + slacks[1][column]) * margin
            unclear = np.full(len(flat), whole.transform.discount >= 1)
            for side in sides:
                unclear |= (_within(squared, side * margin) != _within(highest, side)).any(axis=1)
            squared = highest
            pairs = row[unclear] + chunk.start, whole.references, column[unclear] + self.tile_rows.start
            squared[unclear] = row_distances(whole.queries, *pairs)
        return chunk, *count_pairs(row, column, squared, sides, lower.shape)


def _near(lower: NDArray[Any], query_radii: NDArray[Any], radii: NDArray[Any], margin: float) -> NDArray[np.bool_]:
    """Pairs (B, T) that may lie in a ball of either side."""
    near = np.zeros(lower.shape, dtype=bool)
    if radii.shape[1]:
        near |= lower <= radii.max(axis=1) * margin
    if query_radii.shape[1]:
        near |= lower <= query_radii.max(axis=1)[:, None] * margin
    return near


def _within(squared: NDArray[Any], radii: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of its squared radii (S, R) each squared distance is at most, (S, R)."""
    return np.asarray(squared[:, None] <= radii)
