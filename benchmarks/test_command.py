"""The whole command, imports, reading and the page included, beside the two FAISS searches alone that it replaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks import OURS
from benchmarks.data import ImageSets, Pixels
from benchmarks.machine import Peaks
from benchmarks.peers import faiss_knn
from benchmarks.stopwatch import Stopwatch

ROOT = Path(__file__).parent.parent
K = 5
NUM_COPIES = 500
TWO_SEARCHES = "two faiss.knn searches"


@dataclass(frozen=True)
class Case:
    """Samples, as an array and in a file, and the arguments that name the sets to compare them with."""

    samples: Pixels
    path: Path
    arguments: list[str]


@pytest.fixture(scope="module")
def case(images: ImageSets, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Test images, shuffled with some training images in the place of as many."""
    generator = np.random.default_rng(0)
    copied = images.train[generator.permutation(len(images.train))[:NUM_COPIES]]
    samples = generator.permutation(np.concatenate([images.test[NUM_COPIES:], copied]))
    folder = tmp_path_factory.mktemp("command")
    data = os.environ.get("MEMGEN_DATA")
    if data:
        return Case(samples, _written(folder, "samples", samples), ["--train", "cifar10", "--data-dir", data])
    train, test = _written(folder, "train", images.train), _written(folder, "test", images.test)
    return Case(samples, _written(folder, "samples", samples), ["--train", str(train), "--test", str(test)])


def _written(folder: Path, name: str, images: Pixels) -> Path:
    """An npz file as the field writes them: arr_0, N H W C."""
    path = folder / f"{name}.npz"
    np.savez(path, images.transpose(0, 2, 3, 1))
    return path


@pytest.mark.parametrize("method", [OURS, TWO_SEARCHES])
@pytest.mark.parametrize("turn", range(3))
def test_command(
    case: Case, turn: int, method: str, images: ImageSets, peaks: Peaks, stopwatch: Stopwatch, tmp_path: Path
) -> None:
    """The floor is that of the two searches as integer products."""
    train, test, samples = (part.reshape(len(part), -1) for part in (images.train, images.test, case.samples))
    title = f"whole command, {images.name}: {len(samples):,} samples"
    operations = 2.0 * (len(samples) + len(test)) * train.size
    floor = peaks.floor(integer=operations, num_bytes=train.nbytes + test.nbytes + samples.nbytes)
    if method == TWO_SEARCHES:
        stopwatch(
            lambda: [faiss_knn(queries, train, K) for queries in (samples, test)],
            case=title, method=method, floor=floor,
        )  # fmt: skip
        stopwatch.note(answer="searches alone")
        return
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    command = [sys.executable, "-m", "memgen_eval", str(case.path), *case.arguments]
    command += ["--html", str(page), "--json", str(report)]
    stopwatch(
        lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True),
        case=title, method=method, floor=floor,
    )  # fmt: skip
    written = json.loads(report.read_text(encoding="utf-8"))
    seconds = written["provenance"]["seconds"]
    stopwatch.note(stages=seconds)
    assert page.stat().st_size > 0
    assert len(written["memorization"]["copies"]) >= NUM_COPIES
    stopwatch.note(answer="all copies found")
