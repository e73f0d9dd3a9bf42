"""What a report holds besides figures: the verdict and what it rests on, settings, provenance, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Label = Literal["copies", "no copying found", "undecided"]
LABELS: tuple[Label, ...] = ("copies", "no copying found", "undecided")


@dataclass(frozen=True)
class Match:
    """A sample and its nearest training image: the root mean square difference per value on [0, 1], and d1/d2."""

    sample_index: int
    train_index: int
    distance: float
    grey_levels: float
    ratio: float
    flipped: bool


@dataclass(frozen=True)
class Evidence:
    """The counts that the verdict rests on; a baseline image is a test image, or a training image left out of train."""

    num_samples: int
    num_distinct_samples: int
    num_flagged: int
    num_distinct_flagged: int
    num_baseline: int
    num_flagged_baseline: int
    num_near_identical: int
    num_near_identical_baseline: int
    num_baseline_leaks: int
    p_value_without_leaks: float | None
    first_near_identical: Match | None


@dataclass(frozen=True)
class Verdict:
    """Whether the samples copy the training set, the sentence that says so, and what it rests on."""

    label: Label
    sentence: str
    p_value: float
    evidence: Evidence


@dataclass(frozen=True)
class Settings:
    """All that determines the figures; distances are root mean squares per value on [0, 1]."""

    seed: int
    metrics: tuple[str, ...] | None
    features: str
    threshold: float
    duplicate_tolerance: float | None
    flip: bool
    quantize: bool
    image_shape: tuple[int, ...]
    num_samples: int
    num_train: int
    num_test: int | None
    baseline: str
    num_baseline: int
    sigmas: tuple[float, ...] | None
    num_denoiser_images: int
    num_draws: int
    denoiser_batch_size: int
    checksums: Mapping[str, str | None]


@dataclass(frozen=True)
class Provenance:
    """All that may differ between two runs of the same inputs."""

    created: str
    seconds: Mapping[str, float]
    command: str | None
    versions: Mapping[str, str]
    host: Mapping[str, str]
    engine: str
    device: str
    threads: int
    ranks: int
    batch_size: int
    memory_budget: str
    inputs: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Gallery:
    """Pixels of the images that `closest` and `test_closest` name, by index: uint8, (C, H, W), at most 256 a side."""

    samples: Mapping[int, Any]
    train: Mapping[int, Any]
    baseline: Mapping[int, Any]
