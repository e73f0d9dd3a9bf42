"""The calibrated ratio: its exact law, its error under the null, what it finds, and what its intervals hold."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, binom, binomtest, nhypergeom

from checking import evaluated
from memgen_eval import Estimate
from memgen_eval.copying.baseline import Baseline
from memgen_eval.copying.calibration import FIGURES, Calibration, calibrate, calibrated_figures, preset_ranks
from memgen_eval.copying.copy_rules import Copying
from memgen_eval.metrics.ratios import distance_ratios
from memgen_eval.metrics.statistics import proportion, share_below_rank
from metric_tables import copying, known, table

Floats = NDArray[np.float64]


def judged(samples: Any, baseline: Any, *, repeats: Any = None, nearest: Any = None) -> Calibration:
    """With every sample a draw of its own, nearest to a training image of its own, unless said otherwise."""
    size = len(samples)
    return calibrate(
        np.asarray(samples, dtype=float),
        np.asarray(baseline, dtype=float),
        repeats=np.zeros(size, dtype=bool) if repeats is None else np.asarray(repeats),
        nearest=np.arange(size) if nearest is None else np.asarray(nearest),
    )


def chance(num_below: int, num_samples: int, rank: int, num_baseline: int) -> Fraction:
    """Of at least so many samples before the baseline image of a rank: a sum over its place in the joint order."""
    orders = comb(num_samples + num_baseline, num_samples)
    before = [
        comb(k + rank - 1, k) * comb(num_samples - k + num_baseline - rank, num_samples - k)
        for k in range(num_below, num_samples + 1)
    ]
    return Fraction(sum(before), orders)


@pytest.mark.parametrize(("num_samples", "num_baseline"), [(1, 5), (4, 3), (5, 6)])
def test_the_chance_is_the_share_of_all_orders(num_samples: int, num_baseline: int) -> None:
    """Few baseline images have the one preset rank 1: every order of both sets, each as likely as the next."""
    total = num_samples + num_baseline
    found: list[tuple[int, float]] = []
    for places in combinations(range(total), num_samples):
        others = [place for place in range(total) if place not in places]
        result = judged(places, others)
        assert (result.rank, result.ranks, result.threshold) == (1, (1,), others[0])
        found.append((sum(place < others[0] for place in places), result.p_value))
    for count, p_value in found:
        exact = Fraction(sum(other >= count for other, _ in found), len(found))
        assert p_value == pytest.approx(float(exact), rel=1e-12)
        assert exact == chance(count, num_samples, 1, num_baseline)


@pytest.mark.parametrize(("num_samples", "num_baseline"), [(300, 300), (1000, 10_000), (50, 999)])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5])
def test_the_p_value_is_that_of_exact_fractions_and_of_scipy(num_samples: int, num_baseline: int, share: float) -> None:
    """Samples are placed by hand; the law is once a sum of whole numbers, once scipy's negative hypergeometric."""
    baseline = np.arange(1.0, num_baseline + 1)
    low = round(share * num_samples)
    samples = np.concatenate([np.full(low, 0.5), np.full(num_samples - low, num_baseline + 1.0)])
    result = judged(samples, baseline)
    assert result.ranks == {300: (1, 2, 3), 10_000: (10, 50, 100), 999: (1, 5, 10)}[num_baseline]
    exact = {rank: chance(low, num_samples, rank, num_baseline) for rank in result.ranks}
    assert result.rank == min(result.ranks, key=lambda rank: (exact[rank], rank))
    assert result.p_value == pytest.approx(min(1.0, 3 * float(exact[result.rank])), rel=1e-9)
    scipys = nhypergeom(num_samples + num_baseline, num_samples, result.rank).sf(low - 1)
    assert float(exact[result.rank]) == pytest.approx(scipys, abs=1e-10)  # which is 1 less a sum
    assert (result.below == (np.arange(num_samples) < low)).all()


