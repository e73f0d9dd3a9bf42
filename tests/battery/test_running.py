"""Running the battery: kills, truncated lines, other settings, the page, and the command as a person meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checking import evaluated, run
from conftest import Pixels
from memgen_eval import InputError
from memgen_eval.battery import cases, command, measuring
from memgen_eval.battery.cases import Block, all_cases
from memgen_eval.battery.draws import SMOOTH
from memgen_eval.battery.ledger import RESULTS_FILE, key_of, opened, read_ledger
from memgen_eval.battery.measuring import Setup, measure_all, records_of, significant
from memgen_eval.battery.page import page
from memgen_eval.battery.tallies import Judged, Rate, cries, crying, found_by, judged_cases, rule_of
from memgen_eval.results import CAPTIONS
from memgen_eval.runtime import Stages

ROOT = Path(__file__).parent.parent.parent
TINY = replace(SMOOTH, num_train=60, num_test=40, num_samples=30)
CHOSEN = ("unseen images, draw 1", "exact, 100 %", "noise 20, 100 %", "wrong range: all copies", "upside down, 100 %")
SETUP = Setup(seed=0, quick=True, cifar10=False)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Five cases on sixty training images, twice."""
    chosen = tuple(case for case in all_cases() if case.name in CHOSEN)
    blocks = [Block(TINY, i, chosen, ("memorization", "novelty")[: 2 - i]) for i in range(2)]
    monkeypatch.setattr(cases, "planned_blocks", lambda **_: blocks)
    monkeypatch.setattr(measuring, "SOURCES", (TINY,))
    monkeypatch.setattr(measuring, "code_checksum", lambda: "abc")
    monkeypatch.setattr(measuring, "installed_peers", lambda: {"prdc": None})
    monkeypatch.setattr(command, "_has_cifar10", lambda _: False)
    measuring._kept.cache_clear()
    yield
    measuring._kept.cache_clear()


def measured(folder: Path, *, setup: Setup = SETUP) -> list[Any]:
    with opened(folder, setup.settings()) as ledger:
        measure_all(setup, ledger, Stages(), processes=1)
        return list(ledger.records)


def without_seconds(path: Path) -> str:
    return re.sub(r'"seconds":[0-9.e+-]+', '"seconds":0', path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def _unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"folder": tmp_path_factory.mktemp("unbroken")}


@pytest.fixture
def unbroken(_unbroken: dict[str, Path]) -> Path:
    """The results of one run that nothing stopped, made once."""
    folder = _unbroken["folder"]
    if not (folder / RESULTS_FILE).exists():
        measured(folder)
    return folder / RESULTS_FILE


def test_every_case_is_measured_once_in_order(unbroken: Path) -> None:
    settings, records = read_ledger(unbroken)
    assert settings["seed"] == 0 and settings["code"] == "abc"
    expected = [("smooth", i, case.name) for i in range(2) for case in all_cases() if case.name in CHOSEN]
    assert [key_of(record) for record in records] == expected
    labels = {record["case"]: record["label"] for record in records}
    assert labels["exact, 100 %"] == "copies"
    assert labels["unseen images, draw 1"] == "undecided"  # of 30 samples
    assert records[1]["figures"]["memorization.ratio"] == 1
    assert "novelty.auc" in records[0]["figures"] and "novelty.auc" not in records[5]["figures"]
    assert {"memorization.ratio", "memorization.excess", "novelty.auc"} <= set(records[1]["alarms"])
    assert records[3]["cautions"] > 0
    assert "ratio" in records[1]["fired"] and set(records[1]["fired"]) <= set(records[1]["rules"])
    assert records[0]["fired"] == [] and "ratio" in records[0]["rules"]


@pytest.mark.parametrize("kept", [0, 1, 4, 9])
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_been(kept: int, unbroken: Path, tmp_path: Path) -> None:
    lines = unbroken.read_bytes().splitlines(keepends=True)
    torn = lines[kept + 1][:-7] if kept < 9 else lines[kept + 1][:-1]
    (tmp_path / RESULTS_FILE).write_bytes(b"".join(lines[: kept + 1]) + torn)
    measured(tmp_path)
    assert without_seconds(tmp_path / RESULTS_FILE) == without_seconds(unbroken)


