"""Reports made by hand, frozen and shared: one with every figure, one with none, and the pictures of a gallery."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memgen_eval.render.html import render_html
from memgen_eval.report import Report
from memgen_eval.results import (
    AlteredMatch,
    Anchor,
    Axis,
    Curve,
    Denoiser,
    Estimate,
    Evidence,
    Fidelity,
    Gallery,
    Gaussian,
    Match,
    Memorization,
    Novelty,
    Provenance,
    RuleFinding,
    Settings,
    Verdict,
)

SIGMAS = tuple(float(s) for s in np.geomspace(0.02, 80, 15))
Pixels = NDArray[np.uint8]


def share(value: float, half: float, *, count: int = 1000, notes: tuple[str, ...] = ()) -> Estimate:
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0), "Clopper-Pearson 95 %", count, notes)


def mean(value: float, half: float, *, count: int = 256) -> Estimate:
    return Estimate(value, value - half, value + half, "bootstrap 95 %, 1,000 resamples", count)


def curve(values: NDArray[np.float64], half: NDArray[np.float64] | float, axis: Axis, count: int = 256) -> Curve:
    low, high = values - half, values + half
    lists = [tuple(float(v) for v in part) for part in (values, low, high)]
    return Curve(*lists, method="bootstrap 95 %, 1,000 resamples", count=count, x=axis)


def over_sigma(values: NDArray[np.float64], relative: float = 0.06) -> Curve:
    return curve(values, np.abs(values) * relative + 1e-6, Axis("sigma", "", SIGMAS))


def settings() -> Settings:
    return Settings(
        seed=0,
        metrics=None,
        features="pixels",
        feature_weights=None,
        feature_preparation=None,
        threshold=1 / 3,
        duplicate_tolerance=0.0447,
        flip=True,
        quantize=True,
        image_shape=(3, 32, 32),
        num_samples=1000,
        num_train=50_000,
        num_test=10_000,
        baseline="test",
        num_baseline=10_000,
        sigmas=SIGMAS,
        num_denoiser_images=256,
        num_draws=2,
        denoiser_batch_size=64,
        checksums={"samples": "5c1e7a" * 8, "train": "0ab3d9" * 8, "test": None},
    )


def provenance() -> Provenance:
    return Provenance(
        created="2026-01-02T03:04:05+00:00",
        seconds={"load": 1.25, "neighbours": 31.8, "denoiser": 204.0},
        command="memgen-eval samples.npz --train cifar10 --html report.html",
        versions={"memgen_eval": "0.1.0", "numpy": "2.4.0", "torch": "2.14.0"},
        host={"system": "Linux", "machine": "x86_64", "python": "3.12.1"},
        engine="numkong",
        device="cpu",
        threads=2,
        ranks=1,
        batch_size=64,
        memory_budget="512MiB",
        inputs={"samples": {"form": "folder", "layout": "NHWC", "notes": ["3 files that are not images were skipped"]}},
        names={
            "samples": {str(i): f"out/{i:05d}.png" for i in range(40)},
            "test": {str(i): f"test/{i:05d}.png" for i in range(32)},
        },
    )


def memorization() -> Memorization:
    c = np.arange(1, 30) / 30
    copied = 0.04 + 0.96 / (1 + np.exp(-(c - 0.86) * 26))
    unseen = 0.0011 + 0.9989 / (1 + np.exp(-(c - 0.87) * 26))
    axis = Axis("threshold c of d1/d2", "", tuple(float(x) for x in c))
    closest = tuple(Match(i, 100 + i, i / 255 / 2, i / 2, i / 96, i % 3 == 1) for i in range(32))
    baseline = tuple(Match(i, 300 + i, (13 + i) / 255, 13.0 + i, 0.27 + i / 320, i % 2 == 0) for i in range(32))
    words = "mirrored, shifted 1 right (pixels), 12 % brighter"
    altered = tuple(
        AlteredMatch(10 + i, 110 + i, True, 1, 0, 0.0, 1.0, 1.12, 14.0, 3.0 + i, 0.1 + i / 50, words) for i in range(3)
    )
    return Memorization(
        ratio=share(0.032, 0.011),
        plain_ratio=share(0.021, 0.009),
        test_ratio=share(0.0011, 0.0007, count=10_000, notes=("2 of 10,000 test images are in train too",)),
        excess=Estimate(0.0309, 0.0217, 0.0437, "Newcombe 95 %", 1000),
        ratio_curve=curve(copied, 0.012, axis, 1000),
        test_ratio_curve=curve(unseen, 0.004, axis, 10_000),
        calibrated_threshold=Estimate(0.69, 0.68, 0.71, "order statistics 95 % for 3 thresholds at once", 10_000),
        calibrated_ratio=share(0.057, 0.015),
        test_calibrated_ratio=share(0.005, 0.0017, count=10_000),
        calibrated_excess=Estimate(0.052, 0.038, 0.073, "Newcombe 95 % for 3 thresholds at once", 1000),
        calibrated_p_value=Estimate(4.5e-31, method="exact, of exceedances, Bonferroni for 3 thresholds", count=1000),
        standardized_ratio=share(0.061, 0.015),
        test_standardized_ratio=share(0.005, 0.0017, count=10_000),
        standardized_p_value=Estimate(2.1e-33, method="exact, of exceedances, Bonferroni for 3 thresholds", count=1000),
        aligned_ratio=share(0.066, 0.016),
        test_aligned_ratio=share(0.005, 0.0017, count=10_000),
        aligned_p_value=Estimate(8.8e-36, method="exact, of exceedances, Bonferroni for 3 thresholds", count=1000),
        carlini=share(0.052, 0.013),
        test_carlini=share(0.019, 0.003, count=10_000),
        carlini_absolute=share(0.028, 0.01),
        carlini_patch=share(0.026, 0.01),
        feature_similarity=Estimate.undefined("needs a feature extractor for copy detection"),
        test_feature_similarity=Estimate.undefined("needs a feature extractor for copy detection"),
        feature_threshold=Estimate(0.91, 0.9, 0.94, "order statistics 95 %", 10_000),
        calibrated_feature_similarity=share(0.02, 0.009),
        feature_p_value=Estimate(3.2e-15, method="exact, of exceedances", count=1000),
        feature_margin_threshold=Estimate(0.21, 0.19, 0.24, "order statistics 95 %", 10_000),
        calibrated_feature_margin=share(0.024, 0.01),
        feature_margin_p_value=Estimate(1.1e-18, method="exact, of exceedances", count=1000),
        repetition=share(0.004, 0.003),
        test_repetition=share(0.0, 0.002),
        num_distinct_copied=Estimate(27.0, method="count", count=32),
        num_near_identical=Estimate(24.0, method="count", count=1000),
        test_num_near_identical=Estimate(0.0, method="count", count=10_000),
        largest_compatible_ratio=Estimate(0.0429, method="Clopper-Pearson, one-sided 95 %", count=1000),
        detectable_ratio=Estimate(0.0093, method="Fisher, power 0.9", count=1000),
        copies=closest,
        closest=closest,
        test_closest=baseline,
        altered=altered,
    )


def novelty() -> Novelty:
    q = np.arange(1, 100) / 100
    axis = Axis("quantile", "", tuple(float(x) for x in q))
    spread = np.log(q / (1 - q))
    unseen = 0.155 + 0.022 * spread + 0.04
    samples = np.where(q < 0.03, 0.01 * q / 0.03, unseen - 0.012)
    return Novelty(
        distance_quantiles=curve(samples, 0.004, axis, 1000),
        test_distance_quantiles=curve(unseen, 0.0015, axis, 10_000),
        distance_median=mean(0.183, 0.004, count=1000),
        test_distance_median=mean(0.195, 0.0015, count=10_000),
        distance_ratio=mean(0.938, 0.022, count=1000),
        auc=Estimate(0.4312, 0.4113, 0.4511, "DeLong 95 %", 1000),
        relative_auc=Estimate(0.4815, 0.462, 0.501, "DeLong 95 %", 1000),
        ct=mean(-5.61, 1.96, count=1000),
        relative_ct=mean(-1.2, 1.96, count=1000),
        authenticity=share(0.61, 0.03),
        test_authenticity=share(0.66, 0.01, count=10_000),
    )


def fidelity() -> Fidelity:
    values = {"precision": 0.71, "recall": 0.52, "density": 0.94, "coverage": 0.88, "fid": 12.41, "swd": 0.31}
    parts: dict[str, Estimate] = {"kid": mean(0.0021, 0.0008), "test_kid": mean(0.0022, 0.0008)}
    parts["gap_kid"] = mean(-0.0001, 0.0003)
    for name, value in values.items():
        parts |= {name: mean(value, value / 30), f"test_{name}": mean(value * 1.02, value / 30)}
        parts[f"gap_{name}"] = mean(-value * 0.02, value / 60)
    places = {"copies": (0.0, 1.0), "baseline": (1.0, 0.69), "gaussian": (1.21, 0.08), "noise": (3.4, 0.0)}
    anchors = tuple(Anchor(name, mean(x, x / 50), share(y, 0.02)) for name, (x, y) in places.items())
    return Fidelity(**parts, anchors=anchors)


def denoiser() -> Denoiser:
    s = np.array(SIGMAS)
    bump = np.exp(-(np.log(s / 1.2) ** 2) / 2)
    error = 0.25 * s**2 / (s**2 + 1.3)
    optimal = 0.25 * s**4 / (s**4 + 30)
    index = 0.42 * bump + 0.02
    with_hole = over_sigma(index)
    hole = tuple(None if i in (0, 14) else v for i, v in enumerate(with_hole.value or ()))
    return Denoiser(
        error_train=over_sigma(error * 0.93),
        error_test=over_sigma(error),
        relative_error_train=over_sigma(0.9 - 0.5 * bump),
        relative_error_test=over_sigma(1.2 - 0.8 * bump),
        generalization_gap=over_sigma(error * 0.07 * (0.3 + bump), 0.3),
        mean_generalization_gap=Estimate(0.0062, 0.0041, 0.0083, "Welch's t over images, 95 %", 256),
        gap_train=over_sigma(0.004 + 0.1 * bump),
        gap_test=over_sigma(0.005 + 0.16 * bump),
        gap_path=over_sigma(0.003 + 0.07 * bump),
        optimal_error_train=over_sigma(optimal),
        optimal_error_test=over_sigma(0.3 * np.ones(15)),
        identity_residual=curve(np.sin(np.arange(15)) * 1e-4, 4e-4, Axis("sigma", "", SIGMAS)),
        memorization_index=over_sigma(index * 0.9),
        matched_memorization_index=replace(with_hole, value=hole),
        test_memorization_index=over_sigma(index * 0.45),
        off_line=over_sigma(0.1 + 0.3 * bump),
        effective_neighbours=over_sigma(1 + 50_000 * s**3 / (s**3 + 900)),
        effective_neighbours_train=over_sigma(1 + 50_000 * s**4 / (s**4 + 4000)),
        collapse_sigma=Estimate(5.75, 5.69, 5.81, "bisection to 1 %", 256),
        predicted_collapse_sigma=Estimate(5.74, method="from the spectrum"),
    )


def gaussian() -> Gaussian:
    s = np.array(SIGMAS)
    bump = np.exp(-(np.log(s / 1.2) ** 2) / 2)
    return Gaussian(
        nmse=over_sigma(0.003 + 0.12 * bump),
        cosine=over_sigma(0.995 - 0.1 * bump, 0.003),
        linearity=over_sigma(0.99 - 0.06 * bump, 0.003),
        gaussian_linearity=over_sigma(0.992 - 0.01 * bump, 0.001),
        distillation_r2=Curve.undefined("needs 256 inputs"),
        distillation_alignment=Curve(
            over_sigma(0.95 - 0.3 * bump).value, method="no interval", count=256, x=Axis("sigma", "", SIGMAS)
        ),
        wasserstein=mean(0.0312, 0.002),
        test_wasserstein=mean(0.0156, 0.001),
        subspace_overlap=mean(0.84, 0.02),
        test_subspace_overlap=mean(0.93, 0.01),
    )


def picture(seed: int, channels: int = 3, side: int = 32) -> Pixels:
    """A smooth picture with some texture, so that a page of them can be looked at."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in random.uniform(-2, 2, (channels, 3))]
    return np.clip(128 + 80 * np.array(waves) + random.normal(0, 6, (channels, side, side)), 0, 255).astype(np.uint8)


