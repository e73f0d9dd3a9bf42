"""Memory of a search whose training set stays on disk, the same for ten times as many images, and of an evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks import OURS
from benchmarks.data import ImageSets
from benchmarks.memory_probe import STATUS
from benchmarks.stopwatch import Stopwatch
from benchmarks.truth import Found, nearest_integers, replicated
from memgen_eval.compute.resources import num_threads

ROOT = Path(__file__).parent.parent
K = 5
NUM_QUERIES = 2_000
LIMIT = 250 * 2**20
EVALUATION_MIB, THREAD_MIB = 512, 60  # the default of --memory-budget, on two cores; each thread more may take this
COPIES = (1, 10)
TITLES = {"python": "in Python", "command": "as the command"}

pytestmark = pytest.mark.skipif(not STATUS.is_file(), reason="reads RssAnon from Linux's /proc")


@dataclass(frozen=True)
class Case:
    """A folder with references.npy and queries.npy, their sizes, and the right answer."""

    folder: Path
    num_references: int
    truth: Found

    @property
    def title(self) -> str:
        """Sizes."""
        return f"memory, references on disk: {NUM_QUERIES:,} x {self.num_references:,}, k = {K}, whole process"


@pytest.fixture(scope="module")
def truth(images: ImageSets) -> Found:
    """For the training images once."""
    queries, references = (part.reshape(len(part), -1) for part in (images.test[:NUM_QUERIES], images.train))
    return nearest_integers(queries, references, K)


@pytest.fixture(scope="module", params=COPIES)
def case(request: pytest.FixtureRequest, images: ImageSets, truth: Found) -> Iterator[Case]:
    """The training images several times in a row, on disk, removed afterwards."""
    copies, train = request.param, images.train.reshape(len(images.train), -1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "queries.npy", images.test[:NUM_QUERIES].reshape(NUM_QUERIES, -1))
        shape = (copies * len(train), train.shape[1])
        written = np.lib.format.open_memmap(folder / "references.npy", mode="w+", dtype=np.uint8, shape=shape)
        for copy in range(copies):
            written[copy * len(train) : (copy + 1) * len(train)] = train
        written.flush()
        del written
        yield Case(folder, shape[0], replicated(truth, num_references=len(train), copies=copies))


@pytest.mark.parametrize("method", [OURS, "faiss.knn"])
def test_search(case: Case, method: str, stopwatch: Stopwatch) -> None:
    """Anonymous memory above the imports; the peer, which holds all references as float32, at the smaller size only."""
    if method != OURS and case.num_references > 50_000:
        pytest.skip("holds all references in memory: 6 GB")
    output = case.folder / f"{method}.npz"
    command = [sys.executable, "-m", "benchmarks.memory_probe", method]
    command += [str(case.folder / name) for name in ("references.npy", "queries.npy")] + [str(K), str(output)]
    stopwatch(lambda: subprocess.run(command, cwd=ROOT, check=True), case=case.title, method=method)
    with np.load(output) as found:
        squared, indices, peak = found["squared"], found["indices"], int(found["peak"])
    if method != OURS:
        stopwatch.note(answer=f"{peak / 2**20:.0f} MiB")
        return
    assert np.array_equal(squared, case.truth.squared)
    assert np.array_equal(indices, case.truth.indices)
    stopwatch.note(answer=f"exact; {peak / 2**20:.0f} MiB")
    assert peak <= LIMIT


@pytest.mark.parametrize("who", ["python", "command"])
def test_evaluation(who: str, stopwatch: Stopwatch) -> None:
    """Anonymous memory above the imports, of all families, as in Python and with the settings of the command."""
    data = os.environ.get("MEMGEN_DATA")
    if not data:
        pytest.skip("measures CIFAR-10: set MEMGEN_DATA")
    command = [sys.executable, "-m", "benchmarks.evaluation_probe", "cifar10", data, who]
    found = stopwatch(
        lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True),
        case=f"memory, whole evaluation, CIFAR-10: 10,000 samples, {TITLES[who]}",
        method=OURS,
    )
    peak = json.loads(found.stdout)["peak_mib"]
    stopwatch.note(answer=f"{peak} MiB; {EVALUATION_MIB} asked for")
    assert peak <= EVALUATION_MIB + THREAD_MIB * max(0, num_threads() - 2)
