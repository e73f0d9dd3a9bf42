"""The trajectory of a run: reports of its checkpoints, the same whichever way they were made, and the page of all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memgen_eval import InputError, Report, onsets
from memgen_eval.shell import write_whole
from reference_models.data import Selection
from reference_models.recipes import recipe_for
from reference_models.training.checkpoints import Checkpoint, checkpoints
from reference_models.training.folder import RUN, start_run
from reference_models.training.run import Length, Watcher, continue_training
from reference_models.training.state import new_state
from reference_models.trajectory.measure import HEADLINES, NUM_SHOWN, PAGE, SUMMARY, evaluate_missing, finish
from reference_models.unet import UNetConfig

STEPS = [64, 81, 102]
NUM_SAMPLES = 40


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 102 steps on 20 digits, none of its checkpoints evaluated."""
    folder, selection = tmp_path_factory.mktemp("runs") / "a", Selection("digits", 20)
    images = selection.train()
    small = UNetConfig((1, 8, 8), channels=16, multipliers=(1,), num_blocks=1)
    recipe = replace(recipe_for(images, selection, batch_size=8, warmup_steps=1), unet=small)
    start_run(folder, recipe)
    begun = Checkpoint(recipe, new_state(recipe), seconds=0.0)
    watcher = Watcher(lambda step, checkpoint: None)
    continue_training(folder, begun, images, Length(steps=STEPS[-1], seconds=None), watcher=watcher)
    assert list(checkpoints(folder)) == STEPS
    return folder


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with all its reports."""
    folder = tmp_path_factory.mktemp("measured") / "a"
    shutil.copytree(trained, folder)
    assert evaluate_missing(folder, num_samples=NUM_SAMPLES) == STEPS
    return folder


def report_of(folder: Path, step: int) -> Report:
    return Report.load(folder / "trajectory" / f"step-{step:08d}.json")


def copied(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place / "copy")
    return place / "copy"


def test_what_was_evaluated_is_not_evaluated_again(measured: Path, tmp_path: Path) -> None:
    """After a kill only the missing ones are: one whose strip alone was written too. The reports are the same."""
    folder = copied(measured, tmp_path)
    before = (folder / "trajectory" / "step-00000064.json").read_bytes()
    assert evaluate_missing(folder, num_samples=NUM_SAMPLES) == []
    (folder / "trajectory" / "step-00000081.json").unlink()
    assert evaluate_missing(folder, num_samples=NUM_SAMPLES) == [81]
    assert report_of(folder, 81) == report_of(measured, 81)
    assert (folder / "trajectory" / "step-00000064.json").read_bytes() == before


def test_a_strip_is_the_samples_above_their_nearest_training_images(measured: Path) -> None:
    train = Selection("digits", 20).train().array()
    strips = []
    for step in STEPS:
        with np.load(measured / "trajectory" / f"step-{step:08d}.npz") as file:
            samples, nearest = file["samples"], file["nearest"]
        assert samples.shape == nearest.shape == (NUM_SHOWN, 1, 8, 8) and samples.dtype == nearest.dtype == np.uint8
        difference = samples[:, None].astype(np.int64) - train[None]
        assert (nearest == train[(difference**2).sum(axis=(2, 3, 4)).argmin(axis=1)]).all()
        strips.append(samples.astype(np.float64).ravel())
    assert np.corrcoef(strips[1], strips[2])[0, 1] > 0.5  # the same noise: one sample changes little in 21 steps


def test_the_summary_holds_the_onsets_and_the_headlines(measured: Path, tmp_path: Path) -> None:
    folder = copied(measured, tmp_path)
    found = finish(folder)
    reports = [report_of(folder, step) for step in STEPS]
    assert found == onsets(reports, STEPS)
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    assert summary["onsets"] == found.to_dict()
    assert [row["step"] for row in summary["checkpoints"]] == STEPS
    for row, report in zip(summary["checkpoints"], reports, strict=True):
        assert set(HEADLINES) <= set(row["figures"])
        assert row["figures"]["fidelity.test_swd"] == report.to_dict()["fidelity"]["test_swd"]
        assert row["figures"]["denoiser.mean_generalization_gap"]["low"] is not None
    page = (folder / PAGE).read_text(encoding="utf-8")
    assert page.count('class="strip"') == len(STEPS) and page.count("data:image/png") == 2 * len(STEPS)


def test_what_cannot_be_measured_is_one_line(trained: Path, measured: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 0 reports of checkpoints, a trajectory needs 2"):
        finish(trained)
    folder = copied(measured, tmp_path)
    strip = folder / "trajectory" / "step-00000081.npz"
    strip.write_bytes(strip.read_bytes()[:100])
    with pytest.raises(InputError, match=r"step-00000081\.npz.*not a strip of samples.*evaluate again"):
        finish(folder)
    (folder / "trajectory" / "step-00000064.json").unlink()
    recipe = (folder / RUN).read_text(encoding="utf-8")
    checksum = json.loads(recipe)["recipe"]["checksum"]
    write_whole(folder / RUN, recipe.replace(checksum, "0" * len(checksum)).encode())
    with pytest.raises(InputError, match=r"does not hold the images that .* was trained on"):
        evaluate_missing(folder, num_samples=NUM_SAMPLES)
    assert report_of(folder, 102) == report_of(measured, 102)
    with pytest.raises(InputError, match="is not the folder of a run"):
        evaluate_missing(tmp_path)
