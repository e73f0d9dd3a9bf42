"""An index: rows to search among many times, bound once to a memory budget and to the ranks that share the queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import EngineName
from memgen_eval.compute.kept import NOWHERE, Arrays, Kept
from memgen_eval.compute.resources import blocks, num_threads, start_workers
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.neighbours.balls import Membership, memberships
from memgen_eval.neighbours.candidates import Resources
from memgen_eval.neighbours.duplicates import distinct_neighbours
from memgen_eval.neighbours.pruning import References, plan_search
from memgen_eval.neighbours.search import both_orientations, nearest_neighbours, nearest_within
from memgen_eval.neighbours.topk import Neighbours, Rows

KEPT_ROWS = 2048  # queries of a block that is kept
SOME_ROWS, SOME_BYTES = 1_000, 2**26  # of references that bound the distances to all


@dataclass(frozen=True, eq=False)
class Index:
    """References to search among; every search is exact, shared by all ranks, and the whole table on each of them.

    Attributes
    ----------
    references : References
        The codes that are kept with them serve every search, and every index of the same references.
    memory_budget : str or int
        Bytes held at once beyond references and tables; it never changes a result.
    ranks : Ranks
        Processes that search together: all of them call, with the same queries.
    engine : str, optional
        See `nearest_neighbours`; it never changes a result.
    kept : Kept
        Where tables are kept, block by block.
    """

    references: References
    memory_budget: str | int = "512MiB"
    ranks: Ranks = ALONE
    engine: EngineName | None = None
    kept: Kept = NOWHERE

    @property
    def rows(self) -> NDArray[Any]:
        """The references, (M, ...)."""
        return self.references.rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def resources(self) -> Resources:
        """What every search may use."""
        return Resources.of(self.engine, self.memory_budget)

    def among(self, rows: NDArray[Any]) -> Index:
        """Other rows with the same budget, ranks and engine."""
        return replace(self, references=References.of(rows))

    def thinned(self, least: int) -> Index:
        """1,000 references, spread evenly, at least `least`, or all: no K-th neighbour is nearer than among all."""
        size = max(least, min(SOME_ROWS, SOME_BYTES // self.rows[:1].nbytes))
        if size >= len(self):
            return self
        return self.among(self.rows[np.linspace(0, len(self) - 1, size).astype(np.int64)])

    def search(self, queries: NDArray[Any], k: int, *, exclude: Rows | None = None, flip: bool = False) -> Neighbours:
        """`nearest_neighbours` of these queries, (N, ...)."""
        self._code_references(queries, k + (exclude is not None))
        mine = self.ranks.shard(len(queries))
        own, excluded = queries[mine], None if exclude is None else exclude[mine]

        def find(rows: slice) -> Neighbours:
            return nearest_neighbours(
                own[rows],
                self.references,
                k,
                exclude=None if excluded is None else excluded[rows],
                flip=flip,
                engine=self.engine,
                memory_budget=self.memory_budget,
            )

        part = self._in_blocks(find, len(own), lambda rows: _known(own, excluded, rows), "neighbours", k, flip)
        return self._gathered(part, queries, exclude)

    def nearest_within(
        self, queries: NDArray[Any], limits: NDArray[np.float64], *, exclude: Rows | None = None, flip: bool = False
    ) -> Neighbours:
        """`nearest_within` of queries, (N, ...), and squared distances, (N,)."""
        self._code_references(queries, 1 + (exclude is not None))
        mine = self.ranks.shard(len(queries))
        found = nearest_within(
            queries[mine],
            self.references,
            limits[mine],
            exclude=None if exclude is None else exclude[mine],
            flip=flip,
            engine=self.engine,
            memory_budget=self.memory_budget,
        )
        return self._gathered(found, queries, exclude)

    def _code_references(self, queries: NDArray[Any], k: int) -> None:
        """Code the references together, unless all ranks have kept codes that serve; the search asks no rank then.

        Ranks that search on a GPU need no codes, but help those that do.
        """
        if self.ranks.size == 1:
            return
        resources = self.resources
        plan = plan_search(queries, self.rows, k, resources)
        if plan is None:
            return
        missing = resources.takes_codes_for(queries, self.rows) and self.references.kept(plan) is None
        answers = self.ranks.exchange("codes", (missing, plan.budget))
        if any(missing for missing, _ in answers):
            plan = replace(plan, budget=min(budget for _, budget in answers))  # so that all keep the codes, or none
            with start_workers(num_threads()) as workers:
                self.references.code(plan, workers, self.ranks)

    def both_orientations(self, plain: Neighbours) -> Neighbours:
        """The neighbours by the smaller distance of both orientations, of a table of one."""
        return self._of_each_rank(
            plain,
            lambda own: both_orientations(own, self.references, engine=self.engine, memory_budget=self.memory_budget),
            "both orientations",
        )

    def distinct(self, neighbours: Neighbours, *, tolerance: float) -> Neighbours:
        """`distinct_neighbours` of a table."""
        return self._of_each_rank(
            neighbours,
            lambda own: distinct_neighbours(own, self.references, tolerance=tolerance, engine=self.engine),
            "distinct neighbours",
            tolerance,
        )

    def memberships(
        self, queries: NDArray[Any], query_radii: NDArray[Any], radii: NDArray[Any]
    ) -> tuple[Membership, Membership]:
        """`memberships` of queries and these references, which have squared radii (N, Q) and (M, R)."""
        return memberships(queries, query_radii, self.rows, radii, resources=self.resources, ranks=self.ranks)

    def _of_each_rank(
        self, table: Neighbours, widen: Callable[[Neighbours], Neighbours], label: str, *facts: object
    ) -> Neighbours:
        own = table[self.ranks.shard(len(table))]

        def known(rows: slice) -> tuple[object, ...]:
            given = own[rows]
            return given.squared_distances, given.indices, given.flipped, *_known(own.queries, own.excluded, rows)

        part = self._in_blocks(lambda rows: widen(own[rows]), len(own), known, label, *facts)
        return self._gathered(replace(part, factor=table.factor), table.queries, table.excluded)

    def _in_blocks(
        self,
        find: Callable[[slice], Neighbours],
        num_rows: int,
        known: Callable[[slice], tuple[object, ...]],
        label: str,
        *facts: object,
    ) -> Neighbours:
        """A table, its blocks read where they were kept; `known` and `facts` are what determines a block.

        It has no queries and nothing excluded. Without a place to keep blocks it is one.
        """
        if not self.kept.active:
            return replace(find(slice(0, num_rows)), queries=None, excluded=None)
        kept = self.kept.under(self.references.checksum, *facts)
        parts = [
            kept.block(partial(_as_arrays, find, rows), label, *known(rows))
            for rows in blocks(max(1, num_rows), KEPT_ROWS)
        ]
        joined: Iterator[Any] = (
            None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True)
        )
        return Neighbours(*joined)

    def _gathered(self, part: Neighbours, queries: NDArray[Any] | None, excluded: Rows | None) -> Neighbours:
        """The whole table, of which each rank has its own rows."""
        gather = self.ranks.gather
        return replace(
            part,
            squared_distances=gather(part.squared_distances),
            indices=gather(part.indices),
            flipped=None if part.flipped is None else gather(part.flipped),
            queries=queries,
            excluded=excluded,
        )


def _known(queries: NDArray[Any] | None, excluded: Rows | None, rows: slice) -> tuple[object, ...]:
    """What is known to determine the neighbours of some queries, beside the references."""
    return tuple(None if given is None else given[rows] for given in (queries, excluded))


def _as_arrays(find: Callable[[slice], Neighbours], rows: slice) -> Arrays:
    found = find(rows)
    return found.squared_distances, found.indices, found.flipped
