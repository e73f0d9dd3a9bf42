"""Denoisers that are none, or odd: one line that says what came back and what to do, and the samples measured still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from checking import evaluated
from conftest import noise_images
from memgen_eval import InputError, evaluate

SHAPE = (8, 8, 3)
TRAIN, SAMPLES = noise_images(0, 60, SHAPE), noise_images(1, 50, SHAPE)


def scaled(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Something that a denoiser might return."""
    return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


NO_DENOISERS: dict[str, tuple[Callable[..., Any], str]] = {
    "height": (
        lambda x, s: scaled(x, s)[:, :, :4],
        r"shape \(16, 3, 4, 8\), expected .*\(16, 3, 8, 8\): return the shape",
    ),
    "images": (lambda x, s: scaled(x, s)[:5], r"shape \(5, 3, 8, 8\), expected .*: return the shape of x"),
    "rows": (lambda x, s: scaled(x, s).flatten(1), r"shape \(16, 192\), expected .*: return the shape of x"),
    "integers": (lambda x, s: scaled(x, s).to(torch.uint8), r"torch\.uint8, expected .*: return float values"),
    "booleans": (lambda x, s: x > 0, r"torch\.bool, expected .*: return float values"),
    "complex numbers": (lambda x, s: scaled(x, s) + 0j, r"torch\.complex64, expected .*: return float values"),
    "another device": (lambda x, s: scaled(x, s).to("meta"), r"a tensor on meta for x on cpu: return it there, or say"),
    "an array": (lambda x, s: scaled(x, s).numpy(), r"a ndarray \(no tensors\), expected .*: return one float tensor"),
    "a tuple of two": (lambda x, s: (scaled(x, s), x), r"a tuple \(.*\), expected .*: return one float tensor"),
    "a dict of labels": (lambda x, s: {"labels": s}, r"a dict \(\(16,\)\), expected .*: return one float tensor"),
    "nothing": (lambda x, s: None, r"a NoneType \(no tensors\), expected .*: return one float tensor"),
    "a variance too": (lambda x, s: scaled(x, s).repeat(1, 2, 1, 1), r"shape \(16, 6, 8, 8\) .*the first half if"),
    "NaN": (lambda x, s: scaled(x, s) * (np.nan if s[0] > 1 else 1), r"NaN or infinity at sigma = 2: check its"),
    "infinity": (lambda x, s: scaled(x, s) / (0 if s[0] > 1 else 1), r"NaN or infinity at sigma = 2: check its"),
    "one NaN": (
        lambda x, s: scaled(x, s).index_fill(0, torch.tensor([3]), np.nan),
        r"NaN or infinity at sigma = 0\.1: check its",
    ),
}


@pytest.mark.parametrize("name", NO_DENOISERS)
def test_a_denoiser_that_returns_something_else(name: str) -> None:
    denoiser, pattern = NO_DENOISERS[name]
    few: dict[str, Any] = {"num_denoiser_images": 4, "denoiser_batch_size": 16, "sigmas": [0.1, 2.0]}
    drawn: list[int] = []
    for metrics in (None, ["denoiser"], ["memorization", "gaussian"]):
        with pytest.raises(InputError, match=f"denoiser returned {pattern}") as caught:
            evaluate(drawn.append, train=TRAIN, denoiser=denoiser, metrics=metrics, **few)
        assert "\n" not in str(caught.value)
    assert drawn == []  # it is found before samples are drawn
    report = evaluated(SAMPLES, train=TRAIN, denoiser=denoiser, metrics=["memorization"], **few)
    assert report.skipped["denoiser"] == "not asked for"


@pytest.mark.parametrize(
    ("denoiser", "pattern"),
    [
        (lambda x, s: 0.99 * x, r"the same for sigma = 0\.02 and 80: it ignores sigma"),
        (lambda x, s: x.clamp(0, 1) / (1 + s.reshape(-1, 1, 1, 1) ** 2), r"error at sigma = 0\.02 is .*another range"),
        (lambda x, s: 127.5 + 127.5 * scaled(x, s), r"error at sigma = 0\.02 is .*another range than \[-1, 1\]"),
    ],
    ids=["ignores sigma", "in [0, 1]", "in grey levels"],
)
def test_a_denoiser_that_is_likely_wrong(denoiser: Any, pattern: str) -> None:
    with pytest.warns(UserWarning, match=pattern) as caught:
        report = evaluated(SAMPLES, train=TRAIN, denoiser=denoiser, num_denoiser_images=4, metrics="denoiser")
    assert [str(one.message).count("\n") for one in caught] == [0]
    assert report.denoiser is not None and report.denoiser.error_train.notes == (str(caught[0].message),)


@pytest.mark.parametrize(
    "denoiser",
    [scaled, lambda x, s: scaled(x, s).double(), lambda x, s: scaled(x, s).half(), lambda x, s: scaled(x.mul_(1), s)],
    ids=["float32", "float64", "float16", "in place"],
)
def test_a_denoiser_of_any_float_type_is_one(denoiser: Any) -> None:
    report = evaluated(SAMPLES, train=TRAIN, denoiser=denoiser, num_denoiser_images=4, metrics="denoiser")
    assert report.denoiser is not None and report.denoiser.error_train.value is not None
