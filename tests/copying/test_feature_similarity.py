"""Feature similarity: exact p-values, thresholds of order statistics, cosines by brute force, planted copies."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom

from checking import evaluated
from conftest import noise_images
from memgen_eval import Estimate, Report
from memgen_eval.copying.copy_rules import calibrated_share
from memgen_eval.features import published
from memgen_eval.metrics.statistics import exceedance_p_value, upper_quantile

SHAPE = (8, 8)


@pytest.mark.parametrize(("num_samples", "num_baseline"), [(3, 4), (5, 3), (1, 6)])
@pytest.mark.parametrize("num_allowed", [0, 1, 2])
def test_exceedances_are_counted_exactly(num_samples: int, num_baseline: int, num_allowed: int) -> None:
    """Over every order of both sets, as combinations of the places that samples take, from the largest value on."""
    total = num_samples + num_baseline
    counts = []
    for places in combinations(range(total), num_samples):
        others = [place for place in range(total) if place not in places]
        counts.append(sum(place < others[num_allowed] for place in places))
    for num_above in range(num_samples + 1):
        exact = Fraction(sum(count >= num_above for count in counts), len(counts))
        found = exceedance_p_value(num_above, num_samples, num_allowed, num_baseline)
        assert found == pytest.approx(float(exact), rel=1e-12)


def test_of_exchangeable_sets_few_have_a_small_p_value() -> None:
    generator = np.random.default_rng(0)
    p_values = []
    for _ in range(2000):
        values = generator.standard_normal(1300)
        _, _, p_value = calibrated_share(values[:300], values[300:], largest=np.inf)
        p_values.append(p_value.value)
    found = np.array(p_values)
    for level in (0.3, 0.1, 0.05, 0.01):
        assert np.mean(found <= level) <= level + 3 * np.sqrt(level / 2000)


def test_the_interval_of_a_quantile_holds_it() -> None:
    """Of 2,000 sets of uniform values, at most one in twenty misses 0.99; by order statistics, and not by chance."""
    generator = np.random.default_rng(1)
    intervals = [upper_quantile(generator.random(900), 0.01, largest=1.0) for _ in range(2000)]
    inside = np.mean([estimate.low <= 0.99 <= estimate.high for estimate in intervals])  # type: ignore[operator]
    assert 0.95 <= inside <= 0.985
    values = np.arange(900.0)
    found = upper_quantile(values, 0.01, largest=1e9)
    assert found.value == 890.0  # nine exceed it
    assert binom.cdf(899 - found.high, 900, 0.01) <= 0.025 < binom.cdf(900 - found.high, 900, 0.01)  # type: ignore[operator]
    assert binom.sf(899 - found.low, 900, 0.01) <= 0.025 < binom.sf(898 - found.low, 900, 0.01)  # type: ignore[operator]
    few = upper_quantile(values[:50], 0.001, largest=1e9)
    assert (few.value, few.high, few.count) == (49.0, 1e9, 50)
    assert upper_quantile(values[:0], 0.001, largest=1.0).value is None


def test_a_share_above_the_threshold_is_strict_and_names_its_samples() -> None:
    baseline = np.arange(1000.0)
    samples = np.array([998.0, 998.5, 5.0, 2000.0, 2000.0])
    threshold, share, p_value = calibrated_share(samples, baseline, largest=1e9)
    assert (threshold.value, share.value, share.count) == (998.0, 0.6, 5)
    assert share.notes == ("0.20% are expected if nothing is copied", "samples 1, 3, 4")
    assert p_value.value == pytest.approx(exceedance_p_value(3, 5, 1, 1000))
    repeats = np.array([False, False, False, False, True])
    _, once, p_once = calibrated_share(samples, baseline, largest=1e9, repeats=repeats)
    assert (once.value, once.count) == (0.6, 4)
    assert p_once.value == pytest.approx(exceedance_p_value(2, 4, 1, 1000))
    for empty in ((samples[:0], baseline), (samples, baseline[:0])):
        assert [figure.value for figure in calibrated_share(*empty, largest=1.0)][1:] == [None, None]


def directed(images: torch.Tensor) -> torch.Tensor:
    """Features whose direction brightness and contrast hardly move: pixels about their mean."""
    rows = images.float().flatten(1)
    return rows - rows.mean(dim=1, keepdim=True)


def rows_of(images: NDArray[Any]) -> NDArray[np.float64]:
    rows = directed(torch.from_numpy(images[:, None].copy())).numpy().astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def two_largest(queries: NDArray[Any], references: NDArray[Any], *, own: bool = False) -> NDArray[np.float64]:
    """Cosines in float64, one query after the other."""
    products = rows_of(queries) @ rows_of(references).T
    if own:
        np.fill_diagonal(products, -np.inf)
    return np.asarray(-np.sort(-products, axis=1)[:, :2])


TRAIN, TEST = noise_images(0, 300, SHAPE), noise_images(1, 400, SHAPE)
SAMPLES = np.concatenate([noise_images(2, 100, SHAPE), TRAIN[:10] // 2 + 60, TRAIN[10:15]])


def found(report: Report, name: str) -> Estimate:
    figure = report.figure(f"memorization.{name}")
    assert isinstance(figure, Estimate)
    return figure


@pytest.mark.parametrize("test", [TEST, None], ids=["test", "leave one out"])
def test_figures_are_those_of_brute_force(test: Any) -> None:
    report = evaluated(SAMPLES, train=TRAIN, test=test, features=directed)
    samples = two_largest(SAMPLES, TRAIN)
    baseline = two_largest(TRAIN if test is None else TEST, TRAIN, own=test is None)
    for values, others, names in (
        (samples[:, 0], baseline[:, 0], ("feature_threshold", "calibrated_feature_similarity", "feature_p_value")),
        (
            samples[:, 0] - samples[:, 1],
            baseline[:, 0] - baseline[:, 1],
            ("feature_margin_threshold", "calibrated_feature_margin", "feature_margin_p_value"),
        ),
    ):
        threshold, share, p_value = (found(report, name) for name in names)
        assert threshold.value == pytest.approx(others.max(), abs=1e-6) and threshold.count == len(others)
        above = int(np.count_nonzero(values > others.max()))
        assert share.value == above / len(SAMPLES) and above >= 15
        assert p_value.value == pytest.approx(exceedance_p_value(above, len(SAMPLES), 0, len(others)))
    assert report.skipped["memorization.feature_similarity"].startswith("a threshold is published for SSCD alone")
    assert report.verdict is not None
    plain = evaluated(SAMPLES, train=TRAIN, test=test)
    assert plain.verdict == report.verdict
    assert plain.skipped["memorization.feature_p_value"].startswith("needs the features of a network")


def test_a_copy_of_a_repeated_training_image_keeps_its_margin() -> None:
    doubled = np.concatenate([TRAIN, TRAIN[10:15]])
    report, plain = (evaluated(SAMPLES, train=train, test=TEST, features=directed) for train in (doubled, TRAIN))
    for name in ("calibrated_feature_margin", "feature_margin_threshold", "calibrated_feature_similarity"):
        assert found(report, name) == found(plain, name)


def test_leaving_one_out_skips_repeated_training_images() -> None:
    doubled = np.concatenate([TRAIN[:5], TRAIN])
    report = evaluated(SAMPLES, train=doubled, features=directed)
    baseline = two_largest(TRAIN[5:], TRAIN)
    own = two_largest(TRAIN, TRAIN, own=True)[5:]
    assert found(report, "feature_threshold").value == pytest.approx(own[:, 0].max(), abs=1e-6)
    assert baseline[:, 0].min() == pytest.approx(1.0)


def test_one_training_image_has_no_margin() -> None:
    report = evaluated(SAMPLES[:5], train=TRAIN[:1], test=TEST, features=directed)
    assert found(report, "feature_threshold").value is not None
    assert report.skipped["memorization.calibrated_feature_margin"] == "needs two distinct training images"


def test_the_page_says_why_a_published_threshold_needs_the_baseline() -> None:
    from memgen_eval.render.html import render_html
    from memgen_eval.render.table import plain_table

    with finding_copies():
        report = evaluated(SAMPLES, train=TRAIN, test=TEST, features=directed)
    samples, baseline = two_largest(SAMPLES, TRAIN)[:, 0], two_largest(TEST, TRAIN)[:, 0]
    assert found(report, "feature_similarity").value == np.mean(samples > 0.6)
    assert found(report, "test_feature_similarity").value == np.mean(baseline > 0.6)
    shares = f"{np.mean(samples > 0.6):.1%} of the samples pass it here, and {np.mean(baseline > 0.6):.1%} of the test"
    sentence = f"The published threshold 0.6 alone says nothing: {shares} images, which cannot have been copied."
    assert sentence in render_html(report) and sentence in plain_table(report)
    assert "than the threshold calibrated on" in render_html(report)
    assert "cosine similarity" not in plain_table(evaluated(SAMPLES, train=TRAIN, test=TEST))


def finding_copies() -> Any:
    """Takes all features for those of a network that is made to find copies."""
    opened = published.open_features
    return mock.patch(
        "memgen_eval.embedding.embedder.open_features",
        lambda *given, **more: replace(opened(*given, **more), copy_threshold=0.6),
    )


def by_brightness(images: Any) -> Any:
    """The values of each image in order, which say nothing of where they are."""
    return torch.sort(images.flatten(1).float() - 128, dim=1).values


@pytest.fixture(scope="module")
def shuffled() -> tuple[Any, Any, Any]:
    """1,000 training images, 400 test images and 400 samples: 40 are training images, their pixels in another order."""
    generator = np.random.default_rng(3)
    centres, widths = generator.uniform(40, 215, (1800, 1, 1, 1)), generator.uniform(12, 30, (1800, 1, 1, 1))
    images = (centres + widths * generator.standard_t(4, (1800, 1, 12, 12))).clip(0, 255).astype(np.uint8)
    train, test, samples = np.split(images, [1000, 1400])
    copies = generator.permuted(train[:40].reshape(40, -1), axis=1).reshape(40, 1, 12, 12)
    return train, test, np.concatenate([samples[:360], copies])


@pytest.mark.parametrize("with_test", [True, False], ids=["test", "left out"])
def test_features_that_find_copies_are_a_rule_of_the_verdict(shuffled: tuple[Any, Any, Any], with_test: bool) -> None:
    train, test, samples = shuffled
    beside = test if with_test else None
    plain = evaluated(samples, train=train, test=beside, metrics="memorization", features=by_brightness).verdict
    with finding_copies():
        report = evaluated(samples, train=train, test=beside, metrics="memorization", features=by_brightness)
        fresh = evaluated(samples[:360], train=train, test=beside, metrics="memorization", features=by_brightness)
    found = report.verdict
    assert plain is not None and found is not None and fresh.verdict is not None
    assert plain.label == fresh.verdict.label == "no copying found" and "features" not in fresh.verdict.sentence
    assert found.label == "copies" and "by the features of a network that is made to find copies" in found.sentence
    rule = found.evidence.rules[-1]
    assert (rule.name, rule.num_samples) == ("features", 400)
    assert rule.num_unseen == (1400 if with_test else 1000)
    own, nearest = similarity_ratios(samples, train)
    left_out, _ = similarity_ratios(train, train, own=True)
    unseen = np.concatenate([similarity_ratios(test, train)[0], left_out]) if with_test else left_out
    below = own < np.sort(unseen)[rule.num_unseen_below]
    assert set(range(40)) <= set(nearest[below]) and rule.num_below == len(np.unique(nearest[below]))


def similarity_ratios(images: Any, train: Any, *, own: bool = False) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """d1/d2 among sorted values of length 1, and the nearest training image, by brute force in float64."""
    sets = [np.sort(held.reshape(len(held), -1).astype(np.float64) - 128, axis=1) for held in (images, train)]
    rows, references = (held / np.linalg.norm(held, axis=1, keepdims=True) for held in sets)
    cosines = rows @ references.T - (3 * np.eye(len(rows)) if own else 0)
    order = np.argsort(-cosines, axis=1)[:, :2]
    first, second = np.sqrt((2 - 2 * np.take_along_axis(cosines, order, axis=1)).clip(0)).T
    return first / second, order[:, 0]
