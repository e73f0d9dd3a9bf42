"""A small evaluation that keeps what it has done, as a program of its own: it kills itself at one of its calls.

``python long_run.py FOLDER REPORT KILL_AT [SAMPLER]``: calls of sampler, denoiser and features are counted together; at
call KILL_AT the process gets SIGKILL. Prints how many calls were made. Where the environment names a rank, as torchrun
does, the process is one of several that share the evaluation.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from memgen_eval import evaluate

SHAPE = (8, 8, 1)
SIGMAS = [0.1, 0.5, 2.0, 10.0]


class Calls:
    """Counts calls, and ends the process at one of them."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at, self.count = kill_at, 0

    def add(self) -> None:
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class Net(torch.nn.Module):
    """A sampler and a denoiser with weights that can be seen."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.2, 0.9, 64).reshape(1, 1, 8, 8))
        self.calls = calls

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.calls.add()
        return self.weight * x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


def as_bytes(values: torch.Tensor) -> torch.Tensor:
    return (values * 255).to(torch.uint8)


def samplers(net: Net) -> dict[str, Any]:
    """By the way in which each draws."""
    own = np.random.default_rng(5)

    def seeds(n: int, *, seeds: list[int]) -> torch.Tensor:
        net.calls.add()
        return torch.cat([as_bytes(net.weight * torch.rand(SHAPE[::-1], generator=seeded(s))) for s in seeds])

    def generator(n: int, *, generator: torch.Generator) -> torch.Tensor:
        net.calls.add()
        return as_bytes(net.weight * torch.rand(n, *SHAPE[::-1], generator=generator))

    def unseeded(n: int) -> torch.Tensor:
        net.calls.add()
        return as_bytes(net.weight * torch.rand(n, *SHAPE[::-1]))

    def numpys(n: int) -> torch.Tensor:
        net.calls.add()
        return as_bytes(net.weight * torch.from_numpy(own.random((n, *SHAPE[::-1]))))

    stream = iterating()

    def iterator(n: int) -> Any:
        net.calls.add()
        assert net is not None
        return np.stack([next(stream) for _ in range(n)])

    return {f.__name__: f for f in (seeds, generator, unseeded, numpys, iterator)}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def iterating() -> Iterator[Any]:
    """Draws from a state that nothing outside can see."""
    generator = np.random.default_rng(7)
    while True:
        yield generator.integers(0, 256, SHAPE, dtype=np.uint8)


@contextmanager
def finished(calls: Calls) -> Iterator[None]:
    """Say how many calls there were, however it ends."""
    try:
        yield
    finally:
        sys.stdout.write(str(calls.count))


def main(folder: str, report: str, kill_at: str, kind: str = "seeds") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(11)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    calls, rng = Calls(int(kill_at)), np.random.default_rng(0)
    net = Net(calls)
    train, test = (rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8) for count in (300, 150))

    def features(x: torch.Tensor) -> torch.Tensor:
        calls.add()
        return x.float().flatten(1)[:, ::4] / 255

    with finished(calls):
        found = evaluate(
            samplers(net)[kind],
            train=train,
            test=test,
            denoiser=net,
            features=features,
            num_samples=150,
            batch_size=16,
            sigmas=SIGMAS,
            num_denoiser_images=48,
            denoiser_batch_size=16,
            metrics=["memorization", "novelty", "denoiser"],
            resume=folder or None,
        )
    content = found.to_dict()
    for name in ("created", "seconds"):
        content["provenance"].pop(name)
    if os.environ.get("RANK", "0") == "0":
        Path(report).write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