def gallery(channels: int = 3, side: int = 32) -> Gallery:
    samples = {i: picture(i, channels, side) for i in range(32)}
    train = {100 + i: (samples[i][:, :, ::-1] if i % 3 == 1 else samples[i]) for i in range(32)}
    train |= {300 + i: picture(900 + i, channels, side) for i in range(32)}
    return Gallery(samples, train, {i: picture(600 + i, channels, side) for i in range(32)})


def verdict() -> Verdict:
    first = Match(17, 117, 0.0039, 1.0, 0.04, True)
    sentence = (
        "The samples hold copies of training images: 32 of 1,000 samples flagged by the ratio rule, "
        "11 of 10,000 test images (Fisher p = 6.1e-27). Sample 17 is training image 117, mirrored, to within noise "
        "(1.00 grey levels apart)."
    )
    rules = (
        RuleFinding("ratio", 27, 990, 12, 11_000, 6.1e-27, 8.4e-27),
        RuleFinding("calibrated", 54, 990, 55, 11_000, 4.5e-31, 5e-29),
        RuleFinding("standardized", 58, 990, 55, 11_000, 2.1e-33, 1e-30),
        RuleFinding("aligned", 61, 990, 55, 11_000, 8.8e-36, 6e-33),
    )
    counts = Evidence(1000, 990, 32, 30, 10_000, 11, 24, 0, 2, 8.4e-27, first, rules)
    return Verdict("copies", sentence, 6.1e-27, counts)


