"""The family put together from hand-made tables: order, units, controls, and what is undefined without them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from memgen_eval.copying import memorization
from memgen_eval.copying.baseline import Baseline, Scale
from memgen_eval.copying.copy_rules import Copying, CopyRules
from memgen_eval.copying.memorization import measure_memorization
from memgen_eval.metrics.statistics import NO_BASELINE, proportion, proportion_difference
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.report import Memorization, Verdict
from metric_tables import copying, table

GREY = Scale(unit=1 / 510, grey=1 / 2)  # images of four values


def baseline(known: Copying) -> Baseline:
    rows = np.arange(len(known)) * 10
    return Baseline(np.zeros((len(known), 1, 2, 2)), rows, None, "test images", "test", copying=known)


def measure(
    samples: Copying, held_out: Baseline | None = None, *, tolerance: float = 3.0
) -> tuple[Memorization, Verdict]:
    return measure_memorization(samples, held_out, CopyRules(1 / 3, tolerance, flip=True), GREY)


SQUARES = [[100, 120], [4, 400], [0, 900], [4, 100], [0, 1], [1, 400], [9, 81]]
TRAIN = [[5, 6], [8, 1], [2, 0], [8, 3], [2, 4], [9, 0], [7, 3]]
SAMPLES = copying(table(SQUARES, TRAIN), tolerance=3)


def test_copies_are_listed_by_ratio_then_distance_then_index() -> None:
    family, _ = measure(SAMPLES)
    assert [match.sample_index for match in family.copies] == [2, 4, 5, 1, 3]  # ratios 0, 0, 0.05, 0.1, 0.2
    assert [match.train_index for match in family.copies] == [2, 2, 9, 8, 8]
    assert [match.ratio for match in family.copies] == pytest.approx([0, 0, 0.05, 0.1, 0.2])
    assert [match.grey_levels for match in family.copies] == [0, 0, 0.5, 1, 1]
    assert [match.distance for match in family.copies] == pytest.approx([0, 0, 1 / 510, 2 / 510, 2 / 510])
    assert family.ratio.value == family.plain_ratio.value == 5 / 7
    assert (family.num_distinct_copied.value, family.num_distinct_copied.count) == (3.0, 5)
    assert [match.sample_index for match in family.closest] == [2, 4, 5, 1, 3, 6, 0]  # flagged or not
    assert (family.num_near_identical.value, family.num_near_identical.count) == (6.0, 7)  # 9 <= 3**2


def test_ties_in_ratio_go_to_the_smaller_distance_then_index() -> None:
    equal = copying(table([[4, 400], [1, 100], [4, 400], [1, 100]]))
    family, _ = measure(equal)
    assert [match.sample_index for match in family.copies] == [1, 3, 0, 2]
    family, _ = measure(copying(table([[1, 16], [16, 1600]])))  # ratios 0.25 and 0.1, distances 1 and 4
    assert [match.sample_index for match in family.copies] == [1, 0]


def test_long_lists_are_cut_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (memorization.MAX_COPIES, memorization.NUM_CLOSEST) == (10_000, 32)
    monkeypatch.setattr(memorization, "MAX_COPIES", 2)
    monkeypatch.setattr(memorization, "NUM_CLOSEST", 3)
    family, _ = measure(SAMPLES, baseline(SAMPLES))
    assert [match.sample_index for match in family.copies] == [2, 4]
    assert family.num_distinct_copied.value == 3
    assert family.num_distinct_copied.notes == ("only the first 2 of 5 copies are listed",)
    assert len(family.closest) == len(family.test_closest) == 3


def test_the_absolute_threshold_is_strict_and_in_report_units() -> None:
    family, _ = measure(SAMPLES)
    assert family.carlini_absolute.value == 5 / 7  # 9 is not below 3**2
    assert family.carlini_absolute.notes == ("threshold 0.005882 (1.5 grey levels), the duplicate tolerance",)
    family, _ = measure(SAMPLES, tolerance=0.0)
    assert family.carlini_absolute.value is None and "tolerance is 0" in family.carlini_absolute.notes[0]


def test_mirrored_copies_are_said_to_be() -> None:
    plain, nearest = table([[50, 60], [4, 90]]), table([[0, 60], [4, 90]])
    turned = Neighbours(nearest.squared_distances, nearest.indices, flipped=np.array([[True, False], [False, True]]))
    family, _ = measure(Copying(plain, turned, turned, turned, np.array([True, True]), np.zeros(2, dtype=bool), None))
    assert [match.flipped for match in family.copies] == [True, False]
    assert family.ratio.value == 1 and family.plain_ratio.value == 0.5


def test_every_copying_figure_has_its_control() -> None:
    held_out = baseline(copying(table([[100, 120], [1, 400], [0, 8], [50, 60]]), tolerance=3))
    family, verdict = measure(SAMPLES, held_out)
    assert family.test_ratio.value == 0.5
    assert family.test_ratio.notes == ("1 of 4 test images are identical to a training image",)
    assert family.test_num_near_identical.value == 2
    assert family.test_num_near_identical.notes == family.test_ratio.notes
    assert [match.sample_index for match in family.test_closest] == [20, 10, 30, 0]  # rows of the set they come from
    flags = [np.arange(7) < 5, np.arange(4) < 2]
    assert family.excess == proportion_difference(*[proportion(f) for f in flags])
    assert family.test_ratio_curve.value is not None and family.test_ratio_curve.count == 4
    assert (verdict.evidence.num_flagged, verdict.evidence.num_flagged_baseline) == (5, 2)
    assert verdict.evidence.first_near_identical is not None
    assert verdict.evidence.first_near_identical.sample_index == 1
    assert verdict.evidence.num_baseline_leaks == 1


def test_without_a_baseline_its_figures_say_why() -> None:
    family, verdict = measure(SAMPLES)
    absent = (family.test_ratio, family.excess, family.test_carlini, family.test_num_near_identical)
    assert {figure.value for figure in absent} == {None}
    assert {figure.notes for figure in absent} == {(NO_BASELINE,)}
    assert family.test_ratio_curve.value is None and family.test_closest == ()
    assert family.detectable_ratio.value is None
    assert (verdict.label, verdict.p_value) == ("undecided", 1)


def test_one_training_image() -> None:
    column = table([[0], [4], [50]])
    second: NDArray[np.int64] = np.array([2**63 - 1, 2**63 - 1, 50])
    lone = Neighbours(np.column_stack([column.squared_distances[:, 0], second]), np.array([[0, -1]] * 3))
    family, verdict = measure(
        Copying(column, column, lone, column, np.array([True, True, False]), np.zeros(3, dtype=bool), None)
    )
    assert family.plain_ratio.value is None and family.plain_ratio.notes == ("needs two training images",)
    assert family.ratio.value == 2 / 3 and "1 images" in family.ratio.notes[0]
    assert family.carlini.value is None
    assert [match.ratio for match in family.closest] == [0, 0, 1]
    assert verdict.label == "undecided"
