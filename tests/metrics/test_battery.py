"""What every figure of the samples must keep: order, direction, few samples, duplicates, constants, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from made_reports import full_report
from memgen_eval import Report
from memgen_eval.copying.baseline import Baseline, Scale
from memgen_eval.copying.copy_rules import CopyRules, repeated
from memgen_eval.copying.memorization import measure_memorization
from memgen_eval.diffusion.moments import principal
from memgen_eval.fidelity.family import NAMES, Ground, ReferenceRows, Space, measure_fidelity
from memgen_eval.metrics.data_copying import partition
from memgen_eval.metrics.gaussian_samples import MatchedSets, measure_gaussian
from memgen_eval.metrics.novelty import Distances, measure_novelty
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.report import dumps
from memgen_eval.results import Curve, Estimate, Family, Fidelity, Gaussian, Memorization, Novelty, Verdict
from metric_tables import brute_force, copying

Arrays = NDArray[Any]
SHAPE = (1, 4, 10)
# They need images, features, or counts alone; the calibrated threshold is one of the baseline's ratios.
NOT_HERE = ("carlini_patch", "feature", "detectable_ratio", "calibrated_threshold", "standardized", "aligned")


def own_figures(family: type[Family]) -> list[str]:
    """The figures of the samples: those of the baseline have `test_` before their names."""
    return [
        name
        for name in family.captions()
        if not name.startswith("test_") and not any(other in name for other in NOT_HERE)
    ]


P_VALUE = "memorization.calibrated_p_value"
RISES_WITH_COPIES = frozenset(f"memorization.{name}" for name in own_figures(Memorization)) - {P_VALUE}
FALLS_WITH_COPIES = frozenset(f"novelty.{name}" for name in own_figures(Novelty)) | {P_VALUE}
OF_FIDELITY = frozenset(f"fidelity.{name}" for name in ("precision", "recall", "density", "coverage", "swd"))
FIGURES = sorted(
    RISES_WITH_COPIES | FALLS_WITH_COPIES | OF_FIDELITY | {"gaussian.wasserstein", "gaussian.subspace_overlap"}
)


def images(seed: int, num_images: int) -> Arrays:
    """Images with a few strong directions."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).normal(0, 25, (4, *SHAPE))
    base = np.tensordot(rng.standard_normal((num_images, 4)), patterns, axes=1) + rng.normal(
        128, 12, (num_images, *SHAPE)
    )
    return base.clip(0, 255).astype(np.uint8)


TRAIN, TEST = images(0, 300), images(1, 120)
MOMENTS, CELLS = principal(TRAIN), partition(TRAIN)
SCALE = Scale.of(TRAIN)
OWN = brute_force(TRAIN, TRAIN, 1, exclude=range(300)).distances[:, 0]
TEST_TABLE = brute_force(TEST, TRAIN, 51)


def memorization(samples: Arrays) -> tuple[Memorization, Verdict]:
    """With the samples' repetition measured against as many test images; tolerance of a grey level a value."""
    size = min(len(samples), len(TEST))
    repetition = Estimate.undefined("one sample")
    if size > 1:
        others = brute_force(samples[:size], samples[:size], 1, exclude=range(size))
        repetition = repeated(others, brute_force(samples[:size], TEST[:size], 1), threshold=1 / 3)
    tolerance = float(np.sqrt(40))
    held_out = copying(TEST_TABLE, tolerance=tolerance)
    family, verdict = measure_memorization(
        copying(brute_force(samples, TRAIN, 51), tolerance=tolerance),
        Baseline(TEST, np.arange(len(TEST)), None, "test images", "test", copying=held_out),
        CopyRules(1 / 3, tolerance, flip=False),
        SCALE,
    )
    return replace(family, repetition=repetition), verdict


def novelty(samples: Arrays) -> Novelty:
    tables = [brute_force(samples, TRAIN, 2), TEST_TABLE]
    sets = [
        Distances(table.scaled(SCALE.unit), SCALE.unit * OWN[table.indices[:, 0]], CELLS.assign(queries))
        for table, queries in zip(tables, (samples, TEST), strict=True)
    ]
    return measure_novelty(*sets, seed=0)


def gaussian(samples: Arrays) -> Gaussian:
    size = min(len(samples), len(TEST))
    sets = MatchedSets(samples[:size], TEST[:size], TRAIN[:size], TRAIN[150 : 150 + size])
    return measure_gaussian(sets, train_moments=MOMENTS, grey_levels=255.0, seed=0)


def fidelity(samples: Arrays) -> Fidelity:
    size = min(len(samples), len(TEST))
    references = ReferenceRows(TRAIN[:size], TEST[:size], has_test=True)
    space = Space(Index(References.of(TRAIN)), True, SCALE.unit, frozenset(NAMES), seed=0)
    ground = Ground.of(references, space, TEST_TABLE.scaled(SCALE.unit).distances[:, 0], list)
    return measure_fidelity(samples[:size], ground, space)


def report(samples: Arrays) -> Report:
    family, verdict = memorization(samples)
    several = len(samples) > 1
    return replace(
        full_report(),
        verdict=verdict,
        memorization=family,
        novelty=novelty(samples),
        fidelity=fidelity(samples) if several else None,
        gaussian=gaussian(samples) if several else None,
        skipped={},
    )


