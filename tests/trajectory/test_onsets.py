"""Onsets of trainings whose laws are known: found where they are, held by their intervals, absent with a reason."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, fisher_exact, norm

from memgen_eval import InputError, onsets
from memgen_eval.report import Report
from memgen_eval.results import Estimate, Label
from memgen_eval.trajectory.crossings import (
    COPYING_P_VALUE,
    copies_seen,
    divergence,
    first_copies,
    plateau,
    resampled_divergence,
    resampled_first_copies,
)
from memgen_eval.trajectory.readings import Tallies, Tracked, readings_of
from trajectory.courses import NUM_SAMPLES, NUM_UNSEEN, SE, UNSEEN_RATE, ladder, reports_of, rising

STEPS = ladder(8192)
K = len(STEPS)
ONSET_COPY, ONSET_LOSS = 1500.0, 400.0
Floats = NDArray[np.float64]


def tallies_of(copies: NDArray[np.int64], flagged_unseen: int) -> Tallies:
    return Tallies(copies, np.full(K, NUM_SAMPLES), np.full(K, flagged_unseen), np.full(K, NUM_UNSEEN))


def gap_of(value: Floats, se: float = SE) -> Tracked:
    half = norm.ppf(0.975) * se
    return Tracked(value, value - half, value + half, 128)


def of_law(*, share: Floats, gap: Floats, swd: Floats) -> list:  # type: ignore[type-arg]
    """Reports that hold what is expected of a law."""
    copies = np.round(NUM_SAMPLES * share).astype(int)
    return reports_of(copies.tolist(), flagged_unseen=2, gaps=gap.tolist(), swd=swd.tolist())


GROWING = 0.05 * rising(STEPS, onset=ONSET_LOSS)
SWD = 0.05 + 0.2 * np.exp(-STEPS / 150) + 0.05 * rising(STEPS, onset=2000)


def test_a_training_with_known_laws() -> None:
    found = onsets(of_law(share=rising(STEPS, onset=ONSET_COPY), gap=GROWING, swd=SWD), STEPS.tolist())
    for onset, truth in ((found.onset_copy, ONSET_COPY), (found.onset_loss, ONSET_LOSS)):
        step = onset.step
        assert step.value is not None and step.low is not None and step.high is not None
        assert truth < step.value < 1.7 * truth  # a few per cent of copies, two standard errors of a gap
        assert step.low <= (onset.before or 0) < step.value <= step.high < 2.1 * truth
        place = int(np.searchsorted(STEPS, step.value))
        assert (onset.before, onset.after) == (STEPS[place - 1], STEPS[place + 1])
    assert found.memorization_rate.value == pytest.approx(1 / 3, rel=0.05)  # from 0 to 1 in three doublings
    assert found.quality_plateau.value is not None and 500 < found.quality_plateau.value < 1100
    assert found.peak_step.value == STEPS[np.argmin(np.where(STEPS < ONSET_COPY, SWD, 1))]
    assert found.fidelity == "fidelity.test_swd"
    assert found.early_stopping.first == found.quality_plateau.value
    assert found.early_stopping.last == found.onset_copy.before and found.early_stopping.notes == ()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["onset_copy"]["before"] == found.onset_copy.before


def test_copying_is_what_fisher_says() -> None:
    for flagged_unseen in (0, 3, 40):
        tallies = tallies_of(np.arange(K) * 3, flagged_unseen)
        others = [flagged_unseen, NUM_UNSEEN - flagged_unseen]
        p_values = [
            fisher_exact([[count, NUM_SAMPLES - count], others], alternative="greater").pvalue
            for count in tallies.copies
        ]
        assert copies_seen(tallies).tolist() == [p <= COPYING_P_VALUE for p in p_values]
        assert 0 < copies_seen(tallies).sum() < K


def slow_divergence(gap: Tracked) -> int:
    """The definition, word by word."""
    for k in range(K - 1):
        later = range(k + 1, K)
        above = all(gap.low[j] > 0 for j in (k, *later))
        if above and all(gap.value[j] > gap.value[k] for j in later) and gap.low[-1] > gap.high[k]:
            return k
    return K


def test_divergence_is_the_definition() -> None:
    generator = np.random.default_rng(0)
    found = []
    for scale in (0.001, 0.004, 0.01):
        for offset in (-0.01, 0.0, 0.01):
            gap = gap_of(GROWING + offset + scale * generator.standard_normal(K))
            found.append(divergence(gap))
            assert found[-1] == slow_divergence(gap)
    assert len(set(found)) > 3 and K in found


def test_one_checkpoint_is_no_onset() -> None:
    copies = np.zeros(K, dtype=np.int64)
    copies[5], copies[-1] = 60, 60
    assert copies_seen(tallies_of(copies, 2))[5] and first_copies(tallies_of(copies, 2)) == K
    copies[6] = 60
    assert first_copies(tallies_of(copies, 2)) == 5


def test_a_gap_that_does_not_grow_is_no_onset() -> None:
    """Test images that are harder than training images; and a gap that comes and goes."""
    assert divergence(gap_of(np.full(K, 0.03))) == K
    hump = np.where(np.arange(K) == 7, 0.03, 0.0)
    assert divergence(gap_of(hump)) == K
    assert divergence(gap_of(0.03 + GROWING)) < divergence(gap_of(GROWING)) < K


def test_innocent_trainings_have_no_onset() -> None:
    """1,000 of each kind, with an equal rate of flagged images on both sides: at most K / 1,000 are promised."""
    generator = np.random.default_rng(1)
    false = {"fresh": 0, "same": 0, "gap": 0}
    for _ in range(1000):
        rate = generator.choice([UNSEEN_RATE, 0.02, 0.1])
        unseen = int(generator.binomial(NUM_UNSEEN, rate))
        fresh = generator.binomial(NUM_SAMPLES, rate, K)
        same = np.full(K, generator.binomial(NUM_SAMPLES, rate))  # samples that never change
        false["fresh"] += first_copies(tallies_of(fresh, unseen)) < K
        false["same"] += first_copies(tallies_of(same, unseen)) < K
        drift = generator.choice([0.0, 0.3, 1.0]) * generator.standard_normal(K)
        false["gap"] += divergence(gap_of(SE * (generator.standard_normal() + drift))) < K
    assert max(false.values()) <= 3  # of 22 promised; in 100,000 trainings at most 0.6 of 1,000


@pytest.mark.parametrize("shared", [True, False])
def test_intervals_hold_the_onsets(shared: bool) -> None:
    """The onset of the law itself lies in the interval in 95 of 100 trainings, whether noise is shared or fresh."""
    generator, runs = np.random.default_rng(2), 100
    share = UNSEEN_RATE + (1 - UNSEEN_RATE) * rising(STEPS, onset=ONSET_COPY) ** 2  # a slow beginning
    of_law = first_copies(tallies_of(np.round(NUM_SAMPLES * share).astype(np.int64), round(NUM_UNSEEN * UNSEEN_RATE)))
    gap = 0.05 * rising(STEPS, onset=ONSET_LOSS) ** 2
    hits = np.zeros(2)
    for run in range(runs):
        uniform = generator.random(1 if shared else K)
        counts = np.asarray(binom.ppf(uniform, NUM_SAMPLES, share), np.int64)
        tallies = tallies_of(counts, int(generator.binomial(NUM_UNSEEN, UNSEEN_RATE)))
        hits[0] += holds(first_copies(tallies), resampled_first_copies(tallies, seed=run), of_law)
        noise = generator.standard_normal(1 if shared else K)
        measured = gap_of(gap + SE * noise)
        hits[1] += holds(divergence(measured), resampled_divergence(measured, seed=run), divergence(gap_of(gap)))
    assert (hits / runs >= 0.93).all()


def holds(found: int, resampled: NDArray[np.int64], truth: int) -> bool:
    """As `_onset` makes the interval, the checkpoint before included."""
    first, last = np.quantile(resampled, [0.025, 0.975], method="inverted_cdf")
    return bool(min(first, found) <= truth <= max(last, found))


def test_what_is_missing_is_said() -> None:
    reports = of_law(share=rising(STEPS, onset=ONSET_COPY), gap=GROWING, swd=SWD)
    bare = [replace(report, verdict=None, memorization=None, denoiser=None, fidelity=None) for report in reports]
    found = onsets(bare, STEPS.tolist())
    estimates = [found.onset_loss.step, found.onset_copy.step, found.memorization_rate, found.quality_plateau]
    for estimate in (*estimates, found.peak_step, found.peak_fidelity):
        assert estimate.value is None and "the report of step 64 has no" in estimate.notes[0]
    assert found.early_stopping.first is None and "verdict" in found.early_stopping.notes[0]
    late = [*reports[:-1], replace(reports[-1], denoiser=None)]
    assert "8,192 has no generalization gap" in onsets(late, STEPS.tolist()).onset_loss.step.notes[0]


def test_no_onset_within_the_run_is_a_bound() -> None:
    innocent = of_law(share=np.full(K, UNSEEN_RATE), gap=np.zeros(K), swd=SWD)
    found = onsets(innocent, STEPS.tolist())
    for onset in (found.onset_loss, found.onset_copy):
        assert (onset.step.value, onset.step.low, onset.step.high) == (None, STEPS[-1], None)
        assert onset.before == STEPS[-1] and onset.after is None
        assert onset.step.notes == ("no onset within the run of 8,192 steps",)
    assert found.memorization_rate.notes == ("no copies within the run",)
    assert found.early_stopping.last == STEPS[-1] and "may end later" in found.early_stopping.notes[0]
    late = np.append(np.zeros(K - 1), 0.5)
    onset = onsets(of_law(share=late, gap=np.zeros(K), swd=SWD), STEPS.tolist()).onset_copy
    assert onset.step.low == onset.before == STEPS[-2] and "no later one confirms" in onset.step.notes[1]


def judged(report: Report, label: Label) -> Report:
    assert report.verdict is not None
    return replace(report, verdict=replace(report.verdict, label=label))


def test_the_time_to_stop_ends_before_altered_copies() -> None:
    """The rules for altered copies see them before the 1/3 rule does, and the verdict names them."""
    reports = of_law(share=rising(STEPS, onset=ONSET_COPY), gap=GROWING, swd=SWD)
    onset = STEPS.tolist().index(onsets(reports, STEPS.tolist()).onset_copy.step.value)
    for first, alone in ((onset - 3, False), (onset - 3, True)):
        labels: list[Label] = ["no copying found" if k < first else "copies" for k in range(K)]
        if alone:  # one checkpoint that no other confirms
            labels[first + 1 : onset] = ["undecided"] * (onset - first - 1)
        found = onsets([judged(*pair) for pair in zip(reports, labels, strict=True)], STEPS.tolist())
        assert found.onset_copy.step.value == STEPS[onset]
        assert found.early_stopping.last == STEPS[onset - 1 if alone else first - 1]
        assert ("altered copies from step" in " ".join(found.early_stopping.notes)) != alone
        assert found.peak_step.value is not None and found.peak_step.value <= found.early_stopping.last


def test_copies_from_the_beginning() -> None:
    found = onsets(of_law(share=np.full(K, 0.9), gap=GROWING, swd=SWD), STEPS.tolist())
    assert (found.onset_copy.step.value, found.onset_copy.step.low, found.onset_copy.before) == (STEPS[0], 0.0, None)
    assert found.peak_step.notes == found.early_stopping.notes == ("copies from the first checkpoint on",)
    assert found.memorization_rate.value == pytest.approx(0)


def test_the_plateau_is_the_last_improvement_beyond_an_interval() -> None:
    value = np.array([0.30, 0.20, 0.10, 0.105, 0.099, 0.2])
    assert plateau(Tracked(value, value - 0.002, value + 0.002, 10)) == 2
    assert plateau(Tracked(value, value - 0.0005, value + 0.0005, 10)) == 4
    assert plateau(Tracked(value[:3], value[:3] - 0.002, value[:3] + 0.002, 10)) == 2


def test_reports_of_two_trainings_are_refused() -> None:
    reports = of_law(share=np.zeros(K), gap=GROWING, swd=SWD)
    other = replace(reports[-1], settings=replace(reports[-1].settings, threshold=0.25))
    with pytest.raises(InputError, match=r"steps 64 and 8192 are not of one training: other settings: threshold"):
        onsets([*reports[:-1], other], STEPS.tolist())
    for steps, words in (([1.0], "as many steps"), ([2.0, 1.0], "ascend"), ([-1.0, 2.0], "-1.0"), ([0, np.inf], "inf")):
        with pytest.raises(InputError, match=words):
            onsets(reports[:2], steps)
    with pytest.raises(InputError, match="at least 2"):
        onsets(reports[:1], [1.0])
    copiers = of_law(share=np.full(K, 0.9), gap=GROWING, swd=SWD)
    assert onsets(copiers[:2], [0, 1]).memorization_rate.notes == ("needs two checkpoints after step 0",)
    assert onsets(copiers[:3], [0, 1, 2]).memorization_rate.value == pytest.approx(0)


def test_without_a_test_set_fidelity_is_against_train() -> None:
    reports = of_law(share=np.zeros(K), gap=GROWING, swd=SWD)
    nothing = Estimate.undefined("needs a test set")
    fidelity = reports[0].fidelity
    assert fidelity is not None
    against_train = replace(fidelity, test_swd=nothing, swd=Estimate(0.1, 0.09, 0.11, "made up", 50))
    found = readings_of([replace(report, fidelity=against_train) for report in reports], STEPS.tolist())
    assert found.fidelity_path == "fidelity.swd" and isinstance(found.fidelity, Tracked)
