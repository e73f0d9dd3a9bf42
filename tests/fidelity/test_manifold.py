"""Precision, recall, density and coverage: as defined, as peers have them, and with every image left out in turn."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import oracles
from memgen_eval.fidelity.groups import Grouped, partitions
from memgen_eval.fidelity.manifold import NUM_NEIGHBOURS, Manifold, manifold_figures
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References

Arrays = NDArray[Any]
ORACLES = {"precision": oracles.precision, "density": oracles.density, "coverage": oracles.coverage}


def figures(samples: Arrays, references: Arrays) -> dict[str, Grouped | str]:
    lender = Index(References.of(references))
    clouds = Manifold.of(lender.among(samples), "samples"), Manifold.of(lender, "references")
    return manifold_figures(*clouds, lender)


def values(samples: Arrays, references: Arrays) -> dict[str, float]:
    return {name: one.value for name, one in figures(samples, references).items() if isinstance(one, Grouped)}


def normal(seed: int, count: int, width: int, shift: float = 0.0) -> Arrays:
    return np.random.default_rng(seed).normal(size=(count, width)) + shift


def lattice(seed: int, count: int) -> Arrays:
    return np.random.default_rng(seed).integers(0, 4, (count, 3)).astype(np.uint8)


def grey(seed: int, count: int) -> Arrays:
    return np.random.default_rng(seed).integers(0, 256, (count, 6), dtype=np.uint8)


SETS: dict[str, tuple[Arrays, Arrays]] = {
    "floats": (normal(0, 24, 3), normal(1, 26, 3)),
    "grey levels": (grey(0, 25), grey(1, 25)),
    "ties": (lattice(0, 24), lattice(1, 27)),
    "duplicates": (np.repeat(grey(0, 12), 2, axis=0), np.repeat(grey(0, 10), 3, axis=0)),
    "apart": (normal(0, 20, 3), normal(1, 22, 3, shift=2.0)),
    "smallest": (normal(0, 6, 2), normal(1, 6, 2)),
}


@pytest.mark.parametrize("name", SETS)
def test_as_defined(name: str) -> None:
    samples, references = SETS[name]
    found = values(samples, references)
    assert set(found) == set(NUM_NEIGHBOURS)
    for figure, value in found.items():
        sides = (references, samples) if figure == "recall" else (samples, references)
        expected = ORACLES.get(figure, oracles.precision)(*sides, NUM_NEIGHBOURS[figure])
        assert value == pytest.approx(expected, rel=1e-12), figure


def test_each_group_has_the_figures_of_its_own_rows() -> None:
    samples, references = normal(0, 61, 3), normal(1, 61, 3, shift=0.3)
    found = figures(samples, references)["coverage"]
    assert isinstance(found, Grouped) and found.groups.shape == (16, 2)
    drawn = [partitions(61, role, 2) for role in ("samples", "references")]
    for number in (0, 7):
        own, other = (part[number][1] for part in drawn)
        expected = oracles.coverage(samples[own], references[other], 5)
        assert found.groups[number, 1] == pytest.approx(expected, rel=1e-12)
        assert not np.array_equal(own, other)


def of_peer(samples: Arrays, references: Arrays, k: int) -> dict[str, float]:
    prdc = pytest.importorskip("prdc", reason="prdc is the peer")
    with contextlib.redirect_stdout(io.StringIO()):
        return {name: float(value) for name, value in prdc.compute_prdc(references, samples, k).items()}


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.4])
def test_prdc_agrees_where_no_two_distances_are_equal(shift: float) -> None:
    samples, references = normal(0, 400, 16, shift).astype(np.float32), normal(1, 400, 16).astype(np.float32)
    for name, value in values(samples, references).items():
        assert value == pytest.approx(of_peer(samples, references, NUM_NEIGHBOURS[name])[name], rel=1e-4), name
        assert value > 0


def test_torch_fidelity_agrees() -> None:
    peer = pytest.importorskip("torch_fidelity.metric_prc", reason="torch-fidelity is the peer")
    torch = pytest.importorskip("torch")
    samples, references = (normal(seed, 300, 12, 0.2 * seed).astype(np.float32) for seed in (0, 1))
    chosen: dict[str, Any] = {"prc_neighborhood": 3, "prc_batch_size": 1000, "save_cpu_ram": False, "verbose": False}
    theirs = peer.prc_features_to_metric(torch.from_numpy(samples), torch.from_numpy(references), **chosen)
    found = values(samples, references)
    assert found["precision"] == pytest.approx(theirs["precision"], rel=1e-4)
    assert found["recall"] == pytest.approx(theirs["recall"], rel=1e-4)


def test_copies_of_a_training_set_with_duplicates_are_all_inside() -> None:
    """prdc's strict inequality gives 0 there: the k-th nearest other image is at distance 0, and none is nearer."""
    train = np.repeat(grey(0, 40), 8, axis=0)
    found = values(train[::3], train)
    assert {found[name] for name in ("precision", "recall", "coverage")} == {1.0}
    assert found["density"] >= 1
    theirs = of_peer(train[::3].astype(np.float64), train.astype(np.float64), 5)
    assert (theirs["precision"], theirs["density"], theirs["coverage"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("train", [grey(0, 60), normal(0, 60, 4), normal(0, 60, 4).astype(np.float32)])
def test_a_copy_of_the_whole_set_gives_1_in_all_four(train: Arrays) -> None:
    assert set(values(train, train).values()) == {1.0}


def test_strangers_give_0() -> None:
    assert set(values(normal(0, 30, 4), normal(1, 30, 4, shift=100.0)).values()) == {0.0}


def test_equal_laws_give_their_closed_forms() -> None:
    """By exchangeability density is 1, and coverage 1 - (n-1)...(n-k) / (2n-1)...(2n-k) (Naeem et al., lemma 2)."""
    n, k, drawn = 60, 5, []
    for seed in range(60):
        found = values(normal(2 * seed, n, 4), normal(2 * seed + 1, n, 4))
        drawn.append([found["density"], found["coverage"], found["precision"] - found["recall"]])
    i = np.arange(1, k + 1)
    expected = [1.0, 1 - np.prod((n - i) / (2 * n - i)), 0.0]
    error = np.std(drawn, axis=0, ddof=1) / np.sqrt(len(drawn))
    assert np.all(np.abs(np.mean(drawn, axis=0) - expected) < 3.5 * error)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scale_and_orthogonal_maps_change_nothing(scale: float) -> None:
    samples, references = normal(0, 80, 5), normal(1, 80, 5, shift=0.3)
    turn, _ = np.linalg.qr(normal(7, 5, 5))
    assert values(samples, references) == values(scale * samples @ turn, scale * references @ turn)


@pytest.mark.parametrize(("size", "defined"), [(1, 0), (2, 0), (3, 0), (4, 2), (5, 2), (6, 4)])
def test_few_images(size: int, defined: int) -> None:
    found = figures(normal(0, size, 2), normal(1, size, 2))
    reasons = [one for one in found.values() if isinstance(one, str)]
    assert len(found) - len(reasons) == defined
    assert all("nearest other" in reason for reason in reasons)
