"""A few hundred mutated files for every reader: an InputError in one line or images, soon, and in little memory.

``python -m fuzz`` inside tests/ reads as many as are wanted.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from random import Random

import pytest

from fuzz.driver import Outcome, Target, execute, fuzz, rewound
from fuzz.targets import CORPUS, TARGETS, corpus_of, target_of, unzipped
from memgen_eval import InputError
from memgen_eval.data.sources import ARRAY_FILES

EXECUTIONS = 2_000  # about a minute for all readers
SLOW = {"checkpoint", "command", "report", "shown"}  # some milliseconds a case


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and torch's of what they met; none is an error of a reader
        target = target_of(name)
        outcome = fuzz(target, tmp_path, executions=EXECUTIONS // (8 if name in SLOW else 1))
    assert not outcome.findings, str(outcome)
    assert 0 < outcome.accepted < outcome.executions  # neither every change nor none is refused


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    """What guided runs kept, every past finding among it."""
    cases, target, outcome, start = corpus_of(name), TARGETS[name](), Outcome(), rewound()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in cases:
            start = execute(target, data, tmp_path / target.name, outcome, start)
    assert not outcome.findings, str(outcome)
    assert outcome.executions == len(cases) > 0


def test_the_corpus_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2**20
    assert {path.parent.name for path in files} == set(TARGETS)


def test_every_format_of_arrays_has_a_target() -> None:
    assert {suffix.removeprefix(".") for suffix in ARRAY_FILES} - {"pth"} <= TARGETS.keys()  # pth is pt


@pytest.mark.parametrize("name", ["npz", "zip"])
def test_what_was_zipped_is_mutated_inside(name: str) -> None:
    target = TARGETS[name]()
    whole = [unzipped(target.make(Random(i))) for i in range(40)]
    assert sum(bool(members) for members in whole) > 20


def reads(path: Path) -> None:
    """A reader with three faults, for three of five files."""
    match path.read_bytes():
        case b"1":
            raise InputError("one line")
        case b"2":
            raise InputError("two\nlines")
        case b"3":
            raise KeyError("raw")
        case b"4":
            b"x" * (350 * 2**20 + path.stat().st_size)  # not a constant, which would be folded


def test_the_driver_finds_each_kind_of_fault_and_keeps_the_file(tmp_path: Path) -> None:
    target = Target((b"0", b"1", b"2", b"3", b"4"), lambda data, random: data, reads, "case")
    found = fuzz(target, tmp_path, executions=20, rehearsed=0)
    assert {data for _, data in found.findings.values()} == {b"2", b"3", b"4"}
    assert 0 < found.accepted < 20 and found.memory > 300
    assert all(data == target.make(Random(f"0 {case}")) for case, data in found.findings.values())
