"""A few hundred mutated files for every reader: an InputError in one line or images, soon, and in little memory.

``python -m fuzz`` inside tests/ reads as many as are wanted: 200,000 for each reader found nothing more.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from random import Random

import pytest

from fuzz.driver import Target, fuzz
from fuzz.targets import TARGETS
from memgen_eval import InputError

EXECUTIONS = 1000
SLOW = {"checkpoint", "report"}  # some milliseconds a case


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused_in_one_line(name: str, tmp_path: Path, capfd: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and torch's of what they met; none is an error of a reader
        target = TARGETS[name]()
        outcome = fuzz(target, tmp_path, executions=EXECUTIONS // (3 if name in SLOW else 1))
    assert not outcome.findings, str(outcome)
    assert 0 < outcome.accepted < outcome.executions  # neither every change nor none is refused


def reads(path: Path) -> None:
    """A reader with three faults, one of which is found by a single bit."""
    data = path.read_bytes()
    if data[0] & 1:
        raise InputError("one line")
    if data[0] & 2:
        raise InputError("two\nlines")
    if data[0] & 4:
        raise KeyError(data[0])
    if data[0] & 8:
        bytes(2**29).count(1)


def test_the_driver_finds_each_kind_of_fault_and_keeps_the_file(tmp_path: Path) -> None:
    found = fuzz(Target(lambda random: random.randbytes(1), reads, "case"), tmp_path, executions=200)
    kinds = sorted(kind.split()[0] for kind in found.findings)
    assert kinds == ["KeyError", "message", "took"] and 0 < found.accepted < 100
    for case, data in found.findings.values():
        assert data == Random(f"0 {case}").randbytes(1)
