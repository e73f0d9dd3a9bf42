"""The rules of the verdict: exact chances kind by kind, pictures counted once, fair and unfair test images."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import oracles
from checking import evaluated
from memgen_eval.copying.kinds import coarse_rows, kinds_of_images, stratified_p_value
from memgen_eval.copying.rules import Comparison, Rated, at_ranks, at_threshold
from memgen_eval.metrics.statistics import exceedance_p_value
from metric_tables import smooth_images

Pixels = NDArray[np.uint8]
SHAPE = (1, 16, 16)


def by_enumeration(found: Any, trials: Any, base_found: Any, base_trials: Any) -> Fraction:
    """The chance of at least as many successes of the first set, over all ways to share those of each kind."""
    laws = []
    for k, n, b, m in zip(found, trials, base_found, base_trials, strict=True):
        total = int(k + b)
        ways = [Fraction(comb(int(n), i) * comb(int(m), total - i), comb(int(n + m), total)) for i in range(total + 1)]
        laws.append(ways)
    return sum(
        (
            Fraction(np.prod([law[i] for law, i in zip(laws, counts, strict=True)]))
            for counts in product(*(range(len(law)) for law in laws))
            if sum(counts) >= sum(found)
        ),
        Fraction(0),
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_chance_by_kinds_is_that_of_all_ways(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trials, base_trials = rng.integers(0, 12, 4), rng.integers(0, 12, 4)
    found, base_found = rng.binomial(trials, 0.3), rng.binomial(base_trials, 0.2)
    counts = found, trials, base_found, base_trials
    assert stratified_p_value(*counts) == pytest.approx(float(by_enumeration(*counts)), rel=1e-10)


def test_one_kind_is_fishers_test_and_kinds_without_images_tell_nothing() -> None:
    one = [np.array([count]) for count in (9, 400, 2, 700)]
    assert stratified_p_value(*one) == pytest.approx(float(oracles.fisher(9, 400, 2, 700)), rel=1e-10)
    more = [np.array(counts) for counts in ([0, 9, 50, 0], [0, 400, 50, 30], [0, 2, 0, 0], [0, 700, 0, 0])]
    assert stratified_p_value(*more) == pytest.approx(float(oracles.fisher(9, 400, 2, 700)), rel=1e-10)


def compared(
    samples: Any, unseen: Any, *, nearest: Any = None, kinds: Any = None, unseen_kinds: Any = None
) -> Comparison:
    own = np.arange(len(samples)) if nearest is None else np.asarray(nearest)
    return Comparison(
        Rated(np.asarray(samples, dtype=float), own),
        Rated(np.asarray(unseen, dtype=float), np.arange(len(unseen))),
        np.zeros(len(samples), dtype=np.int64) if kinds is None else np.asarray(kinds),
        np.zeros(len(unseen), dtype=np.int64) if unseen_kinds is None else np.asarray(unseen_kinds),
    )


def test_a_rule_at_ranks_is_the_test_of_exceedances() -> None:
    samples, unseen = np.linspace(0.001, 1, 40), np.linspace(0.1, 1, 99)
    found = at_ranks(compared(samples, unseen))
    assert (found.num_below, found.num_samples, found.num_unseen_below, found.num_unseen) == (4, 40, 0, 99)
    assert found.p_value == pytest.approx(exceedance_p_value(4, 40, 0, 99), rel=1e-12)  # one rank of 99: one threshold


def test_a_training_image_counts_once() -> None:
    """Fifty samples at one training image are one picture's copies."""
    samples, unseen = np.r_[np.zeros(50), np.ones(250)], np.linspace(0.1, 1, 1000)
    nearest = np.r_[np.zeros(50, dtype=int), np.arange(250)]
    once, each = at_ranks(compared(samples, unseen, nearest=nearest)), at_ranks(compared(samples, unseen))
    assert once.num_below == 1 and once.p_value > 0.1
    assert each.num_below == 50 and each.p_value < 1e-20
    flags = at_threshold(compared(np.where(samples == 0, 0.0, 1.0), np.ones(1000), nearest=nearest))
    assert flags.num_below == 1 and flags.p_value > 0.1


def test_a_set_of_one_suspicious_kind_is_not_taken_for_copies() -> None:
    """A tenth of the unseen images is flat and lies below by chance in 1 of 5 cases; all samples are flat."""
    rng = np.random.default_rng(0)
    unseen_kinds = np.repeat([0, 1], [400, 3600])
    flat = lambda size: np.where(rng.random(size) < 0.2, 0.1 * rng.random(size), 0.5 + 0.5 * rng.random(size))  # noqa: E731
    unseen = np.r_[flat(400), 0.5 + 0.5 * rng.random(3600)]
    own = flat(3000)
    blind = at_ranks(compared(own, unseen))
    seeing = at_ranks(compared(own, unseen, kinds=np.zeros(3000, dtype=int), unseen_kinds=unseen_kinds))
    assert blind.p_value < 1e-5 < 0.01 < seeing.p_value


