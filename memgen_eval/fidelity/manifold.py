"""Precision, recall, density and coverage: sets as unions of balls that reach to the k-th nearest other row.

The balls of precision and recall hold their border, as [1]_ defines them. Those of density and coverage do not, as in
the code of [2]_, so that density is 1 for a copy of the whole set; but every ball holds what is identical to its
centre, so that copies of a set with duplicates, whose radii are 0, do not count as strangers.

References
----------
.. [1] Kynkaanniemi, Karras, Laine, Lehtinen & Aila, "Improved Precision and Recall Metric for Assessing Generative
   Models", NeurIPS 2019: precision and recall, k = 3.
.. [2] Naeem, Oh, Uh, Choi & Yoo, "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020: density
   and coverage, k = 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.engines import threads_for
from memgen_eval.compute.products import Products
from memgen_eval.compute.resources import start_workers
from memgen_eval.compute.rows import dimension
from memgen_eval.distributed import ALONE, Ranks
from memgen_eval.fidelity.coded import Coded, coded_memberships, nearest_others
from memgen_eval.fidelity.groups import Grouped, Role, num_groups, partitions
from memgen_eval.fidelity.jackknife import Floats
from memgen_eval.fidelity.small_sets import SmallSet, small_memberships
from memgen_eval.neighbours.balls import Membership
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.topk import Rows

NUM_NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
SHARES = ("precision", "recall", "coverage")
FEWEST, MOST = min(NUM_NEIGHBOURS.values()), max(NUM_NEIGHBOURS.values())
Memberships = tuple[Membership, Membership]
# points (N, ...), their squared radii, centres (M, ...) and theirs: points in the balls of centres, and the reverse
Cross = Callable[[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], Memberships]
Item = TypeVar("Item")
Given = TypeVar("Given")


@dataclass(frozen=True, eq=False)
class Balls:
    """Rows (M, ...), and the squared distance of each to its K nearest others, nearest first, (M, K).

    `coded` are the rows with a code, where one pays.
    """

    rows: NDArray[Any]
    squared: NDArray[Any]
    coded: Coded | None = None

    @staticmethod
    def of(index: Index, coded: Coded | None = None) -> Balls:
        """Up to five neighbours of the rows of an index."""
        size = len(index)
        k = min(MOST, size - 1)
        if k < 1:
            return Balls(index.rows, np.empty((size, 0)))
        if coded is not None:
            return Balls(index.rows, nearest_others(coded, k, budget=index.resources.budget, ranks=index.ranks), coded)
        return Balls(index.rows, index.search(index.rows, k, exclude=np.arange(size)).squared_distances)

    def crossing(self, others: Balls, lender: Index) -> Cross:
        """How these rows are compared with others."""
        own, theirs, budget = self.coded, others.coded, lender.resources.budget
        if own is None or theirs is None or own.quantizer is not theirs.quantizer:
            return _crossing(lender)
        return lambda _, radii, __, other_radii: coded_memberships(
            own, radii, theirs, other_radii, budget=budget, ranks=lender.ranks
        )

    def closed(self, k: int) -> NDArray[Any]:
        """Squared radii up to the k-th nearest other row, (M, 1)."""
        return np.ascontiguousarray(self.squared[:, k - 1 : k])

    def open(self, k: int) -> NDArray[Any]:
        """The largest squared distances below them, (M, 1); 0 for a radius of 0."""
        radii = self.closed(k)
        return np.asarray(np.maximum(radii - 1, 0) if radii.dtype.kind == "i" else np.nextafter(radii, 0))

    def radii(self) -> NDArray[Any]:
        """Those for precision, and those for density and coverage where there are neighbours enough, (M, R)."""
        return np.hstack([self.closed(FEWEST), *([self.open(MOST)] if self.squared.shape[1] >= MOST else [])])


@dataclass(frozen=True, eq=False)
class Group:
    """Which rows of a set a group has, (m,), and the squared distance of each to its K nearest others there, (m, K)."""

    rows: Rows
    squared: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Manifold:
    """A set as a union of balls, whole and in groups; each group has balls of its own, which are larger.

    `groups` are those of this rank, one partition after the other.
    """

    whole: Balls
    groups: tuple[Group, ...]

    @staticmethod
    def of(index: Index, role: Role, beside: Manifold | None = None) -> Manifold:
        """The rows of an index, grouped at random, with the code of those `beside` which they are to be compared."""
        if beside is None:
            coded = Coded.of(index.rows, index.resources)
        else:
            coded = None if beside.whole.coded is None else beside.whole.coded.beside(index.rows)
        return Manifold(Balls.of(index, coded), _grouped(index, role))

    def in_role(self, role: Role, lender: Index) -> Manifold:
        """The same set, grouped for another role."""
        return replace(self, groups=_grouped(lender.among(self.whole.rows), role))

    def part(self, group: Group) -> Balls:
        """The balls of a group, whose rows are copied."""
        return Balls(self.whole.rows[group.rows], group.squared)

    def __len__(self) -> int:
        return len(self.whole.rows)


def _grouped(index: Index, role: Role) -> tuple[Group, ...]:
    size, alone = len(index), replace(index, ranks=ALONE)
    own = _own_groups(size, role, size, index.ranks)

    def small(rows: Rows, products: Products) -> Group:
        k = min(MOST, len(rows) - 1)
        return Group(rows, SmallSet.of(index.rows[rows]).nearest_others(k, products))

    if own and SmallSet.holds(index.rows, len(own[0])):
        return tuple(_in_threads(small, own, 2.0 * len(own) * len(own[0]) ** 2, index))
    return tuple(Group(rows, Balls.of(alone.among(index.rows[rows])).squared) for rows in own)


def _in_threads(
    task: Callable[[Item, Products], Given], items: list[Item], num_pairs: float, lender: Index
) -> list[Given]:
    """The results for all groups, each of which one thread has."""
    work, width = num_pairs * dimension(lender.rows), dimension(lender.rows)
    products = lender.resources.engine.integers(work, width)
    with start_workers(threads_for(work)) as workers:
        return products.callers(workers).map(lambda item: task(item, products), items)


def _own_groups(size: int, role: Role, num_references: int, ranks: Ranks) -> list[Rows]:
    """The rows of each group of this rank: of a set of this size, divided as one of the size of the references is."""
    groups = [rows for partition in partitions(size, role, num_groups(num_references)) for rows in partition]
    return groups[ranks.shard(len(groups))]


def _of_all_ranks(values: list[list[float]], num_figures: int, num_references: int, ranks: Ranks) -> Floats:
    """Figures of the groups of this rank, as those of all groups, (F, R, G)."""
    whole = ranks.gather(np.array(values, dtype=np.float64).reshape(len(values), num_figures))
    count = num_groups(num_references)
    return np.asarray(whole.T.reshape(num_figures, len(whole) // max(count, 1), count))


def too_few(k: int) -> str:
    """Why a figure of the k-th neighbour is undefined in small sets."""
    return f"needs {k + 1} images of each set: balls reach to the {k}th nearest other"


def manifold_figures(samples: Manifold, references: Manifold, lender: Index) -> dict[str, Grouped | str]:
    """The four figures, or why they are undefined.

    precision: share of samples in the ball of some reference. recall: share of references in the ball of some sample.
    density: number of references' balls that hold a sample, over k, mean over samples; 1 in expectation for equal laws,
    not limited above. coverage: share of references whose ball holds a sample. A copy of the whole set of references
    gives 1 in all four if no two of them are equal. `lender` is an index that lends its memory budget and its ranks.
    """
    size = min(len(samples), len(references))
    if size < FEWEST + 1:
        return {name: too_few(k) for name, k in NUM_NEIGHBOURS.items()}
    shared = samples.whole.crossing(references.whole, lender)
    whole, parts = _values(samples.whole, references.whole, shared)
    pairs = list(zip(samples.groups, references.groups, strict=True))

    def of_pair(pair: tuple[Group, Group], cross: Cross) -> list[float]:
        return list(_values(samples.part(pair[0]), references.part(pair[1]), cross)[0].values())

    rows = [(mine.rows, theirs.rows) for mine, theirs in pairs]
    own = _of_groups(of_pair, pairs, rows, (samples.whole.rows, references.whole.rows), lender)
    groups = _of_all_ranks(own, len(whole), len(references), lender.ranks)
    figures: dict[str, Grouped | str] = {n: too_few(k) for n, k in NUM_NEIGHBOURS.items() if n not in whole}
    for number, (name, value) in enumerate(whole.items()):
        figures[name] = Grouped(value, groups[number], name in SHARES, parts if name == "density" else None)
    return figures


def _values(samples: Balls, references: Balls, cross: Cross) -> tuple[dict[str, float], tuple[Floats, Floats] | None]:
    """The figures, and what each sample and each reference gives to density, where it is defined."""
    inside, around = cross(samples.rows, samples.closed(FEWEST), references.rows, references.radii())
    found = {"precision": float((inside.num_balls[:, 0] > 0).mean()), "recall": float((around.num_balls > 0).mean())}
    if samples.squared.shape[1] < MOST or inside.num_points.shape[1] < 2:
        return found, None
    parts = inside.num_balls[:, 1] / MOST, inside.num_points[:, 1] / MOST * (len(references.rows) / len(samples.rows))
    density = int(inside.num_balls[:, 1].sum()) / (MOST * len(samples.rows))
    return found | {"density": density, "coverage": float((inside.num_points[:, 1] > 0).mean())}, parts


def precision(points: NDArray[Any], references: Manifold, lender: Index) -> Grouped:
    """Share of points (N, ...) in the ball of some reference, k = 3."""
    drawn = _own_groups(len(points), "samples", len(references), lender.ranks)
    pairs = list(zip(drawn, references.groups, strict=True))

    def of_pair(pair: tuple[Rows, Group], cross: Cross) -> list[float]:
        return [_share_inside(points[pair[0]], references.part(pair[1]), cross)]

    rows = [(mine, theirs.rows) for mine, theirs in pairs]
    own = _of_groups(of_pair, pairs, rows, (points, references.whole.rows), lender)
    groups = _of_all_ranks(own, 1, len(references), lender.ranks)
    return Grouped(_share_inside(points, references.whole, _crossing(lender)), groups[0], is_share=True)


def _share_inside(points: NDArray[Any], references: Balls, cross: Cross) -> float:
    radii = references.closed(FEWEST)
    no_radii = np.empty((len(points), 0), dtype=radii.dtype)
    inside, _ = cross(points, no_radii, references.rows, radii)
    return float((inside.num_balls > 0).mean())


def _crossing(lender: Index) -> Cross:
    """By all products of two sets of any kind."""
    return lambda points, own, centres, radii: lender.among(centres).memberships(points, own, radii)


def _small_crossing(products: Products) -> Cross:
    return lambda points, own, centres, radii: small_memberships(
        SmallSet.of(points), own, SmallSet.of(centres), radii, products
    )


def _of_groups(
    figures: Callable[[Item, Cross], list[float]],
    groups: list[Item],
    rows: list[tuple[Rows, Rows]],
    sets: tuple[NDArray[Any], NDArray[Any]],
    lender: Index,
) -> list[list[float]]:
    """Figures of each pair of groups, which have these rows of both sets."""
    sizes = [(len(mine), len(theirs)) for mine, theirs in rows[:1]]
    if sizes and all(SmallSet.holds(whole, size) for whole, size in zip(sets, sizes[0], strict=True)):
        num_pairs = float(sum(len(mine) * len(theirs) for mine, theirs in rows))
        return _in_threads(lambda one, products: figures(one, _small_crossing(products)), groups, num_pairs, lender)
    cross = _crossing(replace(lender, ranks=ALONE))
    return [figures(one, cross) for one in groups]
