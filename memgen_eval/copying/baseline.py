"""Images that cannot have been copied, with which every figure of copying is compared; and the duplicate tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.copying.copy_rules import NOTHING_COUNTED, Copying, CopyRules, Tally
from memgen_eval.copying.verdict import too_many
from memgen_eval.neighbours.index import Index
from memgen_eval.results import GREY_LEVELS

MAX_BASELINE = 10_000
ENOUGH_UNSEEN = 5_000  # test images, and training images left out beside them
FEWEST_LEFT_OUT = 1_000  # of these training images
TOLERANCE_IMAGES = 1_000
TOLERANCE_NEIGHBOUR = 5  # the first may be a duplicate itself
FARTHER_NEIGHBOUR = 50  # of which half the distance counts where that is more: a set of eight versions of each image
TOLERANCE_SHARE = 0.25

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Baseline:
    """Images that cannot have been copied, (m, C, H, W), no two of them equal.

    Attributes
    ----------
    images : uint8 or float32, (m, C, H, W)
    rows : int64, (m,)
        Their indices in the set they come from.
    excluded : int64, (m,), or None
        The training image that each is not compared with: itself. None for test images.
    name : str
        What they are called in sentences, in the plural.
    setting : str
        What they are called in the report's settings.
    notes : tuple of str
        How many images were left out, and why.
    copying : Copying or None
        Their training neighbours, once these are known.
    near_in_train : Tally
        Training images that are near-identical to another one; counted for a test set with many that are.
    apart : bool
        Whether near duplicates of a training image are left out of train together with it.
    """

    images: NDArray[Any]
    rows: Rows
    excluded: Rows | None
    name: str
    setting: str
    notes: tuple[str, ...] = ()
    copying: Copying | None = None
    near_in_train: Tally = NOTHING_COUNTED
    apart: bool = False

    @property
    def leaked(self) -> Bools:
        """Whether the training set holds each image all the same, (m,)."""
        assert self.copying is not None
        return self.copying.identical if self.excluded is None else self.copying.near_identical

    @property
    def holds_many_near_identical(self) -> bool:
        """Whether too many test images are near-identical to training images: then these are counted as well."""
        near = 0 if self.copying is None else int(np.count_nonzero(self.copying.near_identical))
        return self.excluded is None and too_many(near, len(self.rows))

    @property
    def has_many_duplicates(self) -> bool:
        """Whether too many training images left out have a near duplicate, which is then left out with them."""
        near = 0 if self.copying is None else int(np.count_nonzero(self.copying.near_identical))
        return self.excluded is not None and too_many(near, len(self.rows))

    @property
    def leak(self) -> str:
        """What leaked images are, after their number."""
        if self.excluded is None:
            return "are identical to a training image"
        return "have another training image within the duplicate tolerance"


@dataclass(frozen=True)
class Scale:
    """Factors from distances between images to a report's units: `unit` to [0, 1] per value, `grey` to grey levels."""

    unit: float
    grey: float

    @classmethod
    def of(cls, images: NDArray[Any]) -> Scale:
        """That of images in grey levels, (N, C, H, W)."""
        root = float(np.sqrt(np.prod(images.shape[1:])))
        return cls(unit=1 / (GREY_LEVELS * root), grey=1 / root)


def draw_rows(num_images: int, most: int, *, seed: int) -> Rows:
    """Rows of at most `most` images, in order, drawn without replacement."""
    return np.sort(np.random.default_rng(seed).choice(num_images, min(most, num_images), replace=False))


def num_left_out(num_test: int | None) -> int:
    """How many training images are left out at most: fewer beside test images, of which there may be some already."""
    return MAX_BASELINE if num_test is None else max(FEWEST_LEFT_OUT, ENOUGH_UNSEEN - num_test)


def duplicate_tolerance(distinct: Index, *, seed: int) -> float:
    """A quarter of the median distance of training images to their fifth nearest other one, in the units of the images.

    Over 1,000 images drawn with the seed from an index without repeats; the farthest if there are fewer others; 0 for
    one training image. Half the distance to the fiftieth takes its place where that is larger: the nearest five of a
    training set that holds eight versions of each image are versions themselves.
    """
    if len(distinct) < 2:
        return 0.0
    rows = draw_rows(len(distinct), TOLERANCE_IMAGES, seed=seed)
    distances = distinct.search(distinct.rows[rows], min(FARTHER_NEIGHBOUR, len(distinct) - 1), exclude=rows).distances
    near = distances[:, :TOLERANCE_NEIGHBOUR][:, -1]
    far = distances[:, -1] / 2 if distances.shape[1] == FARTHER_NEIGHBOUR else 0.0
    return TOLERANCE_SHARE * float(np.median(np.maximum(near, far)))


def near_in_train(index: Index, rules: CopyRules, *, seed: int) -> Tally:
    """Training images within the duplicate tolerance of another one, in either orientation, of 1,000 drawn."""
    rows = draw_rows(len(index), TOLERANCE_IMAGES, seed=seed)
    if len(index) < 2:
        return Tally(0, len(rows))
    table = index.search(index.rows[rows], 1, exclude=rows, flip=True)
    return Tally(int(np.count_nonzero(table.squared_distances[:, 0] <= rules.tolerance**2)), len(rows))
