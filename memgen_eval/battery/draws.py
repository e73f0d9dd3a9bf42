"""The images that cases are made of: sources divided without overlap, and what one case draws from a division."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memgen_eval.battery.alterations import Pixels, levels
from memgen_eval.battery.catalogue import altered

Truth = Literal["copies", "innocent", "cannot be seen"]
NOT_COPIED = -1
WAVES = 4  # frequencies along a side that a made-up picture is composed of
SMOOTH_SHAPE = (3, 16, 16)


@dataclass(frozen=True)
class Source:
    """A kind of images and how many of them serve for what.

    Attributes
    ----------
    name, title, words : str
        What results, tables and sentences call it.
    num_train, num_test, num_samples : int
        Training images, test images, and samples of a model.
    """

    name: str
    title: str
    words: str
    num_train: int
    num_test: int
    num_samples: int


@dataclass(frozen=True, eq=False)
class Divided:
    """One division of a source: training, test and unseen images, no image in two of them, (n, C, H, W) each.

    A case draws its samples from `unseen`, of which there are `num_samples` at least.
    """

    source: Source
    train: Pixels
    test: Pixels
    unseen: Pixels


DIGITS = Source("digits", "digits", "digits of 8 x 8 in grey", 600, 400, 320)
SMOOTH = Source("smooth", "made-up pictures", "made-up pictures of 16 x 16 in colour", 1000, 500, 500)
CIFAR10 = Source("cifar10", "CIFAR-10, 5,000", "CIFAR-10 with 5,000 training images", 5000, 1000, 1000)
WHOLE_CIFAR10 = Source(
    "cifar10-whole", "CIFAR-10, 50,000", "CIFAR-10 with all of its 50,000 training images", 50_000, 1000, 1000
)
SOURCES = (DIGITS, SMOOTH, CIFAR10, WHOLE_CIFAR10)


def divided(source: Source, seed: tuple[int, ...], data_dir: str | None) -> Divided:
    """Draw the division that a seed gives. Raises InputError where CIFAR-10 is not to be had."""
    generator = np.random.default_rng(seed)
    if source.name == WHOLE_CIFAR10.name:
        train, held_out = _cifar10(data_dir)
        rest = held_out[generator.permutation(len(held_out))]
        return Divided(source, train, rest[: source.num_test], rest[source.num_test :])
    if source.name == SMOOTH.name:
        needed = source.num_train + source.num_test + 4 * source.num_samples
        return _parts(source, smooth_pictures(needed, SMOOTH_SHAPE, generator))
    images = np.concatenate(_digits() if source.name == DIGITS.name else _cifar10(data_dir))
    return _parts(source, images[generator.permutation(len(images))])


def _parts(source: Source, images: Pixels) -> Divided:
    first, second = source.num_train, source.num_train + source.num_test
    return Divided(source, images[:first], images[first:second], images[second:])


@cache
def _digits() -> tuple[Pixels, Pixels]:
    from memgen_eval.data.datasets import load_named

    return load_named("digits:train", data_dir=None).array, load_named("digits:test", data_dir=None).array


@cache
def _cifar10(data_dir: str | None) -> tuple[Pixels, Pixels]:
    from memgen_eval.data.sources import load_images

    train, test = (
        load_images(name, argument="--data-dir", data_dir=data_dir).array()
        for name in ("cifar10:train", "cifar10:test")
    )
    return train, test


def smooth_pictures(number: int, shape: tuple[int, int, int], generator: np.random.Generator) -> Pixels:
    """Pictures of a few waves and two soft-edged discs, in random colours, (number, C, H, W)."""
    channels, height, width = shape
    y, x = ((np.arange(side) + 0.5) / side for side in (height, width))
    orders = np.arange(WAVES)
    down, across = (np.cos(np.pi * np.outer(orders, place)) for place in (y, x))
    weights = generator.normal(size=(number, channels, WAVES, WAVES)) / (1 + np.add.outer(orders, orders))
    pictures = np.einsum("ncij,ih,jw->nchw", weights, down, across, optimize=True)
    for _ in range(2):
        top, left, radius = (generator.uniform(low, high, (number, 1, 1)) for low, high in ((0, 1), (0, 1), (0.1, 0.4)))
        distance = np.hypot(y[:, None] - top, x - left)
        disc = 1 / (1 + np.exp((distance - radius) * 30))[:, None]
        pictures += disc * (generator.normal(0, 1.5, (number, channels, 1, 1)) - pictures)
    return levels(128 + 50 * pictures)


def two_tone_pictures(number: int, shape: tuple[int, int, int], generator: np.random.Generator) -> Pixels:
    """Flat pictures of two random colours with one edge between them, (number, C, H, W)."""
    channels, height, width = shape
    first, second = generator.integers(0, 256, (2, number, channels, 1, 1))
    edge = generator.uniform(0.2, 0.8, (number, 1, 1, 1)) * width
    pictures = np.where(np.arange(width) < edge, first, second)
    return np.broadcast_to(pictures, (number, channels, height, width)).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Sets:
    """What an evaluation is given.

    Attributes
    ----------
    samples : uint8 (N, C, H, W), or `Images`
        The samples.
    train, test : uint8, or None for no test set
        Those of the division, or others.
    origins : int64, (N,)
        The index in `train` of the image that each sample was copied from; -1 if it was not, or is missing there.
    """

    samples: Any
    train: Pixels
    test: Pixels | None
    origins: NDArray[np.int64]


class Draw:
    """Draws from a division, seeded, and keeps in mind what was drawn."""

    def __init__(self, division: Divided, generator: np.random.Generator) -> None:
        self.division, self.generator = division, generator
        self._unseen = generator.permutation(len(division.unseen))
        self._rows = generator.permutation(len(division.train))

    @property
    def number(self) -> int:
        """How many samples a case has."""
        return self.division.source.num_samples

    @property
    def train(self) -> Pixels:
        """The training images of the division."""
        return self.division.train

    def count(self, share: float) -> int:
        """How many samples are such a share of all."""
        return round(share * self.number)

    def unseen(self, number: int) -> Pixels:
        """The next `number` unseen images."""
        drawn, self._unseen = self._unseen[:number], self._unseen[number:]
        assert len(drawn) == number, "too few unseen images"
        return self.division.unseen[drawn]

    def all_unseen(self) -> Pixels:
        """All unseen images that are left."""
        return self.unseen(len(self._unseen))

    def rows(self, number: int) -> NDArray[np.int64]:
        """The indices of the next `number` training images."""
        drawn, self._rows = self._rows[:number], self._rows[number:]
        assert len(drawn) == number, "too few training images"
        return drawn

    def copies(self, name: str, rows: NDArray[np.int64], train: Pixels | None = None) -> Pixels:
        """Copies of training images, altered in the way of that name; "exact" for not at all."""
        images = (self.train if train is None else train)[rows]
        return images if name == "exact" else altered(name, images, self.unseen(len(rows)), self.generator)

    def innocent(self, samples: Any, *, train: Pixels | None = None, test: Pixels | None = None) -> Sets:
        """Samples of which none is a copy."""
        given = self.division.test if test is None else test
        return Sets(samples, self.train if train is None else train, given, np.full(len(samples), NOT_COPIED))

    def mixed(
        self,
        copies: Pixels,
        origins: NDArray[np.int64],
        *,
        among: Pixels | None = None,
        train: Pixels | None = None,
        test: Pixels | None = None,
    ) -> Sets:
        """Copies among unseen images, or among others, in a random order."""
        rest = self.unseen(self.number - len(copies)) if among is None else among
        samples = np.concatenate([copies, rest])
        known = np.concatenate([origins, np.full(len(rest), NOT_COPIED)])
        order = self.generator.permutation(len(samples))
        given = self.division.test if test is None else test
        return Sets(samples[order], self.train if train is None else train, given, known[order])


@dataclass(frozen=True)
class Case:
    """Sets with a known truth.

    Attributes
    ----------
    group, kind, name : str
        Its place on the page, and its name, which no other case has.
    truth : Truth
        Whether samples are copies as a person means it; "cannot be seen" for copies that no figure is made to see.
    says : str
        The truth in a plain sentence.
    make : callable
        The sets, from a draw.
    share : float or None
        The share of copies among the samples, where the case is about shares.
    in_colour : bool
        Whether it makes sense for colour images only.
    """

    group: str
    kind: str
    name: str
    truth: Truth
    says: str
    make: Callable[[Draw], Sets]
    share: float | None = None
    in_colour: bool = False
