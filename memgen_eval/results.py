"""What an evaluation finds, part by part: estimates with intervals, five families of them, a verdict, the settings.

Frozen values only; `memgen_eval.report` puts them together and knows how they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Label = Literal["copies", "no copying found", "undecided"]
LABELS: tuple[Label, ...] = ("copies", "no copying found", "undecided")


@dataclass(frozen=True)
class Estimate:
    """One figure with its uncertainty.

    Attributes
    ----------
    value, low, high : float or None
        The figure and its 95 % interval; None where it is not defined (the first note says why) or has no interval.
    method : str
        How the interval was found.
    count : int or None
        The number of images that the figure rests on.
    notes : tuple of str
        Everything that changed or limits the figure.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    count: int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def undefined(cls, reason: str, *, count: int | None = None) -> Estimate:
        """A figure that could not be measured, with the reason."""
        return cls(None, method="undefined", count=count, notes=(reason,))


@dataclass(frozen=True)
class Axis:
    """What a curve is drawn against: a name, a unit ("" for none) and the places."""

    name: str
    unit: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """A figure at several places of `x`, each with its interval; None where it is not defined there."""

    value: tuple[float | None, ...] | None
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None
    method: str = ""
    count: int | None = None
    notes: tuple[str, ...] = ()
    x: Axis | None = None

    @classmethod
    def undefined(cls, reason: str) -> Curve:
        """A curve that could not be measured, with the reason."""
        return cls(None, method="undefined", notes=(reason,))


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
class Memorization:
    """Copies of training images among the samples, in pixels."""

    ratio: Estimate
    plain_ratio: Estimate
    test_ratio: Estimate
    excess: Estimate
    ratio_curve: Curve
    test_ratio_curve: Curve
    carlini: Estimate
    test_carlini: Estimate
    carlini_absolute: Estimate
    carlini_patch: Estimate
    feature_similarity: Estimate
    test_feature_similarity: Estimate
    repetition: Estimate
    test_repetition: Estimate
    num_distinct_copied: Estimate
    num_near_identical: Estimate
    test_num_near_identical: Estimate
    largest_compatible_ratio: Estimate
    detectable_ratio: Estimate
    copies: tuple[Match, ...]
    closest: tuple[Match, ...]
    test_closest: tuple[Match, ...]


@dataclass(frozen=True)
class Novelty:
    """How far samples lie from the training set, beside how far unseen images lie."""

    distance_quantiles: Curve
    test_distance_quantiles: Curve
    distance_median: Estimate
    test_distance_median: Estimate
    distance_ratio: Estimate
    auc: Estimate
    relative_auc: Estimate
    ct: Estimate
    relative_ct: Estimate
    authenticity: Estimate
    test_authenticity: Estimate


@dataclass(frozen=True)
class Fidelity:
    """How like the data the samples are: against train, against test, and train minus test."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    fid: Estimate
    kid: Estimate
    swd: Estimate
    test_precision: Estimate
    test_recall: Estimate
    test_density: Estimate
    test_coverage: Estimate
    test_fid: Estimate
    test_kid: Estimate
    test_swd: Estimate
    gap_precision: Estimate
    gap_recall: Estimate
    gap_density: Estimate
    gap_coverage: Estimate
    gap_fid: Estimate
    gap_kid: Estimate
    gap_swd: Estimate


@dataclass(frozen=True)
class Denoiser:
    """How far the model's denoiser is from the one that can only copy, at each noise level."""

    error_train: Curve
    error_test: Curve
    relative_error_train: Curve
    relative_error_test: Curve
    generalization_gap: Curve
    gap_train: Curve
    gap_test: Curve
    gap_path: Curve
    optimal_error_train: Curve
    optimal_error_test: Curve
    identity_residual: Curve
    memorization_index: Curve
    matched_memorization_index: Curve
    test_memorization_index: Curve
    off_line: Curve
    effective_neighbours: Curve
    effective_neighbours_train: Curve
    collapse_sigma: Estimate
    predicted_collapse_sigma: Estimate


@dataclass(frozen=True)
class Gaussian:
    """How much of the model, or of its samples, the mean and covariance of the training set explain."""

    nmse: Curve
    cosine: Curve
    linearity: Curve
    gaussian_linearity: Curve
    distillation_r2: Curve
    distillation_alignment: Curve
    wasserstein: Estimate
    test_wasserstein: Estimate
    subspace_overlap: Estimate
    test_subspace_overlap: Estimate


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