def test_a_run_that_is_stopped_inside_a_case_loses_that_case_alone(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = measuring.evaluate, 0

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return whole(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measured(tmp_path)
    assert len(read_ledger(tmp_path / RESULTS_FILE)[1]) == 3
    measured(tmp_path)
    assert without_seconds(tmp_path / RESULTS_FILE) == without_seconds(unbroken)


def test_nothing_is_measured_twice(unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = unbroken.read_bytes()
    monkeypatch.setattr(measuring, "evaluate", None)
    assert len(measured(unbroken.parent)) == 10
    assert unbroken.read_bytes() == before


@pytest.mark.parametrize("line", [b"\x00\xff\n", b"[1]\n", b'{"source": "smooth"'])
def test_what_is_no_result_is_dropped_with_all_that_follows(line: bytes, unbroken: Path, tmp_path: Path) -> None:
    lines = unbroken.read_bytes().splitlines(keepends=True)
    (tmp_path / RESULTS_FILE).write_bytes(b"".join([*lines[:3], line, *lines[3:]]))
    measured(tmp_path)
    assert without_seconds(tmp_path / RESULTS_FILE) == without_seconds(unbroken)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": "0.0.9"}, "version '0.0.9', expected '"),
        ({"seed": 5}, "seed 5, expected 0"),
        ({"code": "x"}, "code"),
    ],
    ids=["version", "seed", "code"],
)
def test_results_of_other_settings_are_not_mixed(
    changed: dict[str, Any], words: str, unbroken: Path, tmp_path: Path
) -> None:
    first, *rest = unbroken.read_text(encoding="utf-8").splitlines(keepends=True)
    text = json.dumps(json.loads(first) | changed) + "\n" + "".join(rest)
    (tmp_path / RESULTS_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="results are not mixed: give another --output") as caught:
        measured(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / RESULTS_FILE).read_text(encoding="utf-8") == text


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="there are no locks to see another process by")
    second = opened(tmp_path, {"seed": 0})
    with opened(tmp_path, {"seed": 0}), pytest.raises(InputError, match="another process writes there"):
        second.__enter__()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run("battery", "--quick", "--output", tmp_path / "file") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line and "--output" in line


def test_draws_depend_on_seed_repetition_and_case_alone() -> None:
    def figures(setup: Setup, block: int, number: int) -> Any:
        (record,) = records_of(measuring.Job(setup, block, (number,)))
        return {name: value for name, value in record.items() if name != "seconds"}

    alone = figures(SETUP, 0, 2)
    measuring._kept.cache_clear()
    figures(SETUP, 0, 0)
    assert figures(SETUP, 0, 2) == alone
    assert figures(SETUP, 1, 2)["figures"] != alone["figures"]
    assert figures(replace(SETUP, seed=1), 0, 2)["figures"] != alone["figures"]


# What is counted


def made_record(case: str, label: str, *, source: str = "smooth", repetition: int = 0, **more: Any) -> dict[str, Any]:
    figures = {"memorization.ratio": 0.5, "novelty.auc": 0.4, "memorization.calibrated_p_value": 0.01}
    known = {"source": source, "repetition": repetition, "case": case, "label": label, "p_value": 0.02}
    known |= {"fired": ["aligned"] * (label == "copies"), "rules": {"ratio": 0.02, "aligned": 0.01}}
    known |= {"sentence": "It says so.", "cautions": 0, "figures": figures, "alarms": [], "peers": {}, "seconds": 1.5}
    return known | more


MADE = [
    *(made_record("unseen images, draw 1", "no copying found", repetition=i) for i in range(9)),
    made_record("unseen images, draw 1", "copies", repetition=9, alarms=["memorization.ratio"]),
    *(made_record("exact, 5 %", "copies", repetition=i, alarms=["memorization.ratio"]) for i in range(10)),
    *(made_record("noise 30, 5 %", "no copying found", repetition=i) for i in range(4)),
    *(made_record("noise 30, 100 %", "undecided", repetition=i) for i in range(4)),
    made_record("shift 1 px, 5 %", "copies", peers={"FID to train (torch-fidelity)": 0.25}),
    made_record("upside down, 5 %", "no copying found", source="digits"),
    made_record("a case that is no more", "copies"),
]
MADE_SETTINGS = {"version": "0.1.0", "code": "abc", "seed": 7, "quick": False, "cifar10": False, "features": None}
MADE_SETTINGS |= {"peers": {"prdc": None, "torch-fidelity": "0.4.0"}}


