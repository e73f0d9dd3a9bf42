"""A training loop with an evaluation in its middle takes the same steps as without it, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from conftest import noise_images
from memgen_eval import OptimalDenoiser, Sampler, evaluate, from_epsilon

SHAPE = (8, 8, 3)
TRAIN, TEST = noise_images(0, 64, SHAPE), noise_images(1, 48, SHAPE)
FLOATS = torch.from_numpy(TRAIN.transpose(0, 3, 1, 2) / 127.5 - 1).float()
BEST = OptimalDenoiser(TRAIN.transpose(0, 3, 1, 2))
ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
FEW: dict[str, Any] = {"num_denoiser_images": 4, "num_draws": 1, "denoiser_batch_size": 4, "sigmas": [0.1, 2.0]}


class Net(nn.Module):
    """Dropout, running statistics, a lazy layer, and a table made at the first call: what evaluations get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(0.3), nn.BatchNorm2d(3)
        self.time = nn.LazyLinear(3)
        self.table: Tensor | None = None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0, 1, 1000, device=x.device, dtype=x.dtype)
        shift = self.time(self.table[t.long().clamp(0, 999)][:, None].to(x.dtype))
        out: Tensor = self.dropout(self.norm(self.layer(x) + shift[:, :, None, None]))
        return out


Evaluation = Callable[[Net, DataLoader[Any]], object]


