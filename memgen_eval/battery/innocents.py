"""Cases without a single copy that look awkward: what must never be called copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from memgen_eval.battery.alterations import Pixels, levels, noisy
from memgen_eval.battery.catalogue import ALTERATIONS, altered
from memgen_eval.battery.draws import Case, Draw, Sets, smooth_pictures, two_tone_pictures

FRESH, AWKWARD, COLLAPSED = "unseen images", "innocent but awkward", "new, but repeated"
CHANGES = (
    *("blur 1.5", "contrast 0.4", "JPEG 10", "palette 8", "4 grey levels", "grey", "noise 20", "mirrored"),
    *("brightness x0.5", "scaled to 16", "sharpened 150 %", "frame 2 px"),
)
NUM_FRESH = 5  # draws of nothing but unseen images
NUMBERS_REPEATED = (1, 10, 20, 50, 200)  # different new images that all samples are
COARSE_SIDE = 4  # blocks a side by which images are told apart in kind


def innocents() -> Iterator[Case]:
    """Unseen images, as they are or not, what is not an image of the data at all, and new images repeated."""
    for draw in range(1, NUM_FRESH + 1):
        name = f"unseen images, draw {draw}"
        yield _case(FRESH, name, "The samples are unseen images.", lambda d: d.unseen(d.number))
    for name in CHANGES:
        yield _changed(name)
    yield _case(
        AWKWARD,
        "unseen, contrast 0.1",
        "The samples are unseen images at a tenth of their contrast.",
        lambda d: levels(128 + 0.1 * (d.unseen(d.number) - 128.0)),
    )
    yield _case(AWKWARD, "one kind only", "The samples are unseen images of one kind, alike in their layout.", one_kind)
    yield _case(
        AWKWARD,
        "a mode lost",
        "The samples are unseen images, but for those of one kind.",
        lambda d: one_kind(d, lost=True),
    )
    yield Case(
        AWKWARD,
        AWKWARD,
        "two kinds in train, one lost",
        "innocent",
        "Half of the training and test images are flat two-tone pictures; the samples are new ones of these.",
        two_tone,
    )
    yield _case(
        AWKWARD,
        "Gaussian fit",
        "The samples are drawn from the Gaussian with train's mean and covariance.",
        gaussian_fit,
    )
    yield _case(AWKWARD, "one colour each", "Each sample has one random colour.", one_colour)
    yield _case(AWKWARD, "one grey each", "Each sample is one random grey.", one_grey)
    yield _case(AWKWARD, "noise", "The samples are noise.", noise)
    yield _case(AWKWARD, "another distribution", "The samples are made-up pictures, unlike the data.", other_pictures)
    yield _case(
        AWKWARD,
        "mixes of two unseen images",
        "Each sample is the mean of two unseen images.",
        lambda d: levels((d.unseen(d.number) + d.unseen(d.number).astype(np.float64)) / 2),
    )
    for number in NUMBERS_REPEATED:
        yield _repeated(number, 0)
    for number in (20, 50):
        yield _repeated(number, 2)


def _case(group: str, name: str, says: str, samples: Callable[[Draw], Pixels]) -> Case:
    return Case(group, group, name, "innocent", says, lambda d: d.innocent(samples(d)))


def _changed(name: str) -> Case:
    def samples(d: Draw) -> Pixels:
        return altered(name, d.unseen(d.number), d.unseen(d.number), d.generator)

    case = _case(AWKWARD, f"unseen, {name}", f"The samples are unseen images, altered: {name}.", samples)
    return replace(case, in_colour=ALTERATIONS[name].in_colour)


def _repeated(number: int, deviation: float) -> Case:
    def samples(d: Draw) -> Pixels:
        repeated = np.resize(d.unseen(number), (d.number, *d.train.shape[1:]))
        return noisy(repeated, deviation, d.generator) if deviation else repeated

    aside = f", noise {deviation:g}" if deviation else ""
    images = "new image" if number == 1 else "new images"
    says = f"All samples are {number} {images}, repeated again and again{' with a little noise' if deviation else ''}."
    return _case(COLLAPSED, f"{number} {images} repeated{aside}", says, samples)


def one_kind(d: Draw, *, lost: bool = False) -> Pixels:
    """Those of all unseen images that look most like one of them, coarsely; or all but these."""
    images = d.all_unseen()
    rows, columns = (np.linspace(0, side, COARSE_SIDE + 1).astype(int)[:-1] for side in images.shape[2:])
    coarse = np.add.reduceat(np.add.reduceat(images.astype(np.float64), rows, axis=2), columns, axis=3)
    distances = np.square(coarse - coarse[:1]).sum(axis=(1, 2, 3))
    order = np.argsort(distances, kind="stable")
    return images[order[-d.number :] if lost else order[: d.number]]


def two_tone(d: Draw) -> Sets:
    """Photographs and two-tone pictures, half and half; samples of the second kind alone."""
    shape, half, few = d.train.shape[1:], len(d.train) // 2, len(d.division.test) // 2
    flat = two_tone_pictures(half + few + d.number, shape, d.generator)
    train = np.concatenate([d.train[:half], flat[:half]])
    test = np.concatenate([d.division.test[:few], flat[half : half + few]])
    return d.innocent(flat[half + few :], train=train, test=test)


def gaussian_fit(d: Draw) -> Pixels:
    """Draws from the Gaussian that has the moments of the training images."""
    centred = d.train.reshape(len(d.train), -1).astype(np.float32)
    mean = centred.mean(axis=0)
    centred -= mean
    weights = d.generator.standard_normal((d.number, len(centred)), dtype=np.float32) / np.sqrt(len(centred))
    return levels(mean + weights @ centred).reshape(d.number, *d.train.shape[1:])


def one_colour(d: Draw) -> Pixels:
    """A random colour for each image."""
    colours = d.generator.integers(0, 256, (d.number, d.train.shape[1], 1, 1), dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours, (d.number, *d.train.shape[1:])))


def one_grey(d: Draw) -> Pixels:
    """A random grey for each image."""
    greys = d.generator.integers(0, 256, (d.number, 1, 1, 1), dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(greys, (d.number, *d.train.shape[1:])))


def noise(d: Draw) -> Pixels:
    """Independent uniform values."""
    return d.generator.integers(0, 256, (d.number, *d.train.shape[1:]), dtype=np.uint8)


def other_pictures(d: Draw) -> Pixels:
    """Made-up pictures: two-tone where the data are smooth, else smooth ones."""
    channels, height, width = d.train.shape[1:]
    other = two_tone_pictures if d.division.source.name == "smooth" else smooth_pictures
    return other(d.number, (channels, height, width), d.generator)
