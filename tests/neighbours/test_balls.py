"""Rows in balls, counted: as one by one, whatever the engine, the budget and the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import oracles
from memgen_eval.compute.products import installed
from memgen_eval.compute.resources import budget_bytes
from memgen_eval.neighbours import balls
from memgen_eval.neighbours.balls import Membership, memberships
from memgen_eval.neighbours.candidates import ENGINES, Resources
from memgen_eval.neighbours.search import nearest_neighbours

Arrays = NDArray[Any]
REACH = (1, 2, 4)


def radii(rows: Arrays) -> Arrays:
    found = nearest_neighbours(rows, rows, max(REACH), exclude_self=True).squared_distances
    return np.ascontiguousarray(found[:, [k - 1 for k in REACH]])


def crossed(
    queries: Arrays, references: Arrays, *, engine: str = "auto", budget: str = "512MiB"
) -> tuple[Membership, Membership]:
    resources = Resources(ENGINES[engine], budget_bytes(budget))
    return memberships(queries, radii(queries)[:, :2], references, radii(references), resources=resources)


def expected(points: Arrays, centres: Arrays, squared_radii: Arrays) -> Membership:
    """One pair after the other."""
    table = [[oracles.squared_distance(point, centre) for centre in centres] for point in points]
    held = np.array(table)[:, :, None] <= squared_radii[None]  # (P, B, R)
    return Membership(held.sum(axis=1), held.sum(axis=0))


def same(found: Membership, other: Membership) -> bool:
    return all(np.array_equal(getattr(found, name), getattr(other, name)) for name in ("num_balls", "num_points"))


def random_rows(seed: int, count: int, width: int) -> Arrays:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


def lattice(seed: int, count: int) -> Arrays:
    """Few places, so that most distances are equal to others, and many rows to others."""
    return np.random.default_rng(seed).integers(0, 3, (count, 3)).astype(np.uint8)


def far_out(seed: int, count: int) -> Arrays:
    """Small differences far from zero: float32 does not know them."""
    rows = 1e4 + np.random.default_rng(seed).integers(0, 4, (count, 5)) * 2.0**-16
    return np.asarray(rows, dtype=np.float64)


def collapsed(seed: int, count: int) -> Arrays:
    return np.repeat(random_rows(seed, 1, 12), count, axis=0)


SETS: dict[str, tuple[Arrays, Arrays]] = {
    "bytes": (random_rows(0, 40, 12), random_rows(1, 33, 12)),
    "copies": (random_rows(1, 33, 12)[:20], random_rows(1, 33, 12)),
    "ties": (lattice(0, 45), lattice(1, 38)),
    "one point": (collapsed(3, 20), random_rows(1, 33, 12)),
    "floats": tuple(np.random.default_rng(i).normal(size=(30 + i, 7)).astype(np.float32) for i in range(2)),  # type: ignore[dict-item]
    "float ties": (lattice(0, 45).astype(np.float64) / 7, lattice(1, 38).astype(np.float64) / 7),
    "far out": (far_out(0, 30), far_out(1, 35)),
    "mixed": (random_rows(0, 25, 6), random_rows(1, 26, 6).astype(np.float32) + np.float32(0.5)),
}


@pytest.mark.parametrize("name", SETS)
def test_as_one_by_one(name: str) -> None:
    queries, references = SETS[name]
    inside, around = crossed(queries, references)
    assert same(inside, expected(queries, references, radii(references)))
    assert same(around, expected(references, queries, radii(queries)[:, :2]))
    assert inside.num_balls.any() or name == "one point"


@pytest.mark.parametrize("engine", ["numpy", "numkong", "torch"])
@pytest.mark.parametrize("name", ["bytes", "ties", "floats", "far out"])
def test_engines(name: str, engine: str) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    queries, references = SETS[name]
    for found, wanted in zip(crossed(queries, references, engine=engine), crossed(queries, references), strict=True):
        assert same(found, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_tiles_and_chunks(dtype: Any) -> None:
    """Many tiles and chunks count what one does."""
    queries, references = (random_rows(seed, count, 48).astype(dtype) for seed, count in ((0, 300), (1, 420)))
    for found, wanted in zip(
        crossed(queries, references, budget="16KiB"), crossed(queries, references, budget="1GiB"), strict=True
    ):
        assert same(found, wanted)


def test_small_tiles_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test before relies on."""
    seen = []
    tile = balls.ReferenceTile.of
    monkeypatch.setattr(balls.ReferenceTile, "of", lambda *given: seen.append(given[1]) or tile(*given))
    crossed(random_rows(0, 300, 48), random_rows(1, 420, 48), budget="16KiB")
    assert len(seen) > 4


def test_no_radii_and_no_rows() -> None:
    queries, references = SETS["bytes"]
    resources = Resources.of("auto", "1MiB")
    none = np.empty((len(queries), 0), dtype=np.int64)
    inside, around = memberships(queries, none, references, radii(references), resources=resources)
    assert same(inside, expected(queries, references, radii(references)))
    assert around.num_balls.shape == (len(references), 0)
    inside, _ = memberships(queries[:0], none[:0], references, radii(references), resources=resources)
    assert inside.num_points.shape == (len(references), 3) and not inside.num_points.any()