def test_the_rank_is_the_one_with_the_smallest_p_value() -> None:
    """Samples just below a rank count there and not at smaller ones."""
    baseline = np.arange(1.0, 10_001)
    for value, rank in ((5.0, 10), (40.0, 50), (80.0, 100)):
        result = judged([value] * 40 + [1e6] * 960, baseline)
        assert (result.rank, result.threshold, result.below.sum()) == (rank, rank, 40)
    nothing = judged([1e6] * 5, baseline)
    assert (nothing.rank, nothing.p_value, nothing.p_value_of_images) == (10, 1, 1)


def test_preset_ranks() -> None:
    sizes = {1: (1,), 99: (1,), 120: (1,), 300: (1, 2, 3), 500: (1, 3, 5), 1000: (1, 5, 10), 10_000: (10, 50, 100)}
    assert {size: preset_ranks(size) for size in sizes} == sizes
    for size in (99, 150, 434, 5000):
        assert preset_ranks(size)[-1] / (size + 1) <= 0.015


def test_equal_values_are_not_below() -> None:
    baseline = np.repeat([0.2, 0.9], [3, 297])
    tied = judged([0.2] * 50 + [0.95] * 50, baseline)
    assert (tied.below.any(), tied.p_value) == (False, 1)
    below = judged([np.nextafter(0.2, 0)] * 50 + [0.95] * 50, baseline)
    assert below.below.sum() == 50 and below.p_value < 1e-9


def test_equal_ratios_of_whole_squares_are_equal_whatever_their_size() -> None:
    """Roots rounded before the quotient differ for the same ratio: sqrt(3)/sqrt(6) is not sqrt(1)/sqrt(2)."""
    firsts = np.arange(1, 2000)
    ratios = distance_ratios(table(np.column_stack([7 * firsts, 13 * firsts])), squared=True)
    assert len(set(ratios)) == 1
    assert len(set(distance_ratios(table(np.column_stack([7 * firsts, 13 * firsts]))))) > 1


def test_repeats_count_once_and_shared_training_images_in_a_p_value_of_their_own() -> None:
    baseline, samples = np.arange(1.0, 1000), np.repeat([0.5, 2000.0], [30, 270])
    repeats = np.arange(300) % 3 > 0
    result = judged(samples, baseline, repeats=repeats)
    assert (result.num_samples, result.below.sum()) == (100, 30)
    assert result.p_value == pytest.approx(3 * float(chance(10, 100, result.rank, 999)))
    apart = judged(samples, baseline)
    assert apart.p_value == apart.p_value_of_images == pytest.approx(3 * float(chance(30, 300, 1, 999)))
    shared = judged(samples, baseline, nearest=np.arange(300) % 4)
    assert shared.p_value == apart.p_value
    assert shared.p_value_of_images == pytest.approx(3 * float(min(chance(4, 300, rank, 999) for rank in (1, 5, 10))))


NUM_SETS = 2000


@pytest.mark.parametrize("ties", [False, True])
def test_of_exchangeable_sets_few_have_a_small_p_value(ties: bool) -> None:
    """3.5 deviations more than the level would be found by chance once in 4,000 times."""
    generator = np.random.default_rng(3)
    found = []
    for _ in range(NUM_SETS):
        values = generator.random(700)
        result = judged(*np.split(np.floor(400 * values) if ties else values, [300]))
        found.append((result.p_value, result.p_value_of_images))
    for level in (0.2, 0.05, 0.01):
        rejected = np.mean(np.array(found) <= level, axis=0)
        assert (rejected <= level + 3.5 * np.sqrt(level / NUM_SETS)).all()
        assert ties or rejected[0] >= level / 10  # Bonferroni and whole counts cost power, and not all of it


def test_one_new_image_repeated_with_noise_is_no_evidence_of_copies() -> None:
    """A collapsed model: 20 unseen images, each in 50 versions that share its ratio and its nearest training image."""
    generator = np.random.default_rng(4)
    by_count, by_image = [], []
    for _ in range(1000):
        own, baseline = np.split(generator.random(1020), [20])
        result = judged(np.repeat(own, 50), baseline, nearest=np.repeat(np.arange(20), 50))
        by_count.append(result.p_value)
        by_image.append(result.p_value_of_images)
    assert np.mean(np.array(by_count) <= 1e-5) > 0.05
    assert min(by_image) > 0.05


