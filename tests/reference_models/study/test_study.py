"""`memgen-study` as a user meets it: a study of two small trainings, an array job, and what cannot be used."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memgen_eval.diffusion.gaussian import spectrum
from reference_models import study_cli
from reference_models.data import Selection
from reference_models.study.comparing import NUM_SAMPLES
from reference_models.study.sweep import Sweep
from reference_models.study.teacher import prepared, teacher_of

ROOT = Path(__file__).parents[3]
STUDY = """\
data = "digits"
teacher = "gaussian"
half = ["first", "second"]
num_images = 8
steps = 66
preset = "tiny"
batch_size = 8
num_samples = 20
threads = 1
"""


def run(*arguments: object) -> int:
    return study_cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("studies")
    (place / "sweep.toml").write_text(STUDY)
    assert run(place / "sweep.toml", "--out", place / "study", "--processes", 2) == 0
    return place / "study"


def test_a_study_leaves_a_table_data_and_a_page(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "runs.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["half"] for row in rows] == ["first", "second"]
    assert rows[0]["command"].startswith("memgen-train --data teacher.npz --num-images 8 --half first")
    data = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert data["runs"][0]["course"]["steps"] == [64, 66]
    assert data["halves"][0]["names"] == ["half=first", "half=second"]
    assert data["halves"][0]["cosine"]["count"] == NUM_SAMPLES
    assert [one["name"] for one in data["taught"]] == ["half=first", "half=second"]
    page = (folder / "study.html").read_text(encoding="utf-8")
    assert "Students of a known teacher" in page and "Two models on disjoint halves" in page
    assert str(folder) not in page + json.dumps(data)


def test_the_halves_share_no_image(folder: Path) -> None:
    halves = [np.load(folder / "runs" / f"half={half}" / "train.npz")["arr_0"] for half in ("first", "second")]
    teacher = np.load(folder / "teacher.npz")["arr_0"]
    assert teacher.shape == (16, 8, 8, 1) and teacher.dtype == np.uint8
    drawn = {image.tobytes() for image in teacher}
    first, second = ({image.tobytes() for image in half} for half in halves)
    assert first | second == drawn and not first & second


def test_a_finished_study_is_not_done_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*")}
    kept = [(folder / name).read_bytes() for name in ("runs.csv", "study.json", "study.html")]
    assert run(folder.parent / "sweep.toml", "--out", folder) == 0
    assert run(folder.parent / "sweep.toml", "--out", folder, "--only", 1) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*")} == before
    assert [(folder / name).read_bytes() for name in ("runs.csv", "study.json", "study.html")] == kept


def test_a_run_can_teach(folder: Path, tmp_path: Path) -> None:
    sweep = Sweep({"num_images": 5}, {"seed": (0, 1)}, str(folder / "runs" / "half=first"))
    source = prepared(sweep, tmp_path, data_dir=None)
    assert source.data is not None and np.load(source.data)["arr_0"].shape == (5, 8, 8, 1)
    assert teacher_of(sweep, data_dir=None)[1] == (1, 8, 8)
    made = Path(source.data).stat().st_mtime_ns
    prepared(sweep, tmp_path, data_dir=None)
    assert Path(source.data).stat().st_mtime_ns == made


def test_the_gaussian_teacher_has_the_moments_of_its_images(tmp_path: Path) -> None:
    sweep = Sweep({"data": "digits"}, {"num_images": (100, 400)}, "gaussian")
    prepared(sweep, tmp_path, data_dir=None)
    drawn = np.load(tmp_path / "teacher.npz")["arr_0"].reshape(400, -1).astype(np.float64)
    law = spectrum(Selection("digits").train().array())
    mean = (law.mean + 1) * 127.5
    inside = (mean > 60) & (mean < 195)  # elsewhere grey levels are cut to 0 and 255
    assert np.abs(drawn.mean(axis=0) - mean)[inside].max() < 25


def test_an_array_job_does_the_runs(tmp_path: Path) -> None:
    """As SLURM would start it: a script on its own, with the number of the task in the environment."""
    (tmp_path / "sweep.toml").write_text('data = "absent.npz"\nseed = [3, 4]\n')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "1"}
    words = [sys.executable, "-m", study_cli.MODULE, "sweep.toml", "--out", "a study", "--slurm"]
    printed = subprocess.run(words, capture_output=True, text=True, env=environment, check=True, cwd=tmp_path)
    job = tmp_path / "job.sh"
    job.write_text(printed.stdout)
    assert "#SBATCH --array=0-1\n" in printed.stdout
    task = subprocess.run(["bash", str(job)], capture_output=True, text=True, env=environment, check=False, cwd="/")
    assert task.returncode == 1
    assert "memgen-study: seed=4 failed: memgen-train: train: 'absent.npz' does not exist" in task.stderr
    assert [path.name for path in (tmp_path / "a study" / "runs").iterdir()] == ["seed=4"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--processes", 0), "--processes is 0, expected a whole number of at least 1"),
        (("--only", 2), "--only is 2: the sweep has 2 runs, give 0 to 1"),
        (("--only", -1), "--only is -1: the sweep has 2 runs"),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], told: str
) -> None:
    (tmp_path / "sweep.toml").write_text('data = "digits"\nseed = [0, 1]\n')
    assert run(tmp_path / "sweep.toml", "--out", tmp_path / "study", *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("memgen-study: ") and told in err and err.count("\n") == 1


def test_a_teacher_needs_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.toml").write_text('data = "digits"\nteacher = "gaussian"\nseed = [0, 1]\n')
    assert run(tmp_path / "sweep.toml", "--out", tmp_path / "study") == 2
    assert "a sweep with a teacher needs num_images" in capsys.readouterr().err
