"""Rules at their edges, and the sizes and halves that a figure rests on: where one step aside is another figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from checking import evaluated
from conftest import noise_images
from made_reports import full_report
from memgen_eval import InputError, memorization_ratio
from memgen_eval.copying.baseline import Scale
from memgen_eval.copying.copy_rules import CopyRules
from memgen_eval.copying.memorization import copying as searched_copying, measure_memorization, repetition
from memgen_eval.data.sources import load_images
from memgen_eval.diffusion.moments import principal
from memgen_eval.metrics.gaussian_samples import MatchedSets, measure_gaussian
from memgen_eval.neighbours import index as index_module
from memgen_eval.neighbours.duplicates import NO_NEIGHBOUR
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.search import nearest_neighbours
from memgen_eval.reference import Prepared
from memgen_eval.render.gallery import pairs
from metric_tables import copying, table

SHAPE = (8, 8, 3)


@pytest.mark.parametrize(("alpha", "is_read"), [(255, True), (254, False), (0, False)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_one_pixel_that_is_not_opaque(mode: str, alpha: int, is_read: bool, tmp_path: Path) -> None:
    levels = np.full((8, 8, len(mode)), 255, np.uint8)
    levels[3, 4, -1] = alpha
    Image.fromarray(levels, mode).save(tmp_path / "a.png")
    if is_read:
        assert len(load_images(tmp_path, argument="samples")) == 1
        return
    with pytest.raises(InputError, match=r"a\.png.*alpha"):
        load_images(tmp_path, argument="samples")


def test_the_edge_of_the_range_that_is_known_unasked() -> None:
    values = np.zeros((4, 8, 8))
    values[0, 0, 0] = -0.01
    with pytest.raises(InputError, match="without a range"):
        load_images(values, argument="samples")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16], ids=str)
def test_tensors_in_few_bits(dtype: torch.dtype) -> None:
    values = torch.from_numpy(noise_images(0, 5, SHAPE)).float() / 127.5 - 1
    few = values.to(dtype)
    found = load_images(few, argument="samples")
    assert np.array_equal(found.array(), load_images(few.float().numpy(), argument="samples").array())
    assert found.arrival["dtype"] == str(dtype).removeprefix("torch.")


def test_tensors_that_are_negated_when_they_are_read() -> None:
    values = torch.from_numpy(noise_images(0, 5, SHAPE)).float() / 127.5 - 1
    negated = torch.complex(torch.zeros_like(values), -values).conj().imag
    assert negated.is_neg() and torch.equal(negated, values)
    found = load_images(negated, argument="samples").array()
    assert np.array_equal(found.transpose(0, 2, 3, 1), noise_images(0, 5, SHAPE))


@pytest.mark.parametrize(("num_train", "num_rows"), [(9_999, 9_999), (10_000, 10_000), (10_001, 10_000)])
def test_how_many_training_images_are_left_out(num_train: int, num_rows: int) -> None:
    train = load_images(noise_images(0, num_train, (4, 4)), argument="train")
    held = Prepared(train, None, seed=0).baseline
    assert held is not None
    assert len(np.unique(held.rows)) == len(held.images) == num_rows


@pytest.mark.parametrize(("tolerance", "near"), [(3.0, True), (np.nextafter(3.0, 0.0), False)])
def test_an_image_at_the_tolerance_is_near_identical(tolerance: float, near: bool) -> None:
    train, sample = np.zeros((4, 1, 2, 2), np.uint8), np.zeros((1, 1, 2, 2), np.uint8)
    train[1:] += 200
    sample[0, 0, 1, 1] = 3
    plain = nearest_neighbours(sample, train, 2)
    assert plain.squared_distances[0, 0] == 9
    found = searched_copying(plain, Index(References(train), "1MiB"), CopyRules(1 / 3, float(tolerance), flip=True))
    assert found.near_identical.tolist() == [near]


def squared(images: NDArray[Any], references: NDArray[Any]) -> NDArray[np.int64]:
    """All squared distances to the nearer orientation, (N, M)."""
    rows, plain, turned = (
        part.reshape(len(part), -1).astype(np.int64) for part in (images, references, references[..., ::-1])
    )
    apart = [((rows[:, None] - others) ** 2).sum(axis=2) for others in (plain, turned)]
    return np.asarray(np.minimum(*apart))


@pytest.mark.parametrize("num_some", [2, 1_000])
def test_repetition_of_one_half_of_the_baseline_against_the_other(
    num_some: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty test images that each stand four times, a little apart: a half holds some together, the other half too."""
    monkeypatch.setattr(index_module, "SOME_ROWS", num_some)  # references that bound the distances to all
    rng = np.random.default_rng(1)
    once = rng.integers(20, 235, (20, 1, 6, 6))
    test = np.concatenate([once + rng.integers(-9, 10, once.shape) // (1 + 8 * (i < 2)) for i in range(4)])
    test = test.astype(np.uint8)
    samples = noise_images(2, 50, (6, 6))[:, None]
    index, rules = Index(References(test), "1MiB"), CopyRules(1 / 3, 0.0, flip=True)
    _, control = repetition(samples, test, index, rules, originals=np.arange(50), seed=4)
    order = np.random.default_rng(4).permutation(80)
    first, second = test[order[:40]], test[order[40:]]
    near, far = squared(first, first), squared(first, second).min(axis=1)
    np.fill_diagonal(near, 2**60)
    repeats = (near.min(axis=1) == 0) | (9 * near.min(axis=1) < far)
    assert control.value == repeats.mean() and control.count == 40
    assert 0 < repeats.sum() < 40


def test_exact_copies_are_no_undefined_ratios() -> None:
    """Where every training image is a duplicate of the first, a copy is a copy, and only the others are undefined."""
    found = table([[0, 0], [5, 5], [0, 7], [0, 0]], [[0, NO_NEIGHBOUR], [0, NO_NEIGHBOUR], [0, 1], [1, NO_NEIGHBOUR]])
    estimate = memorization_ratio(found)
    assert estimate.value == 3 / 4
    assert len(estimate.notes) == 1 and estimate.notes[0].startswith("1 images have no training neighbour")


@pytest.mark.parametrize(
    ("squares", "flagged"), [([31, 279], False), ([31, 280], True), ([0, 0], True), ([1, 9], False)]
)
def test_the_gallery_flags_what_the_rule_flags(squares: list[int], flagged: bool) -> None:
    assert (31**0.5 / 279**0.5 < 1 / 3) is True  # in floats; 9 * 31 < 279 is false
    known = copying(table([squares]))
    rules = CopyRules(1 / 3, 0.0, flip=True)
    family, verdict = measure_memorization(known, None, rules, Scale(1 / 255, 1.0))
    report = replace(full_report(), memorization=family, verdict=verdict)
    report = replace(report, settings=replace(report.settings, threshold=1 / 3))
    (pair,) = pairs(report, images=False)["samples"]
    assert (pair.flagged, family.ratio.value) == (flagged, float(flagged))


def test_the_control_is_flagged_by_the_rule_too() -> None:
    test = noise_images(1, 40, SHAPE)
    test[7] = noise_images(0, 60, SHAPE)[3]
    report = evaluated(noise_images(2, 30, SHAPE), train=noise_images(0, 60, SHAPE), test=test, metrics="memorization")
    shown = pairs(report, images=False)
    assert [pair.image.words for pair in shown["baseline"] if pair.flagged] == ["test image 7"]
    assert len(shown["samples"]) == 30 and not any(pair.flagged for pair in shown["samples"])


@pytest.mark.parametrize(("num_train", "num_samples", "size"), [(40, 100, 20), (100, 30, 30), (41, 100, 20)])
def test_halves_of_train_bound_the_gaussian_figures(num_train: int, num_samples: int, size: int) -> None:
    train, samples = noise_images(0, num_train, (6, 6)), noise_images(1, num_samples, (6, 6))
    found = evaluated(samples, train=train, metrics="gaussian").gaussian
    assert found is not None
    assert {found.wasserstein.count, found.test_wasserstein.count} == {size}
    assert found.test_wasserstein.value is not None and found.test_wasserstein.value > 0.01  # the other half of train
    assert found.test_subspace_overlap.value is not None and found.test_subspace_overlap.value < 0.99
    halves = next(note for note in found.wasserstein.notes if note.startswith("two halves"))
    assert float(halves.rpartition(" ")[2]) == pytest.approx(found.test_wasserstein.value, rel=1e-3)


@pytest.mark.parametrize("size", [8, 40, 43])
def test_a_quarter_of_the_images_is_how_many_directions_are_told_apart(size: int) -> None:
    rng = np.random.default_rng(size)
    sets = [rng.integers(0, 256, (size, 1, 6, 8), dtype=np.uint8) for _ in range(4)]
    found = measure_gaussian(
        MatchedSets(*sets), train_moments=principal(np.concatenate(sets[2:])), grey_levels=255.0, seed=0
    )
    count = size // 4
    assert f"{count} directions" in found.wasserstein.notes
    leading = []
    for images in (sets[0], sets[2]):
        rows = images.reshape(size, -1).astype(float)
        leading.append(np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:count])
    assert found.subspace_overlap.value == pytest.approx(((leading[0] @ leading[1].T) ** 2).sum() / count, abs=1e-6)
