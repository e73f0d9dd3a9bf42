"""The verdict over many sets: never `copies` of fresh images, never an acquittal where a copy is in plain sight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from checking import evaluated
from conftest import Pixels, noise_images
from memgen_eval import Report, Verdict
from memgen_eval.copying.copy_rules import Tally, copied, relatively_near
from memgen_eval.copying.verdict import Counted, judge
from memgen_eval.metrics.ratios import undefined_ratios
from memgen_eval.neighbours.topk import Neighbours

Squares = NDArray[np.signedinteger[Any]]
SHAPE = (8, 8, 3)
TRAIN, TEST = noise_images(0, 800, SHAPE), noise_images(1, 400, SHAPE)


def squared_distances(first: NDArray[Any], second: NDArray[Any]) -> Squares:
    """Every pair, by float64 products of integers: exact far beyond these sizes."""
    x, y = (images.reshape(len(images), -1).astype(np.float64) for images in (first, second))
    return np.rint((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T).astype(np.int64)


def counted(to_train: Squares, among_train: Squares, tolerance: float, num_values: int) -> Counted:
    """The two flags of each image, from its distances to all training images and those among them."""
    nearest = to_train.argmin(axis=1)
    first = to_train[np.arange(len(to_train)), nearest]
    duplicates = among_train[nearest] <= tolerance**2
    others = np.where(duplicates, np.iinfo(to_train.dtype).max, to_train)
    second = others.argmin(axis=1)
    table = Neighbours(
        np.stack([first, others[np.arange(len(others)), second]], axis=1), np.stack([nearest, second], axis=1)
    )
    grey_levels = table.distances[:, 0] / np.sqrt(num_values)
    near = relatively_near(Neighbours(np.sort(to_train, axis=1)[:, :51], np.zeros((len(to_train), 51), dtype=np.int64)))
    return Counted(copied(table, threshold=1 / 3), first <= tolerance**2, grey_levels, undefined_ratios(table), near)


def own_tolerance(among_train: Squares) -> float:
    return float(np.median(np.sqrt(np.partition(among_train, 5, axis=1)[:, 5]))) / 4


def near_in_train(among_train: Squares, tolerance: float) -> Tally:
    nearest = (among_train + np.diag(np.full(len(among_train), 2**30))).min(axis=1)
    return Tally(int((nearest <= tolerance**2).sum()), len(among_train))


def verdict_of(samples: Counted, baseline: Counted, leaked: NDArray[np.bool_], among: Tally) -> Verdict:
    return judge(
        samples,
        baseline,
        leaked=leaked,
        repeats=np.zeros(len(samples), dtype=bool),
        near_in_train=among,
        first_near_identical=None,
        name="test images",
    )


@pytest.mark.parametrize("dimension", [2, 4, 16, 64])
def test_fresh_synthetic_sets_are_never_called_copies(dimension: int) -> None:
    """125 sets a dimension; in few dimensions chance alone flags a tenth of all images."""
    labels, shares = [], []
    for seed in range(125):
        generator = np.random.default_rng((seed, dimension))
        drawn = generator.normal(2000, 600, (800 + 400 + 400, dimension)).round()
        train, samples, test = np.split(drawn, [800, 1200])
        among = squared_distances(train, train)
        tolerance = own_tolerance(among)
        flags = [counted(squared_distances(images, train), among, tolerance, dimension) for images in (samples, test)]
        leaked = squared_distances(test, train).min(axis=1) == 0
        labels.append(verdict_of(*flags, leaked, near_in_train(among, tolerance)).label)
        shares.append(flags[0].num_flagged / 400)
    assert "copies" not in labels
    assert labels.count("no copying found") > 60
    if dimension == 2:
        assert 0.05 < np.mean(shares) < 0.2


def test_fresh_digits_are_never_called_copies() -> None:
    """500 times, other digits to train on, to compare with, and in the samples' role."""
    digits = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    plain = squared_distances(digits, digits).astype(np.int32)
    table = np.minimum(plain, squared_distances(digits, digits[:, :, ::-1]).astype(np.int32))
    labels = []
    for seed in range(500):
        train, samples, test = np.split(np.random.default_rng(seed).permutation(len(digits))[:1400], [600, 1000])
        among = table[np.ix_(train, train)]
        tolerance = own_tolerance(plain[np.ix_(train[:200], train)])
        flags = [counted(table[np.ix_(rows, train)], among, tolerance, 64) for rows in (samples, test)]
        leaked = table[np.ix_(test, train)].min(axis=1) == 0
        labels.append(verdict_of(*flags, leaked, near_in_train(among, tolerance)).label)
    assert "copies" not in labels
    assert labels.count("no copying found") > 300


def label(report: Report) -> str:
    assert report.verdict is not None
    return report.verdict.label


