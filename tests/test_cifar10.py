"""Real images: CIFAR-10's test images, copies of its training images, and all 50,000 training images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from checking import evaluated
from conftest import Cifar10, Pixels
from memgen_eval import Reference, Report, Verdict
from memgen_eval.copying.calibration import calibrate
from memgen_eval.copying.copy_rules import CopyRules, Tally, copied
from memgen_eval.copying.memorization import copying, search
from memgen_eval.copying.verdict import Counted, judge
from memgen_eval.data.sources import load_images
from memgen_eval.metrics.ratios import distance_ratios, undefined_ratios
from memgen_eval.neighbours.index import Index
from memgen_eval.reference import Prepared

Squares = NDArray[np.int64]
NUM_COPIES, NUM_FRESH, NUM_TEST = 100, 1000, 500


@dataclass(frozen=True, eq=False)
class Setting:
    """1,000 test images, 100 training images altered by one grey level, and 500 other test images as the test set."""

    samples: Pixels
    test: Pixels
    copied_rows: NDArray[np.int64]


@pytest.fixture(scope="module")
def setting(cifar10: Cifar10) -> Setting:
    generator = np.random.default_rng(0)
    rows = generator.choice(50_000, NUM_COPIES, replace=False)
    step = np.where(generator.integers(0, 2, (NUM_COPIES, 3, 32, 32)) == 1, 1, -1)
    originals = cifar10.train[rows].astype(np.int64)
    altered = np.where((originals + step < 0) | (originals + step > 255), originals - step, originals + step)
    assert (np.abs(altered - originals) == 1).all()
    samples = np.concatenate([cifar10.test[:NUM_FRESH], altered.astype(np.uint8)])
    return Setting(samples, cifar10.test[NUM_FRESH : NUM_FRESH + NUM_TEST], rows)


@pytest.fixture(scope="module")
def reference(setting: Setting, data_dir: Path) -> Reference:
    return Reference("cifar10", setting.test, data_dir)


@pytest.fixture(scope="module")
def report(setting: Setting, reference: Reference) -> Report:
    return evaluated(setting.samples, train=reference, metrics=["memorization", "novelty.auc"])


def pairs(queries: Pixels, train: Pixels, *, nearest: int) -> tuple[Squares, NDArray[np.int64]]:
    """The nearest training images of each image: squared distances and rows, by (distance, row).

    Products of values from -128 to 127 over 1,000 dimensions stay below 2**24, where float32 is exact.
    """
    import torch

    y = train.reshape(len(train), -1)
    norms = np.concatenate([((rows.astype(np.int32) - 128) ** 2).sum(axis=1) for rows in np.array_split(y, 50)])
    kept: list[tuple[Squares, NDArray[np.int64]]] = []
    for block in np.array_split(queries.reshape(len(queries), -1), max(1, len(queries) // 500)):
        x = block.astype(np.int16) - 128
        squares = (x.astype(np.int64) ** 2).sum(axis=1)[:, None] + norms
        for start in range(0, y.shape[1], 1000):
            first, second = (torch.from_numpy(a[:, start : start + 1000].astype(np.float32)) for a in (x, y))
            squares -= 2 * (first @ (second - 128).T).numpy().astype(np.int64)
        keys = squares * len(train) + np.arange(len(train))  # ties to the smaller row
        smallest = np.sort(np.partition(keys, nearest, axis=1)[:, :nearest], axis=1)
        kept.append((smallest // len(train), smallest % len(train)))
    squares, rows = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return squares, rows


def plain_flags(squares: Squares) -> NDArray[np.bool_]:
    return (squares[:, 0] == 0) | (9 * squares[:, 0] < squares[:, 1])


def test_figures_equal_an_independent_computation(report: Report, setting: Setting, cifar10: Cifar10) -> None:
    both = np.concatenate([setting.samples, setting.test])
    squares, rows = pairs(both, cifar10.train, nearest=8)
    samples, test = squares[: len(setting.samples)], squares[len(setting.samples) :]
    family, novelty = report.memorization, report.novelty
    assert family is not None and novelty is not None
    assert family.plain_ratio.value == pytest.approx(plain_flags(samples).mean(), abs=1e-12)
    first = np.sqrt(np.concatenate([samples[:, 0], test[:, 0]]).astype(np.float64))
    ranks = rankdata(first)[: len(samples)]
    auc = (ranks.sum() - len(samples) * (len(samples) + 1) / 2) / (len(samples) * len(test))
    assert novelty.auc.value == pytest.approx(auc, abs=1e-12)

    mirrored, mirrored_rows = pairs(both[..., ::-1], cifar10.train, nearest=8)
    assert report.settings.duplicate_tolerance is not None
    tolerance = report.settings.duplicate_tolerance * 255 * np.sqrt(3072)
    flags = distinct_flags([squares, mirrored], [rows, mirrored_rows], cifar10.train, tolerance)
    assert family.ratio.value == pytest.approx(flags[: len(samples)].mean(), abs=1e-12)
    assert family.test_ratio.value == pytest.approx(flags[len(samples) :].mean(), abs=1e-12)
    assert flags[NUM_FRESH : len(samples)].all()


def distinct_flags(
    squares: list[Squares], rows: list[NDArray[np.int64]], train: Pixels, tolerance: float
) -> NDArray[np.bool_]:
    """The rule with the second neighbour no duplicate of the first, over both orientations, image by image."""
    flags = []
    for distances, indices in zip(np.hstack(squares), np.hstack(rows), strict=True):
        order = np.lexsort((indices, distances))
        first = indices[order[0]]
        others = [i for i in order if not near(train[first], train[indices[i]], tolerance)]
        flags.append(distances[order[0]] == 0 or 9 * distances[order[0]] < distances[others[0]])
    return np.array(flags)


def near(first: Pixels, second: Pixels, tolerance: float) -> bool:
    orientations = (second, second[..., ::-1])
    return any(((first.astype(np.int64) - other) ** 2).sum() <= tolerance**2 for other in orientations)


def test_every_copy_is_named_with_its_training_image(report: Report, setting: Setting) -> None:
    assert report.memorization is not None
    named = {match.sample_index: match for match in report.memorization.copies}
    for i, row in enumerate(setting.copied_rows):
        match = named[NUM_FRESH + i]
        assert (match.train_index, match.grey_levels) == (row, pytest.approx(1, rel=1e-12))
        assert match.distance == pytest.approx(1 / 255, rel=1e-12)
    assert report.verdict is not None and report.verdict.label == "copies"
    assert "Sample 1000 is training image" in report.verdict.sentence


def test_the_tolerance_is_as_published(report: Report) -> None:
    assert report.settings.duplicate_tolerance is not None
    assert report.settings.duplicate_tolerance * 255 == pytest.approx(11.4, abs=0.2)


def test_mirrored_copies_count(setting: Setting, reference: Reference, cifar10: Cifar10) -> None:
    samples = setting.samples.copy()
    samples[NUM_FRESH:] = samples[NUM_FRESH:, :, :, ::-1]
    report = evaluated(samples, train=reference, metrics="memorization")
    assert report.memorization is not None and report.verdict is not None
    found = {match.sample_index: match for match in report.memorization.copies if match.sample_index >= NUM_FRESH}
    assert sorted(found) == list(range(NUM_FRESH, len(samples)))
    assert [found[NUM_FRESH + i].train_index for i in range(NUM_COPIES)] == setting.copied_rows.tolist()
    assert all(match.flipped for match in found.values())
    plain = report.memorization.plain_ratio.value
    assert plain is not None and plain < 0.005
    assert report.verdict.label == "copies"


@pytest.mark.parametrize("first", [NUM_FRESH, 2000], ids=["a test set with a mirrored near-duplicate", "one without"])
def test_one_copy_among_500_fresh_images_is_named(first: int, cifar10: Cifar10) -> None:
    """Test image 1455 is training image 44,259, mirrored, but for 9 grey levels: it does not excuse an exact copy."""
    samples = cifar10.test[5000:5500].copy()
    samples[123] = cifar10.train[45_678]
    test = cifar10.test[first : first + NUM_TEST]
    report = evaluated(samples, train=cifar10.train[40_000:], test=test, metrics="memorization")
    assert report.memorization is not None and report.verdict is not None
    assert report.memorization.test_num_near_identical.value == (1 if first == NUM_FRESH else 0)
    assert report.verdict.label != "no copying found"
    assert "Sample 123 is training image 5678 to within noise (0.00 grey levels apart)" in report.verdict.sentence


@dataclass(frozen=True, eq=False)
class Flags:
    """Flags of all 10,000 test images and of 2,000 altered copies, against all of train; searched once.

    `ratios` are squared: of the test images, of those left out, and of 500 copies with noise and 500 shifted ones.
    """

    plain_test: int
    test: Counted
    copies: Counted
    left_out: Counted
    leaked: NDArray[np.bool_]
    ratios: dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def flags(cifar10: Cifar10, report: Report, data_dir: Path) -> Flags:
    train = load_images("cifar10", argument="train", data_dir=data_dir)
    assert report.settings.duplicate_tolerance is not None
    tolerance = report.settings.duplicate_tolerance * 255 * np.sqrt(3072)
    generator = np.random.default_rng(1)
    originals = cifar10.train[generator.choice(50_000, 2000, replace=False)]
    noisy = np.rint(originals + generator.normal(0, 4, originals.shape)).clip(0, 255).astype(np.uint8)
    known_train = Prepared(train, None, seed=0)
    held = known_train.baseline
    assert held is not None
    index, rules = Index(known_train.references), CopyRules(1 / 3, tolerance, flip=True)

    def known(images: Any, excluded: Any = None) -> Any:
        return copying(search(images, index, excluded=excluded), index, rules)

    def counted(one: Any) -> Counted:
        grey_levels = one.closest.distances[:, 0] / np.sqrt(3072)
        flagged, undefined = copied(one.distinct, threshold=1 / 3), undefined_ratios(one.distinct)
        return Counted(flagged, one.near_identical, grey_levels, undefined, one.relatively_near)

    left_out, test = known(held.images, held.excluded), known(cifar10.test)
    noisier = np.rint(originals[:500] + generator.normal(0, 20, (500, 3, 32, 32))).clip(0, 255).astype(np.uint8)
    shifted = np.concatenate([originals[:500, ..., :1], originals[:500, ..., :-1]], axis=-1)
    tables = {"test": test, "left out": left_out, "noise": known(noisier), "shift": known(shifted)}
    return Flags(
        plain_test=int(copied(test.plain, threshold=1 / 3).sum()),
        test=counted(test),
        copies=counted(known(noisy)),
        left_out=counted(left_out),
        leaked=replace(held, copying=left_out).leaked,
        ratios={name: distance_ratios(one.distinct, squared=True) for name, one in tables.items()},
    )


def verdict_of(samples: Counted, baseline: Counted, leaked: NDArray[np.bool_], name: str) -> Verdict:
    repeats = np.zeros(len(samples), dtype=bool)
    return judge(
        samples,
        baseline,
        leaked=leaked,
        repeats=repeats,
        near_in_train=Tally(0, 0),
        first_near_identical=None,
        name=name,
    )


def chosen(counted: Counted, rows: NDArray[Any]) -> Counted:
    return Counted(*(part[rows] for part in vars(counted).values()))


def joined(first: Counted, second: Counted) -> Counted:
    return Counted(*map(np.concatenate, zip(vars(first).values(), vars(second).values(), strict=True)))


def test_the_baselines_are_as_published(flags: Flags) -> None:
    assert flags.plain_test == 11  # the published rule, as it stands
    assert flags.test.num_flagged == 19  # with mirrored training images, which some of the test set resemble
    assert flags.test.num_near_identical == 8
    assert flags.left_out.num_flagged < 40
    assert flags.copies.num_flagged == flags.copies.num_near_identical == 2000


def test_one_in_a_hundred_copies_is_found_every_time(flags: Flags) -> None:
    none = np.zeros(len(flags.test), dtype=bool)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        fresh = chosen(flags.test, generator.choice(10_000, 9_900, replace=False))
        samples = joined(fresh, chosen(flags.copies, generator.choice(2000, 100, replace=False)))
        assert verdict_of(samples, flags.test, none, "test images").label == "copies"
        assert verdict_of(samples, flags.left_out, flags.leaked, "training images left out").label == "copies"


def test_fresh_images_are_never_called_copies(flags: Flags) -> None:
    """200 halves of the test set in the samples' role, the other half as the test set, and against train itself."""
    labels = []
    for seed in range(200):
        first, second = np.split(np.random.default_rng(seed).permutation(10_000), 2)
        none = np.zeros(5000, dtype=bool)
        samples = chosen(flags.test, first)
        labels.append(verdict_of(samples, chosen(flags.test, second), none, "test images").label)
        labels.append(verdict_of(samples, flags.left_out, flags.leaked, "training images left out").label)
    assert set(labels) == {"no copying found", "undecided"}


