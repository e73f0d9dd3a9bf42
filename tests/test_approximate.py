"""`evaluate` with approximate=True: the recall it tells, the exact distances of what it finds, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from checking import evaluated
from conftest import Pixels, noise_images
from memgen_eval import InputError, Reference, Report, evaluate, tables
from memgen_eval.distributed import Ranks
from memgen_eval.neighbours import approximate as module
from memgen_eval.neighbours.approximate import IndexedReferences
from memgen_eval.neighbours.products import installed
from memgen_eval.report import Novelty

NEEDS_FAISS = pytest.mark.skipif(not installed("faiss"), reason="the extra faiss-cpu is not installed")
SHAPE = (1, 4, 4)
SEED = 3
OF_SAMPLES = {"distance_quantiles", "distance_median"}
OF_TEST = {"test_distance_quantiles", "test_distance_median"}
OF_BOTH = {"distance_ratio", "auc", "relative_auc", "ct", "relative_ct"}
UNDEFINED = {"authenticity", "test_authenticity"}
NOTE = re.compile(
    r"approximate search: the 2 nearest exact for (\d+) of 256 checked (samples|test images) "
    r"\(95 %: ([\d.]+) to ([\d.]+) %\)"
)


def flattened(images: torch.Tensor) -> torch.Tensor:
    return images.float().flatten(1)


def in_space(images: Pixels) -> Any:
    return images.reshape(len(images), -1).astype(np.float32)


def clustered(generator: np.random.Generator, centres: Any, count: int) -> Pixels:
    rows = centres[generator.integers(0, len(centres), count)] + generator.normal(0, 20, (count, 16))
    return np.clip(np.rint(rows), 0, 255).astype(np.uint8).reshape(count, *SHAPE)


@pytest.fixture(scope="module")
def sets() -> dict[str, Pixels]:
    """Samples, 100 of them near training images, a training set of 100 clusters, and a test set."""
    generator = np.random.default_rng(0)
    centres = generator.uniform(40, 215, (100, 16))
    train, test, others = (clustered(generator, centres, count) for count in (50_000, 300, 300))
    near = train[:100] + generator.integers(0, 4, (100, *SHAPE), dtype=np.uint8)
    return {"samples": np.concatenate([others, near]), "train": train, "test": test}


@pytest.fixture(scope="module")
def coded(sets: dict[str, Pixels]) -> IndexedReferences:
    """The index, built once: it takes seconds."""
    return IndexedReferences.of(in_space(sets["train"]), seed=SEED)


@pytest.fixture
def searching(coded: IndexedReferences, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many lists are looked into and how many candidates are compared; returns the sizes of indexes built."""

    built: list[int] = []

    def same(references: Any, *, seed: int) -> IndexedReferences:
        assert np.array_equal(references, coded.references) and seed == SEED
        built.append(len(references))
        return coded

    def change(num_probes: int, num_candidates: int) -> list[int]:
        monkeypatch.setattr(IndexedReferences, "of", same)
        monkeypatch.setattr(coded.index, "nprobe", num_probes)
        monkeypatch.setattr(module, "MIN_CANDIDATES", num_candidates)
        monkeypatch.setattr(module, "CANDIDATES_PER_NEIGHBOUR", 1)
        return built

    return change


def measured(sets: dict[str, Pixels], *, approximate: bool) -> Report:
    return evaluated(**sets, features=flattened, approximate=approximate, metrics="novelty", seed=SEED)


def novelty(report: Report) -> Novelty:
    assert report.novelty is not None
    return report.novelty


def two_nearest(queries: Pixels, train: Pixels) -> Any:
    """The two smallest of all squared distances of each query, in integers."""
    rows = train.reshape(len(train), -1).astype(np.int32)
    squared = (((rows - query) ** 2).sum(axis=1) for query in queries.reshape(len(queries), -1).astype(np.int32))
    return np.stack([np.sort(np.partition(row, 2)[:2]) for row in squared])


def wilson(found: int, checked: int) -> tuple[float, float]:
    z, share = norm.ppf(0.975), found / checked
    middle, half = share + z**2 / (2 * checked), z * np.sqrt(share * (1 - share) / checked + (z / (2 * checked)) ** 2)
    return (middle - half) / (1 + z**2 / checked), (middle + half) / (1 + z**2 / checked)


