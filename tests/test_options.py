"""What a user may choose: integers of every kind, every seed up to the limit, and what no denoiser is needed for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from checking import evaluated, figures
from conftest import noise_images
from memgen_eval import InputError, evaluate
from memgen_eval.compute.resources import budget_bytes
from memgen_eval.options import MAX_SEED, check_measurable, check_seed

SHAPE = (6, 6)
TRAIN, TEST, SAMPLES = noise_images(0, 60, SHAPE), noise_images(1, 50, SHAPE), noise_images(2, 40, SHAPE)


def test_integers_of_numpy_are_integers() -> None:
    def sampler(n: int) -> Any:
        assert type(n) is int
        return SAMPLES[:n]

    chosen = {"num_samples": 30, "batch_size": 30, "seed": 3, "num_draws": 1, "num_denoiser_images": 5}
    kinds = (np.int64, np.uint8, np.int32)
    reports = [
        evaluated(sampler, train=TRAIN, test=TEST, **{name: kind(value) for name, value in chosen.items()})
        for kind in kinds
    ]
    budget = evaluated(sampler, train=TRAIN, test=TEST, memory_budget=np.int64(2**20), **chosen)
    assert {figures(report) for report in reports} == {figures(budget)}


@pytest.mark.parametrize("value", [True, np.bool_(1), 1.0, np.float64(2), "3", None, 0, np.int64(-1)])
def test_what_is_not_a_count(value: Any) -> None:
    with pytest.raises(InputError, match="num_draws is"):
        evaluate(SAMPLES, train=TRAIN, num_draws=value)


@pytest.mark.parametrize("seed", [2**31, 2**32, 2**32 + 5, MAX_SEED])
def test_every_seed_up_to_the_limit_measures_everything(seed: int) -> None:
    """k-means takes seeds of 32 bits; samplers are given seeds that count on from the one that was given."""

    def sampler(n: int, *, seeds: list[int]) -> Any:
        return np.stack([noise_images(one, 1, SHAPE)[0] for one in seeds])

    def drawn(n: int, *, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(0, 256, (n, 1, *SHAPE), generator=generator, dtype=torch.uint8)

    train, test = noise_images(0, 200, SHAPE), noise_images(1, 200, SHAPE)  # every cell holds twenty and more
    usual = evaluated(noise_images(2, 200, SHAPE), train=train, test=test, seed=0)
    for samples in (sampler, drawn):
        found = evaluated(samples, train=train, test=test, num_samples=200, seed=seed)
        assert set(found.skipped) == set(usual.skipped)
        assert found.novelty is not None and found.novelty.ct.value is not None
        assert found.settings.seed == seed


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**64, 10**40, True, 1.0])
def test_other_seeds_are_refused_with_the_limit(seed: Any) -> None:
    with pytest.raises(InputError, match=r"seed is .*, expected an integer from 0 to 2\*\*62 - 1"):
        check_seed(seed)


@pytest.mark.parametrize("num_train", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 2**32])
def test_few_images_leave_novelty_undefined_and_nothing_fails(num_train: int, seed: int) -> None:
    report = evaluated(SAMPLES[:2], train=TRAIN[:num_train], test=TEST[:2], seed=seed, metrics=["novelty"])
    assert report.novelty is not None
    assert report.novelty.ct.value is None and report.novelty.ct.notes


@pytest.mark.parametrize("size", ["9" * 400, "9" * 5000 + "GiB", "99999999TiB", 2**61, np.uint64(2**63), "0.1"])
def test_budgets_beyond_any_machine(size: Any) -> None:
    with pytest.raises(InputError, match="memory_budget="):
        budget_bytes(size)


def test_the_largest_budget_searches() -> None:
    usual = evaluated(SAMPLES, train=TRAIN, metrics="memorization")
    assert figures(evaluated(SAMPLES, train=TRAIN, metrics="memorization", memory_budget=2**60)) == figures(usual)


def test_what_needs_a_denoiser_is_what_stays_undefined_without_one() -> None:
    report = evaluated(
        SAMPLES, train=TRAIN, test=TEST, metrics=["denoiser", "gaussian"], sigmas=[0.05, 0.5, 5.0], num_draws=1
    )
    undefined = {path for path, figure in report.figures() if figure.value is None}
    refused = set()
    for path, _ in report.figures():
        try:
            check_measurable(path, "gate")
        except InputError:
            refused.add(path)
    families = ("denoiser.", "gaussian.")
    assert {path for path in undefined if path.startswith(families)} == {p for p in refused if p.startswith(families)}
    for path in ("denoiser", "gaussian", "verdict", "memorization.ratio.low", "denoiser.collapse_sigma.high"):
        check_measurable(path, "gate")
