"""D* at 15 noise levels, beside two products a level as in the literature, and beside torch's attention."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import OURS
from benchmarks.data import FIRST, ImageSets
from benchmarks.machine import Peaks
from benchmarks.peers import DENOISERS
from benchmarks.stopwatch import Stopwatch
from benchmarks.truth import optimal_denoiser
from memgen_eval.diffusion.inputs import draw_noises

TURNS = range(3)
NUM_INPUTS = (128, 256)  # one half of them noised training images, the other noised test images
NUM_TRAIN = (1_000, 10_000, 50_000)
SIGMAS = np.geomspace(0.02, 80, 15)
TOLERANCE = 3e-6  # relative, of each image


@dataclass(frozen=True)
class Case:
    """Rows of the training set, inputs, their noise, and D* of some of the inputs in float64."""

    name: str
    train: NDArray[np.uint8]
    x0: NDArray[np.uint8]
    eps: NDArray[np.float32]
    expected: NDArray[np.float64]  # (S, 16, D)

    @property
    def title(self) -> str:
        """Name and sizes."""
        return f"D*, {self.name}: {len(self.x0)} x {len(SIGMAS)} sigmas x {len(self.train):,}"

    def errors(self, means: NDArray[Any]) -> NDArray[np.float64]:
        """Relative error of each image that is checked, (S, 16)."""
        gap = np.linalg.norm(means[:, checked(len(self.x0))].astype(np.float64) - self.expected, axis=2)
        return np.asarray(gap / np.linalg.norm(self.expected, axis=2))


def checked(num_inputs: int) -> NDArray[np.intp]:
    """Eight inputs of each half."""
    half = num_inputs // 2
    return np.concatenate([np.arange(8), np.arange(half, half + 8)])


@pytest.fixture(scope="module", params=product(NUM_TRAIN, NUM_INPUTS), ids=lambda sizes: "{}-{}".format(*sizes))
def case(request: pytest.FixtureRequest, images: ImageSets) -> Case:
    """Inputs of which half are training images, whatever the size of the training set."""
    num_train, num_inputs = request.param
    half, some = num_inputs // 2, checked(num_inputs)
    train = images.train[:num_train].reshape(num_train, -1)
    chosen = np.random.default_rng(0).permutation(FIRST)[:half]
    x0 = np.concatenate([train[chosen], images.test[:half].reshape(half, -1)])
    eps = draw_noises(x0.shape[1:], np.arange(len(x0)), seed=0, name="benchmark")
    return Case(images.name, train, x0, eps, optimal_denoiser(train, x0[some], eps[some], SIGMAS))


@pytest.fixture(scope="module")
def _warm(images: ImageSets) -> None:
    """Imports and threads come before the first timing."""
    train, noise = images.train[:256].reshape(256, -1), np.zeros((64, images.train[0].size), dtype=np.float32)
    for denoise in DENOISERS.values():
        denoise(train, train[:64], noise, SIGMAS)


@pytest.mark.usefixtures("_warm")
@pytest.mark.parametrize("method", DENOISERS)
@pytest.mark.parametrize("turn", TURNS)
def test_curve(case: Case, turn: int, method: str, peaks: Peaks, stopwatch: Stopwatch) -> None:
    """The floor counts one integer product and one with the noise for all levels, and no weighted sum."""
    operations = 2.0 * len(case.x0) * case.train.size
    floor = peaks.floor(integer=operations, floating=operations, num_bytes=case.train.nbytes)
    denoise = DENOISERS[method]
    means = stopwatch(
        lambda: denoise(case.train, case.x0, case.eps, SIGMAS), case=case.title, method=method, floor=floor
    )
    errors = case.errors(means)
    middle, worst = float(np.median(errors)), float(errors.max())
    assert middle < 1e-3  # a peer's too: it computed the same
    assert method != OURS or worst <= TOLERANCE
    stopwatch.note(answer=f"relative error up to {worst:.1e}")
