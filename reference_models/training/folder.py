"""The folder of a run: who may work in it, whose it is, and the recipe that it holds."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memgen_eval.errors import InputError, reading
from memgen_eval.shell import locked, remove_leftovers, write_whole
from reference_models.recipes import Recipe
from reference_models.training.pace import Pace

FORMAT = "memgen reference run, version 2"
FIRST_FORMAT = "memgen reference run, version 1"
RUN, IMAGES, CHECKPOINTS, STATES = "run.json", "train.npz", "checkpoints", "state"
LARGEST_RUN = 2**20  # bytes of a run.json, which has two thousand


@contextmanager
def alone_in(folder: Path, *, program: str = "memgen-train", kept: str = "run") -> Iterator[None]:
    """Keep other processes of a program out of a folder, which is made if need be; `kept` is what lies in it.

    Raises
    ------
    InputError
        If another process of the program is at work there, or there is no such place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: no {kept} can be kept there ({error.strerror}); give another --out") from None
    try:
        if locked(descriptor) is False:
            raise InputError(f"{folder}: another {program} is at work there; let it end, or give another --out")
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
    for place in (folder, folder / CHECKPOINTS, folder / STATES):
        remove_leftovers(place)
    if (folder / RUN).is_file():
        differences = recipe.differences(read_recipe(folder))
        if differences:
            raise InputError(f"{folder} holds a run of another recipe ({differences[0]}): give another --out")
        return
    try:
        if folder.is_dir() and any(path.suffix != ".log" for path in folder.iterdir()):  # what is printed may go there
            raise InputError(f"{folder} holds files but no run: give a new or an empty folder as --out")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: no run can be kept there ({error.strerror}); give another --out") from None
    _write(folder, {"format": FORMAT, "recipe": recipe.to_dict(), "versions": versions()})


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run.

    Raises
    ------
    InputError
        If there is no run in `folder`, or one of an older format.
    """
    path = folder / RUN
    with reading(str(path), "is not of this program", "give the --out of a memgen-train"):
        try:
            return Recipe.from_dict(_read(folder)["recipe"])
        except InputError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class KeptPace:
    """A pace, and the processor, the number of threads there and the GPU that it was measured with."""

    pace: Pace
    machine: Mapping[str, Any]


def kept_pace(folder: Path) -> KeptPace | None:
    """The pace of a run, None before it has one. Raises InputError if there is no run in `folder`."""
    entries = _read(folder)
    with reading(str(folder / RUN), "is not of this program", "give the --out of a memgen-train"):
        if "pace" not in entries:
            return None
        pace = Pace(**entries["pace"])
        types = (int, bool, bool, int)
        fits = all(type(value) is kind for value, kind in zip(astuple(pace), types, strict=True))
        if not fits or not 1 <= pace.num_workers <= pace.num_threads:
            raise ValueError(f"pace {pace}")
        return KeptPace(pace, dict(entries["machine"]))


def keep_pace(folder: Path, kept: KeptPace) -> None:
    """Write a pace into a run, in place of the one that it had."""
    _write(folder, _read(folder) | {"pace": asdict(kept.pace), "machine": dict(kept.machine)})


def versions() -> dict[str, str]:
    """Of what may change a training."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", "safetensors")}}


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    if not path.is_file():
        what = "is not the folder of a run" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what} (no {RUN}): give the --out of a memgen-train")
    with reading(str(path), "is not of this program", "give the --out of a memgen-train"):
        if path.stat().st_size > LARGEST_RUN:
            raise ValueError(f"{path.stat().st_size} bytes")
        entries: dict[str, Any] = json.loads(path.read_bytes())
        if entries["format"] == FIRST_FORMAT:
            raise InputError(f"{path}: the run is of version 1, and this program reads version 2: train it again")
        if entries["format"] != FORMAT:
            raise ValueError(f"format {entries['format']!r}")
        return entries


def _write(folder: Path, entries: Mapping[str, Any]) -> None:
    write_whole(folder / RUN, (json.dumps(entries, indent=2) + "\n").encode())
