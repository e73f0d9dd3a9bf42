"""An evaluation inside somebody's training loop leaves everything there as it was."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from checking import evaluated, figures
from conftest import noise_images
from memgen_eval import evaluate

SHAPE = (8, 8, 3)
TRAIN, TEST = noise_images(0, 400, SHAPE), noise_images(1, 310, SHAPE)


class Net(torch.nn.Module):
    """Something between a denoiser and a sampler, with what evaluations get wrong: dropout and running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.1)
        self.norm = torch.nn.BatchNorm2d(3)
        self.norm.eval()  # a frozen part of a net in train mode has to stay frozen
        self.modes: list[bool] = []

    def forward(self, n: int, sigma: Any = None) -> torch.Tensor:
        self.modes.append(self.training or torch.is_grad_enabled())
        noise = torch.rand((n, 3, 8, 8), generator=torch.Generator().manual_seed(len(self.modes)))
        result: torch.Tensor = self.dropout(self.norm(noise * 2 - 1)).clamp(-1, 1)
        return result


def state(net: Net, *arrays: Any) -> dict[str, Any]:
    """Everything that an evaluation may not change."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "random": random.getstate(),
        "numpy": (kind, np.asarray(keys).tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "arrays": [hashlib.sha256(np.ascontiguousarray(array)).hexdigest() for array in arrays],
        "modes": [module.training for module in net.modules()],
        "weights": [value.numpy().tobytes() for value in net.state_dict().values()],
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "logs": [
            (logging.getLogger(name).level, tuple(logging.getLogger(name).handlers)) for name in (None, "memgen_eval")
        ],
        "filters": list(warnings.filters),
        "backend": sys.modules["matplotlib"].get_backend(),
        "errors": np.geterr(),
        "environment": dict(os.environ),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "alive": threading.active_count(),
    }


@pytest.fixture
def net() -> Net:
    import matplotlib as mpl

    mpl.use("svg")
    return Net().train(True)


def test_nothing_of_the_caller_changes(net: Net) -> None:
    net.norm.eval()
    x, y = TEST.copy(), torch.from_numpy(TRAIN.copy())
    random.seed(1), np.random.seed(2), torch.manual_seed(3)  # noqa: NPY002
    denoiser = lambda x, sigma: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2) + 0 * net(len(x))  # noqa: E731
    evaluate(x, train=y, denoiser=denoiser)  # whatever is imported or started once is there now
    before = state(net, x, y)
    reports = [evaluated(x, train=y, denoiser=denoiser) for _ in range(2)]
    reports[0]._repr_html_()
    assert state(net, x, y) == before
    assert figures(reports[0]) == figures(reports[1])


def test_a_module_that_samples_runs_in_eval_mode_and_gets_its_modes_back(net: Net) -> None:
    net.norm.eval()
    before = state(net)
    evaluated(net, train=TRAIN, num_samples=100, batch_size=50, metrics="memorization")
    assert net.modes == [False, False]
    assert state(net) == before


def test_modes_come_back_after_an_error(net: Net) -> None:
    net.norm.eval()
    before = state(net)
    with pytest.raises(ValueError, match="samples"):
        evaluate(net, train=TRAIN, num_samples=60, batch_size=50, metrics="memorization", value_range=(3, 2))
    with pytest.raises(ValueError, match="train"):
        evaluate(net, train=TRAIN[:0])
    assert state(net) == before


def test_gradients_flow_on_in_the_loop_around() -> None:
    weight = torch.ones(1, requires_grad=True)
    loss = (weight * 2).sum()
    evaluated(TEST, train=TRAIN, metrics="memorization")
    loss.backward()
    assert weight.grad is not None and weight.grad.item() == 2


def test_a_tensor_that_needs_gradients_is_only_read() -> None:
    x = torch.from_numpy(TEST / 127.5 - 1).requires_grad_()
    report = evaluated(x, train=TRAIN, test=TEST, metrics="memorization")
    assert x.requires_grad and x.grad is None
    assert figures(report) == figures(evaluated(TEST, train=TRAIN, test=TEST, metrics="memorization"))