def tables(ratios: Floats) -> Copying:
    """Images with these ratios to a second neighbour at distance 1."""
    squared = np.column_stack([ratios**2, np.ones(len(ratios))])
    return copying(table(squared, np.broadcast_to(np.arange(len(ratios))[:, None], squared.shape), np.float64))


def figures(samples: Floats, baseline: Floats) -> dict[str, Estimate]:
    images = np.zeros((len(baseline), 1, 1, 1))
    held = Baseline(images, np.arange(len(baseline)), None, "test images", "test", copying=tables(baseline))
    return calibrated_figures(tables(samples), held)


@pytest.mark.parametrize(("num_samples", "num_baseline"), [(300, 99), (300, 300), (434, 2000)])
@pytest.mark.parametrize("share", [0.0, 0.05])
def test_intervals_hold_what_they_estimate(num_samples: int, num_baseline: int, share: float) -> None:
    """Uniform ratios, those of copies to the eighth power: the share below t is t and t**(1/8), whatever is chosen.

    At a coverage of 0.95 fewer than 0.92 of 600 sets would be found once in 2,000 times.
    """
    generator, inside = np.random.default_rng(5), []
    for _ in range(600):
        samples, baseline = generator.random(num_samples), generator.random(num_baseline)
        copies = generator.random(num_samples) < share
        found = figures(np.where(copies, samples**8, samples), baseline)
        t, rank = found["calibrated_threshold"].value, found["test_calibrated_ratio"].value
        assert t is not None and rank is not None
        below = (1 - share) * t + share * t ** (1 / 8)
        middle = (rank * (num_baseline + 1) - 0.5) / num_baseline
        truths = dict(zip(FIGURES, (middle, below, t, below - t), strict=False))
        inside.append([low <= truths[name] <= high for name in truths for _, low, high in [known(found[name])]])
    assert (np.mean(inside, axis=0) >= 0.92).all()


def test_the_figures_are_those_of_their_definitions() -> None:
    baseline = np.linspace(0.5, 1, 1000)
    samples = np.concatenate([[0.0, 0.3, 0.501, 0.502], np.full(96, 0.9)])  # the fifth smallest of baseline is 0.502002
    found = figures(samples, baseline)
    threshold, share, control, excess, p_value = (found[name] for name in FIGURES)
    assert threshold.value == pytest.approx(baseline[4]) and threshold.count == 1000
    assert threshold.notes == (
        "number 5 of the ratios of 1,000 test images, the smallest first",
        "of numbers 1, 5, 10, the one with the smallest p-value",
    )
    assert (share.value, share.count, share.notes) == (0.04, 100, ("samples 0, 1, 2, 3",))
    assert control.value == 5 / 1001
    assert (control.low, control.high) == pytest.approx(beta(5, 996).ppf([0.025 / 3, 1 - 0.025 / 3]))
    assert excess.value == pytest.approx(0.04 - 5 / 1001)
    assert p_value.value == pytest.approx(3 * float(chance(4, 100, 5, 1000)))
    assert {figure.method for figure in (threshold, share, control, excess, p_value)} == {
        "order statistics 95 % for 3 thresholds at once",
        "Clopper-Pearson 95 % for 3 thresholds at once",
        "beta of the rank, 95 % for 3 thresholds at once",
        "Newcombe 95 % for 3 thresholds at once",
        "exact, of exceedances, Bonferroni for 3 thresholds",
    }


def test_the_interval_for_several_figures_is_that_of_scipy_at_the_level_of_each() -> None:
    found = proportion(np.arange(200) < 9, num_figures=3)
    ends = binomtest(9, 200).proportion_ci(1 - 0.05 / 3, "exact")
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    single = share_below_rank(1, 99)
    assert single.method == "beta of the rank, 95 %"
    assert single.high is not None and single.low is not None
    assert binom.pmf(0, 99, single.high) == pytest.approx(0.025)  # none of 99 values lies below its quantile
    assert binom.pmf(0, 99, single.low) == pytest.approx(0.975)