def calibrated_p_value(samples: NDArray[np.float64], baseline: NDArray[np.float64]) -> float:
    none, rows = np.zeros(len(samples), dtype=bool), np.arange(len(samples))
    return calibrate(samples, baseline, repeats=none, nearest=rows).p_value


@pytest.mark.parametrize(("kind", "largest"), [("noise", 1e-7), ("shift", 1e-2)])
def test_one_in_twenty_disguised_copies_stands_out_by_the_calibrated_ratio(
    kind: str, largest: float, flags: Flags
) -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        held_out, fresh = np.split(flags.ratios["test"][generator.permutation(10_000)], 2)
        copies = flags.ratios[kind][generator.choice(500, 50, replace=False)]
        samples = np.concatenate([fresh[:950], copies])
        assert np.mean(copies < 1 / 9) < 0.25  # the published cut
        for baseline in (held_out, flags.ratios["left out"]):
            assert calibrated_p_value(samples, baseline) < largest


def test_fresh_images_have_calibrated_p_values_as_often_as_these_say(flags: Flags) -> None:
    """Sets drawn from the same images are alike: the bounds leave room for that."""
    p_values = []
    for seed in range(200):
        samples, held_out = np.split(flags.ratios["test"][np.random.default_rng(seed).permutation(10_000)], 2)
        baselines = (held_out, flags.ratios["left out"])
        p_values.append([calibrated_p_value(samples[:1000], baseline) for baseline in baselines])
    found = np.array(p_values)
    assert (np.mean(found <= 0.05, axis=0) <= 0.05).all()
    assert found.min() > 1e-4
