"""A sweep file: fixed settings and lists; the lists are the factors of a grid, and each cell of it is a run."""

from __future__ import annotations

import argparse
import itertools
import math
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memgen_eval.errors import InputError
from reference_models import train_cli

Value = str | int | float | bool
OWN_FLAGS = ("help", "out", "trajectory", "no_evaluate", "data_dir")  # what a study decides itself
LENGTHS = ("steps", "epochs", "minutes")
MAY_BE_ZERO = ("seed", "dropout", "warmup")
TEACHER = "teacher"
LARGEST_FILE, MOST_RUNS = 2**20, 10_000  # bytes, cells of a grid


@dataclass(frozen=True)
class PlannedRun:
    """A cell of the grid: its name, its values of the factors, and all settings of its training."""

    name: str
    factors: Mapping[str, Value]
    settings: Mapping[str, Value]


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says: settings that all runs share, and the values of those that differ.

    `teacher` is the run whose samples the runs are trained on, ``"gaussian"``, or None.
    """

    fixed: Mapping[str, Value]
    factors: Mapping[str, tuple[Value, ...]]
    teacher: str | None = None

    def runs(self) -> list[PlannedRun]:
        """Every combination of the factors' values; the last factor of the file changes fastest."""
        cells = [dict(zip(self.factors, cell, strict=True)) for cell in itertools.product(*self.factors.values())]
        return [PlannedRun(_name(cell), cell, {**self.fixed, **cell}) for cell in cells]


def read_sweep(path: Path) -> Sweep:
    """The sweep of a TOML file.

    Raises
    ------
    InputError
        If the file cannot be read, or holds a name that `memgen-train` does not know, a value that it cannot take, an
        empty list or one that repeats a value.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: is larger than {LARGEST_FILE:,} bytes: give a file of settings and lists")
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a TOML file of settings") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not TOML ({' '.join(str(error).split())})") from None
    return _sweep(entries, path)


def options() -> dict[str, argparse.Action]:
    """The options of ``memgen-train`` that a sweep file may set, by their names there."""
    known = train_cli.parser()._actions
    return {action.dest: action for action in known if action.dest not in OWN_FLAGS}


def command_line(settings: Mapping[str, Value]) -> list[str]:
    """The words of ``memgen-train`` for these settings, in the order of its options."""
    words = []
    for name, action in options().items():
        value = settings.get(name)
        if value is None:
            continue
        if action.nargs != 0:
            words += [action.option_strings[0], str(value)]
        elif value:
            words.append(action.option_strings[0])
    return words


def _sweep(entries: Mapping[str, Any], path: Path) -> Sweep:
    known = options()
    fixed: dict[str, Value] = {}
    factors: dict[str, tuple[Value, ...]] = {}
    for key, given in entries.items():
        if key == TEACHER:
            continue
        if key not in known:
            raise InputError(f"{path}: {key} is not a setting of memgen-train: give some of {', '.join(known)}")
        values = given if isinstance(given, list) else [given]
        for value in values:
            _check_value(value, known[key], where=f"{path}: {key}")
        if not isinstance(given, list):
            fixed[key] = given
            continue
        _check_list(values, where=f"{path}: {key}")
        factors[key] = tuple(values)
    sweep = Sweep(fixed, factors, _teacher(entries, path))
    _check_grid(sweep, path)
    return sweep


def _teacher(entries: Mapping[str, Any], path: Path) -> str | None:
    teacher = entries.get(TEACHER)
    if teacher is not None and (not isinstance(teacher, str) or not teacher):
        raise InputError(f'{path}: {TEACHER} is {teacher!r:.80}, expected the folder of a run or "gaussian"')
    return teacher


def _check_value(value: Any, action: argparse.Action, *, where: str) -> None:
    """Raise InputError for what the option cannot take."""
    if action.choices is not None and value not in action.choices:
        raise InputError(f"{where} is {value!r:.80}, expected one of {', '.join(map(str, action.choices))}")
    if action.nargs == 0:
        expected, fits = "true or false", isinstance(value, bool)
    elif action.type is int:
        expected, fits = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    elif action.type is float:
        expected, fits = "a number", isinstance(value, int | float) and not isinstance(value, bool)
    else:
        expected, fits = "text", isinstance(value, str) and bool(value)
    if not fits:
        raise InputError(f"{where} is {value!r:.80}, expected {expected}")
    if action.type in (int, float) and not _least(action) <= value < math.inf:
        least = "of at least 0" if action.dest in MAY_BE_ZERO else "above 0"
        raise InputError(f"{where} is {value}, expected {expected} {least}")


def _least(action: argparse.Action) -> float:
    """The smallest number that makes sense."""
    return 0 if action.dest in MAY_BE_ZERO else math.ulp(0)


def _check_list(values: Sequence[Value], *, where: str) -> None:
    if not values:
        raise InputError(f"{where} is an empty list: give one value or more, or leave it out")
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        raise InputError(f"{where} holds {value!r} twice: give each value once")


def _check_grid(sweep: Sweep, path: Path) -> None:
    named = [*sweep.fixed, *sweep.factors]
    if "data" not in named and sweep.teacher in (None, "gaussian"):
        raise InputError(f'{path}: data is missing: give the images to train on, such as data = "digits"')
    if "data" in named and sweep.teacher not in (None, "gaussian"):
        raise InputError(f"{path}: gives data and a teacher, whose samples the runs are trained on: leave out data")
    lengths = [name for name in LENGTHS if name in named]
    if len(lengths) > 1:
        raise InputError(f"{path}: gives {' and '.join(lengths)}: one of them is the length of a run")
    if not sweep.factors:
        raise InputError(f"{path}: holds no list: give a factor, such as num_images = [50, 100, 200]")
    num_runs = math.prod(map(len, sweep.factors.values()))
    if num_runs > MOST_RUNS:
        raise InputError(f"{path}: makes {num_runs:,} runs, expected at most {MOST_RUNS:,}: give shorter lists")
    name, count = Counter(run.name for run in sweep.runs()).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: {count} runs would be called {name}: give values that differ in letters and digits")


def _name(cell: Mapping[str, Value]) -> str:
    """A cell as the name of a folder, such as ``num_images=100,seed=0``."""
    return ",".join(f"{factor}={_word(value)}" for factor, value in cell.items())


def _word(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^\w.+-]+", "-", text)
