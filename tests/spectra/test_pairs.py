"""Two models from the same noise: the closed form for Gaussians, and pairs counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from memgen_eval import GaussianDenoiser, InputError, pair_distance, probability_flow_distance, reproducibility

SIGMA_MAX = 80.0


def moments_of(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Data whose mean and 1/n variances are known exactly, with a diagonal covariance."""
    rng = np.random.default_rng(seed)
    mean, spread = rng.normal(0, 0.5, 6), rng.uniform(0.2, 1.2, 6)
    corners = np.concatenate([np.eye(6), -np.eye(6)]) * np.sqrt(6)
    return mean + corners * spread, mean, spread**2


def test_the_distance_of_gaussians_is_that_of_theory() -> None:
    """From x_T each ends at ``m + sqrt(l / (l + T^2)) (x_T - m)``."""
    (first, m1, l1), (second, m2, l2) = moments_of(0), moments_of(1)
    shrink1, shrink2 = (np.sqrt(v / (v + SIGMA_MAX**2)) for v in (l1, l2))
    shift = m1 * (1 - shrink1) - m2 * (1 - shrink2)
    expected = np.sqrt((shift**2).sum() + SIGMA_MAX**2 * ((shrink1 - shrink2) ** 2).sum())
    denoisers = [GaussianDenoiser(data[:, :, None, None]) for data in (first, second)]
    found = probability_flow_distance(*denoisers, (6, 1, 1), num_samples=1500, num_steps=40, batch_size=1500)
    assert found.value == pytest.approx(expected, rel=0.03) and found.count == 1500
    assert found.low is not None and found.high is not None and found.low < expected < found.high
    w2 = np.sqrt(((m1 - m2) ** 2).sum() + ((np.sqrt(l1) - np.sqrt(l2)) ** 2).sum())
    assert expected == pytest.approx(w2, rel=0.03)
    same = probability_flow_distance(denoisers[0], denoisers[0], (6, 1, 1), num_samples=4)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_pairs_by_hand() -> None:
    first, second = np.array([[0.0, 3], [1, 1]]), np.array([[4.0, 0], [1, 1]])
    assert pair_distance(first, second).value == pytest.approx(np.sqrt(25 / 2))
    assert pair_distance(first[:1], second[:1]).low is None
    features, others = np.eye(4), np.eye(4) + 0.9 * np.eye(4)[[1, 0, 3, 2]]
    found = reproducibility(features, others, threshold=0.7)
    assert found.value == 1 and found.notes == ("0 of pairs that do not belong together",)  # 1 / sqrt(1.81) = 0.743
    assert reproducibility(features, others, threshold=0.75).value == 0
    assert reproducibility(features, 5 * features, threshold=1.0).value == 0  # strictly


def test_steps_that_follow_no_probability_flow_are_refused() -> None:
    denoiser = GaussianDenoiser(moments_of(0)[0][:, :, None, None])
    with pytest.raises(InputError, match="solver is 'ancestral', which follows no probability flow"):
        probability_flow_distance(denoiser, denoiser, (6, 1, 1), solver="ancestral")


@pytest.mark.parametrize(
    ("first", "second"),
    [(np.ones((2, 3)), np.ones((3, 3))), (np.ones(3), np.ones(3)), (np.full((2, 2), np.nan), np.ones((2, 2)))],
)
def test_rows_that_do_not_match_are_refused(first: np.ndarray, second: np.ndarray) -> None:
    for function in (pair_distance, reproducibility):
        with pytest.raises(InputError):
            function(first, second)
    with pytest.raises(InputError, match="all zero"):
        reproducibility(np.zeros((2, 2)), np.ones((2, 2)))