@pytest.mark.parametrize("num_kinds", [1, 5])
def test_the_chance_is_kept_for_fresh_sets(num_kinds: int) -> None:
    rng = np.random.default_rng(num_kinds)
    found = []
    for _ in range(400):
        kinds, unseen_kinds = rng.integers(0, num_kinds, 300), rng.integers(0, num_kinds, 500)
        both = compared(rng.random(300), rng.random(500), kinds=kinds, unseen_kinds=unseen_kinds)
        found.append(at_ranks(both).p_value)
    for limit in (0.01, 0.05, 0.2):
        assert np.mean(np.array(found) <= limit) <= limit + 3 * np.sqrt(limit * (1 - limit) / 400)


def test_kinds_part_flat_pictures_from_others() -> None:
    rng = np.random.default_rng(1)
    flat = np.repeat(rng.integers(0, 256, (400, 1)), 256, axis=1).reshape(400, *SHAPE).astype(np.uint8)
    textured = smooth_images(400, SHAPE, seed=2)
    cells = kinds_of_images(np.concatenate([flat, textured]), seed=0)
    kinds = [cells.assign(coarse_rows(images)) for images in (flat, textured)]
    shared = sum(min(np.count_nonzero(kinds[0] == k), np.count_nonzero(kinds[1] == k)) for k in range(16))
    assert shared < 150


TRAIN, TEST = smooth_images(800, SHAPE, seed=10), smooth_images(400, SHAPE, seed=11)
FRESH = smooth_images(500, SHAPE, seed=12)


def verdict_of(samples: Pixels, *, train: Pixels = TRAIN, test: Pixels | None = TEST) -> Any:
    report = evaluated(samples, train=train, test=test, metrics="memorization")
    assert report.verdict is not None
    return report.verdict


def noisy(images: Pixels, deviation: float, seed: int = 0) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, deviation, images.shape)
    return np.rint(images + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("rule", "altered"),
    [
        ("ratio", TRAIN),
        ("calibrated", noisy(TRAIN, 25)),
        ("standardized", np.rint(40 + 0.5 * TRAIN.astype(float)).astype(np.uint8)),
        ("aligned", np.roll(TRAIN, (1, 2), axis=(2, 3))),
    ],
)
def test_each_rule_convicts_the_copies_it_is_for(rule: str, altered: Pixels) -> None:
    samples = np.concatenate([FRESH[:450], altered[100:150]])
    verdict = verdict_of(samples)
    by_name = {found.name: found for found in verdict.evidence.rules}
    assert verdict.label == "copies"
    assert by_name[rule].p_value * 4 <= 1e-5
    assert verdict.p_value == pytest.approx(4 * min(found.p_value for found in by_name.values()))


def test_fresh_samples_are_acquitted_by_all_rules() -> None:
    verdict = verdict_of(FRESH)
    assert verdict.label == "no copying found"
    assert [found.name for found in verdict.evidence.rules] == ["ratio", "calibrated", "standardized", "aligned"]
    assert all(found.num_unseen == 1200 for found in verdict.evidence.rules)  # 400 test images, 800 left out


def test_a_model_that_repeats_few_new_images_is_not_called_a_copier() -> None:
    """Twenty new images with noise, fifty times each: one of them may lie near a training image by chance."""
    repeated = np.concatenate([noisy(FRESH[:20], 2, seed) for seed in range(50)])
    verdict = verdict_of(repeated)
    assert verdict.label == "undecided" and verdict.evidence.num_distinct_samples == 20
    assert "only 20 distinct samples seen" in verdict.sentence
    copied = np.concatenate([noisy(TRAIN[:20], 2, seed) for seed in range(50)])
    assert verdict_of(copied).label == "copies"


@pytest.mark.parametrize("test", [TEST, None], ids=["test", "leave one out"])
def test_eight_versions_of_each_training_image_hide_no_copies(test: Pixels | None) -> None:
    train = np.concatenate([noisy(TRAIN[:150], 3, seed) for seed in range(8)])
    assert verdict_of(noisy(np.repeat(TRAIN[:150], 3, axis=0), 3, 99), train=train, test=test).label == "copies"
    assert verdict_of(FRESH, train=train, test=test).label != "copies"


def test_recompressed_training_images_in_the_test_set_excuse_nobody() -> None:
    """The whole test set is altered training images, and so are the samples."""
    altered = noisy(TRAIN, 2)
    verdict = verdict_of(altered[400:], test=altered[:400])
    assert verdict.label == "copies"
    assert verdict.evidence.rules[0].num_unseen == 800  # training images left out alone
    fresh = verdict_of(FRESH, test=altered[:400])
    assert fresh.label == "undecided" and "near-identical to training images" in fresh.sentence


def test_a_test_set_unlike_train_acquits_nobody() -> None:
    foreign = np.random.default_rng(3).integers(0, 256, (400, *SHAPE)).astype(np.uint8)
    verdict = verdict_of(FRESH, test=foreign)
    assert verdict.label == "undecided"
    assert "test images are unlike the training set: in 100 % of pairs the test image lies farther" in verdict.sentence
    samples = np.concatenate([FRESH[:450], TRAIN[:50]])
    assert verdict_of(samples, test=foreign).label == "copies"
