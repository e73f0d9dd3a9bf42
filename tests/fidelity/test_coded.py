"""Sets of uint8 rows, whole by codes and in groups by all products: as one by one, whatever the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memgen_eval.compute.products import NUMPY, PRODUCTS, SLICE, installed
from memgen_eval.distributed import Ranks
from memgen_eval.fidelity import coded
from memgen_eval.fidelity.coded import Coded, coded_memberships, nearest_others
from memgen_eval.fidelity.groups import Grouped
from memgen_eval.fidelity.manifold import Manifold, manifold_figures
from memgen_eval.fidelity.small_sets import SmallSet, small_memberships
from memgen_eval.neighbours.balls import Membership
from memgen_eval.neighbours.candidates import ENGINES, Resources
from memgen_eval.neighbours.distances import row_distances
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.quantizers import Codes

Arrays = NDArray[Any]
WIDTH, BUDGET = 120, 2**29


def alike(seed: int, count: int) -> Arrays:
    """Rows of few directions and little noise, as images are."""
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(100).normal(size=(12, WIDTH)) * np.linspace(40, 5, 12)[:, None]
    values = 128 + generator.normal(size=(count, 12)) @ directions / 4 + generator.normal(size=(count, WIDTH)) * 3
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noise(seed: int, count: int) -> Arrays:
    return np.random.default_rng(seed).integers(0, 256, (count, WIDTH), dtype=np.uint8)


def with_outliers(seed: int, count: int) -> Arrays:
    """A code is far from some of the rows, which are near each other."""
    rows, others = alike(seed, count), noise(200, 9)
    rows[::9] = others[np.arange(len(rows[::9])) % 9] ^ (np.random.default_rng(seed).random((1, WIDTH)) < 0.02)
    return rows


def flat(seed: int, count: int) -> Arrays:
    """Twelve values, ten times each, some of them far out: codes keep all but what they round, and what they clip."""
    generator = np.random.default_rng(seed)
    values = generator.integers(100, 156, (count, 12))
    extreme = np.random.default_rng(300).integers(0, 2, (count // 30 + 1, 12)) * 240
    values[::30] = extreme[: len(values[::30])] + generator.integers(0, 9, (len(values[::30]), 12))
    values[1::30] = extreme[: len(values[1::30])] + generator.integers(0, 9, (len(values[1::30]), 12))
    return np.repeat(values.astype(np.uint8), WIDTH // 12, axis=1)


SETS: dict[str, tuple[Arrays, Arrays]] = {
    "alike": (alike(0, 210), alike(1, 260)),
    "copies": (alike(1, 260)[:200], alike(1, 260)),
    "duplicates": (np.repeat(alike(0, 30), 7, axis=0), np.repeat(alike(0, 52), 5, axis=0)),
    "outliers": (with_outliers(0, 210), with_outliers(1, 260)),
    "flat": (flat(0, 210), flat(1, 260)),
    "noise": (noise(0, 210), noise(1, 260)),
    "noise and images": (noise(0, 210), alike(1, 260)),
    "two points": (np.repeat(alike(0, 2), 105, axis=0), np.repeat(alike(0, 2), 130, axis=0)),
}


def squared(left: Arrays, right: Arrays) -> NDArray[np.int64]:
    return np.array([((left.astype(np.int64) - row) ** 2).sum(axis=1) for row in right.astype(np.int64)]).T


def nearest(rows: Arrays, k: int) -> NDArray[np.int64]:
    table = squared(rows, rows)
    np.fill_diagonal(table, 2**40)
    return np.sort(table, axis=1)[:, :k]


def expected(points: Arrays, centres: Arrays, radii: NDArray[np.int64]) -> Membership:
    held = squared(points, centres)[:, :, None] <= radii
    return Membership(held.sum(axis=1), held.sum(axis=0))


def same(found: Membership, other: Membership) -> bool:
    return all(np.array_equal(getattr(found, name), getattr(other, name)) for name in ("num_balls", "num_points"))


@pytest.fixture(autouse=True)
def small_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of rows as short and sets as small as those here, in several chunks and tiles."""
    for name, value in (("CODE_DIRECTIONS", 12), ("FEWEST_VALUES", 36), ("FEWEST_CODED", 50), ("TILE_ROWS", 100)):
        monkeypatch.setattr(coded, name, value)
    monkeypatch.setattr(coded, "CHUNK_ROWS", 64)