@pytest.mark.parametrize("altered", [0, 1], ids=["exact", "one grey level"])
@pytest.mark.parametrize("mirrored", [False, True], ids=["as it is", "mirrored"])
@pytest.mark.parametrize("test", [TEST, None], ids=["test", "leave one out"])
def test_one_copy_among_500_is_never_passed_over_and_is_named(
    altered: int, mirrored: bool, test: Pixels | None
) -> None:
    samples = noise_images(2, 500, SHAPE)
    samples[321] = (TRAIN[77, :, ::-1] if mirrored else TRAIN[77]) ^ altered
    report = evaluated(samples, train=TRAIN, test=test, metrics="memorization")
    assert report.verdict is not None and report.verdict.label == "undecided"
    assert (
        f"Sample 321 is training image 77{', mirrored,' if mirrored else ''} to within noise" in report.verdict.sentence
    )
    first = report.verdict.evidence.first_near_identical
    assert first is not None and (first.sample_index, first.train_index, first.flipped) == (321, 77, mirrored)
    assert label(evaluated(np.delete(samples, 321, axis=0), train=TRAIN, test=test, metrics="memorization")) == (
        "no copying found"
    )


def with_copies(share: float, num_samples: int = 500, seed: int = 3) -> Pixels:
    samples = noise_images(2, num_samples, SHAPE)
    num_copies = round(share * num_samples)
    samples[:num_copies] = TRAIN[np.random.default_rng(seed).choice(len(TRAIN), num_copies, replace=False)]
    return samples


def test_a_test_set_equal_to_train_never_acquits() -> None:
    for share in (0.0, 0.1, 1.0):
        for test in (TRAIN, TRAIN[:350], np.concatenate([TEST[:390], TRAIN[:10]])):
            report = evaluated(with_copies(share), train=TRAIN, test=test, metrics="memorization")
            assert label(report) == ("undecided" if share == 0 else "copies")  # beside training images left out
    one_in_a_hundred = np.concatenate([TEST[:396], TRAIN[:4]])
    assert label(evaluated(with_copies(0), train=TRAIN, test=one_in_a_hundred, metrics="memorization")) == (
        "no copying found"
    )


@pytest.mark.parametrize("noise", [1, 3])
def test_altered_training_images_in_the_test_set_do_not_excuse_altered_copies(noise: int) -> None:
    """A twentieth of the test set, and as many samples: the same alteration of other training images."""
    altered = np.clip(TRAIN.astype(int) + np.random.default_rng(5).integers(-noise, noise + 1, TRAIN.shape), 0, 255)
    test, samples = TEST.copy(), noise_images(2, 500, SHAPE)
    test[:20], samples[:25] = altered[:20], altered[100:125]
    report = evaluated(samples, train=TRAIN, test=test, metrics="memorization")
    assert label(report) == "copies"
    whole = evaluated(altered[400:], train=TRAIN, test=altered[:400], metrics="memorization")
    assert label(whole) == "copies"
    clean = evaluated(samples[25:], train=TRAIN, test=test, metrics="memorization")
    assert label(clean) == "undecided" and clean.verdict is not None
    assert "20 of 400 test images are near-identical to training images, as 0 of 800" in clean.verdict.sentence


@pytest.mark.parametrize("count", [1, 300])
def test_one_training_image_acquits_nobody(count: int) -> None:
    train = np.repeat(TRAIN[:1], count, axis=0)
    samples = np.clip(train[:1] + np.random.default_rng(0).integers(-1, 2, (400, *SHAPE)), 0, 255).astype(np.uint8)
    report = evaluated(samples, train=train, test=TEST, metrics="memorization")
    assert label(report) == "undecided" and report.verdict is not None
    assert "no two distinct training images" in report.verdict.sentence


def test_near_duplicates_are_left_out_of_train_together() -> None:
    train = TRAIN.copy()
    train[720:] = train[:80] ^ 1
    samples = noise_images(2, 500, SHAPE)
    samples[:50] = train[np.random.default_rng(3).choice(800, 50, replace=False)]
    report = evaluated(samples, train=train, metrics="memorization")
    assert label(report) == "copies"
    assert report.verdict is not None and report.verdict.evidence.num_flagged_baseline == 0
    assert report.memorization is not None and report.memorization.ratio.value == 0.1
    clean = evaluated(noise_images(2, 500, SHAPE), train=train, metrics="memorization")
    assert label(clean) == "no copying found"


def test_copies_of_duplicates_are_copies() -> None:
    train = TRAIN.copy()
    train[400:] = train[:400]
    train[600:, 0, 0, 0] ^= 1
    for samples in (train[:400], train[400:], train[:400, :, ::-1]):
        report = evaluated(samples, train=train, test=TEST, metrics="memorization")
        assert report.memorization is not None and report.memorization.ratio.value == 1
        assert label(report) == "copies"


def test_repeats_count_once() -> None:
    report = evaluated(
        np.tile(noise_images(2, 150, SHAPE), (4, 1, 1, 1)), train=TRAIN, test=TEST, metrics="memorization"
    )
    assert label(report) == "undecided" and report.verdict is not None
    assert "only 150 distinct samples seen" in report.verdict.sentence
    family = report.memorization
    assert family is not None
    assert family.largest_compatible_ratio.value == pytest.approx(1 - 0.05 ** (1 / 150), rel=1e-12)
    assert any("450 samples repeat" in note for note in family.largest_compatible_ratio.notes)
