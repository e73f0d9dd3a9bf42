"""The reproductions: tables as the committed lines give them, and sentences that these lines bear out."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.reproductions import figures_of
from docs.pages import ROOT
from reference_models.study.sweep import read_sweep
from trajectory.courses import TEMPLATE

FOLDER = ROOT / "docs" / "reproductions"
RAW = FOLDER / "raw"
PAGE = (FOLDER / "index.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def studies(draw: ModuleType) -> dict[str, Any]:
    return {name: draw.read_study(RAW / f"{name}.jsonl") for name in ("digits", "cifar10", "halves")}


def test_the_tables_are_those_of_the_lines(draw: ModuleType) -> None:
    assert draw.with_tables(PAGE, draw.tables(RAW)) == PAGE
    assert draw.with_tables(PAGE, {"slopes": "changed"}) != PAGE


def test_every_picture_is_drawn_and_shown(draw: ModuleType) -> None:
    for name, made in draw.pictures(RAW).items():
        assert (FOLDER / "pictures" / f"{name}.svg").is_file() and f"(pictures/{name}.svg)" in PAGE
        assert made().axes[0].lines


@pytest.mark.parametrize("name", ["digits", "cifar10", "halves"])
def test_the_lines_are_of_the_sweep(name: str, studies: dict[str, Any]) -> None:
    runs = read_sweep(FOLDER / f"{name}.toml").runs()
    assert studies[name].run_names() == [run.name for run in runs]
    assert f"{name}.toml" in studies[name].header["command"]
    assert {row["run"]: row["factors"] for row in studies[name].rows} == {run.name: dict(run.factors) for run in runs}


def test_exponents_are_near_those_of_least_squares(studies: dict[str, Any]) -> None:
    """The fit knows between which checkpoints an onset lies; a line through their geometric means differs little."""
    for name in ("digits", "cifar10"):
        study = studies[name]
        found = [(row["factors"]["num_images"], study.found["onsets"][row["run"]]["onset_copy"]) for row in study.rows]
        points = {(n, onset["before"], onset["step"]["value"]) for n, onset in found}
        n, before, step = np.array(sorted(points), dtype=float).T
        slope = np.polyfit(np.log(n), np.log(np.sqrt(before * step)), 1)[0]
        (fit,) = (fit for fit in study.found["fits"] if fit["factor"] == "num_images" and fit["onset"] == "onset_copy")
        assert fit["exponent"]["value"] == pytest.approx(slope, abs=0.1)
        assert fit["exponent"]["low"] < 1 < fit["exponent"]["high"]


def test_the_loss_diverges_first_in_every_run(studies: dict[str, Any]) -> None:
    for name in ("digits", "cifar10"):
        for run, onsets in studies[name].found["onsets"].items():
            loss, copies = (onsets[onset]["step"]["value"] for onset in ("onset_loss", "onset_copy"))
            assert loss < copies, run


def test_the_distance_from_the_gaussian_model_falls_and_rises(studies: dict[str, Any], draw: ModuleType) -> None:
    study = studies["cifar10"]
    for run in study.run_names():
        steps, figures = study.course(run, "gaussian.nmse", sigma=draw.MIDDLE_SIGMA)
        values = [figure[0] for figure in figures]
        lowest, onset = int(np.argmin(values)), study.found["onsets"][run]["onset_copy"]["step"]["value"]
        assert steps[0] < steps[lowest] < onset and values[-1] > 1.2 * values[lowest]


def test_lines_hold_what_a_report_holds() -> None:
    row, families = figures_of(TEMPLATE), TEMPLATE.to_dict()
    for name, parts in row.items():
        if name != "sigma":
            family, figure = name.split(".")
            held = [families[family][figure][part] for part in ("value", "low", "high")]
            assert np.allclose(np.array(parts, dtype=float), np.array(held, dtype=float), rtol=1e-5, equal_nan=True)
    assert {"memorization.ratio", "denoiser.gap_test", "gaussian.nmse"} <= row.keys()
    assert np.allclose(row["sigma"], families["denoiser"]["gap_test"]["x"]["values"], rtol=1e-5)
