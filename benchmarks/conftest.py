"""What all benchmarks share: the images, the machine's peaks, the stopwatch; and what the timings depend on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.data import ImageSets, image_sets
from benchmarks.machine import PACKAGES, Peaks, measured_peaks, num_threads, processor
from benchmarks.stopwatch import Stopwatch
from memgen_eval.build_report import installed_versions

PEAKS = pytest.StashKey[Peaks]()


@pytest.fixture(scope="session")
def seconds() -> dict[tuple[str, str], float]:
    """Seconds of the last turn by case and method."""
    return {}


@pytest.fixture
def stopwatch(benchmark: BenchmarkFixture, seconds: dict[tuple[str, str], float]) -> Stopwatch:
    """The stopwatch of one test."""
    return Stopwatch(benchmark, seconds)


@pytest.fixture(scope="session")
def images() -> ImageSets:
    """CIFAR-10, or images made to resemble it."""
    return image_sets()


@pytest.fixture(scope="session")
def peaks(request: pytest.FixtureRequest) -> Peaks:
    """What this machine can do at best, measured now."""
    found = measured_peaks(processor().flags)
    request.config.stash[PEAKS] = found
    return found


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add to the timings what they depend on."""
    output_json["memgen_eval"] = {
        "processor": processor().name,
        "flags": processor().flags_of_interest,
        "threads": num_threads(),
        "versions": installed_versions(PACKAGES),
        "peaks": asdict(config.stash[PEAKS]) if PEAKS in config.stash else {},
    }
