"""Reports that earlier versions of this library wrote: each says in one line why it is not read, wherever it is given.

Each was written by the last commit of its schema: 275b663 (1), 8f20d9a (2) and a4a5770 (3).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checking import run
from memgen_eval import InputError, Report
from memgen_eval.report import SCHEMA_VERSION

OLD = sorted((Path(__file__).parent / "old_reports").glob("schema*.json"))
WHY = "schema_version is {}, expected {}; evaluate again with this version"


def why(path: Path) -> str:
    return f"{path}: report: {WHY.format(path.stem.removeprefix('schema'), SCHEMA_VERSION)}"


def test_there_is_one_of_every_earlier_schema() -> None:
    assert [path.stem for path in OLD] == [f"schema{version}" for version in range(1, SCHEMA_VERSION)]


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_python_says_why(path: Path) -> None:
    with pytest.raises(InputError) as raised:
        Report.load(path)
    assert str(raised.value) == why(path)


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_the_commands_say_why_before_any_work(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8))
    images = tmp_path / "images.npy"
    assert run(images, "--train", images, "--baseline", path, "--json", tmp_path / "new.json") == 2
    assert capsys.readouterr().err == f"memgen-eval: {why(path)}\n"
    assert run("compare", path, path) == 2
    assert capsys.readouterr().err == f"memgen-eval: {why(path)}\n"
    assert not (tmp_path / "new.json").exists()
