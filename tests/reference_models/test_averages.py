"""Averages of other lengths from kept ones, on paths of a single number, against sums over all steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from torch import nn

from reference_models.training.averages import Kept, combination, decay_at, exponent, update_average
from reference_models.training.checkpoints import is_kept

NUM_STEPS = 3000
STEPS = np.arange(1, NUM_STEPS + 1)
LADDER = [step for step in range(1, NUM_STEPS) if is_kept(step)] + [NUM_STEPS]
PATHS = {
    "smooth": np.log(STEPS) + np.sin(STEPS / 400),
    "walk": np.cumsum(np.random.default_rng(1).standard_normal(NUM_STEPS)),
    "constant": np.full(NUM_STEPS, 5.0),
}


def shares(step: int, length: float) -> NDArray[np.float64]:
    """The weight of each step in an average, (step,), from its decays: what is added and all later decays."""
    decays = np.array([decay_at(t, length=length) for t in range(1, step + 1)])
    later = np.append(np.cumprod(decays[:0:-1])[::-1], 1.0)
    return (1 - decays) * later


@pytest.mark.parametrize("length", [0.02, 0.05, 0.1, 0.2])
def test_a_length_is_the_relative_standard_deviation_of_the_steps(length: float) -> None:
    weights, steps = shares(NUM_STEPS, length), np.arange(1, NUM_STEPS + 1)
    assert weights.sum() == pytest.approx(1)
    mean = weights @ steps
    assert np.sqrt(weights @ (steps - mean) ** 2) / NUM_STEPS == pytest.approx(length, rel=0.01)


@pytest.mark.parametrize("gamma", [0.5, 6.94, 16.97])
def test_exponents_by_quadrature(gamma: float) -> None:
    """EDM2 has 6.94 for a length of 0.1, and 16.97 for 0.05."""
    moments = [quad(lambda t, k=k: (gamma + 1) * t ** (gamma + k), 0, 1)[0] for k in (0, 1, 2)]
    assert moments[0] == pytest.approx(1)
    assert exponent(float(np.sqrt(moments[2] - moments[1] ** 2))) == pytest.approx(gamma, rel=1e-6)
    assert exponent(0.1) == pytest.approx(6.94, abs=0.005) and exponent(0.05) == pytest.approx(16.97, abs=0.005)


def test_the_average_in_closed_form() -> None:
    """Step t weighs ``(t^(gamma + 1) - (t - 1)^(gamma + 1)) / T^(gamma + 1)``; what was before the first, nothing."""
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(average.weight, 7.0)
    values = np.random.default_rng(0).standard_normal(30)
    for step, value in enumerate(values, start=1):
        nn.init.constant_(model.weight, float(value))
        update_average(average, model, decay=decay_at(step, length=0.1))
    powers = (np.arange(31) / 30) ** (exponent(0.1) + 1)
    assert average.weight.item() == pytest.approx(np.diff(powers) @ values, abs=1e-6)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("length", "most"), [(0.04, 0.04), (0.06, 0.015), (0.07, 0.02), (0.15, 0.05), (0.2, 0.1)])
def test_other_lengths_from_the_kept_ladder(length: float, most: float) -> None:
    """What `error` says is the distance of the weightings, and the averages themselves are as near on every path."""
    kept = [Kept(step, each) for step in LADDER for each in (0.05, 0.10)]
    made = combination(kept, Kept(NUM_STEPS, length))
    assert made.error < most and made.coefficients.sum() == pytest.approx(1)
    wanted, put_together = shares(NUM_STEPS, length), np.zeros(NUM_STEPS)
    for coefficient, average in zip(made.coefficients, kept, strict=True):
        put_together[: average.step] += coefficient * shares(average.step, average.length)
    distance = np.linalg.norm(put_together - wanted) / np.linalg.norm(wanted)
    assert distance == pytest.approx(made.error, rel=0.05)
    for name, path in PATHS.items():  # by Cauchy and Schwarz, since both weightings sum to 1
        bound = 1.05 * made.error * np.linalg.norm(wanted) * np.linalg.norm(path - path.mean())
        assert put_together @ path == pytest.approx(wanted @ path, abs=bound + 1e-9), name
    smooth = PATHS["smooth"]
    assert put_together @ smooth == pytest.approx(wanted @ smooth, abs=0.01 * smooth.std())


def test_a_kept_average_is_itself() -> None:
    kept = [Kept(step, each) for step in LADDER for each in (0.05, 0.10)]
    made = combination(kept, kept[7])
    assert made.error < 1e-6
    assert made.coefficients == pytest.approx(np.eye(len(kept))[7], abs=1e-9)


def test_what_cannot_be_put_together_says_so() -> None:
    assert combination([Kept(100, 0.1)], Kept(3000, 0.05)).error > 0.9
