"""Why the images of an evaluation may not be what was meant: sentences to be read before the verdict.

Copies hide where images are read wrongly, and nothing is acquitted then. What the user said is only cautioned against;
an assumption of ours that cannot be right is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.copying.copy_rules import CopyRules, copied
from memgen_eval.data.images import ImageSet
from memgen_eval.errors import InputError, range_remedy
from memgen_eval.metrics.statistics import auc, fisher_greater
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.resemblance.appearance import (
    Appearance,
    appearance,
    better_reading,
    is_flat,
    level_mismatch,
    misstored,
    spread_evenly,
    turned,
    with_levels_of,
)

CLIPPED_SHARE = 0.05
SINGLE_COLOUR_SHARE = 0.05
FAR_AUC = 0.9  # the AUC of distances beyond which samples are not like the data
READ_AGAIN = 250  # samples that are read in every other way
READ_AGAIN_VALUES = 2**28  # values of all of these readings at most
READ_AGAIN_P_VALUE = 1e-4
SET_NAMES = {"samples": "samples", "test": "test images"}


def appearance_of(images: ImageSet) -> Appearance:
    """How some of the images of a set look."""
    return appearance(images.take(spread_evenly(len(images))))


def of_sets(
    samples: ImageSet, test: ImageSet | None, train: ImageSet, *, own: Appearance, of_train: Appearance
) -> tuple[str, ...]:
    """What samples and test images show next to the training set, before anything is searched.

    `own` and `of_train` are how samples and training images look.

    Raises
    ------
    InputError
        If floats without a range were taken to be in [-1, 1], and then fill other grey levels than the other set.
    """
    found = [*_beside_train("samples", samples, own, train, of_train)]
    if test is not None:
        found += _beside_train("test", test, appearance_of(test), train, of_train)
    return tuple(found)


def _beside_train(
    argument: str, images: ImageSet, own: Appearance, train_images: ImageSet, train: Appearance
) -> Iterator[str]:
    name = SET_NAMES[argument]
    mismatch = level_mismatch(own, train)
    if mismatch is not None:
        narrower, word = (images, argument) if mismatch.narrower else (train_images, "train")
        if not narrower.arrival["range_given"]:
            raise InputError(
                f"{word}: floats without a range, taken to be in [-1, 1]; but the {name} then do not look like the "
                f"training set: {mismatch.words}; {range_remedy(word)}"
            )
        yield f"The {name} do not fill the grey levels of the training set: {mismatch.words}. Check their ranges."
    if is_flat(own, train):
        yield (
            f"The {name} have little contrast: half of them vary by less than {own.contrast:.3g} grey levels (standard "
            f"deviation), half of the training images by more than {train.contrast:.3g}."
        )
    single, train_single = images.survey.constant, train_images.survey.constant
    if single.mean() > max(SINGLE_COLOUR_SHARE, 2 * train_single.mean()):
        yield f"{np.count_nonzero(single):,} of {len(single):,} {name} have a single colour."
    clipped = images.arrival["clipped"]
    if clipped is not None and clipped["far_share"] > CLIPPED_SHARE:
        share = f"{clipped['far_share']:.0%} of the values of the {name}"
        yield f"{share} lay far outside the range they were read with, and were clipped. Check the range."
    better = None if mismatch is not None else better_reading(own, train, turned(images.shape))
    if better is not None:
        yield f"The {name} resemble the training set more when they are read {better}. Check how they were written."


def of_distances(samples: Neighbours, baseline: Neighbours | None) -> tuple[str, ...]:
    """Whether the samples are so far from the training set that novelty means nothing."""
    if baseline is None:
        return ()
    area = auc(samples.distances[:, 0], baseline.distances[:, 0])
    if area.value is None or area.value <= FAR_AUC or area.low is None or area.low <= 0.5:
        return ()
    farther = f"in {area.value:.0%} of all pairs the sample is farther from it than the unseen image is"
    return (f"The samples do not resemble the training set: {farther}.",)


def of_other_readings(
    samples: ImageSet,
    found: Neighbours,
    baseline: Neighbours | None,
    index: Index,
    rules: CopyRules,
    *,
    own: Appearance,
    of_train: Appearance,
) -> tuple[str, ...]:
    """Whether samples would be copies if they were read in another way; a sentence for each way.

    Of 250 samples, spread evenly: turned, with channels exchanged, axes renamed, and more. A reading counts if it makes
    copies of more than twice as many of them as are copies already, and Fisher's test of them against the baseline, as
    it was read, gives p <= 1e-4. `found` are the neighbours of all samples; `own` and `of_train` are how samples and
    training images look.
    """
    if baseline is None or found.indices.shape[1] < 2 or baseline.indices.shape[1] < 2:
        return ()
    readings = [*turned(samples.shape), *misstored(samples.shape), *with_levels_of(of_train.counts, own.counts)]
    most = min(READ_AGAIN, max(16, READ_AGAIN_VALUES // (samples.num_values * len(readings))))
    rows = spread_evenly(len(samples), most)
    images, size = samples.take(rows), len(rows)
    read = np.concatenate([reading.apply(images) for reading in readings])
    known, base = (int(np.count_nonzero(_copied(part, rules))) for part in (found[rows], baseline))
    counts = np.count_nonzero(_copies_among(read, index, rules).reshape(len(readings), -1), axis=1)
    return tuple(
        f"Read {reading.name}, {count:,} of {size:,} samples would be copies of training images. "
        "Check how they were written."
        for reading, count in zip(readings, counts.tolist(), strict=True)
        if count > 2 * known and fisher_greater(count, size, base, len(baseline)) <= READ_AGAIN_P_VALUE
    )


def _copies_among(images: NDArray[Any], index: Index, rules: CopyRules) -> NDArray[np.bool_]:
    """`_copied` of images, (N, C, H, W): neighbours are looked for where one is so near that it may be copied, (N,).

    The second neighbour is no farther than among some training images. The margin covers the rounding of a square.
    """
    second = index.thinned(2).search(images, 2).squared_distances[:, 1]
    limits = np.maximum(rules.tolerance**2, (1 + 1e-12) * rules.threshold**2 * second)
    hits = index.nearest_within(images, limits).squared_distances[:, 0] <= limits
    hits[hits] = _copied(index.search(images[hits], 2), rules)
    return hits


def _copied(table: Neighbours, rules: CopyRules) -> NDArray[np.bool_]:
    """Whether each image is flagged by the ratio rule as published, or lies within the duplicate tolerance, (N,)."""
    near: NDArray[np.bool_] = table.squared_distances[:, 0] <= rules.tolerance**2
    return near | copied(table, threshold=rules.threshold)
