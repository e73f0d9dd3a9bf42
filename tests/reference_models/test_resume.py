"""Trainings that end before their time: killed, out of disk, diverged. What they had written stays, and they go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memgen_eval.data.images import ImageSet
from memgen_eval.errors import InputError
from reference_models import train_cli
from reference_models.recipes import Recipe
from reference_models.training import run
from reference_models.training.checkpoints import Checkpoint, checkpoints, load_state, load_trained, states
from reference_models.training.folder import kept_pace, read_recipe, start_run
from reference_models.training.pace import Pace
from reference_models.training.run import Length, Watcher, continue_training
from reference_models.training.state import new_state

pytest.importorskip("resource", reason="limits the size of files")
ROOT = Path(__file__).parents[2]
TINY = ("--data", "digits", "--num-images", "20", "--preset", "tiny", "--width", "8", "--batch-size", "8")
IN_LITTLE_SPACE = """
import resource, signal, sys
from reference_models import train_cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(train_cli.main(sys.argv[1:]))
"""
OF_A_PACE = {"num_threads": 2, "channels_last": True, "compiled": False}
SILENT = Watcher(lambda step, checkpoint: None)


def test_killed_at_random_moments_it_ends_with_the_same_bits() -> None:
    """What the benchmark of 20 kills does, with three of a short training."""
    command = [sys.executable, "-m", "benchmarks.resumed_trainings", "--kills=3", "--in-a-chain=3", "--steps=110"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 kills, every tensor the same" in done.stdout


def test_a_full_disk_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that may not grow beyond 100 kB, in a process of its own: no limit can be raised again."""
    command = [*TINY, "--no-evaluate", "--out", str(tmp_path / "a"), "--steps"]
    assert train_cli.main([*command, "3"]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", IN_LITTLE_SPACE, *command, "6"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("memgen-train: ")]
    assert done.returncode == 2 and len(said) == 1, done.stderr
    assert "step-00000006.safetensors: cannot be written (File too large); free the disk" in said[0]
    assert {path: path.read_bytes() for path in before} == before
    assert not list((tmp_path / "a").rglob("*.tmp"))
    assert train_cli.main([*command, "6"]) == 0
    assert "going on from step 3" in capsys.readouterr().err and load_trained(tmp_path / "a").step == 6


def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint(
    tmp_path: Path, image_set: ImageSet, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "is_kept", lambda step: step == 2)

    def spoil(step: object, checkpoint: Checkpoint) -> None:
        if checkpoint.state.step == 3:
            with torch.no_grad():
                next(checkpoint.state.model.parameters()).fill_(float("nan"))

    begun = Checkpoint(recipe, new_state(recipe), 0.0)
    with pytest.raises(
        InputError, match="the loss is not finite at step 4: give a smaller --lr; the last good"
    ) as error:
        continue_training(tmp_path, begun, image_set, Length(9, None), watcher=Watcher(spoil))
    (path,) = states(tmp_path).values()
    assert str(path) in str(error.value) and list(checkpoints(tmp_path)) == [2]
    assert load_state(path).state.step == 2
    begun = load_state(path)
    assert continue_training(tmp_path, begun, image_set, Length(4, None), watcher=SILENT).state.step == 4


def test_without_a_checkpoint_a_diverged_training_says_so(tmp_path: Path, image_set: ImageSet, recipe: Recipe) -> None:
    begun = Checkpoint(recipe, new_state(recipe), 0.0)
    with torch.no_grad():
        next(begun.state.model.parameters()).fill_(float("inf"))
    with pytest.raises(InputError, match=r"not finite at step 1: .*; there is no checkpoint yet"):
        continue_training(tmp_path, begun, image_set, Length(9, None), watcher=SILENT)
    assert not list(tmp_path.iterdir())


def test_a_state_is_left_every_minute(
    tmp_path: Path, image_set: ImageSet, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At steps that are not kept too, and timed by the steps alone: here each takes 25 seconds."""
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(run.time, "monotonic", lambda: float(next(clock)))
    written: list[int] = []
    watcher = Watcher(lambda step, checkpoint: written.append(max(states(tmp_path), default=0)))
    done = continue_training(
        tmp_path, Checkpoint(recipe, new_state(recipe), 0.0), image_set, Length(None, 175.0), watcher=watcher
    )
    assert done.state.step == 7 and done.seconds == 175 and written == [0, 0, 0, 3, 3, 3, 6]
    assert list(states(tmp_path)) == [6, 7] and list(checkpoints(tmp_path)) == [7]


def test_a_pace_is_chosen_once_and_anew_on_another_machine(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = iter((Pace(2, False, False, 2), Pace(4, True, False), Pace(8, True, False)))
    monkeypatch.setattr(run, "choose_pace", lambda *arguments, **keywords: next(chosen))

    def settled(num_threads: int | None = None) -> Pace:
        return run.settled_pace(tmp_path, recipe, num_ranks=1, num_steps=100, num_threads=num_threads)

    start_run(tmp_path, recipe)
    assert kept_pace(tmp_path) is None
    assert settled() == settled() == Pace(2, False, False, 2) and not caplog.messages
    monkeypatch.setattr(run, "processor_name", lambda: "another processor")
    assert settled() == settled() == Pace(4, True, False)
    (line,) = caplog.messages
    assert "the pace is measured anew on" in line and "another processor" in line
    assert settled(3) == settled(3) == settled() == Pace(3, True, False)  # threads that were asked for are kept too
    assert read_recipe(tmp_path) == recipe


def test_a_pace_of_before_there_were_workers_has_one(tmp_path: Path, recipe: Recipe) -> None:
    """Its training goes on with the roundings that it had."""
    start_run(tmp_path, recipe)
    entries = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(entries | {"pace": OF_A_PACE, "machine": {}}))
    kept = kept_pace(tmp_path)
    assert kept is not None and kept.pace == Pace(2, channels_last=True, compiled=False, num_workers=1)


@pytest.mark.parametrize(("num_ranks", "dropout", "shared"), [(1, 0.0, True), (2, 0.0, False), (1, 0.1, False)])
def test_workers_are_for_one_process_without_dropout(
    tmp_path: Path,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    num_ranks: int,
    dropout: float,
    shared: bool,
) -> None:
    asked: list[bool] = []

    def choose_pace(*arguments: object, shared: bool, **keywords: object) -> Pace:
        asked.append(shared)
        return Pace(1, True, False)

    monkeypatch.setattr(run, "choose_pace", choose_pace)
    recipe = replace(recipe, unet=replace(recipe.unet, dropout=dropout))
    start_run(tmp_path, recipe)
    run.settled_pace(tmp_path, recipe, num_ranks=num_ranks, num_steps=100, num_threads=None)
    assert asked == [shared]


@pytest.mark.parametrize(
    "pace",
    [OF_A_PACE | {"num_threads": True}, OF_A_PACE | {"num_workers": 3}, OF_A_PACE | {"num_workers": 0}, {"x": 1}, 3],
)
def test_a_pace_that_is_none(tmp_path: Path, recipe: Recipe, pace: object) -> None:
    start_run(tmp_path, recipe)
    entries = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(entries | {"pace": pace, "machine": {}}))
    with pytest.raises(InputError, match=r"run\.json: is not of this program"):
        kept_pace(tmp_path)


def test_a_run_trains_at_its_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    monkeypatch.setattr(run, "save_state", lambda *_: seen.append(torch.get_num_threads()))
    command = [*TINY, "--no-evaluate", "--out", str(tmp_path / "a"), "--threads", "3", "--steps", "2"]
    assert train_cli.main(command) == 0
    assert seen == [3] and torch.get_num_threads() == before
    kept = kept_pace(tmp_path / "a")
    assert kept is not None and kept.pace.num_threads == 3
