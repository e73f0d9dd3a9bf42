"""The same samples, settings and seed give the same report to the byte, whatever made it run differently."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from checking import evaluated, figures
from conftest import Pixels, noise_images
from memgen_eval import Report
from memgen_eval.compute.engines import EngineName
from memgen_eval.neighbours.candidates import ENGINES

ROOT = Path(__file__).parent.parent
SHAPE = (8, 8, 3)
TRAIN, TEST = noise_images(0, 700, SHAPE), noise_images(1, 320, SHAPE)
TRAIN[600:] = TRAIN[500:600]  # duplicates, so that searches have to widen
SAMPLES = np.concatenate([noise_images(2, 500, SHAPE), TRAIN[480:530], TRAIN[100:150] ^ 1])


def sampler(n: int, *, seeds: Sequence[int]) -> Pixels:
    """An image a seed; one in five is a training image."""
    drawn = [int(np.random.default_rng(int(seed)).integers(2**31)) for seed in seeds]
    return np.stack([TRAIN[s % 700] if s % 5 == 0 else noise_images(s, 1, SHAPE)[0] for s in drawn])


@pytest.fixture(scope="module")
def expected() -> Report:
    return evaluated(SAMPLES, train=TRAIN, test=TEST)


def test_batches_of_a_sampler_with_seeds() -> None:
    reports = [
        evaluated(sampler, train=TRAIN, test=TEST, num_samples=400, batch_size=size, seed=3) for size in (1, 7, 256)
    ]
    assert len({figures(report) for report in reports}) == 1
    assert [report.provenance.batch_size for report in reports] == [1, 7, 256]
    ratio = reports[0].memorization.ratio.value if reports[0].memorization is not None else None
    assert ratio is not None and 0.1 < ratio < 0.3


def test_another_seed_draws_other_samples() -> None:
    reports = [evaluated(sampler, train=TRAIN, test=TEST, num_samples=100, seed=seed) for seed in (3, 4)]
    assert reports[0].settings.checksums["samples"] != reports[1].settings.checksums["samples"]


@pytest.mark.parametrize("budget", ["32MiB", "1GiB", 2**25])
def test_memory_budgets(budget: str | int, expected: Report) -> None:
    assert figures(evaluated(SAMPLES, train=TRAIN, test=TEST, memory_budget=budget)) == figures(expected)


@pytest.mark.parametrize("engine", sorted(ENGINES.keys() - {"auto", "cuda"}))
@pytest.mark.parametrize("by", ["keyword", "variable"])
def test_engines(engine: EngineName, by: str, expected: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    monkeypatch.setenv("MEMGEN_ENGINE", engine if by == "variable" else "nothing")
    report = evaluated(SAMPLES, train=TRAIN, test=TEST, engine=engine if by == "keyword" else None)
    assert figures(report) == figures(expected)
    assert report.provenance.engine.split()[0] in (engine, "numpy")  # where torch is inexact, numpy multiplies


def test_without_a_test_set_and_twice() -> None:
    reports = [evaluated(SAMPLES, train=TRAIN, seed=5) for _ in range(2)]
    assert figures(reports[0]) == figures(reports[1])


SCRIPT = """
import sys
import torch
torch.set_num_threads(int(sys.argv[1]))
from checking import evaluated, figures
from test_determinism import SAMPLES, TEST, TRAIN
sys.stdout.write(figures(evaluated(SAMPLES, train=TRAIN, test=TEST)))
"""


def test_threads(expected: Report) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(threads)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": omp, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for omp, threads in (("1", 1), ("2", 2), ("1", 2), ("2", 1))
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert set(outputs) == {figures(expected)}
