"""Runs side by side: shares of the machine, failures, interruptions, and processes that outlived a study.

A script of a few lines stands for memgen-train: it takes the same words and does what the seed says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memgen_eval.errors import InputError
from reference_models.study.folder import alone_in_study, is_finished, last_line, run_folder, start_study
from reference_models.study.runner import GPUS, Progress, Source, do_runs, num_cores, places
from reference_models.study.sweep import PlannedRun, Sweep

SCRIPT = """\
import fcntl, json, os, pathlib, sys, time
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out, seed = pathlib.Path(given["--out"]), int(given["--seed"])
lock = os.open(out, os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("the first line")
if seed == 1:
    sys.exit("memgen-train: the loss is nan")
working = out.parent.parent / "working"
working.mkdir(exist_ok=True)
(working / str(os.getpid())).touch()
own = {"working": len(list(working.iterdir())), "threads": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()}
own["gpu"] = os.environ.get("CUDA_VISIBLE_DEVICES")
(out / "own.json").write_text(json.dumps(own))
while seed == 2 and not (out / "go").exists():
    time.sleep(0.01)
time.sleep(0.05)
(working / str(os.getpid())).unlink()
"""
Noted = list[tuple[Progress, PlannedRun | None]]


@pytest.fixture
def train(tmp_path: Path) -> list[str]:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    return [sys.executable, "-S", "-E", str(script), "--unused", "0"]


def planned(*seeds: int) -> Sweep:
    return Sweep({"data": "digits"}, {"seed": seeds})


def own(folder: Path, run: PlannedRun) -> dict[str, str | int]:
    entries: dict[str, str | int] = json.loads((run_folder(folder, run) / "own.json").read_text())
    return entries


def done(
    folder: Path, runs: list[PlannedRun], train: list[str], *, processes: int = 1
) -> tuple[list[PlannedRun], Noted]:
    noted: Noted = []
    failed = do_runs(
        runs,
        folder,
        places=places(processes),
        source=Source(),
        train=train,
        on_change=lambda progress, run: noted.append((progress, run)),
    )
    return failed, noted


def test_every_run_has_its_place_and_its_share(
    tmp_path: Path, train: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(GPUS, raising=False)
    folder = tmp_path / "study"
    runs = start_study(folder, planned(3, 4, 5, 6, 7))
    failed, noted = done(folder, runs, train, processes=2)
    assert failed == [] and all(is_finished(folder, run) for run in runs)
    assert max(int(own(folder, run)["working"]) for run in runs) <= 2
    assert {own(folder, run)["threads"] for run in runs} == {str(max(1, num_cores() // 2))}
    assert max(progress.num_running for progress, _ in noted) == 2
    last = noted[-1][0]
    assert (last.num_done, last.num_running) == (5, 0)
    log = (run_folder(folder, runs[0]) / "run.log").read_text().splitlines()
    assert log[0].startswith("memgen-train ") and log[1] == "the first line"


def test_one_place_for_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPUS, "0,3")
    assert [place[GPUS] for place in places(None)] == ["0", "3"]
    assert [place[GPUS] for place in places(3)] == ["0", "3", "0"]
    monkeypatch.delenv(GPUS)
    assert len(places(None)) == 1 and GPUS not in places(None)[0]


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, train: list[str]) -> None:
    folder = tmp_path / "study"
    runs = start_study(folder, planned(1, 3))
    failed, noted = done(folder, runs, train)
    assert failed == [runs[0]] and is_finished(folder, runs[1])
    assert last_line(folder, runs[0]) == "memgen-train: the loss is nan"
    assert [run for _, run in noted if run is not None] == [runs[0]]
    assert (noted[-1][0].num_done, noted[-1][0].num_failed) == (1, 1)


def test_finished_runs_are_not_done_again(tmp_path: Path, train: list[str]) -> None:
    folder = tmp_path / "study"
    runs = start_study(folder, planned(3))
    done(folder, runs, train)
    more = start_study(folder, planned(3, 4))
    assert more[0] == runs[0]
    done(folder, more, train)
    for run in more:
        assert (run_folder(folder, run) / "run.log").read_text().count("memgen-train ") == 1


def waited_for(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interruption_ends_the_processes(tmp_path: Path, train: list[str]) -> None:
    folder = tmp_path / "study"
    runs = start_study(folder, planned(2, 3))
    started = run_folder(folder, runs[0]) / "own.json"

    def interrupted(progress: Progress, run: PlannedRun | None) -> None:
        waited_for(started.is_file)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do_runs(runs, folder, places=places(1), source=Source(), train=train, on_change=interrupted)
    waited_for(lambda: bool(started.read_text()))
    assert not is_alive(int(own(folder, runs[0])["pid"]))
    assert not is_finished(folder, runs[0])
    (run_folder(folder, runs[0]) / "go").touch()
    assert done(folder, runs, train)[0] == []


def test_a_process_that_outlived_its_study_is_waited_for(tmp_path: Path, train: list[str]) -> None:
    folder = tmp_path / "study"
    (run,) = start_study(folder, planned(2))
    out = run_folder(folder, run)
    out.mkdir(parents=True)
    orphan = subprocess.Popen([*train, "--seed", "2", "--out", str(out)], stdout=subprocess.DEVNULL)
    waited_for((out / "own.json").is_file)
    looks = []

    def released(progress: Progress, failed: PlannedRun | None) -> None:
        looks.append(orphan.poll())
        (out / "go").touch()

    try:
        failed = do_runs([run], folder, places=places(1), source=Source(), train=train, on_change=released)
    finally:
        orphan.send_signal(signal.SIGKILL)
        orphan.wait()
    assert looks[0] is None and failed == [] and is_finished(folder, run)


def test_one_study_at_a_time(tmp_path: Path) -> None:
    with (
        alone_in_study(tmp_path / "study"),
        pytest.raises(InputError, match="another memgen-study is at work there"),
        alone_in_study(tmp_path / "study"),
    ):
        pass


def test_another_sweep_is_refused_unless_it_adds_runs(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    first = start_study(folder, Sweep({"data": "digits", "width": 16}, {"seed": (0, 1)}))
    grown = start_study(folder, Sweep({"data": "digits"}, {"seed": (0, 1, 2), "width": (16, 32)}))
    assert [run.name for run in first] == ["seed=0", "seed=1"]
    assert [run.name for run in grown[:3]] == ["seed=0", "seed=0,width=32", "seed=1"]
    with pytest.raises(InputError, match=r"the sweep leaves out \(seed=0,width=32 and 3 more\): add"):
        start_study(folder, Sweep({"data": "digits", "width": 16}, {"seed": (0, 2)}))
    with pytest.raises(InputError, match="leaves out"):
        start_study(folder, Sweep({"data": "cifar10"}, {"seed": (0, 1, 2), "width": (16, 32)}))
    assert start_study(folder, Sweep({"data": "digits"}, {"seed": (0, 1, 2), "width": (16, 32)})) == grown


@pytest.mark.parametrize("text", ["", "[]", '{"format": "another"}', '{"format": "memgen study, version 1"}'])
def test_other_folders_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match=r"plan.json: is not of this program"):
        start_study(tmp_path, planned(0))
    (tmp_path / "plan.json").rename(tmp_path / "other.json")
    with pytest.raises(InputError, match="holds files but no study"):
        start_study(tmp_path, planned(0))
