"""The examples of docs/loggers.md: run as they stand where the packages are, and with a small stand-in everywhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from memgen_eval import Curve, Report, evaluate

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "loggers.md").read_text(encoding="utf-8")
PREPARED, TENSORBOARD, WANDB = re.findall(
    r"^(?:<!-- run|```python)\n(.*?)^(?:-->|```)$", PAGE, re.MULTILINE | re.DOTALL
)


class Writer:
    """What the examples call of a SummaryWriter and of a run of Weights & Biases; it keeps what it is given."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        del arguments, keywords
        self.logged: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}

    def __enter__(self) -> Self:
        KEPT.append(self)
        return self

    def __exit__(self, *reason: object) -> None:
        del reason

    def add_scalar(self, name: str, value: float, step: int) -> None:
        assert isinstance(value, float) and step == 1000
        self.logged[name] = value

    def add_histogram(self, name: str, values: Any, step: int) -> None:
        assert values.ndim == 1 and np.isfinite(values).all() and step == 1000
        self.logged[name] = values

    def add_text(self, name: str, text: str, step: int) -> None:
        self.logged[name] = text

    def log(self, values: dict[str, Any], step: int) -> None:
        assert step == 1000
        self.logged |= values


KEPT: list[Writer] = []


class Table:
    """Rows under columns, all of one length, as wandb's own insists."""

    def __init__(self, columns: list[str], data: list[list[Any]]) -> None:
        assert all(len(row) == len(columns) for row in data)
        self.columns, self.data = columns, data


@pytest.fixture(scope="module")
def prepared() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(PREPARED, names)
    return names


Played = Callable[[str], Writer]


def module(name: str, **held: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(held)
    return made


def expected(report: Report) -> tuple[set[str], set[str]]:
    """The names of scalars and of curves that have values."""
    curves = {path for path, figure in report.figures() if isinstance(figure, Curve) and figure.value is not None}
    return set(report.scalars()), curves


def test_tensorboard_with_a_stand_in(prepared: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module("tensorboard", SummaryWriter=Writer))
    exec(TENSORBOARD, dict(prepared))
    scalars, curves = expected(prepared["report"])
    assert set(KEPT.pop().logged) == {name.replace(".", "/", 1) for name in scalars | curves} | {"verdict"}


def test_wandb_with_a_stand_in(prepared: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", module("wandb", init=Writer, Table=Table))
    exec(WANDB, dict(prepared))
    writer = KEPT.pop()
    scalars, curves = expected(prepared["report"])
    assert set(writer.logged) == scalars | curves
    assert writer.logged["memorization.ratio_curve"].columns == ["threshold c of d1/d2", "value", "low", "high"]
    assert writer.summary == {"verdict": prepared["report"].verdict.label}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_itself(prepared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="writes event files; of the extra dev")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    exec(TENSORBOARD, dict(prepared))
    events = EventAccumulator(str(tmp_path / "runs" / "copying"))
    events.Reload()
    scalars, curves = expected(prepared["report"])
    assert set(events.Tags()["scalars"]) == {name.replace(".", "/", 1) for name in scalars}
    assert set(events.Tags()["histograms"]) == {name.replace(".", "/", 1) for name in curves}
    (event,) = events.Scalars("novelty/auc")
    assert (event.step, event.value) == (1000, pytest.approx(prepared["report"].novelty.auc.value, rel=1e-6))


def test_wandb_itself(tmp_path: Path) -> None:
    """In a process of its own: the run is on the disk when its process has ended."""
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed: 60 MB; the stand-in above takes what the example gives it")
    (tmp_path / "runs").mkdir()
    variables = {"WANDB_SILENT": "true", "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    (tmp_path / "example.py").write_text(f"{PREPARED}\n{WANDB}")
    command = [sys.executable, "example.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("runs/wandb/offline-run-*/run-*.wandb")
    assert b"novelty.auc" in written.read_bytes()


def test_every_scalar_is_a_finite_number(prepared: dict[str, Any]) -> None:
    report = evaluate(prepared["samples"], train=prepared["train"], metrics=["novelty"])
    assert all(isinstance(value, float) and np.isfinite(value) for value in report.scalars().values())
