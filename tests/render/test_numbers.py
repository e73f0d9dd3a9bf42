"""How figures are written: the digits that their intervals justify, in their units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from memgen_eval.errors import p_text
from memgen_eval.render import numbers
from memgen_eval.render.numbers import Unit, show
from memgen_eval.results import Curve, Estimate


@pytest.mark.parametrize(
    ("estimate", "unit", "value", "interval"),
    [
        (Estimate(1 / 6, 0.1390, 0.1986), "share", "16.7 %", "13.9 to 19.9 %"),
        (Estimate(0.0, 0.0, 0.0076), "share", "0 %", "0 to 0.76 %"),
        (Estimate(1.0, 0.9630, 1.0), "share", "100.0 %", "96.3 to 100.0 %"),
        (Estimate(0.0011, 0.00061, 0.00197), "share", "0.11 %", "0.06 to 0.20 %"),
        (Estimate(0.00597), "share", "0.597 %", ""),
        (Estimate(-0.0002, -0.0008, 0.0004), "points", "-0.02 pp", "-0.08 to 0.04 pp"),
        (Estimate(12000.0), "count", "12,000", ""),
        (Estimate(0.5, 0.49, 0.51), "number", "0.500", "0.490 to 0.510"),
        (
            Estimate(5 / 255, 4 / 255, 6 / 255),
            "distance",
            "5.0 grey levels (0.0196)",
            "4.0 to 6.0 grey levels; 0.0157 to 0.0235",
        ),
        (Estimate(5 / 255), "distance", "5 grey levels (0.0196)", ""),
        (Estimate(37.25, 36.0, 38.5), "feature distance", "37.2", "36.0 to 38.5"),
        (Estimate(0.2, None, 0.3), "number", "0.20", "at most 0.30"),
        (Estimate(0.2, 0.1, None), "number", "0.20", "at least 0.10"),
        (Estimate(3e-7, 2e-7, 4e-7), "number", "3e-7", "2e-7 to 4e-7"),
        (Estimate(5.75, 5.75, 5.75), "sigma", "5.75", "5.75 to 5.75"),
        (Estimate.undefined("why"), "share", "not measured", ""),
    ],
)
def test_estimates_in_words(estimate: Estimate, unit: Unit, value: str, interval: str) -> None:
    shown = show(estimate, unit)
    assert (shown.value, shown.interval) == (value, interval)


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9), st.floats(0, 1e9))
def test_what_is_written_is_the_figure_to_within_its_interval(value: float, below: float, above: float) -> None:
    """At most a twentieth of the interval is lost, or half a unit of the fourth digit of the largest end."""
    low, high = value - below, value + above
    text = show(Estimate(value, low, high), "number").value
    tolerance = max(0.05 * (high - low), 5e-4 * max(abs(value), abs(low), abs(high)), 5e-3 * abs(value))
    assert math.isclose(float(text.replace(",", "")), value, rel_tol=0, abs_tol=tolerance)


@given(st.floats(-1e15, 1e15))
def test_a_lone_number_keeps_three_digits(value: float) -> None:
    assert math.isclose(float(numbers.number(value).replace(",", "")), value, rel_tol=5e-3)


def test_no_minus_zero() -> None:
    assert show(Estimate(-0.0001, -0.2, 0.2), "number").value == "0.00"
    assert numbers.number(-0.0) == "0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04321, "p = 0.043"),
        (1.0, "p = 1"),
        (3.21e-5, "p = 3.2e-5"),
        (6e-42, "p = 6e-42"),
        (0.0, "p < 1e-300"),
    ],
)
def test_p_values(value: float, text: str) -> None:
    assert p_text(value) == text


def test_thresholds_and_sizes() -> None:
    assert [numbers.threshold(c) for c in (1 / 3, 0.25, 0.3333)] == ["1/3", "0.25", "0.3333"]
    assert [numbers.image_size(shape) for shape in ((3, 32, 64), (8, 8))] == ["3 x 32 x 64", "1 x 8 x 8"]


def test_reasons() -> None:
    assert numbers.reason(Curve.undefined("too few")) == "too few"
    assert numbers.reason(Estimate(None)) == "no reason was given"
