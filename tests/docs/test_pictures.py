"""The pictures of what moves each figure: made of real evaluations, which give the same numbers again."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from docs.pages import ROOT
from memgen_eval.results import CAPTIONS

FOLDER = ROOT / "docs" / "pictures"
DEFINED_IN = ("mathematics.md", "fidelity.md", "feature-spaces.md", "calibrated-ratio.md")


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    held: dict[str, Any] = json.loads((FOLDER / "numbers.json").read_text(encoding="utf-8"))
    return held


def test_what_is_drawn_is_measured_again(pictures: ModuleType, numbers: dict[str, Any]) -> None:
    """One place of one sweep; the others are made in the same way."""
    found, kept = pictures.of_samples("copies", 10), numbers["samples"]["copies"]["10"]
    assert found.keys() == kept.keys()
    for path, figure in found.items():
        for part in ("value", "low", "high"):
            value = kept[path][part]
            expected = value if value is None else pytest.approx(value, rel=1e-3, abs=1e-6)
            assert figure[part] == expected, f"{path}.{part}"
    assert found["memorization.ratio"]["value"] == kept["memorization.ratio"]["value"] == 0.1


def test_numbers_show_what_the_page_says(numbers: dict[str, Any]) -> None:
    copies, pale = numbers["samples"]["copies"], numbers["samples"]["contrast"]
    assert [copies[share]["memorization.ratio"]["value"] for share in ("0", "100")] == [0, 1]
    auc = {percent: point["novelty.auc"] for percent, point in pale.items()}  # nothing is copied there
    assert auc["10"]["value"] < auc["0"]["value"] < auc["50"]["value"] and auc["10"]["high"] < 0.5 < auc["50"]["low"]
    assert all(point["memorization.ratio"]["value"] < 0.01 for point in pale.values())
    assert copies["100"]["fidelity.precision"]["value"] > copies["0"]["fidelity.precision"]["value"]
    index = {weight: curves["denoiser.memorization_index"]["value"] for weight, curves in numbers["mixtures"].items()}
    for weight, values in index.items():
        assert [value for value in values if value is not None] == pytest.approx(
            [float(weight)] * sum(value is not None for value in values), abs=1e-4
        )


def test_the_committed_pictures_show_the_committed_numbers(
    pictures: ModuleType, numbers: dict[str, Any], tmp_path: Path
) -> None:
    """Drawn anew, all labels are the same; matplotlib's own layout may differ from one version to the next."""
    pictures.draw(numbers, tmp_path)
    names = {path.name for path in FOLDER.glob("*.svg")}
    assert names == {path.name for path in tmp_path.iterdir()}
    for name in names:
        drawn, kept = ("".join(ET.parse(folder / name).getroot().itertext()) for folder in (tmp_path, FOLDER))
        assert re.sub(r"\s|matplotlib\S*|v\d+\.\S+", "", drawn) == re.sub(r"\s|matplotlib\S*|v\d+\.\S+", "", kept)


def test_every_picture_is_shown_and_every_shown_figure_exists(pictures: ModuleType) -> None:
    text = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\(pictures/([\w-]+)\.svg\)", text))
    assert shown == set(pictures.PICTURES) | set(pictures.CURVES) == {path.stem for path in FOLDER.glob("*.svg")}
    paths = {path for listed in [*pictures.PICTURES.values(), *pictures.CURVES.values()] for path in listed}
    assert paths <= set(CAPTIONS)


def test_every_figure_is_defined() -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in DEFINED_IN)
    words = set(re.findall(r"`(\w+)`", text))
    names = {path.partition(".")[2] for path in CAPTIONS}
    twins = {name for name in names if name.startswith(("test_", "gap_")) and name.partition("_")[2] in words}
    assert sorted(names - words - twins) == []
