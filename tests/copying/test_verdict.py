"""The verdict: never `copies` for fresh sets, labels exactly at their limits, and what the sentence must name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import oracles
from memgen_eval.copying import verdict
from memgen_eval.copying.copy_rules import Tally
from memgen_eval.copying.verdict import Counted, detectable_ratio, judge, largest_compatible_ratio
from memgen_eval.metrics.statistics import smallest_significant
from memgen_eval.results import Match, Verdict

FIRST = Match(sample_index=17, train_index=4, distance=0.012, grey_levels=3.0, ratio=0.01, flipped=False)


def at_one_distance(flagged: NDArray[np.bool_], near_identical: NDArray[np.bool_]) -> Counted:
    """Near-identical images all at one distance, the others at another."""
    nothing = np.zeros(len(flagged), dtype=bool)
    return Counted(flagged, near_identical, np.where(near_identical, 3.0, 40.0), nothing, nothing)


def counted(num_images: int, flagged: int, near: int = 0) -> Counted:
    """The flagged stand at the front, the near-identical at the end."""
    places = np.arange(num_images)
    return at_one_distance(places < flagged, places >= num_images - near)


NO_TALLY = Tally(0, 0)


def judged(
    samples: Counted,
    baseline: Counted,
    *,
    leaked: int = 0,
    repeats: int = 0,
    first: Match | None = None,
    near_in_train: Tally = NO_TALLY,
) -> Verdict:
    """The last baseline images leaked; the last samples repeat an earlier one."""
    return judge(
        samples,
        baseline,
        leaked=np.arange(len(baseline)) >= len(baseline) - leaked,
        repeats=np.arange(len(samples)) >= len(samples) - repeats,
        near_in_train=near_in_train,
        first_near_identical=first or (FIRST if samples.num_near_identical else None),
        name="test images",
    )


@cache
def label(flagged: int, num_samples: int, base_flagged: int, num_baseline: int) -> str:
    return judged(counted(num_samples, flagged), counted(num_baseline, base_flagged)).label


@pytest.mark.parametrize(
    ("rate", "num_baseline"), [(0.0, 1000), (0.0011, 1000), (0.0011, 10_000), (0.05, 10_000), (1 / 3, 1000)]
)
def test_a_thousand_fresh_sets_are_never_copies(rate: float, num_baseline: int) -> None:
    rng = np.random.default_rng(int(1e4 * rate))
    flagged, base = rng.binomial(1000, rate, 1000), rng.binomial(num_baseline, rate, 1000)
    labels = [label(int(k), 1000, int(b), num_baseline) for k, b in zip(flagged, base, strict=True)]
    assert "copies" not in labels
    assert labels.count("no copying found") >= 930  # p <= 0.05 in at most about 5 % of them


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.11])
def test_the_chance_of_a_false_copies_is_below_its_limit(rate: float) -> None:
    """Summed over every pair of counts of 400 samples and 400 held-out images."""
    n = 400
    chance = stats.binom.pmf(np.arange(n + 1), n, rate)
    total = 0.0
    for base in np.flatnonzero(chance > 1e-12):
        needed = smallest_significant(n, int(base), n, p_value=1e-5)
        assert needed is not None
        assert (label(needed, n, int(base), n), label(needed - 1, n, int(base), n) == "copies") == ("copies", False)
        total += chance[base] * chance[needed:].sum()
    assert total < 1e-5


def test_one_percent_of_copies_in_ten_thousand_is_found_every_time() -> None:
    """At the rates of real photographs: 11 of 10,000 held-out images flagged."""
    flagged = np.random.default_rng(0).binomial(10_000, 0.01 + 0.99 * 0.0011, 200)
    assert {label(int(k), 10_000, 11, 10_000) for k in flagged} == {"copies"}


@pytest.mark.parametrize(
    ("p_value", "expected"),
    [
        (1e-5, "copies"),
        (math.nextafter(1e-5, 1), "undecided"),
        (0.05, "undecided"),
        (math.nextafter(0.05, 1), "no copying found"),
        (1.0, "no copying found"),
        (0.0, "copies"),
    ],
)
def test_labels_change_exactly_at_their_limits(p_value: float, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "fisher_greater", lambda *counts: p_value)
    found = judged(counted(300, 0), counted(300, 0))
    assert (found.label, found.p_value) == (expected, p_value)


def test_the_p_value_is_fishers() -> None:
    found = judged(counted(400, 9), counted(700, 2), leaked=100)
    assert found.p_value == pytest.approx(float(oracles.fisher(9, 400, 2, 700)), rel=1e-11)
    assert found.evidence.p_value_without_leaks == pytest.approx(float(oracles.fisher(9, 400, 2, 600)), rel=1e-11)


@pytest.mark.parametrize(
    ("samples", "baseline", "how", "expected"),
    [
        (counted(300, 0), counted(300, 0), {}, "no copying found"),
        (counted(299, 0), counted(300, 0), {}, "undecided"),
        (counted(300, 0), counted(299, 0), {}, "undecided"),
        (counted(600, 0), counted(600, 0), {"repeats": 300}, "no copying found"),
        (counted(600, 0), counted(600, 0), {"repeats": 301}, "undecided"),
        (counted(500, 0), counted(1000, 0), {"leaked": 10}, "no copying found"),
        (counted(500, 0), counted(1000, 0), {"leaked": 11}, "undecided"),
        (counted(500, 0), counted(302, 0), {"leaked": 2}, "no copying found"),
        (counted(500, 0), counted(302, 0), {"leaked": 3}, "undecided"),
        (counted(500, 0), counted(0, 0), {}, "undecided"),
        (counted(1, 0), counted(1000, 0), {}, "undecided"),
        (counted(1, 1), counted(10**6, 0), {}, "copies"),  # p = 1e-6 convicts a single sample even so
        (counted(1000, 1000), counted(0, 0), {}, "undecided"),
        (counted(1000, 1000), counted(1000, 1000, 1000), {"leaked": 1000}, "undecided"),
    ],
)
def test_what_no_copying_found_asks_for(
    samples: Counted, baseline: Counted, how: dict[str, int], expected: str
) -> None:
    assert judged(samples, baseline, **how).label == expected


@pytest.mark.parametrize("num_baseline", [*range(30_000, 30_300, 7), 30_100, 57_000])
def test_one_percent_of_leaks_is_not_yet_too_much(num_baseline: int) -> None:
    most = num_baseline // 100
    assert judged(counted(400, 0), counted(num_baseline, 0), leaked=most).label == "no copying found"
    found = judged(counted(400, 0), counted(num_baseline, 0), leaked=most + 1)
    assert found.label == "undecided"
    assert f"{most + 1:,} of {num_baseline:,} test images are in the training set too" in found.sentence


def test_leaks_convict_but_never_acquit() -> None:
    """Leaked images are flagged like copies: they stay in the comparison that may say `copies` and in no other."""
    flagged = np.zeros(1000, dtype=bool)
    flagged[:2] = True
    flagged[-9:] = True
    held_out = at_one_distance(flagged, flagged & (np.arange(1000) > 500))
    found = judged(counted(1000, 10), held_out, leaked=9)
    assert found.p_value > 0.05 > found.evidence.p_value_without_leaks  # type: ignore[operator]
    assert found.label == "undecided" and "more frequent" in found.sentence


NEAR = [
    (counted(500, 1, 1), counted(500, 0, 0), True),  # p = 0.5
    (counted(500, 0, 5), counted(500, 0, 0), False),  # p = 0.03
    (counted(500, 1, 1), counted(500, 1, 1), True),
    (counted(500, 0, 5), counted(500, 0, 1), True),  # p = 0.11
    (counted(500, 0, 7), counted(500, 0, 1), False),  # p = 0.03
    (counted(500, 0, 1), counted(50_000, 0, 1), False),  # p = 0.02
]


@pytest.mark.parametrize(("samples", "baseline", "excused"), NEAR)
def test_a_training_image_among_the_samples_is_excused_by_the_rule_alone(
    samples: Counted, baseline: Counted, excused: bool
) -> None:
    counts = samples.num_near_identical, len(samples), baseline.num_near_identical, len(baseline)
    assert excused == (oracles.fisher(*counts) > 0.05)
    found = judged(samples, baseline)
    assert found.label == ("no copying found" if excused else "undecided")
    told = "no more often than unseen images are: sample 17 and training image 4 lie 3.00 grey levels apart."
    found_anyway = "Sample 17 is training image 4 to within noise (3.00 grey levels apart)."
    assert found.sentence.endswith(told if excused else found_anyway)
    assert found.evidence.first_near_identical == FIRST


def test_leaked_images_excuse_nobody() -> None:
    found = judged(counted(500, 0, 6), counted(1000, 0, 5), leaked=5)
    assert found.label == "undecided" and "6 samples are training images to within noise" in found.sentence
    assert judged(counted(500, 0, 6), counted(1000, 0, 10), leaked=5).label == "no copying found"


def test_the_sentence_names_mirrored_images_and_counts() -> None:
    found = judged(counted(500, 100, 3), counted(1000, 0), first=replace(FIRST, flipped=True))
    assert found.label == "copies"
    assert "Sample 17 is training image 4, mirrored, to within noise" in found.sentence
    assert "100 of 500 samples and 0 of 1,000 test images lie much nearer to one training image" in found.sentence


def test_an_acquittal_comes_with_one_bound_and_the_p_value_that_decided() -> None:
    found = judged(counted(434, 1), counted(1000, 11), leaked=5)
    assert found.label == "no copying found"
    assert "At most 1.09 % of the samples are such copies (95 % confidence)." in found.sentence
    assert (
        f"(Fisher p = {stats.fisher_exact([[1, 433], [11, 984]], alternative='greater').pvalue:.2g})" in found.sentence
    )


def test_cautions_rule_an_acquittal_out_and_nothing_else() -> None:
    def label(flagged: int) -> tuple[str, str]:
        found = judge(
            counted(500, flagged),
            counted(1000, 0),
            leaked=np.zeros(1000, dtype=bool),
            repeats=np.zeros(500, dtype=bool),
            near_in_train=Tally(0, 1000),
            first_near_identical=None,
            name="test images",
            cautions=("The samples do not fill the grey levels of the training set.",),
        )
        return found.label, found.sentence

    assert label(0)[0] == "undecided" and "see the cautions" in label(0)[1]
    assert label(100)[0] == "copies" and "cautions" not in label(100)[1]


def test_repeats_count_once_in_the_tests() -> None:
    once, four_times = (
        judged(counted(150, 3), counted(1000, 0)),
        judged(repeated(150, 3), counted(1000, 0), repeats=450),
    )
    assert four_times.p_value == once.p_value == pytest.approx(float(oracles.fisher(3, 150, 0, 1000)), rel=1e-11)
    assert (four_times.evidence.num_flagged, four_times.evidence.num_distinct_flagged) == (12, 3)


def repeated(num_images: int, flagged: int) -> Counted:
    """A set followed by three copies of itself."""
    places = np.tile(np.arange(num_images), 4)
    return at_one_distance(places < flagged, np.zeros(len(places), dtype=bool))


def test_bounds_of_clean_samples() -> None:
    evidence = judged(counted(434, 0), counted(434, 0)).evidence
    assert largest_compatible_ratio(evidence).value == pytest.approx(0.0069, abs=5e-5)
    assert largest_compatible_ratio(evidence).value == pytest.approx(1 - 0.05 ** (1 / 434), rel=1e-12)
    assert largest_compatible_ratio(evidence).notes == ("speaks of copies that the ratio rule sees",)


def test_repeats_count_once_in_the_bounds() -> None:
    once = judged(counted(150, 2), counted(1000, 0)).evidence
    evidence = judged(counted(600, 2), counted(1000, 0), repeats=450).evidence
    assert (evidence.num_samples, evidence.num_distinct_samples) == (600, 150)
    for bound in (largest_compatible_ratio, detectable_ratio):
        assert bound(evidence).value == bound(once).value
        assert bound(evidence).count == 150
        assert bound(evidence).notes[1] == "450 samples repeat another sample and count once"
    repeated_copies = judged(counted(600, 600), counted(1000, 0), repeats=450).evidence
    assert (repeated_copies.num_flagged, repeated_copies.num_distinct_flagged) == (600, 150)


@pytest.mark.parametrize(("base", "num_baseline"), [(0, 1000), (11, 10_000), (50, 1000), (0, 300)])
@pytest.mark.parametrize("num_samples", [300, 1000, 10_000])
def test_the_detectable_excess_is_found_in_nine_of_ten_sets(base: int, num_baseline: int, num_samples: int) -> None:
    """Rates of unseen images that the counts leave possible, unseen images at that rate, samples at the named rate."""
    excess = detectable_excess(base, num_baseline, num_samples)
    generator = np.random.default_rng(base)
    rates = generator.beta(base + 0.5, num_baseline - base + 0.5, 2000)
    unseen = generator.binomial(num_baseline, rates)
    flagged = generator.binomial(num_samples, excess + base / num_baseline, 2000)
    labels = [label(int(k), num_samples, int(b), num_baseline) for k, b in zip(flagged, unseen, strict=True)]
    assert labels.count("copies") / 2000 == pytest.approx(0.9, abs=0.025)


@pytest.mark.parametrize(("rate", "size"), [(0.0, 300), (0.0011, 1000), (0.0019, 5000), (0.02, 1000)])
def test_the_detectable_excess_is_found_as_often_where_it_was_named_by_other_sets(rate: float, size: int) -> None:
    """The excess that 1,000 evaluations name, each looked for in sets of its own: nine times of ten, or more often."""
    generator = np.random.default_rng(size)
    named_by, beside = generator.binomial(size, rate, (2, 1000))
    excess = np.array([detectable_excess(int(base), size, size) for base in named_by])
    flagged = generator.binomial(size, rate + excess)
    labels = [label(int(k), size, int(b), size) for k, b in zip(flagged, beside, strict=True)]
    assert labels.count("copies") / 1000 > 0.88


@cache
def detectable_excess(base: int, num_baseline: int, num_samples: int) -> float:
    excess = detectable_ratio(judged(counted(num_samples, 0), counted(num_baseline, base)).evidence).value
    assert excess is not None
    return excess


@pytest.mark.parametrize(
    ("num_samples", "num_baseline", "reason"),
    [(1, 500, "no number of copies among 1 samples"), (500, 0, "needs a baseline")],
)
def test_what_could_not_have_been_detected(num_samples: int, num_baseline: int, reason: str) -> None:
    bound = detectable_ratio(judged(counted(num_samples, 0), counted(num_baseline, 0)).evidence)
    assert bound.value is None and reason in bound.notes[0]


@pytest.mark.parametrize("order", [np.argsort, lambda x: np.argsort(-x)])
def test_the_order_of_the_samples_changes_nothing(order: Callable[[object], object]) -> None:
    samples, baseline = counted(500, 7, 2), counted(600, 3, 1)
    places = np.asarray(order(np.random.default_rng(0).random(500)))
    mixed = Counted(*(part[places] for part in vars(samples).values()))
    assert judged(mixed, baseline) == judged(samples, baseline)


@pytest.mark.parametrize(("grey_levels", "excused"), [(0.0, False), (1.0, False), (1.01, True), (3.0, True)])
def test_a_sample_within_rounding_of_a_training_image_is_never_passed_over(grey_levels: float, excused: bool) -> None:
    """One near-identical sample of 500, as often as among 500 unseen images: only how near it lies decides."""
    samples, baseline = counted(500, 1, near=1), counted(500, 1, near=1)
    nearer = replace(samples, grey_levels=np.where(samples.near_identical, grey_levels, 40.0))
    assert (judged(nearer, baseline, first=FIRST).label == "no copying found") is excused


@pytest.mark.parametrize(
    ("near", "in_train", "fair"),
    [(10, (0, 1000), True), (11, (0, 1000), False), (11, (5, 1000), True), (1000, (1000, 1000), True)],
)
def test_altered_training_images_in_the_test_set_acquit_nobody(near: int, in_train: Tally, fair: bool) -> None:
    """Beyond 1 % of the test set, and more often than training images are near-identical to each other."""
    baseline = counted(1000, 0, near)
    counts = near, 1000, *in_train
    assert fair == (near <= 10 or oracles.fisher(*counts) > 0.001)
    found = judged(counted(500, 0), baseline, near_in_train=Tally(*in_train))
    assert (found.label == "no copying found") is fair
    if not fair:
        assert "11 of 1,000 test images are near-identical to training images, as 0 of 1,000 training" in found.sentence


def test_samples_with_nothing_to_compare_are_not_acquitted() -> None:
    samples = counted(500, 0)
    for undefined, expected in ((250, "no copying found"), (251, "undecided")):
        found = judged(replace(samples, undefined=np.arange(500) < undefined), counted(1000, 0))
        assert found.label == expected
    assert "no two distinct training images" in found.sentence