def test_counts_of_a_case() -> None:
    judged = {(case.case.name, case.source): case for case in judged_cases(MADE)}
    assert len(judged) == 6
    fresh = judged["unseen images, draw 1", "smooth"]
    assert (fresh.counts, fresh.right) == ("1 / 0 / 9", Rate(9, 10))
    assert judged["noise 30, 5 %", "smooth"].right == Rate(0, 4)
    assert judged["upside down, 5 %", "digits"].right == Rate(0, 1)
    assert judged["noise 30, 100 %", "smooth"].median_of("figures", "novelty.auc") == 0.4
    assert judged["noise 30, 100 %", "smooth"].median_of("peers", "FID") is None


def test_rates_have_wilsons_interval() -> None:
    from scipy.stats import binomtest

    known = binomtest(9, 10).proportion_ci(0.95, method="wilson")
    assert str(Rate(9, 10)) == f"90 % ({100 * known.low:.0f} to {100 * known.high:.0f})"
    assert str(Rate(0, 0)) == "-"


def test_alarms_are_counted_where_there_is_a_figure() -> None:
    judged = judged_cases(MADE)
    assert crying(judged, "memorization.ratio") == Rate(11, 30)
    assert crying(judged, "novelty.relative_auc") == Rate(0, 0)
    assert crying(judged[:1], "verdict: copies") == Rate(1, 10)
    assert crying(judged[:1], "rule of the verdict: aligned") == Rate(1, 10)
    assert crying(judged[:1], "rule of the verdict: ratio") == Rate(0, 10)
    assert crying(judged[:1], "rule of the verdict: features") == Rate(0, 0)
    assert found_by(judged) == [] and found_by(judged[1:2]) == ["aligned"]


def test_every_figure_about_copying_has_a_rule_and_no_other() -> None:
    ruled = {path for path in CAPTIONS if rule_of(path) is not None}
    assert {path for path in CAPTIONS if path.endswith("p_value")} <= ruled
    assert {f"memorization.{name}" for name in ("ratio", "excess", "calibrated_ratio", "carlini")} <= ruled
    assert {f"novelty.{name}" for name in ("auc", "relative_auc", "ct", "authenticity")} <= ruled
    assert not any("test_" in path or "threshold" in path or "repetition" in path for path in ruled)
    assert {path.split(".")[0] for path in ruled} == {"memorization", "novelty"}


def test_figures_cry_of_copies_and_not_of_unseen_images(digits: Pixels) -> None:
    train, test, unseen = digits[:500], digits[500:900], digits[900:1300]
    paths = [path for path in CAPTIONS if rule_of(path) is not None]
    fresh = evaluated(unseen, train=train, test=test, metrics=["memorization", "novelty"])
    assert [path for path in paths if cries(fresh, path)] == []
    copies = evaluated(train[:400], train=train, test=test, metrics=["memorization", "novelty"])
    quiet = {path for path in paths if not cries(copies, path)}
    unmeasured = {path for path in paths if (figure := copies.figure(path)) is None or figure.value is None}
    assert quiet == unmeasured | {"memorization.num_near_identical"}  # a count has no interval


def test_figures_are_rounded_to_four_digits() -> None:
    assert [significant(value) for value in (0, 1 / 3, 1234567, 1.23456e-12, 1)] == [0, 0.3333, 1235000, 1.235e-12, 1]


# The page


def test_the_page_says_what_is_found_missed_and_cried_falsely() -> None:
    text = page(MADE_SETTINGS, MADE)
    assert "Of 10 sets of unseen images, 1 were called copies, 0 undecided. False alarms: 10 % (2 to 40)." in text
    few = "1 of 2 alterations where 5 % of the samples are altered copies (1 of the 2 stronger ones)"
    every = "0 of 1 alterations where all samples are altered copies (0 of the 1 stronger ones)"
    assert f"made-up pictures: called copies at least 19 times of 20 are {few} and {every}." in text
    assert "5 % of the samples are altered copies, *no copying found* each time: noise 30." in text
    assert "No figure here is made to see these, whatever their share: upside down." in text
    assert "| exact, 5 % | copies | 10 / 0 / 0 |" in text
    assert "| noise | noise 30 |  |  | 0 / 0 / 4 ✗ | 0 / 4 / 0 |  |" in text
    assert "| upside down or turned (cannot be seen) | upside down | 0 / 0 / 1 ✗ |  |  |  |  |" in text
    assert "| shift | shift 1 px |  |  | 1 / 0 / 0 |  | aligned |" in text
    assert "| rule of the verdict: aligned | by itself" in text
    assert "| unseen images, draw 1 | innocent | 1 / 0 / 9 ✗ |" in text
    assert "unseen images, draw 1, made-up pictures: *copies*, 1 of 10 times." in text
    assert "not installed: prdc" in text and "torch-fidelity 0.4.0" in text
    assert "memgen-eval battery --seed 7" in text
    assert "| p-value of the calibrated memorization ratio | at most 0.001 |" in text


