"""The pace of a training: chosen by the clock, which the tests set, and nothing left changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import log2
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_models.precond import Preconditioned
from reference_models.training import pace
from reference_models.training.pace import Pace, at_pace, choose_pace, race
from reference_models.unet import UNet, UNetConfig

SHAPE = (1, 8, 8)


class Clock:
    """Time that passes only when a network is run: as long as `cost` says, in the order of the calls."""

    def __init__(self, cost: Callable[[int, bool, bool], float]) -> None:
        self.now, self.cost, self.runs = 0.0, cost, 0

    def perf_counter(self) -> float:
        return self.now

    def run(self, x: Tensor, compiled: bool) -> None:
        last = not x.is_contiguous()
        self.runs += 1
        self.now += self.cost(torch.get_num_threads(), last, compiled)


class Timed(nn.Module):
    """A network that takes as long as the clock says for its threads, layout and compilation."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.layer, self.compiled = [clock], nn.Conv2d(2, 2, 3, padding=1), False

    def __deepcopy__(self, memo: Any) -> Timed:
        twin = Timed(self.clock[0])
        twin.load_state_dict(self.state_dict())
        return twin

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        self.clock[0].run(out, self.compiled)
        return out

    def compile(self, *args: Any, **kwargs: Any) -> None:
        self.compiled = True


@pytest.fixture
def four_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def chosen(
    monkeypatch: pytest.MonkeyPatch, cost: Callable[[int, bool, bool], float], num_steps: int = 1000, **settings: Any
) -> tuple[Pace, int]:
    """The pace for such costs, and how many passes it took to find out."""
    clock = Clock(cost)
    monkeypatch.setattr(pace, "perf_counter", clock.perf_counter)
    model = Preconditioned(Timed(clock), sigma_data=0.5)
    settings = {"batch_size": 3, "num_steps": num_steps, **settings}
    return choose_pace(model, (2, 8, 8), **settings), clock.runs


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("gain", "expected"), [(lambda t: t, 4), (lambda t: 1.0, 1), (lambda t: 1 / t, 1), (lambda t: min(t, 2), 2)]
)
def test_threads_are_as_many_as_pay(
    monkeypatch: pytest.MonkeyPatch, gain: Callable[[int], float], expected: int
) -> None:
    found, _ = chosen(monkeypatch, lambda threads, last, compiled: 0.1 / gain(threads))
    assert found == Pace(expected, channels_last=True, compiled=False)
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_a_second_thread_that_gains_little_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for gain, expected in ((1.19, 1), (1.21, 4)):
        found, _ = chosen(monkeypatch, lambda threads, last, compiled, gain=gain: 0.1 / gain ** log2(threads))
        assert found.num_threads == expected


def by_numbers(cost: Callable[[int, int], float]) -> Callable[..., Any]:
    """In place of `step_of`: a step that takes as long as `cost` says for its threads a worker, and workers."""

    def step_of(model: Any, batch: Any, precision: str, num_workers: int = 1) -> Callable[[], None]:
        def step() -> None:
            model.network.clock[0].now += cost(torch.get_num_threads(), num_workers)

        return step

    return step_of


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("cost", "shared", "expected"),
    [
        (lambda each, workers: 1 / (each * workers), True, (4, 4)),
        (lambda each, workers: 1 / (each * workers), False, (4, 1)),
        (lambda each, workers: 1 / (each * min(workers, 2)), True, (4, 2)),
        (lambda each, workers: 1 / 1.06 ** log2(workers), True, (4, 4)),
        (lambda each, workers: 1 / 1.04 ** log2(workers) / 1.19 ** log2(each), True, (1, 1)),
        (lambda each, workers: float(workers) / each, True, (4, 1)),
    ],
)
def test_workers_are_preferred_to_threads_of_torch(
    monkeypatch: pytest.MonkeyPatch, cost: Callable[[int, int], float], shared: bool, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(pace, "step_of", by_numbers(cost))
    found, _ = chosen(monkeypatch, lambda *_: 0.0, shared=shared, batch_size=128)
    assert (found.num_threads, found.num_workers) == expected and torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_no_worker_is_without_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "step_of", by_numbers(lambda each, workers: 1 / workers))
    found, _ = chosen(monkeypatch, lambda *_: 0.0, shared=True, batch_size=3)
    assert (found.num_threads, found.num_workers) == (3, 3)


@pytest.mark.parametrize(("plain", "expected"), [(0.5, False), (0.94, False), (0.96, True), (2.0, True)])
def test_the_layout_changes_for_a_gain(monkeypatch: pytest.MonkeyPatch, plain: float, expected: bool) -> None:
    found, _ = chosen(monkeypatch, lambda threads, last, compiled: 0.1 * (1 if last else plain))
    assert found.channels_last is expected


def test_one_slow_spell_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass that counts, channels last, takes a hundred times as long: a mean would change the layout."""
    calls = iter(range(10**6))
    found, _ = chosen(monkeypatch, lambda threads, last, compiled: 10.0 if next(calls) == 2 else 0.1)
    assert found == Pace(1, channels_last=True, compiled=False)


@pytest.mark.parametrize(("gain", "expected"), [(2.0, True), (1.01, False)])
def test_the_compiler_is_tried_on_long_trainings_alone(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: bool
) -> None:
    def cost(threads: int, last: bool, compiled: bool) -> float:
        return 0.1 / (gain if compiled else 1)

    assert chosen(monkeypatch, cost, num_steps=350_000)[0].compiled is False
    assert chosen(monkeypatch, cost, num_steps=370_000)[0].compiled is expected


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(threads: int, last: bool, compiled: bool) -> float:
        if compiled:
            raise RuntimeError("no g++")
        return 0.1

    assert chosen(monkeypatch, cost, num_steps=10**6)[0].compiled is False


def test_few_steps_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found, runs = chosen(monkeypatch, lambda *_: 0.1, num_steps=20)
    assert found == Pace(1, channels_last=True, compiled=False) and runs == 0
    assert chosen(monkeypatch, lambda *_: 0.1, num_steps=20, precision="bfloat16")[0].channels_last is False


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(pace, "SECONDS", 0)
    found = race({name: lambda name=name: order.append(name) for name in "ab"})  # type: ignore[misc]
    assert order == ["a", "b"] * 4 and set(found) == {"a", "b"}


def test_nothing_is_left_changed() -> None:
    torch.manual_seed(0)
    model = Preconditioned(UNet(UNetConfig(SHAPE, 16, (1, 2), 1, (4,), dropout=0.1)), sigma_data=0.5)
    weights, threads, state = copy.deepcopy(model.state_dict()), torch.get_num_threads(), torch.get_rng_state()
    found = choose_pace(model, SHAPE, batch_size=2, num_steps=60, shared=True)
    assert 1 <= found.num_threads <= threads == torch.get_num_threads()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_threads_come_back_after_an_error() -> None:
    before = torch.get_num_threads()
    seen = []

    def fail() -> None:
        seen.append(torch.get_num_threads())
        raise KeyError

    with pytest.raises(KeyError), at_pace(Pace(before + 1, channels_last=False, compiled=False)):
        fail()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
