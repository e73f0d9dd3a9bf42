"""The time of a case, method after method in turns, kept by pytest-benchmark with what is known of the answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ENOUGH = 20.0  # seconds: what took longer is not timed again
SETTLING = 0.5  # seconds, after which no thread of the method before is still spinning
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stopwatch:
    """Times one turn of one method. The turns of a case's methods alternate, so that a busy spell slows all of them.

    Attributes
    ----------
    benchmark : pytest-benchmark's fixture of this test
    seconds : what each (case, method) took in its last turn
    """

    benchmark: BenchmarkFixture
    seconds: dict[tuple[str, str], float]

    def __call__(self, function: Callable[[], Result], *, case: str, method: str, floor: float | None = None) -> Result:
        """The result of `function`, called once; skips the test where its last turn took so long that one is enough."""
        last = self.seconds.get((case, method), 0.0)
        if last > ENOUGH:
            pytest.skip(f"took {last:.0f} s: once is enough")
        self.benchmark.group = case
        time.sleep(SETTLING)
        before = os.times()
        result: Result = self.benchmark.pedantic(function, rounds=1)  # type: ignore[no-untyped-call]
        after = os.times()
        self.seconds[case, method] = after.elapsed - before.elapsed
        self.note(method=method, cpu_seconds=sum(after[:4]) - sum(before[:4]), floor_seconds=floor)
        return result

    def note(self, **facts: Any) -> None:
        """Keep facts with the timing; `answer` belongs there once the answer is asserted."""
        self.benchmark.extra_info.update(facts)