def trained(
    evaluation: Evaluation | None, *, dtype: torch.dtype = torch.float32, **loading: Any
) -> tuple[list[Tensor], tuple[Any, ...]]:
    """The weights after four steps with everything random in them, and the random states; `evaluation` after two."""
    random.seed(1), np.random.seed(2), torch.manual_seed(3)  # noqa: NPY002
    net = Net().to(dtype)
    net(FLOATS[:2].to(dtype), torch.zeros(2))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    loader = DataLoader(TensorDataset(FLOATS), batch_size=16, shuffle=True, **loading)
    for step, (x,) in enumerate(loader):
        noise = torch.randn_like(x) * np.random.uniform(0.5, 1) * random.uniform(0.5, 1)  # noqa: NPY002
        loss = ((net((x + noise).to(dtype), torch.randint(0, 1000, (len(x),))) - noise.to(dtype)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 1 and evaluation is not None:
            evaluation(net, loader)
    state = (random.random(), float(np.random.random()), float(torch.rand(())))  # noqa: NPY002
    return [value.detach().clone() for value in net.state_dict().values()], state


def as_denoiser(net: Net, loader: Any) -> object:
    denoiser = from_epsilon(lambda x, t: net(x, t=t), alphas_cumprod=ABAR)
    return evaluate(TEST, train=TRAIN, denoiser=denoiser, metrics=["memorization", "denoiser"], **FEW)


def as_sampler(net: Net, loader: Any) -> object:
    def sampler(n: int) -> Tensor:
        noise = torch.randn(n, 3, 8, 8) + float(np.random.normal()) + random.gauss(0, 1)  # noqa: NPY002
        return net(noise, torch.zeros(n)).clamp(-1, 1)

    return evaluate(sampler, train=TRAIN, num_samples=32, batch_size=16, metrics="memorization", value_range=(-1, 1))


def guided(net: Net, loader: Any) -> object:
    """Guidance takes gradients of a classifier, here of the very network that is being trained."""

    def sampler(n: int, generator: torch.Generator) -> Tensor:
        with torch.enable_grad():
            x = torch.randn(n, 3, 8, 8, generator=generator).requires_grad_()
            (gradient,) = torch.autograd.grad(net(x, torch.zeros(n)).square().sum(), x)
        return (x - gradient).clamp(-1, 1)

    return evaluate(sampler, train=TRAIN, num_samples=32, batch_size=16, metrics="memorization", value_range=(-1, 1))


def own_sampler(net: Net, loader: Any) -> object:
    denoiser = lambda x, sigma: BEST(x, sigma) + 0 * net(x, sigma)  # noqa: E731
    sampler = Sampler(denoiser, (3, 8, 8), num_steps=3, batch_size=16)
    return evaluate(sampler, train=TRAIN, num_samples=32, metrics="memorization")


def from_its_loader(net: Net, loader: Any) -> object:
    return evaluate(TEST, train=loader, metrics="memorization")


def as_features(net: Net, loader: Any) -> object:
    features = lambda x: net(x / 127.5 - 1, torch.zeros(len(x))).flatten(1)  # noqa: E731
    return evaluate(TEST, train=TRAIN, features=features, metrics="novelty")


def failing(net: Net, loader: Any) -> None:
    def sampler(n: int) -> Any:
        net(torch.randn(n, 3, 8, 8), torch.zeros(n))
        raise KeyError(n)

    with pytest.raises(ValueError, match="KeyError"):
        evaluate(sampler, train=TRAIN, num_samples=8)


PLAIN = trained(None)


@pytest.mark.parametrize(
    "evaluation", [as_denoiser, as_sampler, guided, own_sampler, from_its_loader, as_features, failing]
)
def test_the_next_steps_are_the_same(evaluation: Evaluation) -> None:
    same(trained(evaluation), PLAIN)


def same(found: Any, expected: Any) -> None:
    assert found[1] == expected[1]
    assert all(torch.equal(one, other) for one, other in zip(found[0], expected[0], strict=True))


@pytest.mark.parametrize("evaluation", [as_denoiser, as_features, from_its_loader])
def test_the_next_steps_are_the_same_in_bfloat16(evaluation: Evaluation) -> None:
    def in_type(net: Net, loader: Any) -> object:
        if evaluation is not as_features:
            return evaluation(net, loader)
        features = lambda x: net((x / 127.5 - 1).bfloat16(), torch.zeros(len(x))).flatten(1)  # noqa: E731
        return evaluate(TEST, train=TRAIN, features=features, metrics="novelty")

    same(trained(in_type, dtype=torch.bfloat16), trained(None, dtype=torch.bfloat16))


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_with_workers_goes_on_where_it_was(persistent: bool) -> None:
    workers: dict[str, Any] = {"num_workers": 2, "persistent_workers": persistent, "multiprocessing_context": "fork"}
    same(trained(from_its_loader, **workers), trained(None, **workers))


def test_a_generator_of_the_callers_goes_on_where_it_was() -> None:
    def loading() -> dict[str, Any]:
        return {"generator": torch.Generator().manual_seed(7)}

    def drawing(net: Net, loader: Any) -> object:
        def sampler(n: int) -> Any:
            return torch.rand(n, 3, 8, 8, generator=loader.generator)

        return evaluate(sampler, train=loader, num_samples=32, metrics="memorization", value_range=(0, 1))

    same(trained(drawing, **loading()), trained(None, **loading()))

    own = np.random.default_rng(5)
    before = own.bit_generator.state
    evaluate(lambda n: own.integers(0, 256, (n, *SHAPE), dtype=np.uint8), train=TRAIN, num_samples=8, metrics="auc")
    assert own.bit_generator.state == before
    sampler = RandomSampler(TensorDataset(FLOATS), generator=torch.Generator().manual_seed(4))
    state = sampler.generator.get_state()
    evaluate(TEST, train=DataLoader(TensorDataset(FLOATS), batch_size=16, sampler=sampler), metrics="memorization")
    assert torch.equal(sampler.generator.get_state(), state)


@pytest.mark.parametrize("lazily", ["a table", "a layer"])
def test_what_is_made_at_the_first_call_can_be_trained(lazily: str) -> None:
    net = Net()
    as_denoiser(net, None)
    loss = net(FLOATS[:4], torch.zeros(4)).square().mean()
    loss.backward()
    made = net.time.weight if lazily == "a layer" else net.layer.weight
    assert made.grad is not None and net.table is not None and not net.table.is_inference()


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS: dict[str, Callable[[], Any]] = {
    "device": lambda: default_device("meta"),
    "dtype": lambda: default_dtype(torch.float64),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic,
    "no gradients": torch.no_grad,
}


def seen() -> tuple[Any, ...]:
    return (
        torch.get_default_device(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.empty(()).device,
    )


def wiener(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_callers_settings_change_no_figure_and_stay(setting: str) -> None:
    during: list[tuple[Any, ...]] = []

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        during.append(seen()[:4])
        return wiener(x, sigma)

    few = FEW | {"metrics": ["denoiser", "gaussian", "memorization"]}
    sampler = Sampler(BEST, (3, 8, 8), num_steps=3, batch_size=16)
    plain = evaluate(sampler, train=TRAIN, denoiser=wiener, num_samples=32, **few)
    with SETTINGS[setting]() or nullcontext():
        before = seen()
        report = evaluate(sampler, train=TRAIN, denoiser=denoiser, num_samples=32, **few)
        assert seen() == before
        assert set(during) == {before[:4]}  # foreign code sees what its author set
    assert report.denoiser == plain.denoiser and report.memorization == plain.memorization
