"""Checkpoints as safetensors: averages that are kept, states to go on from. Written whole, never unpickled.

``checkpoints/step-00000128.safetensors`` holds the averages of the weights; three to each doubling of the step stay,
and the last. ``state/step-00000150.safetensors`` holds all that a training needs to go on; the newest two stay.
"""

from __future__ import annotations

import json
import logging
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from memgen_eval.data.tensors import check_header
from memgen_eval.errors import InputError, one_line, reading
from memgen_eval.shell import write_whole
from reference_models.precond import Preconditioned
from reference_models.recipes import Recipe
from reference_models.training.averages import LONGEST, Kept, combination
from reference_models.training.folder import CHECKPOINTS, FORMAT, IMAGES, RUN, STATES, read_recipe, versions
from reference_models.training.state import TrainingState, new_model, new_state

NAME = re.compile(r"step-(\d{1,18})\.safetensors", re.ASCII)
AVERAGES, STATE = "averages", "state"  # kinds of checkpoint
MOMENTS = ("exp_avg", "exp_avg_sq")
FIRST_KEPT, KEPT_PER_DOUBLING = 64, 3
NUM_STATES = 2
MOST_ERROR = 0.15  # of a combination of averages, in parts of the norm

Shape = tuple[int, ...]

log = logging.getLogger("reference_models")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training as it stood: its recipe, its state, and the seconds that it had taken."""

    recipe: Recipe
    state: TrainingState
    seconds: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model.

    Attributes
    ----------
    recipe : Recipe
        Of its training.
    step : int
        After how many steps.
    ema : float
        The relative length of the average that its weights are.
    denoiser : Preconditioned
        ``D(x, sigma)``, in eval mode and without gradients.
    """

    recipe: Recipe
    step: int
    ema: float
    denoiser: Preconditioned


@dataclass(frozen=True, eq=False)
class _Entries:
    """What a checkpoint says of itself."""

    recipe: Recipe
    step: int
    seconds: float
    crc32: Mapping[str, int]  # of each tensor's bytes


def checkpoints(folder: Path) -> dict[int, Path]:
    """The kept averages of a run by step, the oldest first."""
    return _by_step(folder / CHECKPOINTS)


def states(folder: Path) -> dict[int, Path]:
    """The states of a run from which it can go on by step, the oldest first."""
    return _by_step(folder / STATES)


def run_files(folder: Path) -> list[Path]:
    """What nothing else may be written over: recipe, images and checkpoints of a run."""
    return [folder / RUN, folder / IMAGES, *checkpoints(folder).values(), *states(folder).values()]


def is_kept(step: int) -> bool:
    """Whether the averages of a step stay: ``round(2^(k / 3))`` from 64 on, for the trajectory of a training."""
    rung = round(KEPT_PER_DOUBLING * math.log2(step)) if step >= FIRST_KEPT else 0
    return step >= FIRST_KEPT and step == round(2 ** (rung / KEPT_PER_DOUBLING))


def save_averages(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write the averages of a step. Raises InputError if they cannot be written."""
    tensors = _named(AVERAGES, checkpoint.state.averages)
    return _write(folder / CHECKPOINTS, AVERAGES, checkpoint, tensors)


def save_state(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write all that the training needs to go on, then drop the states before the last two.

    Raises
    ------
    InputError
        If it cannot be written; the states before it are untouched.
    """
    state = checkpoint.state
    tensors = _named("model", [state.model]) | _named(AVERAGES, state.averages)
    for key, parameter in state.model.named_parameters():
        tensors |= {f"{moment}.0.{key}": state.optimizer.state[parameter][moment] for moment in MOMENTS}
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float32)
    path = _write(folder / STATES, STATE, checkpoint, tensors)
    older = [other for step, other in states(folder).items() if step < state.step]
    for other in older[: 1 - NUM_STATES]:
        other.unlink()
    return path


def load_state(path: Path, *, device: torch.device | str = "cpu", channels_last: bool = True) -> Checkpoint:
    """A training as it was saved, equal bit for bit.

    Raises
    ------
    InputError
        If the file is missing, cut off, altered, or not written by `save_state`.
    """
    with _opened(path) as file:
        entries = _entries(file, STATE, path)
        tensors = _tensors(file, entries, file.keys(), path)
        state = new_state(entries.recipe, device=device, channels_last=channels_last)
        _restore(state, tensors)
    return Checkpoint(entries.recipe, state, entries.seconds)