@NEEDS_FAISS
def test_the_recall_of_a_poor_search_is_what_brute_force_finds(
    sets: dict[str, Pixels], coded: IndexedReferences, searching: Any
) -> None:
    searching(4, 40)
    family = novelty(measured(sets, approximate=True))
    for name, note, median in (
        ("samples", family.distance_median.notes[-1], family.distance_median.value),
        ("test", family.test_distance_median.notes[-1], family.test_distance_median.value),
    ):
        found, told = coded._nearest(in_space(sets[name]), 2), NOTE.fullmatch(note)
        assert told is not None and told[2].startswith(name)
        expected = two_nearest(sets[name], sets["train"])
        right = (found.squared_distances == expected).all(axis=1)
        checked = right[np.random.default_rng(SEED).permutation(len(right))[:256]]
        assert int(told[1]) == checked.sum() and 0.2 < checked.mean() < 0.9
        share = np.multiply(wilson(int(told[1]), 256), 100)
        assert [float(told[3]), float(told[4])] == pytest.approx(share.tolist(), abs=0.0501)
        assert median == pytest.approx(np.median(found.distances[:, 0]), rel=1e-12)
        assert (found.squared_distances >= expected).all()


@NEEDS_FAISS
def test_a_search_that_finds_everything_gives_the_figures_of_the_exact_one(
    sets: dict[str, Pixels], coded: IndexedReferences, searching: Any
) -> None:
    searching(coded.index.nlist, 3000)
    report, exact = (measured(sets, approximate=approximate) for approximate in (True, False))
    assert report.settings.approximate and not exact.settings.approximate
    assert {path for path in report.skipped if path not in exact.skipped} == {f"novelty.{name}" for name in UNDEFINED}
    for name in (field.name for field in fields(Novelty)):
        figure, expected = getattr(novelty(report), name), getattr(novelty(exact), name)
        if name in UNDEFINED:
            assert figure.value is None and expected.value is not None
            assert "approximate=True" in figure.notes[0] and len(figure.notes) == 1
            continue
        assert (figure.value, figure.low, figure.high) == (expected.value, expected.low, expected.high)
        said = [told for told in map(NOTE.fullmatch, figure.notes) if told is not None]
        assert {told[1] for told in said} == {"256"}
        of_samples, of_test = (name in own | OF_BOTH for own in (OF_SAMPLES, OF_TEST))
        assert [told[2] for told in said] == ["samples"] * of_samples + ["test images"] * of_test
        assert figure.notes[: -len(said)] == expected.notes


@NEEDS_FAISS
def test_a_reference_keeps_the_index(sets: dict[str, Pixels], searching: Any) -> None:
    built, reference = searching(4, 40), Reference(sets["train"], sets["test"])
    keywords: dict[str, Any] = {"features": flattened, "approximate": True, "metrics": "novelty.auc", "seed": SEED}
    first, second = (evaluate(sets["samples"], train=reference, **keywords) for _ in range(2))
    assert first == second and built == [50_000]


@NEEDS_FAISS
def test_ranks_find_together_what_one_finds(
    sets: dict[str, Pixels], coded: IndexedReferences, searching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching(4, 40)
    for room in (module, tables):
        monkeypatch.setattr(room, "QUERIES_AT_ONCE", 64)
    queries, keywords = in_space(sets["samples"]), {"seed": SEED, "memory_budget": "64MiB"}
    whole = tables.shared_approximate(queries, coded, 2, ranks=Ranks(), **keywords)
    monkeypatch.setattr(Ranks, "gather", lambda self, rows: rows)  # each keeps what it would give to all
    for size in (3, 9):
        shared = [tables.shared_approximate(queries, coded, 2, ranks=Ranks(i, size), **keywords) for i in range(size)]
        assert len({len(part.neighbours) for part in shared}) > 1
        for name in ("squared_distances", "indices"):
            parts = [getattr(part.neighbours, name) for part in shared]
            assert np.array_equal(np.concatenate(parts), getattr(whole.neighbours, name))
        assert np.array_equal(np.concatenate([part.all_found for part in shared]), whole.all_found)
    assert 0.2 < whole.all_found.mean() < 0.9


def test_what_it_cannot_do_is_said_before_samples_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def sampler(n: int) -> Pixels:
        raise AssertionError("samples are drawn")

    images = noise_images(0, 10, (4, 4))
    with pytest.raises(InputError, match=r"approximate=True with features='pixels'.*: give a callable features="):
        evaluate(sampler, train=images, test=images, approximate=True)
    with pytest.raises(InputError, match="there is no baseline: give test="):
        evaluate(sampler, train=images, features=flattened, approximate=True)
    monkeypatch.setattr(module, "installed", lambda package: True)
    with pytest.raises(InputError, match="among 10 references: below 50,000 search exactly"):
        evaluate(sampler, train=images, test=images, features=flattened, approximate=True)
    monkeypatch.setattr(module, "installed", lambda package: False)
    with pytest.raises(InputError, match="needs the package faiss: install"):
        evaluate(sampler, train=images, test=images, features=flattened, approximate=True)
