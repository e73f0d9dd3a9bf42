"""Two processes of one thread each beside one of one thread, for few neighbours and for many; the same answers.

All turns are answered by the same workers, which have read the images and chosen an engine before.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import OURS
from benchmarks.stopwatch import Stopwatch
from memgen_eval import nearest_neighbours
from memgen_eval.data.datasets import load_named
from memgen_eval.distributed import Ranks, joined, on_every_rank
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.topk import Neighbours

ROOT = Path(__file__).parent.parent
NUM_QUERIES, NUM_TRAIN, FEW, MANY = 10_000, 50_000, 5, 51
SINGLE = f"two processes, one thread each: {NUM_QUERIES:,} x {NUM_TRAIN:,}, k = {FEW}"
BOTH = f"two processes, one thread each: {NUM_QUERIES:,} x {NUM_TRAIN:,}, k = {MANY}, both orientations"
BUDGET = "512MiB"
Pixels = NDArray[np.uint8]


def images() -> tuple[Pixels, Pixels]:
    """Queries and training images: CIFAR-10 where MEMGEN_DATA names it, else noise."""
    if os.environ.get("MEMGEN_DATA"):
        test, train = (load_named(f"cifar10:{split}", data_dir=None).array for split in ("test", "train"))
        return test[:NUM_QUERIES], train
    generator = np.random.default_rng(0)
    queries, train = (
        generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8) for count in (NUM_QUERIES, NUM_TRAIN)
    )
    return queries, train


def single(queries: Pixels, references: References, ranks: Ranks) -> Neighbours:
    """The nearest few, in the orientation given."""
    return Index(references, BUDGET, ranks).search(queries, FEW)


def both(queries: Pixels, references: References, ranks: Ranks) -> Neighbours:
    """Many, one orientation after the other."""
    index = Index(references, BUDGET, ranks)
    return index.both_orientations(index.search(queries, MANY))


SEARCHES = {SINGLE: single, BOTH: both}


def digest(found: Neighbours) -> str:
    """One line for a whole answer."""
    return hashlib.sha256(found.squared_distances.tobytes() + found.indices.tobytes()).hexdigest()


def serve() -> int:
    """Search whenever a line names a case, and answer it with one: a worker, of as many as its environment says."""
    queries, train = images()
    import_module("torch")  # two speak through it, and multiply with it then: so does one
    with joined() as ranks:
        for line in sys.stdin:
            found = SEARCHES[line.strip()](queries, References(train), ranks)  # nothing is kept from turn to turn
            sys.stdout.write(f"{digest(found)}\n")
            sys.stdout.flush()
    return 0


@dataclass(frozen=True)
class Workers:
    """Processes that wait for a line."""

    inputs: list[IO[str]]
    answers: IO[str]

    def search(self, case: str) -> str:
        """The digest of what they find together."""
        for stream in self.inputs:
            stream.write(f"{case}\n")
            stream.flush()
        return self.answers.readline().strip()


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    """`count` processes of one thread, warm."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    variables = os.environ | shared | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__],
            env=variables | {"RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    inputs = [process.stdin for process in started if process.stdin is not None]
    answers = started[0].stdout
    assert answers is not None
    try:
        ready = Workers(inputs, answers)
        ready.search(SINGLE)
        yield ready
    finally:
        for stream in inputs:  # all of them before any is waited for: they leave together
            stream.close()
        for process in started:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@dataclass(frozen=True)
class Pair:
    """One worker and two, and the answers that both must give."""

    methods: dict[str, Workers]
    expected: dict[str, str]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both kept waiting over all turns."""
    sets = images()
    answers = {SINGLE: nearest_neighbours(*sets, FEW), BOTH: nearest_neighbours(*sets, MANY, flip=True)}
    with workers(1) as one, workers(2) as two:
        yield Pair({"one process": one, OURS: two}, {case: digest(found) for case, found in answers.items()})


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two processors")
@pytest.mark.parametrize("method", [OURS, "one process"])
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("case", SEARCHES)
def test_two_processes_beside_one(pair: Pair, case: str, turn: int, method: str, stopwatch: Stopwatch) -> None:
    """Ours are two processes of one thread each; the peer is one process of one thread."""
    found = stopwatch(lambda: pair.methods[method].search(case), case=case, method=method)
    assert found == pair.expected[case]
    stopwatch.note(answer="exact")


if __name__ == "__main__":
    sys.exit(on_every_rank(serve))
