"""Run folders: the recipe as JSON, checkpoints as safetensors; written whole or not at all, nothing ever unpickled."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from memgen_eval.data.tensors import check_header
from memgen_eval.errors import InputError, one_line, reading
from memgen_eval.shell import locked, remove_leftovers, write_whole
from reference_models.precond import Preconditioned
from reference_models.recipes import Recipe
from reference_models.training.train import TrainingState, new_model, new_state

FORMAT = "memgen reference run, version 1"
RUN, IMAGES, CHECKPOINTS = "run.json", "train.npz", "checkpoints"
NAME = re.compile(r"step-(\d{1,18})\.safetensors", re.ASCII)
PARTS, MOMENTS = ("model", "ema"), ("exp_avg", "exp_avg_sq")
FIRST_KEPT = 128
LARGEST_RUN = 2**20  # bytes of a run.json, which has two thousand

Shape = tuple[int, ...]

log = logging.getLogger("reference_models")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training as it stood: its recipe, its state, and the seconds that it had taken."""

    recipe: Recipe
    state: TrainingState
    seconds: float


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder, which is made if need be.

    Raises
    ------
    InputError
        If another process trains there, or there is no such place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: no run can be kept there ({error.strerror}); give another --out") from None
    try:
        if locked(descriptor) is False:
            raise InputError(f"{folder}: another memgen-train is at work there; let it end, or give another --out")
        yield
    finally:
        os.close(descriptor)


