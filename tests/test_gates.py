"""The language of requirements: what it reads, what it refuses before any work, and that nothing passes in silence."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, strategies as st

from made_reports import ESTIMATE, full_report
from memgen_eval import GateError, InputError, Report
from memgen_eval.gates import Gate, fail_if, holds, parse_gate, require
from memgen_eval.results import LABELS, Curve, Estimate, Label, figure_kinds

REPORT = full_report()


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("memorization.ratio < 0.01", ("memorization.ratio", "<", 0.01)),
        ("memorization.ratio.low>0.01", ("memorization.ratio.low", ">", 0.01)),
        ("  novelty.auc.count  >=  300  ", ("novelty.auc.count", ">=", 300.0)),
        ("denoiser.gap_train.max <= 1e-3", ("denoiser.gap_train.max", "<=", 1e-3)),
        ("memorization.excess > -.5E+1", ("memorization.excess", ">", -5.0)),
        ("memorization.excess > +5.", ("memorization.excess", ">", 5.0)),
        ("novelty.ct.value<-3", ("novelty.ct.value", "<", -3.0)),
        ("verdict == copies", ("verdict", "==", "copies")),
        ("verdict != no copying found", ("verdict", "!=", "no copying found")),
        ("verdict=='undecided'", ("verdict", "==", "undecided")),
        ('verdict == "no copying found"', ("verdict", "==", "no copying found")),
    ],
)
def test_what_it_reads(text: str, gate: tuple[str, str, float | str]) -> None:
    assert parse_gate(text) == Gate(text, *gate)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not parse: a gate is 'PATH < NUMBER'"),
        ("memorization.ratio", "does not parse"),
        ("< 0.1", "does not parse"),
        ("memorization.ratio = 0.1", "does not parse"),
        ("memorization.ratio < 0.1\nx", "does not parse"),
        ("memorization ratio < 0.1", "does not parse"),
        ("memorization.ratio <", "bound '', expected a finite decimal number"),
        ("memorization.ratio < nan", "bound 'nan'"),
        ("memorization.ratio < -nan", "bound '-nan'"),
        ("memorization.ratio > inf", "bound 'inf'"),
        ("memorization.ratio > 1e999", "bound '1e999'"),
        ("memorization.ratio > -1e999", "bound '-1e999'"),
        ("memorization.ratio > 0x1", "bound '0x1'"),
        ("memorization.ratio > 1_000", "bound '1_000'"),
        ("memorization.ratio > 1,5", "bound '1,5'"),
        ("memorization.ratio > 5 %", "bound '5 %'"),
        ("memorization.ratio > \u0660.\u0661", "expected a finite decimal number"),  # float() reads these digits
        ("memorization.ratio > 0.1 or 1", "bound '0.1 or 1'"),
        ("memorization.ratio <<= 0.1", "bound '<= 0.1'"),
        ("memorization.ratio == 0.1", "use one of < <= > >="),
        ("memorization.ratio != 0.1", "use one of < <= > >="),
        ("memorisation.ratio < 0.1", "names nothing in a report: families are memorization, novelty"),
        ("ratio < 0.1", "families are memorization"),
        ("memorization < 0.1", "memorization holds ratio, plain_ratio"),
        ("memorization.copies < 3", "memorization holds ratio, plain_ratio"),
        ("memorization.ratio.mean < 0.1", "followed by one of .value, .low, .high, .count"),
        ("memorization.ratio.low.high < 0.1", "followed by one of .value"),
        ("memorization.ratio. < 0.1", "followed by one of .value"),
        ("memorization.ratio.min < 0.1", "followed by one of .value"),
        ("memorization.ratio_curve < 0.1", "followed by one of .min, .max"),
        ("memorization.ratio_curve.low < 0.1", "followed by one of .min, .max"),
        ("settings.seed < 1", "families are memorization"),
        ("verdict.p_value < 0.1", "families are memorization"),
        ("verdict < copies", "compared with == or != to one of copies, no copying found, undecided"),
        ("verdict == guilty", "to one of copies"),
        ("verdict == Copies", "to one of copies"),
        ("verdict == 'copies", "to one of copies"),
        ("verdict ==", "to one of copies"),
    ],
)
def test_what_it_refuses(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_gate(text)
    assert message in str(raised.value)
    assert repr(text) in str(raised.value) and "\n" not in str(raised.value)


@given(st.text(max_size=40))
def test_no_text_gets_past_as_something_else(text: str) -> None:
    with pytest.raises(InputError):
        parse_gate(f"memorization.ratio < x{text}")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_back(bound: float) -> None:
    assert parse_gate(f"novelty.auc <= {bound!r}").bound == bound


def test_every_figure_can_be_named() -> None:
    kinds = figure_kinds()
    assert kinds == {path: type(figure) for path, figure in REPORT.figures()}
    for path, kind in kinds.items():
        for end in (".min", ".max") if kind is Curve else ("", ".value", ".low", ".high", ".count"):
            gate = parse_gate(f"{path}{end} >= -1")
            assert holds(REPORT, gate)
            require(REPORT, gate)
    assert set(get_args(Label)) == set(LABELS)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("memorization.ratio < 0.25", False),
        ("memorization.ratio <= 0.25", True),
        ("memorization.ratio > 0.25", False),
        ("memorization.ratio >= 0.25", True),
        ("memorization.ratio.low < 0.2", True),
        ("memorization.ratio.high < 0.2", False),
        ("memorization.ratio.count >= 400", True),
        ("memorization.ratio_curve.min >= 0.5", True),
        ("memorization.ratio_curve.max < 0.75", False),
        ("verdict == copies", True),
        ("verdict != copies", False),
        ("verdict != undecided", True),
        ("verdict == undecided", False),
    ],
)
def test_both_sides_of_a_gate(text: str, true: bool) -> None:
    gate = parse_gate(text)
    assert holds(REPORT, gate) is true
    wanted, unwanted = (require, fail_if) if true else (fail_if, require)
    wanted(REPORT, gate)
    with pytest.raises(GateError) as raised:
        unwanted(REPORT, gate)
    assert gate.text in str(raised.value) and gate.path in str(raised.value)


def test_the_message_names_value_and_bound() -> None:
    with pytest.raises(
        GateError, match=r"^required 'memorization.ratio.high < 0.1', but memorization.ratio.high is 0.5$"
    ):
        require(REPORT, parse_gate("memorization.ratio.high < 0.1"))
    with pytest.raises(GateError, match=r"^failed because 'verdict == copies': verdict is copies$"):
        fail_if(REPORT, parse_gate("verdict == copies"))


def with_ratio(figure: Estimate) -> Report:
    assert REPORT.memorization is not None
    return replace(REPORT, memorization=replace(REPORT.memorization, ratio=figure))


def with_curve(figure: Curve) -> Report:
    assert REPORT.memorization is not None
    return replace(REPORT, memorization=replace(REPORT.memorization, ratio_curve=figure))


UNMEASURED = [
    (with_ratio(Estimate.undefined("no images")), "memorization.ratio", "no images"),
    (with_ratio(Estimate.undefined("no images")), "memorization.ratio.count", "no images"),
    (with_ratio(replace(ESTIMATE, low=None, notes=())), "memorization.ratio.low", "low is not defined"),
    (with_curve(Curve.undefined("one image")), "memorization.ratio_curve.max", "one image"),
    (with_curve(Curve((None, None), notes=("nowhere",))), "memorization.ratio_curve.min", "nowhere"),
    (replace(REPORT, memorization=None, skipped={"memorization": "not asked for"}), "memorization.ratio", "not asked"),
    (replace(REPORT, memorization=None, skipped={}), "memorization.ratio", "not measured"),
]


@pytest.mark.parametrize("comparison", ["<", "<=", ">", ">="])
@pytest.mark.parametrize(("report", "path", "reason"), UNMEASURED)
def test_a_gate_on_something_not_measured_never_passes(report: Report, path: str, reason: str, comparison: str) -> None:
    gate = parse_gate(f"{path} {comparison} 0.5")
    for judge in (require, fail_if):
        with pytest.raises(GateError, match="which was not measured") as raised:
            judge(report, gate)
        assert reason in str(raised.value) and path in str(raised.value)


@pytest.mark.parametrize("text", ["verdict == copies", "verdict != copies"])
def test_no_verdict_fails_both_ways(text: str) -> None:
    none = replace(REPORT, verdict=None, skipped={"verdict": "it rests on memorization"})
    for judge in (require, fail_if):
        with pytest.raises(GateError, match="it rests on memorization"):
            judge(none, parse_gate(text))
