"""The bootstrap: what its resamples are, and quantiles of them to the bit as numpy has them."""

from __future__ import annotations

import numpy as np
import pytest

from memgen_eval.metrics import resampling
from memgen_eval.metrics.novelty import QUANTILES


def test_bootstrap_resamples_images() -> None:
    values = np.random.default_rng(0).normal(size=400)
    means = resampling.bootstrap(lambda rows: np.array([values[rows].mean(), rows.max()]), 400, seed=3)
    assert means.shape == (resampling.NUM_RESAMPLES, 2)
    assert means[:, 0].mean() == pytest.approx(values.mean(), abs=0.01)
    assert means[:, 0].std() == pytest.approx(values.std() / 20, rel=0.1)
    assert means[:, 1].max() == 399
    again = resampling.bootstrap(lambda rows: np.array([values[rows].mean(), rows.max()]), 400, seed=3)
    assert again.tobytes() == means.tobytes()
    other = resampling.bootstrap(lambda rows: np.array([values[rows].mean(), rows.max()]), 400, seed=(3, 1))
    assert other.tobytes() != means.tobytes()
    assert "1000 resamples" in resampling.percentile_method()


def test_percentile_interval_holds_the_central_95_percent() -> None:
    ladder = np.arange(1001.0)[:, None] * np.array([1.0, -2.0])
    low, high = resampling.percentile_interval(ladder)
    assert low.tolist() == pytest.approx([25, -1950])
    assert high.tolist() == pytest.approx([975, -50])


@pytest.mark.parametrize("count", [1, 2, 3, 50, 51, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_quantiles_of_resamples_are_those_of_numpy(count: int, ties: bool) -> None:
    values = np.random.default_rng(count).exponential(size=count)
    values = np.round(values, 1) if ties else values
    quantiles = (0.0, *QUANTILES, 1.0)
    expected = resampling.bootstrap(lambda drawn: np.quantile(values[drawn], quantiles), count, seed=(4, 2))
    assert resampling.resampled_quantiles(values, quantiles, seed=(4, 2)).tobytes() == expected.tobytes()
    medians = resampling.bootstrap(lambda drawn: np.median(values[drawn], keepdims=True), count, seed=(4, 2))
    assert resampling.resampled_medians(values, seed=(4, 2)).tobytes() == medians[:, 0].tobytes()