def start_run(folder: Path, recipe: Recipe) -> None:
    """Make `folder` the run of this recipe, or find that it is; what a killed training left half written is removed.

    Raises
    ------
    InputError
        If it holds another recipe's run, or anything else, or cannot be written.
    """
    for place in (folder, folder / CHECKPOINTS):
        remove_leftovers(place)
    if (folder / RUN).is_file():
        differences = recipe.differences(read_recipe(folder))
        if differences:
            raise InputError(f"{folder} holds a run of another recipe ({differences[0]}): give another --out")
        return
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} holds files but no run: give a new or an empty folder as --out")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: no run can be kept there ({error.strerror}); give another --out") from None
    entries = {"format": FORMAT, "recipe": recipe.to_dict(), "versions": versions()}
    write_whole(folder / RUN, (json.dumps(entries, indent=2) + "\n").encode())


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run. Raises InputError if there is no run in `folder`."""
    path = folder / RUN
    if not path.is_file():
        what = "is not the folder of a run" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what} (no {RUN}): give the --out of a memgen-train")
    with reading(str(path), "is not of this program", "give the --out of a memgen-train"):
        if path.stat().st_size > LARGEST_RUN:
            raise ValueError(f"{path.stat().st_size} bytes")
        entries = json.loads(path.read_bytes())
        if entries["format"] != FORMAT:
            raise ValueError(f"format {entries['format']!r}")
        return Recipe.from_dict(entries["recipe"])


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by step, the oldest first."""
    found = {int(match[1]): path for path in (folder / CHECKPOINTS).glob("*") if (match := NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def run_files(folder: Path) -> list[Path]:
    """What nothing else may be written over: recipe, images and checkpoints of a run."""
    return [folder / RUN, folder / IMAGES, *checkpoints(folder).values()]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, then drop older ones: those of steps 128, 256, 512, ... and the last one before stay.

    Raises
    ------
    InputError
        If it cannot be written; the checkpoints before it are untouched.
    """
    state = checkpoint.state
    entries = {
        "format": FORMAT,
        "step": state.step,
        "seconds": checkpoint.seconds,
        "recipe": checkpoint.recipe.to_dict(),
        "versions": versions(),
    }
    (folder / CHECKPOINTS).mkdir(exist_ok=True)
    older = [step for step in checkpoints(folder) if step < state.step]
    path = folder / CHECKPOINTS / f"step-{state.step:08d}.safetensors"
    write_whole(path, save(_tensors(state), metadata={"memgen": json.dumps(entries)}))
    for step in older[:-1]:
        if not is_kept(step):
            checkpoints(folder)[step].unlink()
    return path


def is_kept(step: int) -> bool:
    """Whether the checkpoint of a step stays: a ladder of doublings, for the trajectory of a training."""
    return step >= FIRST_KEPT and (step & (step - 1)) == 0


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """A checkpoint, equal bit for bit to what was saved.

    Raises
    ------
    InputError
        If the file is missing, cut off, or not written by `save_checkpoint`.
    """
    with reading(str(path), "cannot be read", "it is cut off or not a checkpoint, an older one may be whole"):
        check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("memgen")
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            recipe, seconds = _entries(metadata, shapes, path)
            tensors = {name: file.get_tensor(name) for name in shapes}
        state = new_state(recipe, device=device)
        _restore(state, tensors)
    return Checkpoint(recipe, state, seconds)


def _entries(metadata: str | None, shapes: Mapping[str, Shape], path: Path) -> tuple[Recipe, float]:
    """The recipe and the seconds of a checkpoint whose tensors fit the recipe; no network is made to find out."""
    try:
        entries = json.loads(metadata or "")
        recipe, seconds = Recipe.from_dict(entries["recipe"]), float(entries["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a checkpoint of memgen-train ({one_line(error)}): give the --out of a memgen-train"
        ) from None
    given = {name: shape for name, shape in shapes.items() if name != "losses"}
    if len(shapes.get("losses", ())) != 1 or recipe.unet.num_blocks > len(given) or given != _expected(recipe):
        raise InputError(
            f"{path} holds other weights than its recipe's network: it is not a checkpoint of memgen-train"
        )
    return recipe, seconds


def _expected(recipe: Recipe) -> dict[str, Shape]:
    """The shape of every tensor of a checkpoint but the losses, found without memory for any."""
    with torch.device("meta"):
        parameters = dict(new_model(recipe).named_parameters())
    parts = (*PARTS, *MOMENTS)
    return {f"{part}.{key}": tuple(parameter.shape) for part in parts for key, parameter in parameters.items()}


def load_newest(folder: Path, *, device: torch.device | str = "cpu") -> Checkpoint | None:
    """The newest checkpoint that can be read, None if there is none yet; what was passed over is logged.

    Raises
    ------
    InputError
        If there are checkpoints, and none can be read.
    """
    refused = ""
    for step, path in reversed(checkpoints(folder).items()):
        try:
            checkpoint = load_checkpoint(path, device=device)
        except InputError as error:
            refused = refused or str(error)
            continue
        if refused:
            log.warning("%s; going on from step %d", refused, step)
        return checkpoint
    if refused:
        raise InputError(
            f"{refused}; no older checkpoint can be read either: remove {folder / CHECKPOINTS} to begin again"
        )
    return None


def load_denoiser(folder: Path, *, step: int | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """The checkpoint of a step, or the newest one, of a run that has any.

    Raises
    ------
    InputError
        If `folder` holds no run, or the run no such checkpoint.
    """
    read_recipe(folder)
    found = checkpoints(folder)
    if step is not None and step not in found:
        known = ", ".join(map(str, found)) or "none"
        raise InputError(f"{folder} has no checkpoint of step {step}: give one of its steps ({known})")
    newest = load_newest(folder, device=device) if step is None else load_checkpoint(found[step], device=device)
    if newest is None:
        raise InputError(f"{folder} has no checkpoint yet: let memgen-train go on")
    return newest


def versions() -> dict[str, str]:
    """Of what may change a training."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", "safetensors")}}


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    """Everything that a state holds, made contiguous: the weights of a channels-last network are not."""
    tensors = {"losses": torch.tensor(state.losses, dtype=torch.float32)}
    for name, model in _models(state).items():
        tensors |= {f"{name}.{key}": parameter for key, parameter in model.named_parameters()}
    for key, parameter in state.model.named_parameters():
        tensors |= {f"{moment}.{key}": state.optimizer.state[parameter][moment] for moment in MOMENTS}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _restore(state: TrainingState, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(state.model.named_parameters())
    with torch.no_grad():
        for part, model in _models(state).items():
            for key, parameter in model.named_parameters():
                parameter.copy_(tensors[f"{part}.{key}"])
    state.losses.extend(tensors["losses"].float().tolist())
    moments: dict[int, dict[str, Any]] = {}
    for index, (key, parameter) in enumerate(parameters.items()):
        restored = {name: torch.empty_like(parameter).copy_(tensors[f"{name}.{key}"]) for name in MOMENTS}
        moments[index] = {"step": torch.tensor(float(state.step)), **restored}
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _models(state: TrainingState) -> dict[str, Preconditioned]:
    return dict(zip(PARTS, (state.model, state.ema), strict=True))
