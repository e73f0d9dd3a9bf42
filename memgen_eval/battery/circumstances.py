"""Cases about what samples are compared with: training sets, test sets and value ranges of every awkward kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from memgen_eval.battery.alterations import Pixels, brightened, compressed, noisy, reversed_sideways, shifted
from memgen_eval.battery.catalogue import altered
from memgen_eval.battery.draws import NOT_COPIED, Case, Draw, Sets
from memgen_eval.battery.innocents import noise, one_kind, other_pictures
from memgen_eval.data.images import Images

COMPANY, TRAINING, CONTROLS, MISREAD = "copies in company", "training sets", "unfair controls", "values read wrongly"
VERSIONS = 8
FEW = 0.05


def circumstances() -> Iterator[Case]:
    """All of them."""
    yield from _company()
    yield from _training_sets()
    yield from _controls()
    yield from _ranges()


def _copies(group: str, name: str, says: str, make: Callable[[Draw], Sets]) -> Case:
    return Case(group, group, name, "copies", says, make)


def _innocent(group: str, name: str, says: str, make: Callable[[Draw], Sets]) -> Case:
    return Case(group, group, name, "innocent", says, make)


# Copies beside what could hide them


def _company() -> Iterator[Case]:
    yield _copies(
        COMPANY, "copies beside collapse", "5 % exact copies; the rest are 20 new images, repeated.", collapsed
    )
    yield _copies(COMPANY, "copies beside noise", "5 % exact copies; the rest is noise.", lambda d: beside(d, noise))
    yield _copies(
        COMPANY,
        "copies beside blur",
        "5 % exact copies; the rest are unseen images, blurred.",
        lambda d: beside(d, _blurry),
    )
    yield _copies(
        COMPANY,
        "ten training images repeated",
        "Half of the samples are ten training images, repeated; the rest is unseen.",
        lambda d: repeated_copies(d, 10, 0.5),
    )
    yield _copies(
        COMPANY,
        "one training image repeated",
        "5 % of the samples are one training image, repeated; the rest is unseen.",
        lambda d: repeated_copies(d, 1, FEW),
    )
    yield _copies(
        COMPANY, "two kinds of copies", "2.5 % exact copies, 2.5 % copies with noise of 20 grey levels.", two_kinds
    )


def collapsed(d: Draw) -> Sets:
    """Copies among repeated new images."""
    rows = d.rows(d.count(FEW))
    novel = np.resize(d.unseen(20), (d.number - len(rows), *d.train.shape[1:]))
    return d.mixed(d.copies("exact", rows), rows, among=novel)


def beside(d: Draw, others: Callable[[Draw], Pixels]) -> Sets:
    """Copies among other images."""
    rows = d.rows(d.count(FEW))
    return d.mixed(d.copies("exact", rows), rows, among=others(d)[len(rows) :])


def _blurry(d: Draw) -> Pixels:
    images = d.unseen(d.number)
    return altered("blur 1.5", images, images, d.generator)


def repeated_copies(d: Draw, different: int, share: float) -> Sets:
    """A few training images, copied again and again."""
    rows = np.resize(d.rows(different), d.count(share))
    return d.mixed(d.copies("exact", rows), rows)


def two_kinds(d: Draw) -> Sets:
    """Exact and noisy copies."""
    rows = d.rows(d.count(FEW))
    half = len(rows) // 2
    return d.mixed(np.concatenate([d.copies("exact", rows[:half]), d.copies("noise 20", rows[half:])]), rows)


# Training sets


def _training_sets() -> Iterator[Case]:
    for name, words, build in (
        ("40 % twice", "40 % of the training images stand there twice", _twice),
        ("each three times", "each training image stands there three times", lambda d: np.tile(d.train, (3, 1, 1, 1))),
        ("ten images 50 times", "ten training images stand there fifty times more", _ten_often),
        ("augmented", "each training image stands there mirrored, shifted and brighter too", _augmented),
        ("eight versions", "the training set is eight versions of each image, with noise of 3 grey levels", _versions),
    ):
        yield _innocent(
            TRAINING, f"{name}: unseen", f"Unseen samples; {words}.", partial(of_train, build=build, share=None)
        )
        for share, part in ((FEW, "5 % copies"), (1.0, "all copies")):
            yield _copies(
                TRAINING,
                f"{name}: {part}",
                f"{part} of images that it holds several times; {words}.",
                partial(of_train, build=build, share=share),
            )
    yield _copies(TRAINING, "half of it given", "5 % copies, but only half of the training set is given.", half_given)
    yield _copies(
        TRAINING, "one image", "The training set is one image; the samples are it with noise of 1.", one_image
    )
    no_test = "no test set"
    yield _innocent(TRAINING, f"{no_test}: unseen", "Unseen samples, and no test set.", lambda d: untested(d, 0))
    yield _copies(TRAINING, f"{no_test}: 5 % copies", "5 % exact copies, and no test set.", lambda d: untested(d, FEW))
    yield _copies(
        TRAINING,
        f"{no_test}, 40 % twice: 15 % copies",
        "15 % exact copies, no test set, and 40 % of the training images twice.",
        lambda d: replace(of_train(d, _twice, 0.15), test=None),
    )


def _twice(d: Draw) -> Pixels:
    return np.concatenate([d.train, d.train[: 2 * len(d.train) // 5]])


def _ten_often(d: Draw) -> Pixels:
    return np.concatenate([d.train, np.repeat(d.train[:10], 50, axis=0)])


def _augmented(d: Draw) -> Pixels:
    return np.concatenate([d.train, reversed_sideways(d.train), shifted(d.train, 1), brightened(d.train, 1.1)])


def _versions(d: Draw) -> Pixels:
    originals = d.train[: len(d.train) // VERSIONS]
    return noisy(np.tile(originals, (VERSIONS, 1, 1, 1)), 3, d.generator)


def of_train(d: Draw, build: Callable[[Draw], Pixels], share: float | None) -> Sets:
    """Unseen samples, or copies of images that the training set holds several times: they stand first in it."""
    train = build(d)
    if share is None:
        return d.innocent(d.unseen(d.number), train=train)
    several = {_twice: 2 * len(d.train) // 5, _ten_often: 10, _versions: len(d.train) // VERSIONS}
    first = next((number for other, number in several.items() if other is build), len(d.train))
    rows = np.resize(d.generator.permutation(first), d.count(share))
    copies = train[rows] if build is not _versions else noisy(d.train[rows], 3, d.generator)
    return d.mixed(copies, rows, train=train)


def half_given(d: Draw) -> Sets:
    """Copies of all training images, of which every second one is given."""
    rows = d.rows(d.count(FEW))
    known = np.where(rows % 2 == 0, rows // 2, NOT_COPIED)
    return d.mixed(d.copies("exact", rows), known, train=np.ascontiguousarray(d.train[::2]))


def one_image(d: Draw) -> Sets:
    """A training set of one image, and samples that are this image."""
    train = d.train[:1]
    samples = noisy(np.repeat(train, d.number, axis=0), 1, d.generator)
    return replace(d.innocent(samples, train=train), origins=np.zeros(d.number, dtype=np.int64))


def untested(d: Draw, share: float) -> Sets:
    """Exact copies among unseen samples, without a test set."""
    rows = d.rows(d.count(share))
    return replace(d.mixed(d.copies("exact", rows), rows), test=None)


# Test sets that excuse what they should not


def _controls() -> Iterator[Case]:
    yield _copies(
        CONTROLS,
        "test recompressed from train",
        "Test images and samples are training images, saved as JPEG 95.",
        recompressed,
    )
    yield _copies(
        CONTROLS,
        "5 % of test from train",
        "3 % copies with noise 3; 5 % of the test images are training images with noise 2.",
        leaked,
    )
    for name, others in (
        ("noise", noise),
        ("another distribution", other_pictures),
        ("one kind only", one_kind),
    ):
        yield _innocent(
            CONTROLS,
            f"test of {name}: unseen",
            f"Unseen samples; the test set is {name}.",
            partial(odd_test, others=others, share=0),
        )
        yield _copies(
            CONTROLS,
            f"test of {name}: 5 % copies",
            f"5 % copies with noise of 20 grey levels; the test set is {name}.",
            partial(odd_test, others=others, share=FEW),
        )
    yield _innocent(CONTROLS, "test blurred: unseen", "Unseen samples; the test images are blurred.", _blurred_test)
    yield _copies(CONTROLS, "fifty test images", "5 % exact copies; the test set has fifty images.", small_test)


def recompressed(d: Draw) -> Sets:
    """JPEG 95 of some training images to compare JPEG 95 of others with."""
    size = min(len(d.division.test), len(d.train) // 2)
    of_test, rows = d.rows(size), d.rows(min(d.number, len(d.train) - size))
    samples = compressed(d.train[rows], 95)
    return replace(d.innocent(samples, test=compressed(d.train[of_test], 95)), origins=rows)


def leaked(d: Draw) -> Sets:
    """A test set with training images in it, slightly altered."""
    leaks, rows = d.rows(round(FEW * len(d.division.test))), d.rows(d.count(0.03))
    test = d.division.test.copy()
    test[: len(leaks)] = noisy(d.train[leaks], 2, d.generator)
    return d.mixed(noisy(d.train[rows], 3, d.generator), rows, test=test)


def odd_test(d: Draw, others: Callable[[Draw], Pixels], share: float) -> Sets:
    """A test set unlike the training set."""
    rows = d.rows(d.count(share))
    copies, rest = d.copies("noise 20", rows), d.unseen(d.number - len(rows))
    return d.mixed(copies, rows, among=rest, test=others(d))


def _blurred_test(d: Draw) -> Sets:
    images = d.division.test
    return d.innocent(d.unseen(d.number), test=altered("blur 1.5", images, images, d.generator))


def small_test(d: Draw) -> Sets:
    """Too few test images for a verdict of innocence."""
    rows = d.rows(d.count(FEW))
    return d.mixed(d.copies("exact", rows), rows, test=d.division.test[:50])


# Values


def _ranges() -> Iterator[Case]:
    half = "floats in [0, 1] that are read as if they were in [-1, 1]"
    yield _innocent(MISREAD, "wrong range: unseen", f"Unseen samples, {half}.", lambda d: misread(d, 0))
    yield _copies(MISREAD, "wrong range: 5 % copies", f"5 % exact copies, {half}.", lambda d: misread(d, FEW))
    yield _copies(MISREAD, "wrong range: all copies", f"Only exact copies, {half}.", lambda d: misread(d, 1))


def misread(d: Draw, share: float) -> Sets:
    """Samples whose values are on [0, 1], declared to be on [-1, 1]."""
    rows = np.resize(d.rows(min(len(d.train), d.count(share))), d.count(share))
    sets = d.mixed(d.copies("exact", rows), rows)
    return replace(sets, samples=Images((sets.samples / 255).astype(np.float32), value_range=(-1, 1)))
