from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from memgen_eval.diffusion.inputs import draw_noise, draw_noises, draw_order


def test_noise_depends_on_seed_set_image_and_draw_alone() -> None:
    shape = (3, 8, 8)
    one = draw_noise(shape, seed=1, name="train", index=7, draw=0)
    batch = draw_noises(shape, np.array([9, 7, 2]), seed=1, name="train")
    assert np.array_equal(batch[1], one) and one.dtype == np.float32
    others = [
        draw_noise(shape, seed=2, name="train", index=7),
        draw_noise(shape, seed=1, name="test", index=7),
        draw_noise(shape, seed=1, name="train", index=8),
        draw_noise(shape, seed=1, name="train", index=7, draw=1),
    ]
    for other in others:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


def test_noise_is_standard_normal_on_a_grid() -> None:
    values = draw_noises((64, 64), np.arange(20), seed=0, name="train").astype(np.float64).ravel()
    assert kstest(values, "norm").pvalue > 1e-3
    assert np.array_equal(values * 2**17, np.rint(values * 2**17))


def test_an_order_is_a_permutation_of_its_seed_and_set() -> None:
    order = draw_order(100, seed=3, name="train")
    assert np.array_equal(np.sort(order), np.arange(100)) and not np.array_equal(order, np.arange(100))
    assert np.array_equal(order, draw_order(100, seed=3, name="train"))
    assert not np.array_equal(order, draw_order(100, seed=3, name="test"))