def known_p(found: dict[str, Estimate]) -> float:
    value = found["calibrated_p_value"].value
    assert value is not None
    return value


def test_small_baselines_leaks_and_no_samples_have_reasons() -> None:
    samples, baseline = np.full(50, 0.4), np.linspace(0.5, 1, 98)
    assert {figure.notes for figure in figures(samples, baseline).values()} == {
        ("needs 99 baseline images, of which 98 are there",)
    }
    whole = figures(samples, np.append(baseline, 1))
    assert whole["calibrated_ratio"].method == "Clopper-Pearson 95 %"
    assert whole["calibrated_p_value"].method == "exact, of exceedances"
    assert whole["calibrated_p_value"].value == pytest.approx(1 / comb(149, 50))
    leaky = figures(samples, np.concatenate([[0.0, 0.0], baseline, [1.0]]))
    assert [leaky[name].value for name in FIGURES] == [0, 0, 1 / 102, -1 / 102, 1]
    said = f"p = {known_p(whole):.2g} without 2 test images that are identical to a training image"
    assert leaky["calibrated_p_value"].notes == (said,)
    assert {figure.notes for figure in figures(samples[:0], baseline).values()} == {("no images to count",)}


def fields(seed: int, num_images: int) -> NDArray[np.uint8]:
    """Colour images with the spectrum of photographs, amplitudes falling as 1 / frequency: (N, 3, 16, 16)."""
    x = np.fft.fftfreq(16)
    frequency = np.hypot(x[:, None], x)
    frequency[0, 0] = 1 / 16
    white = np.random.default_rng(seed).standard_normal((num_images, 3, 16, 16))
    smooth = np.fft.ifft2(np.fft.fft2(white) / frequency).real
    return np.rint(128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


TRAIN, TEST, FRESH = fields(0, 1000), fields(1, 600), fields(2, 400)


def shifted(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([images[..., :1], images[..., :-1]], axis=-1)


def noisy(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(6).normal(0, 25, images.shape)
    return np.rint(images + noise).clip(0, 255).astype(np.uint8)


def blurred(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """By 1 2 1 along rows and columns, twice."""
    for axis in (2, 3, 2, 3):
        padded = np.moveaxis(images.astype(float), axis, 0)
        padded = np.concatenate([padded[:1], padded, padded[-1:]])
        images = np.rint(np.moveaxis(padded[:-2] + 2 * padded[1:-1] + padded[2:], 0, axis) / 4).astype(np.uint8)
    return images


@pytest.mark.parametrize("disguise", [noisy, shifted, blurred])
@pytest.mark.parametrize("test", [TEST, None], ids=["test", "leave one out"])
def test_disguised_copies_are_found_where_the_published_rule_finds_none(disguise: Any, test: Any) -> None:
    samples = np.concatenate([FRESH, disguise(TRAIN[100:120])])
    family = evaluated(samples, train=TRAIN, test=test, metrics="memorization").memorization
    assert family is not None and family.calibrated_p_value.value is not None
    assert family.ratio.value == family.plain_ratio.value == 0
    assert family.calibrated_p_value.value < 1e-7
    assert family.calibrated_ratio.notes[0].endswith(", ".join(map(str, range(400, 420))))
    assert known(family.calibrated_excess)[1] > 0.02
    assert family.test_calibrated_ratio.value == 1 / (1001 if test is None else 601)


def test_fresh_images_are_not() -> None:
    for test in (TEST, None):
        family = evaluated(FRESH, train=TRAIN, test=test, metrics="memorization").memorization
        assert family is not None and family.calibrated_p_value.value is not None
        assert family.calibrated_p_value.value > 0.5
        assert known(family.calibrated_excess)[1] < 0


def test_without_a_baseline_there_is_a_reason() -> None:
    report = evaluated(FRESH[:5], train=TRAIN[:1], metrics="memorization")
    for name in FIGURES:
        assert report.skipped[f"memorization.{name}"].startswith("needs a test set")
