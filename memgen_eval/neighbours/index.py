"""An index: rows to search among many times, bound once to a memory budget and to the ranks that share the queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from memgen_eval.compute.engines import EngineName
from memgen_eval.compute.resources import num_threads, start_workers
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.neighbours.balls import Membership, memberships
from memgen_eval.neighbours.candidates import Resources
from memgen_eval.neighbours.duplicates import distinct_neighbours
from memgen_eval.neighbours.pruning import References, plan_search
from memgen_eval.neighbours.search import both_orientations, nearest_neighbours
from memgen_eval.neighbours.topk import Neighbours, Rows


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
    """

    references: References
    memory_budget: str | int = "512MiB"
    ranks: Ranks = ALONE
    engine: EngineName | None = None

    @property
    def rows(self) -> NDArray[Any]:
        """The references, (M, ...)."""
        return self.references.rows

    def __len__(self) -> int:
        return len(self.rows)

    def among(self, rows: NDArray[Any]) -> Index:
        """Other rows with the same budget, ranks and engine."""
        return replace(self, references=References.of(rows))

    def search(self, queries: NDArray[Any], k: int, *, exclude: Rows | None = None, flip: bool = False) -> Neighbours:
        """`nearest_neighbours` of these queries, (N, ...)."""
        self._code_references(queries, k + (exclude is not None))
        own = self.ranks.shard(len(queries))
        excluded = None if exclude is None else exclude[own]
        part = nearest_neighbours(
            queries[own],
            self.references,
            k,
            exclude=excluded,
            flip=flip,
            engine=self.engine,
            memory_budget=self.memory_budget,
        )
        return self._gathered(part, queries, exclude)

    def _code_references(self, queries: NDArray[Any], k: int) -> None:
        """Code the references together, unless all ranks have kept codes that serve; the search asks no rank then.

        Ranks that search on a GPU need no codes, but help those that do.
        """
        if self.ranks.size == 1:
            return
        resources = Resources.of(self.engine, self.memory_budget)
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
        )

    def distinct(self, neighbours: Neighbours, *, tolerance: float) -> Neighbours:
        """`distinct_neighbours` of a table."""
        return self._of_each_rank(
            neighbours, lambda own: distinct_neighbours(own, self.rows, tolerance=tolerance, engine=self.engine)
        )

    def memberships(
        self, queries: NDArray[Any], query_radii: NDArray[Any], radii: NDArray[Any]
    ) -> tuple[Membership, Membership]:
        """`memberships` of queries and these references, which have squared radii (N, Q) and (M, R)."""
        resources = Resources.of(self.engine, self.memory_budget)
        return memberships(queries, query_radii, self.rows, radii, resources=resources, ranks=self.ranks)

    def _of_each_rank(self, table: Neighbours, widen: Callable[[Neighbours], Neighbours]) -> Neighbours:
        return self._gathered(widen(table[self.ranks.shard(len(table))]), table.queries, table.excluded)

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