@pytest.fixture(scope="session")
def full_report() -> Report:
    return every_figure()


def every_figure() -> Report:
    """A report with every figure, for tests that are no function of pytest's too."""
    return Report(
        cautions=(),
        verdict=verdict(),
        memorization=memorization(),
        novelty=novelty(),
        fidelity=fidelity(),
        denoiser=denoiser(),
        gaussian=gaussian(),
        skipped={"memorization.feature_similarity": "needs a feature extractor for copy detection"},
        settings=settings(),
        provenance=provenance(),
        gallery=gallery(),
    )


@pytest.fixture(scope="session")
def empty_report() -> Report:
    """Nothing was asked for, nothing measured."""
    families = ("verdict", "memorization", "novelty", "fidelity", "denoiser", "gaussian")
    bare = replace(settings(), num_test=None, sigmas=None, duplicate_tolerance=None, baseline="train, leave one out")
    return Report(
        cautions=(),
        **dict.fromkeys(families),  # type: ignore[arg-type]
        skipped=dict.fromkeys(families, "not asked for"),
        settings=bare,
        provenance=replace(provenance(), command=None, inputs={}, names={}, seconds={}),
    )


@pytest.fixture(scope="session")
def short_report(full_report: Report) -> Report:
    """The full one without the families that take long to draw."""
    return replace(full_report, novelty=None, fidelity=None, denoiser=None, gaussian=None)


@pytest.fixture(scope="session")
def full_page(full_report: Report) -> str:
    return render_html(full_report)


def undefined_family(kind: type[Any]) -> Any:
    """A family of which nothing could be measured."""
    empty: dict[str, Any] = {"Estimate": Estimate.undefined, "Curve": Curve.undefined}
    parts = {f.name: empty[f.type]("one image is too few") if f.type in empty else () for f in fields(kind)}
    return kind(**parts)


@pytest.fixture(scope="session")
def undefined_report(empty_report: Report) -> Report:
    """Everything was asked for, nothing could be measured."""
    return replace(
        empty_report,
        memorization=undefined_family(Memorization),
        novelty=undefined_family(Novelty),
        fidelity=undefined_family(Fidelity),
        denoiser=undefined_family(Denoiser),
        gaussian=undefined_family(Gaussian),
        skipped={"verdict": "one image is too few"},
    )