def test_tables_of_the_page_are_whole() -> None:
    for block in page(MADE_SETTINGS, MADE).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
        assert not lines or set(lines[1]) <= set("|- ")


def test_a_page_of_no_results_is_made_too() -> None:
    assert "## Where it fails" in page(MADE_SETTINGS, [])


def test_a_figure_that_the_library_does_not_know_yet_is_shown_once_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "memorization.new_p_value"
    monkeypatch.setitem(CAPTIONS, path, CAPTIONS["memorization.calibrated_p_value"])  # type: ignore[index]
    record = made_record("exact, 5 %", "copies", figures={path: 1e-6}, alarms=[path])
    assert crying(judged_cases([record]), path) == Rate(1, 1)
    assert "| 1e-6 |" in page(MADE_SETTINGS, [record])


def test_judged_cases_come_in_the_order_of_the_page() -> None:
    names = [judged.case.name for judged in judged_cases(reversed(MADE))]
    assert names == [case.name for case in all_cases() if case.name in names]
    assert all(isinstance(judged, Judged) for judged in judged_cases(MADE))


# The command


def test_the_command_writes_results_and_page(
    tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "default_processes", lambda: 1)
    assert run("battery", "--quick", "--output", tmp_path) == 0
    assert capsys.readouterr().err == f"memgen-eval battery: wrote {tmp_path / 'battery.md'}\n"
    assert without_seconds(tmp_path / RESULTS_FILE) == without_seconds(unbroken)
    assert (tmp_path / "battery.md").read_text(encoding="utf-8").startswith("# What is found, what is missed")


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "default_processes", lambda: 1)
    monkeypatch.setattr(measuring, "evaluate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("battery", "--quick", "--output", tmp_path) == 130
    expected = f"stopped; 0 of 10 cases are kept in {tmp_path}. To go on from there: memgen-eval battery --quick "
    assert capsys.readouterr().err == f"memgen-eval battery: {expected}--output {tmp_path}\n"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("--seed", "-1"), "seed is -1"),
        (("--features", "missing.onnx"), "there is no such file"),
        (("--features", "nonsense"), "expected pixels"),
        (("samples.npz",), "unrecognized arguments: samples.npz; see memgen-eval battery --help"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    typed: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("battery", "--quick", "--output", tmp_path / "none", *typed) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "none").exists()


def test_a_data_dir_without_cifar10_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(InputError, match="no CIFAR-10 there"):
        command._has_cifar10(str(tmp_path))


def test_several_processes_survive_a_termination(tmp_path: Path) -> None:
    """The real command, killed once it has written a few results: whole lines, no orphans, and it goes on."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    typed = [sys.executable, "-m", "memgen_eval", "battery", "--quick", "--output", str(tmp_path)]
    results = tmp_path / RESULTS_FILE
    process = subprocess.Popen(typed, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not results.exists() or results.read_bytes().count(b"\n") < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)  # which ends once every child has let go of the pipe
    assert process.returncode == 143
    assert "cases are kept in" in said and "Traceback" not in said
    _, records = read_ledger(results)
    assert 0 < len(records) < 238


def test_several_processes_say_what_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # other processes know nothing of the tiny cases
    measuring._kept.cache_clear()
    jobs = [measuring.Job(SETUP, 1, (number,)) for number in (0, 40)]

    def figures(records: Any) -> list[Any]:
        return [{name: value for name, value in record.items() if name != "seconds"} for record in records]

    with measuring._finished(jobs, 2) as finished:
        together = [record for records in finished for record in records]
    assert figures(together) == figures(record for job in jobs for record in records_of(job))
