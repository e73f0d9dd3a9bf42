"""An evaluation in a forked process, whose parent's threads are lost: it ends, and finds the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BEGIN = """
import multiprocessing, os, signal, sys
import numpy as np, torch

def images(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)

def child():
    from memgen_eval import OptimalDenoiser, evaluate, nearest_neighbours
    net = torch.nn.Conv2d(3, 3, 3, padding=1)
    few = dict(num_denoiser_images=4, num_draws=1, sigmas=[0.1, 2.0], metrics=["memorization", "denoiser"])
    denoiser = lambda x, s: net(x) / s.reshape(-1, 1, 1, 1)
    report = evaluate(images(0, 64), train=images(1, 96), denoiser=denoiser, **few)
    assert report.denoiser.error_train.value is not None
    found = nearest_neighbours(images(0, 256), images(1, 2048), engine=ENGINE)
    assert found.distances.shape == (256, 2)
    noise = np.random.default_rng(2).standard_normal((4, 16, 16, 3)).astype(np.float32)
    law = OptimalDenoiser(images(1, 2048)).posterior(images(0, 4), noise, np.geomspace(0.1, 10, 20))
    assert law.own_weight.shape == (20, 4)
    print("done", flush=True)

assert torch.get_num_threads() == 2
torch.randn(3_000_000).square().sum()  # OpenMP starts its threads
torch.randn(600, 600) @ torch.randn(600, 600)
"""

FORK = """
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(TIME)
if process.is_alive():
    process.kill()
    sys.exit("hangs")
sys.exit(process.exitcode)
"""
WAYS = {
    "multiprocessing": FORK,
    "after an evaluation": "child()" + FORK,
    "os.fork": """
import memgen_eval.evaluation
number = os.fork()
if number == 0:
    signal.alarm(TIME)
    child()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) != 0)
""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("way", WAYS)
def test_an_evaluation_in_a_forked_process_ends(way: str) -> None:
    engine = '"torch"' if way == "os.fork" else '"auto"'
    script = f"ENGINE, TIME = {engine}, 60\n{BEGIN}\n{WAYS[way]}"
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("done") == (2 if way == "after an evaluation" else 1)