def coded_pair(name: str, engine: str = "auto") -> tuple[Coded, Coded]:
    queries, references = SETS[name]
    of_references = Coded.of(references, Resources(ENGINES[engine], BUDGET))
    assert of_references is not None
    of_queries = of_references.beside(queries)
    assert of_queries is not None
    return of_queries, of_references


@pytest.mark.parametrize("name", SETS)
def test_nearest_others_by_codes(name: str) -> None:
    for own, rows in zip(coded_pair(name), SETS[name], strict=True):
        for k in (1, 5):
            assert np.array_equal(nearest_others(own, k, budget=BUDGET), nearest(rows, k))


@pytest.mark.parametrize("name", SETS)
def test_memberships_by_codes(name: str) -> None:
    queries, references = SETS[name]
    own, radii = nearest(queries, 3)[:, 2:], nearest(references, 5)[:, [2, 4]]
    of_queries, of_references = coded_pair(name)
    for mine in (own, own[:, :0]):
        inside, around = coded_memberships(of_queries, mine, of_references, radii, budget=BUDGET)
        assert same(inside, expected(queries, references, radii))
        assert same(around, expected(references, queries, mine))
    assert inside.num_balls.any() or name.startswith("noise")


@pytest.mark.parametrize("errors", ["their own", "unusual"])
@pytest.mark.parametrize("name", SETS)
def test_no_pair_within_a_radius_is_skipped(name: str, errors: str) -> None:
    """Whatever codes are, within their errors: unusual ones are moved by as much as these say."""
    queries, references = coded_pair(name)
    table, values = squared(*SETS[name]), references.codes.values.astype(np.int64)
    if errors == "unusual":
        away = np.random.default_rng(0).normal(size=values.shape) * (np.arange(len(values)) % 3 == 0)[:, None] * 20
        moved = np.clip(np.rint(values + away), -127, 127).astype(np.int8)
        more = references.quantizer.step * np.linalg.norm(moved - values, axis=1)
        norms = np.square(moved.astype(np.int64)).sum(axis=1)
        references = replace(references, codes=Codes(moved, norms, references.codes.errors + more))
    products = queries.codes.values.astype(np.int64) @ references.codes.values.T.astype(np.int64)
    for column in range(len(references)):
        reach = queries.reach(slice(0, len(queries)), table[:, column])
        halves = references.half_norms(slice(0, len(references)), float(reach.max()))
        assert (products[:, column] - halves[column] >= queries.least(slice(0, len(queries)), reach)).all()


@pytest.mark.parametrize("engine", ["numpy", "numkong", "torch"])
def test_engines_and_budgets_count_the_same(engine: str) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    queries, references = coded_pair("outliers", engine)
    found = nearest_others(references, 5, budget=1)
    assert np.array_equal(found, nearest(SETS["outliers"][1], 5))
    own = nearest_others(queries, 3, budget=BUDGET)[:, 2:]
    inside, around = coded_memberships(queries, own, references, found[:, [2, 4]], budget=1)
    assert same(inside, expected(*SETS["outliers"], found[:, [2, 4]]))
    assert same(around, expected(*SETS["outliers"][::-1], own))


class Half(Ranks):
    """One of two ranks, whose results are put together outside."""

    def gather(self, rows: Any, *, axis: int = 0) -> Any:
        return rows


