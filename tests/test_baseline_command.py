"""``--baseline`` and ``--junit`` as a CI job meets them: what is refused, what is written, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import memgen_eval.evaluation
from checking import run
from memgen_eval import Report

ARGUMENTS = ("fresh.npy", "--train", "train.npy", "--test", "test.npy", "--metrics", "memorization")
GATE = "baseline.memorization.ratio.change.low > 0"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baseline")
    rng = np.random.default_rng(0)
    sets = {name: rng.integers(0, 256, (200, 5, 5), dtype=np.uint8) for name in ("train", "test", "fresh")}
    sets["copies"] = np.concatenate([sets["fresh"][30:], sets["train"][:30]])
    for name, images in sets.items():
        np.save(folder / f"{name}.npy", images)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(*ARGUMENTS, "--json", "old.json") == 0
    return folder


@pytest.fixture
def folder(kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(kept)
    capsys.readouterr()
    return kept


def of_copies(*more: str) -> tuple[str, ...]:
    return ("copies.npy", *ARGUMENTS[1:], "--baseline", "old.json", *more)


def test_a_gate_on_a_change(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*of_copies("--fail-if", GATE, "--junit", "j.xml", "--json", "new.json")) == 1
    printed = capsys.readouterr()
    assert "moved beyond the intervals of both" in printed.out
    assert f"memgen-eval: failed because '{GATE}': baseline.memorization.ratio.change.low is 0.1" in printed.err
    assert printed.err.index("wrote j.xml") < printed.err.index("failed because")
    changes = Report.load("new.json").compared_with(Report.load("old.json"))
    assert "memorization.ratio" in [change.path for change in changes.moved]
    failures = ET.parse("j.xml").getroot().iter("failure")
    assert [failure.attrib["message"] for failure in failures] == [printed.err.splitlines()[-1].partition(": ")[2]]


def test_the_same_samples_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*ARGUMENTS, "--baseline", "old.json", "--fail-if", GATE) == 0
    assert "Both reports are of the same samples" in capsys.readouterr().out


def test_what_cannot_be_compared_fails_its_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*of_copies("--threshold", "0.25", "--fail-if", GATE)) == 1
    printed = capsys.readouterr()
    assert "Not compared with the report of" in printed.out
    assert "which was not measured: other settings: threshold was 0.333333 and is 0.25" in printed.err
    assert run(*of_copies("--threshold", "0.25")) == 0


def test_junit_alone_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*of_copies("--junit", "-", "--fail-if", "verdict == copies")) == 1
    printed = capsys.readouterr()
    cases = [case.attrib["name"] for case in ET.fromstring(printed.out.encode()).iter("testcase")]
    assert cases == ["verdict == copies", "memorization", "novelty", "fidelity", "denoiser", "gaussian"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*ARGUMENTS, "--fail-if", GATE), f"gate '{GATE}' asks what changed since an earlier report; give it with"),
        ((*ARGUMENTS, "--baseline", "missing.json"), "missing.json: no such file; give the JSON report"),
        ((*ARGUMENTS, "--baseline", "train.npy"), "train.npy: not a readable JSON report"),
        ((*ARGUMENTS, "--baseline", "old.json", "--json", "old.json"), "--json old.json: would overwrite --baseline"),
        ((*ARGUMENTS, "--junit", "j.html"), "--junit j.html: ends in .html, expected .xml"),
        ((*ARGUMENTS, "--junit", "-", "--json", "-"), "--json - and --junit - ask for standard output alone"),
        (of_copies("--fail-if", "baseline.denoiser.gap_train.change.max > 0"), "needs the model's denoiser"),
        (of_copies("--fail-if", "baseline.memorization.ratio > 0"), "is followed by .change"),
    ],
)
def test_what_is_refused_before_any_work(
    arguments: tuple[str, ...],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*given: object, **named: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(memgen_eval.evaluation, "evaluate", never)
    before = (folder / "old.json").read_bytes()
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1
    assert (folder / "old.json").read_bytes() == before
    assert json.loads(before)["schema_version"]
