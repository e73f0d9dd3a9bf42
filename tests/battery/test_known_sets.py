"""Every case is what it says: which samples are copies, of what, and that no set shares an image with another."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from conftest import Pixels
from memgen_eval.battery.cases import ALTERED, EXACT, all_cases, planned_blocks
from memgen_eval.battery.catalogue import ALTERATIONS, COUNTED
from memgen_eval.battery.circumstances import COMPANY, CONTROLS, MISREAD, TRAINING
from memgen_eval.battery.draws import DIGITS, NOT_COPIED, SMOOTH, Case, Divided, Draw, Sets, divided
from memgen_eval.battery.innocents import AWKWARD, COLLAPSED, FRESH, one_kind

CASES = {case.name: case for case in all_cases()}
SMALL = replace(SMOOTH, num_train=240, num_test=160, num_samples=200)
BARE = [name for name, case in CASES.items() if case.group != ALTERED or case.kind in ("noise", "blend", "made grey")]


@pytest.fixture(scope="module")
def division() -> Divided:
    return divided(SMALL, (0, 0), None)


def made(case: Case, division: Divided) -> Sets:
    return case.make(Draw(division, np.random.default_rng(1)))


def rows(images: Pixels) -> list[bytes]:
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("source", [DIGITS, SMALL], ids=["digits", "made-up"])
def test_a_division_shares_no_image(source: object) -> None:
    parts = divided(source, (3, 1), None)  # type: ignore[arg-type]
    sets = [set(rows(part)) for part in (parts.train, parts.test, parts.unseen)]
    assert (len(parts.train), len(parts.test)) == (parts.source.num_train, parts.source.num_test)
    assert len(parts.unseen) >= 2 * parts.source.num_samples
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    other = divided(parts.source, (4, 1), None)
    assert not np.array_equal(other.train, parts.train)
    assert np.array_equal(divided(parts.source, (3, 1), None).train, parts.train)


def test_digits_are_all_there() -> None:
    parts = divided(DIGITS, (0,), None)
    assert len(parts.train) + len(parts.test) + len(parts.unseen) == 1797


def test_names_are_unique_and_every_group_is_there() -> None:
    assert len(CASES) == len(list(all_cases()))
    groups = Counter(case.group for case in CASES.values())
    assert set(groups) == {FRESH, EXACT, ALTERED, COMPANY, AWKWARD, COLLAPSED, TRAINING, CONTROLS, MISREAD}
    assert groups[ALTERED] == 2 * len(ALTERATIONS)
    assert {case.truth for case in CASES.values()} == {"copies", "innocent", "cannot be seen"}
    assert all(case.says.endswith(".") for case in CASES.values())


@pytest.mark.parametrize("name", BARE)
def test_each_case_is_what_it_says(name: str, division: Divided) -> None:
    case = CASES[name]
    sets, again = made(case, division), made(case, division)
    samples = getattr(sets.samples, "array", sets.samples)
    assert np.array_equal(samples, getattr(again.samples, "array", again.samples))
    assert len(samples) == len(sets.origins) and samples.shape[1:] == division.train.shape[1:]
    copied = sets.origins != NOT_COPIED
    if case.share is None:
        assert copied.any() == (case.truth != "innocent")
    else:
        assert copied.sum() == round(case.share * SMALL.num_samples)
    assert sets.origins.max() < len(sets.train)
    if sets.test is not None and case.group not in (CONTROLS, TRAINING) and case.group != AWKWARD:
        assert not set(rows(sets.test)) & set(rows(sets.train))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.group == EXACT])
def test_exact_copies_are_training_images_and_nothing_else_is(name: str, division: Divided) -> None:
    sets = made(CASES[name], division)
    known = set(rows(division.train))
    is_known = [row in known for row in rows(sets.samples)]
    assert is_known == (sets.origins != NOT_COPIED).tolist()
    copied = np.flatnonzero(is_known)
    assert np.array_equal(sets.samples[copied], division.train[sets.origins[copied]])
    unseen = set(rows(division.unseen))
    assert all(row in unseen for row, copy in zip(rows(sets.samples), is_known, strict=True) if not copy)


def nearest(samples: Pixels, train: Pixels) -> np.ndarray:
    own, others = (images.reshape(len(images), -1).astype(float) for images in (samples, train))
    return np.array([np.square(others - row).sum(axis=1).argmin() for row in own])


@pytest.mark.parametrize("name", ["noise 20, 5 %", "JPEG 30, 100 %", "contrast 0.8, 5 %", "cutout 8, 5 %"])
def test_altered_copies_lie_nearest_to_what_they_were_made_of(name: str, division: Divided) -> None:
    sets = made(CASES[name], division)
    copied = np.flatnonzero(sets.origins != NOT_COPIED)
    assert np.mean(nearest(sets.samples[copied], division.train) == sets.origins[copied]) > 0.9
    assert not set(rows(sets.samples[copied])) & set(rows(division.train))


@pytest.mark.parametrize("number", [1, 10, 20, 50, 200])
def test_repeated_new_images_are_that_many_and_new(number: int, division: Divided) -> None:
    images = "new image" if number == 1 else "new images"
    drawn = Counter(rows(made(CASES[f"{number} {images} repeated"], division).samples))
    assert len(drawn) == number
    assert max(drawn.values()) - min(drawn.values()) <= 1
    assert not drawn.keys() & set(rows(division.train))


def test_the_gaussian_has_the_moments_of_train(division: Divided) -> None:
    many = replace(division, source=replace(SMALL, num_samples=4000))
    drawn = made(CASES["Gaussian fit"], many).samples.reshape(4000, -1).astype(float)
    train = division.train.reshape(len(division.train), -1).astype(float)
    scale = train.std(axis=0).mean()
    assert np.abs(drawn.mean(axis=0) - train.mean(axis=0)).mean() < 0.1 * scale  # less what is cut at 0 and 255
    assert np.corrcoef(np.cov(drawn.T).ravel(), np.cov(train.T).ravel())[0, 1] > 0.98


def test_one_kind_and_all_others_do_not_meet(division: Divided) -> None:
    kind, rest = (one_kind(Draw(division, np.random.default_rng(1)), lost=lost) for lost in (False, True))
    assert len(kind) == len(rest) == SMALL.num_samples
    assert not set(rows(kind)) & set(rows(rest))
    spread = [images.reshape(len(images), -1).std(axis=0).mean() for images in (kind, rest)]
    assert spread[0] < spread[1]


def test_training_sets_hold_what_their_names_say(division: Divided) -> None:
    def counts(name: str) -> list[int]:
        return sorted(Counter(rows(made(CASES[name], division).train)).values())

    assert counts("40 % twice: unseen") == [1] * 144 + [2] * 96
    assert counts("each three times: unseen") == [3] * 240
    assert counts("ten images 50 times: unseen") == [1] * 230 + [51] * 10
    for name in ("40 % twice: 5 % copies", "ten images 50 times: all copies"):
        sets = made(CASES[name], division)
        held = Counter(rows(sets.train))
        copies = [row for row, origin in zip(rows(sets.samples), sets.origins, strict=True) if origin != NOT_COPIED]
        assert copies and min(held[row] for row in copies) > 1
    half = made(CASES["half of it given"], division)
    assert set(rows(half.train)) < set(rows(division.train)) and len(half.train) == 120
    missing = [row for row in rows(half.samples) if row in set(rows(division.train)) - set(rows(half.train))]
    assert missing  # copies of what was not given
    assert made(CASES["no test set: unseen"], division).test is None


def test_eight_versions_differ_by_their_noise(division: Divided) -> None:
    sets = made(CASES["eight versions: all copies"], division)
    originals = division.train[:30]
    versions = sets.train.reshape(8, 30, *originals.shape[1:])
    assert (versions - originals.astype(float)).std() == pytest.approx(3, abs=0.2)
    assert (sets.samples - originals[sets.origins].astype(float)).std() == pytest.approx(3, abs=0.2)
    assert not set(rows(sets.samples)) & set(rows(sets.train))


def test_unfair_tests_hold_altered_training_images(division: Divided) -> None:
    sets = made(CASES["5 % of test from train"], division)
    assert sets.test is not None
    near = [np.square(division.train - image.astype(float)).mean(axis=(1, 2, 3)).min() for image in sets.test]
    assert np.count_nonzero(np.sqrt(near) < 3) == round(0.05 * SMALL.num_test)
    pressed = made(CASES["test recompressed from train"], division)
    assert pressed.test is not None
    of_test = nearest(pressed.test, division.train)
    assert not set(of_test.tolist()) & set(pressed.origins.tolist())  # of other training images


def test_misread_samples_are_copies_once_they_are_read_rightly(division: Divided) -> None:
    sets = made(CASES["wrong range: all copies"], division)
    assert sets.samples.value_range == (-1, 1)
    assert np.array_equal(np.rint(sets.samples.array * 255), division.train[sets.origins])


def test_the_plan_repeats_cases_and_leaves_out_what_makes_no_sense() -> None:
    full, quick = planned_blocks(quick=False, cifar10=True), planned_blocks(quick=True, cifar10=False)
    assert {block.source.name for block in quick} == {"digits", "smooth"}
    assert {block.source.name for block in full} == {"digits", "smooth", "cifar10", "cifar10-whole"}
    for block in (*full, *quick):
        assert not (block.source.name == "digits" and any(case.in_colour for case in block.cases))
        assert all(case.share is None or case.share * block.source.num_samples >= 0.5 for case in block.cases)
    keys = [(block.source.name, block.repetition, case.name) for block in full for case in block.cases]
    assert len(keys) == len(set(keys))
    on_cifar10 = {case.name for block in full if block.source.name == "cifar10" for case in block.cases}
    assert {f"{name}, 5 %" for name in COUNTED} | {f"{name}, 100 %" for name in COUNTED} <= on_cifar10
    assert {case.name for block in full for case in block.cases} >= {
        case.name for case in CASES.values() if case.share != 1 or case.group != ALTERED
    }