def test_ranks_share_the_rows() -> None:
    queries, references = coded_pair("alike")
    halves = [Half(rank, 2) for rank in (0, 1)]
    parts = [nearest_others(references, 5, budget=BUDGET, ranks=half) for half in halves]
    radii = np.concatenate(parts)
    assert [len(part) for part in parts] == [130, 130]
    assert np.array_equal(radii, nearest(SETS["alike"][1], 5))
    own = nearest(SETS["alike"][0], 3)[:, 2:]
    found = [coded_memberships(queries, own, references, radii[:, 4:], budget=BUDGET, ranks=half) for half in halves]
    inside, around = ([pair[side] for pair in found] for side in (0, 1))
    balls = np.concatenate([part.num_balls for part in inside]), inside[0].num_points + inside[1].num_points
    assert same(Membership(balls[0], balls[1]), expected(*SETS["alike"], radii[:, 4:]))
    points = around[0].num_balls + around[1].num_balls, np.concatenate([part.num_points for part in around])
    assert same(Membership(points[0], points[1]), expected(*SETS["alike"][::-1], own))


def test_few_pairs_of_images_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the code is of no use; of noise, whole blocks are multiplied."""
    compared: list[int] = []

    def counting(left: Arrays, left_rows: Arrays, right: Arrays, right_rows: NDArray[np.int64]) -> Arrays:
        compared.append(len(right_rows))
        return row_distances(left, left_rows, right, right_rows)

    monkeypatch.setattr(coded, "row_distances", counting)
    queries, references = coded_pair("alike")
    radii = nearest(SETS["alike"][1], 5)[:, 4:]
    coded_memberships(queries, nearest(SETS["alike"][0], 3)[:, 2:], references, radii, budget=BUDGET)
    assert 0 < sum(compared) < 0.05 * len(queries) * len(references)
    compared.clear()
    nearest_others(coded_pair("noise")[0], 5, budget=BUDGET)
    assert sum(compared) < 8 * len(queries)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("library", PRODUCTS)
def test_small_sets(name: str, library: str) -> None:
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    (queries, references), products = SETS[name], PRODUCTS[library]
    own, radii = nearest(queries, 3)[:, 2:], nearest(references, 5)[:, [2, 4]]
    small = SmallSet.of(queries), SmallSet.of(references)
    assert np.array_equal(small[1].nearest_others(5, products), nearest(references, 5))
    for mine in (own, own[:, :0]):
        inside, around = small_memberships(small[0], mine, small[1], radii, products)
        assert same(inside, expected(queries, references, radii)) and same(around, expected(references, queries, mine))


@pytest.mark.parametrize("count", [2, 3, 17, 40])
def test_very_small_sets(count: int) -> None:
    rows = noise(0, count)
    for k in (1, min(5, count - 1)):
        assert np.array_equal(SmallSet.of(rows).nearest_others(k, NUMPY), nearest(rows, k))


def test_the_largest_distances() -> None:
    """Int32 holds the squared distance of black and white images of as many values as a product may have."""
    rows = np.zeros((3, SLICE), dtype=np.uint8)
    rows[1:] = 255
    found = SmallSet.of(rows).squared_to(SmallSet.of(rows), NUMPY)
    assert found[0, 1] == SLICE * 255**2 and found[1, 2] == 0
    assert not SmallSet.holds(np.zeros((3, SLICE + 1), dtype=np.uint8), 3)


@pytest.mark.parametrize("name", SETS)
def test_figures_are_those_of_floats(name: str) -> None:
    """Floats have no such code, and are compared by products of all pairs."""

    def figures(samples: Arrays, references: Arrays) -> dict[str, Grouped | str]:
        lender = Index(References.of(references))
        of_references = Manifold.of(lender, "references")
        assert (of_references.whole.coded is None) == (references.dtype != np.uint8)
        return manifold_figures(Manifold.of(lender.among(samples), "samples", of_references), of_references, lender)

    found, wanted = figures(*SETS[name]), figures(*(rows.astype(np.float64) for rows in SETS[name]))
    for figure, one in found.items():
        other = wanted[figure]
        assert isinstance(one, Grouped) and isinstance(other, Grouped)
        if figure not in ("density", "coverage"):  # whose balls are open: the largest distance below is another one
            assert one.value == other.value
            assert np.array_equal(one.groups, other.groups)
        else:
            assert one.value == pytest.approx(other.value, rel=1e-12)
            assert np.allclose(one.groups, other.groups, rtol=1e-12)