SAMPLES = np.concatenate([images(2, 100), TRAIN[:20]])
FRESH, COPIES = images(3, 120), TRAIN[30:150]
NOISE = np.random.default_rng(0).integers(0, 256, (120, *SHAPE), dtype=np.uint8)
ORDER = np.random.default_rng(0).permutation(len(SAMPLES))
NAMED = {"some": SAMPLES, "mixed": SAMPLES[ORDER], "fresh": FRESH, "copies": COPIES, "noise": NOISE}


@cache
def reported(name: str) -> Report:
    return report(NAMED[name])


def figure(found: Report, path: str) -> Estimate | Curve:
    return dict(found.figures())[path]


def value(found: Report, path: str) -> float:
    """The value of an estimate, the mean of a curve."""
    measured = figure(found, path).value
    assert measured is not None
    return float(np.mean(np.array(measured, dtype=float)))


@pytest.mark.parametrize("path", FIGURES)
def test_the_order_of_the_samples_changes_no_value(path: str) -> None:
    first, moved = figure(reported("some"), path), figure(reported("mixed"), path)
    assert np.array(moved.value, dtype=float) == pytest.approx(np.array(first.value, dtype=float), rel=1e-9)
    assert (moved.method, moved.count) == (first.method, first.count)


@pytest.mark.parametrize("path", FIGURES)
def test_copies_fresh_samples_and_noise_lie_on_the_right_sides(path: str) -> None:
    fresh, some, copies, noise = (value(reported(name), path) for name in ("fresh", "some", "copies", "noise"))
    if path == "memorization.repetition":
        assert fresh == copies == 0  # training images are not each other's copies
    elif path in RISES_WITH_COPIES:
        assert fresh < some < copies
    elif path in FALLS_WITH_COPIES:
        assert noise >= fresh > some > copies
    elif path in ("gaussian.wasserstein", "fidelity.swd"):
        assert noise > 3 * max(fresh, copies)
    elif path == "fidelity.recall":
        assert copies > fresh and noise == 1  # the balls of scattered samples are large, and hold all the data
    else:
        assert noise < min(fresh, copies)


def test_labels() -> None:
    labels = {name: verdict.label for name in NAMED if (verdict := reported(name).verdict) is not None}
    assert labels == dict.fromkeys(("some", "mixed", "copies"), "copies") | dict.fromkeys(
        ("fresh", "noise"), "undecided"
    )


SETS: list[tuple[str, Arrays]] = [
    ("one fresh", FRESH[:1]),
    ("one copy", TRAIN[7:8]),
    ("two", FRESH[:2]),
    ("one repeated", np.repeat(FRESH[:1], 60, axis=0)),
    ("one copy repeated", np.repeat(TRAIN[:1], 60, axis=0)),
    ("black", np.zeros((60, *SHAPE), dtype=np.uint8)),
    ("white", np.full((60, *SHAPE), 255, dtype=np.uint8)),
    ("the training set", TRAIN),
    ("noise", NOISE[:60]),
]


@pytest.mark.parametrize("samples", [samples for _, samples in SETS], ids=[name for name, _ in SETS])
def test_any_samples_give_numbers_or_reasons(samples: Arrays) -> None:
    found = report(samples)
    for path, measured in found.figures():
        if path.split(".")[0] == "denoiser":
            continue
        if measured.value is None:
            assert measured.notes and measured.notes[0], path
        parts = [measured.value, measured.low, measured.high]
        numbers = [np.atleast_1d(np.array(part, dtype=float)) for part in parts if part is not None]
        assert all(np.isfinite(part).all() for part in numbers), path
        if len(numbers) == 3:
            middle, low, high = numbers
            assert (low <= middle).all() and (middle <= high).all(), path
    data = json.loads(dumps(found.to_dict()), parse_constant=pytest.fail)
    assert Report.from_dict(data) == found


@pytest.mark.parametrize("name", ["one copy", "one copy repeated", "the training set"])
def test_copies_alone_have_ratio_1(name: str) -> None:
    assert value(report(dict(SETS)[name]), "memorization.ratio") == 1


def test_collapse_onto_one_image_is_seen() -> None:
    assert value(report(dict(SETS)["one repeated"]), "memorization.repetition") == 1
    assert value(report(dict(SETS)["one repeated"]), "memorization.ratio") == 0


SPACE: dict[str, Callable[[Arrays], Arrays]] = {
    "mirrored": lambda x: x[..., ::-1],
    "transposed": lambda x: np.swapaxes(x, 2, 3),
    "negative": lambda x: 255 - x,
}


@pytest.mark.parametrize("name", SPACE)
def test_maps_that_keep_distances_keep_neighbours(name: str) -> None:
    change = SPACE[name]
    before, after = brute_force(SAMPLES, TRAIN, 51), brute_force(change(SAMPLES), change(TRAIN), 51)
    assert before.squared_distances.tobytes() == after.squared_distances.tobytes()
    assert before.indices.tobytes() == after.indices.tobytes()
