"""Run folders: what is saved comes back bit for bit, a training goes on as if never stopped, broken files are named."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from memgen_eval import InputError
from memgen_eval.shell import TEMPORARY
from reference_models.recipes import Recipe
from reference_models.training import checkpoints
from reference_models.training.checkpoints import (
    Checkpoint,
    is_kept,
    load_checkpoint,
    load_denoiser,
    load_newest,
    read_recipe,
    save_checkpoint,
    start_run,
    write_whole,
)
from reference_models.training.train import TrainingState, new_state, train


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> Path:
    folder = tmp_path / "runs" / "a"
    start_run(folder, recipe)
    return folder


def trained(state: TrainingState, images: Tensor, recipe: Recipe, num_steps: int) -> TrainingState:
    for _ in islice(train(state, images, recipe), num_steps):
        pass
    return state


def saved(run: Path, state: TrainingState, recipe: Recipe, seconds: float = 1.5) -> Path:
    return save_checkpoint(run, Checkpoint(recipe, state, seconds))


def everything(state: TrainingState) -> list[Tensor]:
    moments = [state.optimizer.state[p][name] for p in state.model.parameters() for name in ("exp_avg", "exp_avg_sq")]
    return [*state.model.parameters(), *state.ema.parameters(), *moments, torch.tensor(state.losses)]


def same(first: TrainingState, second: TrainingState) -> bool:
    return all(torch.equal(a, b) for a, b in zip(everything(first), everything(second), strict=True))


def test_a_checkpoint_comes_back_bit_for_bit(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = trained(new_state(recipe), images, recipe, 3)
    assert not all(p.is_contiguous() for p in state.model.parameters())  # channels last
    loaded = load_checkpoint(saved(run, state, recipe))
    assert same(loaded.state, state) and loaded.state.step == 3
    assert loaded.recipe == recipe == read_recipe(run) and loaded.seconds == 1.5
    assert [p.stride() for p in loaded.state.model.parameters()] == [p.stride() for p in state.model.parameters()]


def test_any_memory_order_is_written_right(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = trained(new_state(recipe), images, recipe, 2)
    with torch.no_grad():
        for parameter in state.ema.parameters():
            parameter.data = parameter.data.t().contiguous().t() if parameter.ndim == 2 else parameter.data.contiguous()
    assert same(load_checkpoint(saved(run, state, recipe)).state, state)


@pytest.mark.parametrize("parts", [(4, 4), (1, 3, 4)])
def test_a_training_goes_on_as_if_never_stopped(
    run: Path, images: Tensor, recipe: Recipe, parts: tuple[int, ...]
) -> None:
    whole = trained(new_state(recipe), images, recipe, 8)
    state = new_state(recipe)
    for num_steps in parts:
        path = saved(run, trained(state, images, recipe, num_steps), recipe)
        state = load_checkpoint(path).state
    assert state.losses == whole.losses and same(state, whole)


def test_the_ladder_and_the_last_two_are_kept(
    run: Path, images: Tensor, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [step for step in range(2000) if is_kept(step)] == [128, 256, 512, 1024]
    monkeypatch.setattr(checkpoints, "FIRST_KEPT", 2)
    state = new_state(recipe)
    for _ in range(7):
        saved(run, trained(state, images, recipe, 1), recipe)
    assert list(checkpoints.checkpoints(run)) == [2, 4, 6, 7]


@pytest.mark.parametrize("size", [0, 7, 20_000])
def test_a_broken_newest_checkpoint_is_passed_over_aloud(
    run: Path, images: Tensor, recipe: Recipe, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    state = trained(new_state(recipe), images, recipe, 1)
    first = saved(run, state, recipe)
    second = saved(run, trained(state, images, recipe, 1), recipe)
    os.truncate(second, size)
    with caplog.at_level(logging.WARNING):
        newest = load_newest(run)
    assert newest is not None and newest.state.step == 1
    (line,) = caplog.messages
    assert str(second) in line and line.endswith("going on from step 1") and "\n" not in line
    os.truncate(first, size)
    with pytest.raises(InputError, match="no older checkpoint can be read either") as error:
        load_newest(run)
    assert "\n" not in str(error.value)


def test_a_run_before_its_first_checkpoint(run: Path) -> None:
    assert load_newest(run) is None
    with pytest.raises(InputError, match="has no checkpoint yet"):
        load_denoiser(run)


def test_the_checkpoint_of_a_step(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    for _ in range(2):
        saved(run, trained(state, images, recipe, 1), recipe)
    assert load_denoiser(run, step=1).state.step == 1 and load_denoiser(run).state.step == 2
    with pytest.raises(InputError, match=r"has no checkpoint of step 5: give one of its steps \(1, 2\)"):
        load_denoiser(run, step=5)


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"typo' does not exist|typo does not exist \(no run.json\)"):
        load_denoiser(tmp_path / "typo")
    with pytest.raises(InputError, match=r"is not the folder of a run \(no run.json\)"):
        load_denoiser(tmp_path)
    for content in (
        "",
        "[]",
        '{"format": "another"}',
        '{"format": 1',
        json.dumps({"format": checkpoints.FORMAT}),
        json.dumps({"format": checkpoints.FORMAT, "recipe": {"unet": 3}}),
    ):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(InputError, match=r"run.json: is not of this program") as error:
            load_denoiser(tmp_path)
        assert "\n" not in str(error.value)


def test_foreign_checkpoints(run: Path, images: Tensor, recipe: Recipe, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(InputError, match="is not a checkpoint of memgen-train"):
        load_checkpoint(foreign)
    save_file({"weight": torch.zeros(3)}, foreign, metadata={"memgen": "{}"})
    with pytest.raises(InputError, match="is not a checkpoint of memgen-train"):
        load_checkpoint(foreign)
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(tmp_path / "missing.safetensors")
    path = saved(run, trained(new_state(recipe), images, recipe, 1), recipe)
    wider = replace(recipe, unet=replace(recipe.unet, channels=24))
    with checkpoints.safe_open(path, framework="pt") as file:
        entries = json.loads(file.metadata()["memgen"]) | {"recipe": wider.to_dict()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, foreign, metadata={"memgen": json.dumps(entries)})
    with pytest.raises(InputError, match="holds other weights than its recipe's network"):
        load_checkpoint(foreign)


HOSTILE = {
    "channels that are text": {"unet": {"channels": "x"}},
    "channels of no group": {"unet": {"channels": 12}},
    "channels without end": {"unet": {"channels": 8 * 10**15}},
    "no channels": {"unet": {"channels": 0}},
    "more blocks than atoms": {"unet": {"num_blocks": 10**40}},
    "many blocks": {"unet": {"num_blocks": 10**6}},
    "many levels": {"unet": {"multipliers": [1] * 1000}},
    "no levels": {"unet": {"multipliers": []}},
    "a level that is text": {"unet": {"multipliers": ["1"]}},
    "an image of two sides": {"unet": {"image_shape": [1, 4]}},
    "a list that is a number": {"unet": {"attention_sides": 4}},
    "no network": {"unet": None},
    "an unknown part": {"unet": {"depth": 3}},
    "a rate that is text": {"learning_rate": "fast"},
    "a rate without end": {"learning_rate": 1e400},
    "no spread": {"sigma_data": 0},
    "a true batch": {"batch_size": True},
    "a seed below zero": {"seed": -1},
    "a name that is a list": {"data": []},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE.keys())
def test_recipes_of_no_network_are_refused_before_one_is_made(
    run: Path, images: Tensor, recipe: Recipe, changes: dict[str, Any], tmp_path: Path
) -> None:
    path = saved(run, trained(new_state(recipe), images, recipe, 1), recipe)
    with checkpoints.safe_open(path, framework="pt") as file:
        entries = json.loads(file.metadata()["memgen"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = entries["recipe"] | changes
    if changes.get("unet"):
        changed["unet"] = entries["recipe"]["unet"] | changes["unet"]
    save_file(tensors, path, metadata={"memgen": json.dumps(entries | {"recipe": changed})})
    with pytest.raises(InputError, match=r"not a checkpoint of memgen-train") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' * 50_000, "9" * 5000, '"\\ud800"', "\x00"])
def test_run_files_that_exhaust_a_parser(run: Path, text: str) -> None:
    (run / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: is not of this program") as error:
        read_recipe(run)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_training_that_was_killed_as_it_began_leaves_a_new_folder(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / TEMPORARY.format("12345")).write_text('{"format": ')
    start_run(tmp_path, recipe)
    assert read_recipe(tmp_path) == recipe


def test_processes_that_write_one_file_do_not_share_a_temporary_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, names = tmp_path / "file", []

    def seen(descriptor: int) -> None:
        names.extend(other.name for other in tmp_path.iterdir())

    monkeypatch.setattr(os, "fsync", seen)
    write_whole(path, b"first")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    write_whole(path, b"second")
    assert len({name for name in names if name != "file"}) == 2
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "exploded"),)

    torch.save({"weight": Bomb()}, tmp_path / "step-00000001.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(tmp_path / "step-00000001.safetensors")
    assert not (tmp_path / "exploded").exists()


def test_a_failing_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"first")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_a_run_of_another_recipe_is_refused_and_the_same_is_not(run: Path, recipe: Recipe) -> None:
    before = (run / "run.json").read_bytes()
    start_run(run, replace(recipe, data="the same images by another name"))
    with pytest.raises(InputError, match=r"holds a run of another recipe \(seed 1 instead of 0\): give another --out"):
        start_run(run, replace(recipe, seed=1))
    assert (run / "run.json").read_bytes() == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds files but no run"):
        start_run(tmp_path, recipe)
    with pytest.raises(InputError, match="no run can be kept there"):
        start_run(tmp_path / "thesis.tex", recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_recipes_through_json(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
