"""Reports as they were: a change of the code that is to leave every figure alone leaves these alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from checking import figures
from frozen_cases import CASES, FOLDER
from memgen_eval import Report

EXACT = ("cautions", "verdict", "memorization", "skipped", "settings")  # integers decide there, on every machine
RELATIVE = 1e-5  # products of floats are summed in an order of the machine's own
ABSOLUTE = 1e-7


def differences(found: Any, expected: Any, *, exact: bool, where: str = "report") -> list[str]:
    """Where two JSON values differ by more than machines may."""
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        parts = [(name, found[name], expected[name]) for name in found]
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        parts = [(str(i), *pair) for i, pair in enumerate(zip(found, expected, strict=True))]
    else:
        both = isinstance(found, float) and isinstance(expected, float) and not exact
        close = both and math.isclose(found, expected, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        return [] if close or found == expected else [f"{where}: {found!r}, expected {expected!r}"]
    return [line for name, *pair in parts for line in differences(*pair, exact=exact, where=f"{where}.{name}")]


def compared(report: Report, name: str) -> list[str]:
    found = json.loads(figures(report))
    expected = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert found.keys() == expected.keys()
    return [
        line for part in found for line in differences(found[part], expected[part], exact=part in EXACT, where=part)
    ]


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"cifar10"}))
def test_a_report_is_as_it_was(name: str) -> None:
    assert compared(CASES[name](), name) == []


def test_the_report_on_cifar10_is_as_it_was(data_dir: Path) -> None:
    assert compared(CASES["cifar10"](data_dir), "cifar10") == []


@pytest.mark.parametrize(
    ("found", "exact", "count"),
    [(1.0, True, 0), (1.0 + 1e-9, False, 0), (1.0 + 1e-9, True, 1), (1.001, False, 1), (1, False, 0), ("1", False, 1)],
)
def test_what_counts_as_a_difference(found: Any, exact: bool, count: int) -> None:
    assert len(differences({"a": [found]}, {"a": [1.0]}, exact=exact)) == count
    assert differences({"b": [1.0]}, {"a": [1.0]}, exact=exact)
    assert differences([1.0], [1.0, 1.0], exact=exact)
