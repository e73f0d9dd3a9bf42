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
from reference_models.data import Selection
from reference_models.recipes import Recipe
from reference_models.training import checkpoints
from reference_models.training.checkpoints import (
    Checkpoint,
    is_kept,
    load_newest,
    load_state,
    load_trained,
    read_recipe,
    save_averages,
    save_state,
    states,
    write_whole,
)
from reference_models.training.folder import FORMAT, start_run
from reference_models.training.state import TrainingState, new_state
from reference_models.training.train import train


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
    return save_state(run, Checkpoint(recipe, state, seconds))


def kept(run: Path, state: TrainingState, recipe: Recipe) -> Path:
    return save_averages(run, Checkpoint(recipe, state, 1.5))


def everything(state: TrainingState) -> list[Tensor]:
    moments = [state.optimizer.state[p][name] for p in state.model.parameters() for name in ("exp_avg", "exp_avg_sq")]
    averages = [parameter for average in state.averages for parameter in average.parameters()]
    return [*state.model.parameters(), *averages, *moments, torch.tensor(state.losses)]


def same(first: TrainingState, second: TrainingState) -> bool:
    return all(torch.equal(a, b) for a, b in zip(everything(first), everything(second), strict=True))


def test_a_checkpoint_comes_back_bit_for_bit(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = trained(new_state(recipe), images, recipe, 3)
    assert not all(p.is_contiguous() for p in state.model.parameters())  # channels last
    loaded = load_state(saved(run, state, recipe))
    assert same(loaded.state, state) and loaded.state.step == 3
    assert loaded.recipe == recipe == read_recipe(run) and loaded.seconds == 1.5
    assert [p.stride() for p in loaded.state.model.parameters()] == [p.stride() for p in state.model.parameters()]


def test_any_memory_order_is_written_right(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = trained(new_state(recipe), images, recipe, 2)
    with torch.no_grad():
        for parameter in state.averages[0].parameters():
            parameter.data = parameter.data.t().contiguous().t() if parameter.ndim == 2 else parameter.data.contiguous()
    assert same(load_state(saved(run, state, recipe)).state, state)


@pytest.mark.parametrize("parts", [(4, 4), (1, 3, 4)])
def test_a_training_goes_on_as_if_never_stopped(
    run: Path, images: Tensor, recipe: Recipe, parts: tuple[int, ...]
) -> None:
    whole = trained(new_state(recipe), images, recipe, 8)
    state = new_state(recipe)
    for num_steps in parts:
        path = saved(run, trained(state, images, recipe, num_steps), recipe)
        state = load_state(path).state
    assert state.losses == whole.losses and same(state, whole)


def test_three_averages_to_a_doubling_are_kept() -> None:
    ladder = [64, 81, 102, 128, 161, 203, 256, 323, 406, 512, 645, 813, 1024, 1290, 1625]
    assert [step for step in range(2000) if is_kept(step)] == ladder
    assert is_kept(2**40) and not is_kept(2**40 + 1)


def test_the_last_two_states_are_kept_and_all_averages(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    for _ in range(4):
        saved(run, trained(state, images, recipe, 1), recipe)
        kept(run, state, recipe)
    assert list(states(run)) == [3, 4] and list(checkpoints.checkpoints(run)) == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 7, 20_000])
def test_a_broken_newest_checkpoint_is_passed_over_aloud(
    run: Path, images: Tensor, recipe: Recipe, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    state = trained(new_state(recipe), images, recipe, 1)
    first = saved(run, state, recipe)
    second = saved(run, trained(state, images, recipe, 1), recipe)
    os.truncate(second, size)
    with caplog.at_level(logging.WARNING):
        newest = load_newest(run, recipe)
    assert newest is not None and newest.state.step == 1
    (line,) = caplog.messages
    assert str(second) in line and line.endswith("going on from step 1") and "\n" not in line
    os.truncate(first, size)
    with pytest.raises(InputError, match="no older one can be read either") as error:
        load_newest(run, recipe)
    assert "\n" not in str(error.value)


def test_a_run_before_its_first_checkpoint(run: Path, recipe: Recipe) -> None:
    assert load_newest(run, recipe) is None
    with pytest.raises(InputError, match="has no checkpoint yet"):
        load_trained(run)


def test_the_checkpoint_of_a_step(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = new_state(recipe)
    for _ in range(2):
        kept(run, trained(state, images, recipe, 1), recipe)
    assert load_trained(run, step=1).step == 1 and load_trained(run).step == 2
    with pytest.raises(InputError, match=r"has no checkpoint of step 5: give one of its steps \(1, 2\)"):
        load_trained(run, step=5)


def test_a_trained_model_is_an_average_without_gradients(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = trained(new_state(recipe), images, recipe, 3)
    kept(run, state, recipe)
    random_state = torch.get_rng_state()
    for length, average in zip((0.05, 0.10), state.averages, strict=True):
        found = load_trained(run, ema=length)
        pairs = zip(found.denoiser.parameters(), average.parameters(), strict=True)
        assert all(torch.equal(a, b) and not a.requires_grad for a, b in pairs)
        assert (found.step, found.ema, found.recipe) == (3, length, recipe) and not found.denoiser.training
    assert load_trained(run).ema == 0.10 and torch.equal(random_state, torch.get_rng_state())


def test_an_average_of_another_length_is_put_together(run: Path, images: Tensor, recipe: Recipe) -> None:
    """Of the averages kept at every fourth step, against the average that a training of that length keeps itself."""
    other = replace(recipe, ema_lengths=(0.05, 0.07, 0.10))
    state, direct = new_state(recipe), new_state(other)
    for _ in range(8):
        kept(run, trained(state, images, recipe, 4), recipe)
        trained(direct, images, other, 4)
    found, first = load_trained(run, ema=0.07), load_trained(run, ema=0.05)
    far = near = 0.0
    for mine, short, wanted in zip(
        found.denoiser.parameters(), first.denoiser.parameters(), direct.averages[1].parameters(), strict=True
    ):
        near += (mine - wanted).square().sum().item()
        far += (short - wanted).square().sum().item()
    assert near < 0.02 * far
    for length, said in ((0.5, "between 0 and 0.28"), (0.01, "nearer to those kept (0.05, 0.1)")):
        with pytest.raises(InputError, match=f"--ema is {length}") as error:
            load_trained(run, ema=length)
        assert said in str(error.value)


def test_an_altered_checkpoint_is_refused(run: Path, images: Tensor, recipe: Recipe) -> None:
    state = trained(new_state(recipe), images, recipe, 1)
    for path, load in (
        (saved(run, state, recipe), load_state),
        (kept(run, state, recipe), lambda _: load_trained(run)),
    ):
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"has been altered \(.* has another checksum\)"):
            load(path)


def test_checkpoints_of_another_recipe(run: Path, images: Tensor, recipe: Recipe) -> None:
    other = replace(recipe, seed=1)
    state = trained(new_state(other), images, other, 1)
    saved(run, state, other)
    kept(run, state, other)
    for load in (lambda: load_newest(run, recipe), lambda: load_trained(run)):
        with pytest.raises(InputError, match=r"is a checkpoint of another recipe \(seed 1 instead of 0\): remove it"):
            load()


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"typo' does not exist|typo does not exist \(no run.json\)"):
        load_trained(tmp_path / "typo")
    with pytest.raises(InputError, match=r"is not the folder of a run \(no run.json\)"):
        load_trained(tmp_path)
    for content in (
        "",
        "[]",
        '{"format": "another"}',
        '{"format": 1',
        json.dumps({"format": FORMAT}),
        json.dumps({"format": FORMAT, "recipe": {"unet": 3}}),
    ):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(InputError, match=r"run.json: is not of this program") as error:
            load_trained(tmp_path)
        assert "\n" not in str(error.value)


def test_foreign_checkpoints(run: Path, images: Tensor, recipe: Recipe, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(InputError, match="is not a checkpoint of memgen-train"):
        load_state(foreign)
    save_file({"weight": torch.zeros(3)}, foreign, metadata={"memgen": "{}"})
    with pytest.raises(InputError, match="is not a checkpoint of memgen-train"):
        load_state(foreign)
    with pytest.raises(InputError, match="cannot be read"):
        load_state(tmp_path / "missing.safetensors")
    path = saved(run, trained(new_state(recipe), images, recipe, 1), recipe)
    wider = replace(recipe, unet=replace(recipe.unet, channels=24))
    with checkpoints.safe_open(path, framework="pt") as file:
        entries = json.loads(file.metadata()["memgen"]) | {"recipe": wider.to_dict()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, foreign, metadata={"memgen": json.dumps(entries)})
    with pytest.raises(InputError, match="holds other weights than its recipe's network"):
        load_state(foreign)


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
    "a name that is a list": {"selection": {"data": []}},
    "a half of three": {"selection": {"data": "digits", "half": "third"}},
    "a part that nobody knows": {"colour": "red"},
    "no averages": {"ema_lengths": []},
    "an average without end": {"ema_lengths": [0.3]},
    "another precision": {"precision": "float8"},
    "another parametrization": {"parametrization": "v"},
    "parts that are no whole images": {"accumulation": 5},
    "a share above one": {"unet": {"dropout": 1.5}},
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
        load_state(path)
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
        load_state(tmp_path / "step-00000001.safetensors")
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
    start_run(run, replace(recipe, selection=Selection("the same images by another name")))
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


def test_a_run_of_the_first_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": "memgen reference run, version 1", "recipe": {"data": "digits"}}')
    with pytest.raises(InputError, match="the run is of version 1, and this program reads version 2: train it again"):
        read_recipe(tmp_path)
