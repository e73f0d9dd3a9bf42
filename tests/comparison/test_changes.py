"""What moved between two reports: the interval of a change, Holm's rule, false alarms, and what cannot be compared."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import norm

import made_reports
from memgen_eval import GateError, InputError, Report, evaluate
from memgen_eval.comparison.changes import chance, changes_between, difference, incomparable, unlike
from memgen_eval.gates import fail_if, holds, parse_gate
from memgen_eval.metrics.statistics import proportion, proportion_difference
from memgen_eval.results import Axis, Curve, Estimate, figure_kinds

REPORT = replace(made_reports.full_report(), skipped={})


def of(**figures: Estimate | Curve) -> Report:
    assert REPORT.memorization is not None
    return replace(REPORT, memorization=replace(REPORT.memorization, **figures))


def normal(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, "made up", 100)


def hits(count: int, total: int) -> Estimate:
    return proportion(np.arange(total) < count)


@pytest.mark.parametrize(("old", "new"), [(0, 30), (3, 3), (40, 12), (300, 299), (0, 0)])
def test_shares_change_as_newcombe_says(old: int, new: int) -> None:
    before, after = hits(old, 300), hits(new, 400)
    found, expected = difference(before, after), proportion_difference(after, before)
    assert (found.value, found.count) == (expected.value, 300)
    assert found.low == pytest.approx(expected.low) and found.high == pytest.approx(expected.high)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.01, 2), st.floats(0.01, 2))
def test_normal_figures_change_as_a_z_test_says(a: float, b: float, half_a: float, half_b: float) -> None:
    before, after = normal(a, half_a), normal(b, half_b)
    spread = np.hypot(half_a, half_b) / norm.ppf(0.975)
    p_value = chance(before, after)
    assert abs(b - a) <= 1e-4 or p_value == pytest.approx(2 * norm.sf(abs(b - a) / spread), abs=1e-9)
    found = difference(before, after)
    assert found.low is not None and found.high is not None and p_value is not None
    outside = found.low > 0 or found.high < 0
    assert abs(b - a) <= 1e-4 or outside == (p_value < 0.05) or p_value == pytest.approx(0.05, abs=1e-6)
    back = difference(after, before)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Estimate(3.0, method="count"), Estimate(9.0, method="count")),
        (Estimate(3.0, None, 4.0), Estimate(9.0, None, 9.5)),
        (normal(1, 0), normal(2, 0)),
    ],
)
def test_what_has_no_interval_is_not_judged(before: Estimate, after: Estimate) -> None:
    assert chance(before, after) is None
    changes = changes_between(of(ratio=before), of(ratio=after))
    assert not changes.moved
    assert changes.change("memorization.ratio").value == after.value - before.value  # type: ignore[operator]


@pytest.mark.parametrize(("before", "after", "moves"), [(0, 6e-13, False), (3, 3.00002, False), (3, 3.0001, True)])
def test_rounding_moves_nothing(before: float, after: float, moves: bool) -> None:
    changes = changes_between(of(ratio=normal(before, 1e-14)), of(ratio=normal(after, 1e-14)))
    assert bool(changes.moved) is moves


def test_the_largest_numbers_are_no_fault() -> None:
    huge = Estimate(1.7e308, -1.7e308, 1.7e308, "m", 1)
    changes = changes_between(of(ratio=replace(huge, value=-1.7e308)), of(ratio=huge))
    assert not changes.moved
    assert changes.change("memorization.ratio") == Estimate.undefined("the change is too large for a number")
    wide = changes_between(of(ratio=huge), of(ratio=huge)).change("memorization.ratio")
    assert (wide.value, wide.low, wide.high) == (0, None, None)


def test_what_is_undefined_has_no_change() -> None:
    changes = changes_between(REPORT, of(ratio=Estimate.undefined("no images")))
    assert changes.change("memorization.ratio") == Estimate.undefined("it was not measured in both reports")
    without = changes_between(REPORT, replace(REPORT, novelty=None))
    assert without.change("novelty.auc").value is None
    assert {change.path.split(".")[0] for change in without.figures} == {
        "memorization",
        "fidelity",
        "denoiser",
        "gaussian",
    }


def test_equal_reports_have_not_moved() -> None:
    changes = changes_between(REPORT, REPORT)
    assert (changes.reason, changes.moved, changes.differences) == (None, (), ())
    assert changes.judged > 50
    assert [change.path for change in changes.figures] == list(figure_kinds())


def test_a_curve_is_judged_at_each_point() -> None:
    axis = Axis("sigma", "", (1.0, 2.0, 3.0))

    def curve(*values: float | None) -> Curve:
        low, high = (tuple(None if v is None else v + end for v in values) for end in (-1, 1))
        return Curve(values, low, high, "m", 9, x=axis)

    changes = changes_between(of(ratio_curve=curve(0, 0, None)), of(ratio_curve=curve(0.5, -8, 7)))
    (moved,) = changes.moved
    assert (moved.path, moved.index) == ("memorization.ratio_curve", 1)
    single = chance(normal(0, 1), normal(-8, 1))
    assert single is not None and moved.p_value == pytest.approx(2 * single)
    assert isinstance(moved.change, Curve)
    assert moved.change.value == (0.5, -8, None)
    assert moved.change.at(1) == replace(difference(normal(0, 1), normal(-8, 1)), count=9)
    other = changes_between(of(ratio_curve=curve(0, 0, 0)), of(ratio_curve=replace(curve(9, 9, 9), x=None)))
    assert not other.moved
    assert "other places" in other.change("memorization.ratio_curve").notes[0]


def test_holms_rule() -> None:
    """Of three changes with p = 0.001, 0.02 and 0.04 among others that are level: only the first is beyond the rule."""
    names = [path for path, kind in figure_kinds().items() if path.startswith("memorization.") and kind is Estimate]
    halves = [1.0 / norm.ppf(1 - p / 2) * norm.ppf(0.975) / np.sqrt(2) for p in (1e-4, 0.02, 0.04)]
    pairs = dict(zip(names, halves, strict=False))
    before = of(**{path.split(".")[1]: normal(0, half) for path, half in pairs.items()})
    after = of(**{path.split(".")[1]: normal(1, half) for path, half in pairs.items()})
    changes = changes_between(before, after)
    assert [change.path for change in changes.moved] == names[:1]
    p_values = {change.path: change.p_value for change in changes.figures}
    assert [p_values[path] for path in names[:3]] == pytest.approx([1e-4, 0.02, 0.04])
    alone = replace(before, **dict.fromkeys(("novelty", "fidelity", "denoiser", "gaussian")))
    few = {name: Estimate.undefined("out") for name in (path.split(".")[1] for path in names[3:])}
    curves = {name: Curve.undefined("out") for name in ("ratio_curve", "test_ratio_curve")}

    def only(report: Report) -> Report:
        assert report.memorization is not None
        return replace(alone, memorization=replace(report.memorization, **few, **curves))

    three = changes_between(only(before), only(after))
    assert three.judged == 3
    assert [change.path for change in three.moved] == names[:3]  # 0.0001 < 0.05 / 3, 0.02 < 0.05 / 2, 0.04 < 0.05


def test_shares_of_equal_rates_seldom_move() -> None:
    """Of 4,000 pairs of equal rates, at most 5 % have an interval of change without zero: even where hits are rare."""
    rng = np.random.default_rng(0)
    figure = functools.cache(hits)
    judged = functools.cache(lambda old, new, total: chance(figure(old, total), figure(new, total)))
    for rate in (0.0005, 0.003, 0.03, 0.97):
        for total in (300, 3000):
            pairs = rng.binomial(total, rate, (4000, 2)).tolist()
            chances = [judged(old, new, total) for old, new in pairs]
            for level in (0.05, 0.005):
                share = np.mean([p is not None and p < level for p in chances])
                assert share <= level + 3 * np.sqrt(level * (1 - level) / 4000), (rate, total, level)


def small_samples(seed: int, *, copies: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).integers(0, 256, (200, 6, 6), dtype=np.uint8)
    fresh = rng.integers(0, 256, (200, 6, 6), dtype=np.uint8)
    fresh[:copies] = base[:copies]
    return base, fresh


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    base, _ = small_samples(0)
    test = np.random.default_rng(7).integers(0, 256, (150, 6, 6), dtype=np.uint8)
    return [
        evaluate(small_samples(seed, copies=copies)[1], train=base, test=test, metrics=["memorization", "novelty"])
        for seed, copies in ((1, 0), (2, 0), (3, 25))
    ]


def test_a_copier_moves_and_an_equal_does_not(reports: list[Report]) -> None:
    equal, copier = reports[1].compared_with(reports[0]), reports[2].compared_with(reports[0])
    assert equal.reason is None and equal.judged > 20
    assert equal.moved == ()
    assert "memorization.ratio" in {change.path for change in copier.moved}
    copier.require("baseline.memorization.ratio.change.low > 0.05")
    copier.require("memorization.ratio > 0.1")
    with pytest.raises(GateError, match=r"^required 'baseline.memorization.ratio.change <= 0', but .* is 0.125$"):
        copier.require("baseline.memorization.ratio.change <= 0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"checksums": {"samples": "a", "train": "other", "test": "c"}},
            "the training sets differ (checksum b before",
        ),
        (
            {"checksums": {"samples": "a", "train": "b", "test": None}},
            "the test sets differ (checksum c before, none",
        ),
        ({"threshold": 0.25}, "other settings: threshold was 0.1 and is 0.25"),
        ({"num_samples": 7, "flip": False}, "other settings: flip was True and is False; num_samples was 1 and is 7"),
        ({"features": "x" * 500}, "features was text and is xxx"),
    ],
)
def test_what_cannot_be_compared(change: dict[str, Any], words: str) -> None:
    sums = {"samples": "a", "train": "b", "test": "c"}
    before = replace(REPORT, settings=replace(REPORT.settings, checksums=sums))
    after = replace(before, settings=replace(before.settings, **change))
    reason = incomparable(before, after)
    assert reason is not None and words in reason and "\n" not in reason and len(reason) < 200
    changes = changes_between(before, after)
    assert (changes.reason, changes.figures) == (reason, ())
    with pytest.raises(GateError, match=r"which was not measured: (the|other)"):
        changes.require("baseline.memorization.ratio.change < 1")


@pytest.mark.parametrize(
    "change",
    [{"seed": 9}, {"metrics": None}, {"checksums": {"a": "text", "b": "text", "samples": "z"}}, {"sigmas": None}],
)
def test_what_may_differ(change: dict[str, Any]) -> None:
    assert incomparable(REPORT, replace(REPORT, settings=replace(REPORT.settings, **change))) is None


def test_what_differs_beyond_the_figures() -> None:
    versions = {"numpy": "2.0", "torch": "2.6"}
    before = replace(REPORT, provenance=replace(REPORT.provenance, versions=versions))
    after = replace(REPORT, provenance=replace(REPORT.provenance, versions={"numpy": "2.1"}, device="cuda"))
    after = replace(after, settings=replace(after.settings, seed=5))
    assert unlike([before, after]) == (
        ("seed", ("1", "5")),
        ("version of numpy", ("2.0", "2.1")),
        ("version of torch", ("2.6", "none")),
        ("device", ("text", "cuda")),
    )
    assert unlike([before, before, before]) == ()


def test_gates_on_changes() -> None:
    changes = changes_between(REPORT, REPORT)
    for path, kind in figure_kinds().items():
        for end in (".min", ".max") if kind is Curve else ("", ".value", ".low", ".high"):
            gate = parse_gate(f"baseline.{path}.change{end} >= -1")
            assert gate.of_change and gate.figure == path
            assert holds(REPORT, gate, changes)
            with pytest.raises(GateError, match=r"failed because 'baseline\."):
                fail_if(REPORT, gate, changes)
    with pytest.raises(InputError, match=r"none is given: in a shell add --baseline FILE"):
        REPORT.require("baseline.novelty.auc.change < 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("baseline < 1", "families are memorization"),
        ("baseline. < 1", "families are memorization"),
        ("baseline.memorization < 1", "memorization holds ratio"),
        ("baseline.memorization.ratio < 1", "is followed by .change"),
        ("baseline.memorization.ratio.low < 1", "is followed by .change"),
        ("baseline.memorization.ratio.change.count < 1", "followed by one of .value, .low, .high"),
        ("baseline.memorization.ratio.change.low.low < 1", "followed by one of .value, .low, .high"),
        ("baseline.memorization.ratio_curve.change < 1", "followed by one of .min, .max"),
        ("baseline.memorization.ratio_curve.change.low < 1", "followed by one of .min, .max"),
        ("baseline.baseline.memorization.ratio.change < 1", "families are memorization"),
        ("baseline.verdict == copies", "families are memorization"),
        ("memorization.ratio.change < 1", "followed by one of .value"),
    ],
)
def test_gates_that_name_no_change(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_gate(text)
    assert message in str(raised.value) and repr(text) in str(raised.value)