def load_newest(
    folder: Path,
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    channels_last: bool = True,
) -> Checkpoint | None:
    """The newest state of a run that can be read, None if there is none yet; what was passed over is logged.

    Raises
    ------
    InputError
        If there are states, and none can be read; or if one is of another recipe.
    """
    refused = ""
    for step, path in reversed(states(folder).items()):
        try:
            checkpoint = load_state(path, device=device, channels_last=channels_last)
        except InputError as error:
            refused = refused or str(error)
            continue
        _check_recipe(path, checkpoint.recipe, recipe)
        if refused:
            log.warning("%s; going on from step %d", refused, step)
        return checkpoint
    if refused:
        raise InputError(f"{refused}; no older one can be read either: remove {folder / STATES} to begin again")
    return None


def load_trained(
    folder: Path, *, step: int | None = None, ema: float | None = None, device: torch.device | str = "cpu"
) -> Trained:
    """The model of a run after a kept step, its weights an average over the steps before.

    Parameters
    ----------
    folder : path
        The ``--out`` of a memgen-train.
    step : int, optional
        Of `checkpoints`; the newest by default.
    ema : float, optional
        The relative length of the average: one of the recipe's, or another, which is then put together of all kept
        averages up to the step. The recipe's last by default.
    device : torch.device or str
        Where the model goes.

    Raises
    ------
    InputError
        If `folder` holds no run, or the run no such checkpoint, or the kept averages make none of that length.
    """
    recipe, found = read_recipe(folder), checkpoints(folder)
    if not found:
        raise InputError(f"{folder} has no checkpoint yet: let memgen-train go on")
    if step is not None and step not in found:
        known = ", ".join(map(str, found))
        raise InputError(f"{folder} has no checkpoint of step {step}: give one of its steps ({known})")
    wanted = Kept(max(found) if step is None else step, recipe.ema_lengths[-1] if ema is None else ema)
    coefficients = _coefficients(recipe, list(found), wanted)
    with torch.random.fork_rng(devices=[]):
        denoiser = new_model(recipe).requires_grad_(False).eval()
    parameters = dict(denoiser.named_parameters())
    for parameter in parameters.values():
        parameter.zero_()
    for kept, coefficient in coefficients.items():
        weights = _average(found[kept.step], recipe, recipe.ema_lengths.index(kept.length))
        for key, parameter in parameters.items():
            parameter.add_(weights[key], alpha=coefficient)
    return Trained(recipe, wanted.step, wanted.length, denoiser.to(device))


def _coefficients(recipe: Recipe, steps: list[int], wanted: Kept) -> dict[Kept, float]:
    """Of which kept averages another one is made."""
    if wanted.length in recipe.ema_lengths:
        return {wanted: 1.0}
    if not 0 < wanted.length < LONGEST:
        raise InputError(f"--ema is {wanted.length}, expected a relative length between 0 and {LONGEST}")
    kept = [Kept(step, length) for step in steps if step <= wanted.step for length in recipe.ema_lengths]
    made = combination(kept, wanted)
    if made.error > MOST_ERROR:
        known = ", ".join(map(str, recipe.ema_lengths))
        raise InputError(
            f"--ema is {wanted.length}, and the averages kept up to step {wanted.step} come only within "
            f"{made.error:.0%} of it: give one that is nearer to those kept ({known})"
        )
    return dict(zip(kept, made.coefficients.tolist(), strict=True))


def _average(path: Path, recipe: Recipe, place: int) -> dict[str, Tensor]:
    """The weights of one average of a checkpoint, by the model's names of them."""
    prefix = f"{AVERAGES}.{place}."
    with _opened(path) as file:
        entries = _entries(file, AVERAGES, path)
        _check_recipe(path, entries.recipe, recipe)
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        tensors = _tensors(file, entries, names, path)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _by_step(place: Path) -> dict[int, Path]:
    found = {int(match[1]): path for path in place.glob("*") if (match := NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def _named(part: str, models: Iterable[nn.Module]) -> dict[str, Tensor]:
    """The weights of models as they are called in a checkpoint."""
    return {
        f"{part}.{place}.{key}": parameter
        for place, model in enumerate(models)
        for key, parameter in model.named_parameters()
    }


def _write(place: Path, kind: str, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint, its tensors made contiguous: the weights of a channels-last network are not."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    entries = {
        "format": FORMAT,
        "kind": kind,
        "step": checkpoint.state.step,
        "seconds": checkpoint.seconds,
        "recipe": checkpoint.recipe.to_dict(),
        "versions": versions(),
        "crc32": {name: _crc32(tensor) for name, tensor in plain.items()},
    }
    path = place / f"step-{checkpoint.state.step:08d}.safetensors"
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: cannot be made ({error.strerror}); free the disk or give another --out") from None
    write_whole(path, save(plain, metadata={"memgen": json.dumps(entries)}))
    return path


def _crc32(tensor: Tensor) -> int:
    return zlib.crc32(tensor.numpy().reshape(-1).data.cast("B")) if tensor.numel() else 0


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with reading(str(path), "cannot be read", "it is cut off or not a checkpoint, an older one may be whole"):
        check_header(path)
        with safe_open(path, framework="pt") as file:
            yield file


def _entries(file: Any, kind: str, path: Path) -> _Entries:
    """What a checkpoint of this kind says of itself, once its tensors fit its recipe; no network is made for that."""
    try:
        entries = json.loads((file.metadata() or {}).get("memgen") or "")
        if (entries["format"], entries["kind"]) != (FORMAT, kind):
            raise ValueError(f"{entries['format']!r}, {entries['kind']!r}")
        recipe = Recipe.from_dict(entries["recipe"])
        crc32 = {name: int(entries["crc32"][name]) for name in file.keys()}  # noqa: SIM118
        found = _Entries(recipe, int(entries["step"]), float(entries["seconds"]), crc32)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"{path} is not a checkpoint of memgen-train ({one_line(error)}): give the --out of a memgen-train"
        ) from None
    given = {name: tuple(file.get_slice(name).get_shape()) for name in crc32}
    if recipe.unet.num_blocks > len(given) or given != _expected(recipe, kind, found.step):
        raise InputError(
            f"{path} holds other weights than its recipe's network: it is not a checkpoint of memgen-train"
        )
    return found


def _expected(recipe: Recipe, kind: str, step: int) -> dict[str, Shape]:
    """The shape of every tensor of a checkpoint, found without memory for any."""
    with torch.device("meta"):
        model = new_model(recipe)
    averages = _named(AVERAGES, [model] * len(recipe.ema_lengths))
    if kind == AVERAGES:
        return {name: tuple(tensor.shape) for name, tensor in averages.items()}
    whole = averages | {name: tensor for part in ("model", *MOMENTS) for name, tensor in _named(part, [model]).items()}
    return {name: tuple(tensor.shape) for name, tensor in whole.items()} | {"losses": (step,)}


def _tensors(file: Any, entries: _Entries, names: Iterable[str], path: Path) -> dict[str, Tensor]:
    """The tensors of these names, as they were written."""
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors[name] = file.get_tensor(name)
        if _crc32(tensors[name]) != entries.crc32[name]:
            raise InputError(f"{path} has been altered ({name} has another checksum): an older checkpoint may be whole")
    return tensors


def _check_recipe(path: Path, found: Recipe, expected: Recipe) -> None:
    differences = found.differences(expected)
    if differences:
        raise InputError(f"{path} is a checkpoint of another recipe ({differences[0]}): remove it")


def _restore(state: TrainingState, tensors: Mapping[str, Tensor]) -> None:
    models = {"model.0": state.model} | {f"{AVERAGES}.{place}": model for place, model in enumerate(state.averages)}
    with torch.no_grad():
        for part, model in models.items():
            for key, parameter in model.named_parameters():
                parameter.copy_(tensors[f"{part}.{key}"])
    state.losses.extend(tensors["losses"].tolist())
    moments: dict[int, dict[str, Any]] = {}
    for index, (key, parameter) in enumerate(state.model.named_parameters()):
        restored = {name: torch.empty_like(parameter).copy_(tensors[f"{name}.0.{key}"]) for name in MOMENTS}
        moments[index] = {"step": torch.tensor(float(state.step)), **restored}
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
