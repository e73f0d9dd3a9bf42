"""Why the images of an evaluation may not be what was meant: sentences to be read before the verdict.

Copies hide where images are read wrongly, and nothing is acquitted then. What the user said is only cautioned against;
an assumption of ours that cannot be right is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memgen_eval import tables
from memgen_eval.data.images import ImageSet
from memgen_eval.errors import InputError, range_remedy
from memgen_eval.metrics.copy_rules import copied
from memgen_eval.metrics.statistics import auc, fisher_greater
from memgen_eval.neighbours.table import Neighbours
from memgen_eval.resemblance.appearance import (
    Appearance,
    Reading,
    better_reading,
    is_flat,
    level_mismatch,
    misstored,
    spread_evenly,
    turned,
    with_levels_of,
)
from memgen_eval.sets import Searched, Sets, appearance_of

CLIPPED_SHARE = 0.05
SINGLE_COLOUR_SHARE = 0.05
FAR = 0.9  # the AUC of distances beyond which samples are not like the data
READ_AGAIN = 250  # samples that are read in every other way
READ_AGAIN_VALUES = 2**28  # values of all of these readings at most
READ_AGAIN_P_VALUE = 1e-4
NAMES = {"samples": "samples", "test": "test images"}


def of_sets(sets: Sets) -> tuple[str, ...]:
    """What samples and test images show next to the training set, before anything is searched.

    Raises
    ------
    InputError
        If floats without a range were taken to be in [-1, 1], and then fill other grey levels than the other set.
    """
    train = _train_appearance(sets)
    found: list[str] = []
    for argument, images in (("samples", sets.samples), ("test", sets.test)):
        if images is not None:
            own = sets.appearance if images is sets.samples else appearance_of(images)
            found += _beside_train(argument, images, own, sets.train, train)
    return tuple(found)


def _train_appearance(sets: Sets) -> Appearance:
    return sets.keep("appearance", lambda: appearance_of(sets.train))


def _beside_train(
    argument: str, images: ImageSet, own: Appearance, train_images: ImageSet, train: Appearance
) -> Iterator[str]:
    name = NAMES[argument]
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


def of_distances(searched: Searched) -> tuple[str, ...]:
    """Whether the samples are so far from the training set that novelty means nothing."""
    if searched.baseline is None:
        return ()
    area = auc(searched.samples.distances[:, 0], searched.baseline.distances[:, 0])
    if area.value is None or area.value <= FAR or area.low is None or area.low <= 0.5:
        return ()
    farther = f"in {area.value:.0%} of all pairs the sample is farther from it than the unseen image is"
    return (f"The samples do not resemble the training set: {farther}.",)


def of_other_readings(sets: Sets, searched: Searched) -> tuple[str, ...]:
    """Whether samples would be copies if they were read in another way; a sentence for each way.

    250 samples, spread evenly, are turned, have their channels exchanged, their axes renamed, their grey levels mapped
    to those of the training set. A reading counts if it makes copies of more than twice as many samples as are copies
    already, and Fisher's test of them against the baseline, as it was read, gives p <= 1e-4.
    """
    baseline = searched.baseline
    if baseline is None or searched.samples.indices.shape[1] < 2 or baseline.indices.shape[1] < 2:
        return ()
    readings = _other_readings(sets)
    rows = _read_again(sets.samples, len(readings))
    images = sets.samples.take(rows)
    table = tables.shared_neighbours(
        np.concatenate([reading.apply(images) for reading in readings]),
        sets.references,
        2,
        memory_budget=sets.options.memory_budget,
        ranks=sets.ranks,
    )
    known, base = (int(np.count_nonzero(_copied(t, sets))) for t in (tables.some(searched.samples, rows), baseline))
    counts = np.count_nonzero(_copied(table, sets).reshape(len(readings), -1), axis=1)
    return tuple(
        f"Read {reading.name}, {count:,} of {len(rows):,} samples would be copies of training images. "
        "Check how they were written."
        for reading, count in zip(readings, counts.tolist(), strict=True)
        if count > 2 * known and fisher_greater(count, len(rows), base, len(baseline)) <= READ_AGAIN_P_VALUE
    )


def _read_again(samples: ImageSet, num_readings: int) -> NDArray[np.int64]:
    """The indices of samples to be read again, spread evenly."""
    most = min(READ_AGAIN, max(16, READ_AGAIN_VALUES // (samples.num_values * num_readings)))
    return spread_evenly(len(samples), most)


def _other_readings(sets: Sets) -> list[Reading]:
    shape, own = sets.samples.shape, sets.appearance
    return [*turned(shape), *misstored(shape), *with_levels_of(_train_appearance(sets).counts, own.counts)]


def _copied(table: Neighbours, sets: Sets) -> NDArray[np.bool_]:
    """Whether each image is flagged by the ratio rule as published, or lies within the duplicate tolerance, (N,)."""
    near: NDArray[np.bool_] = table.squared_distances[:, 0] <= sets.tolerance**2
    return near | copied(table, threshold=sets.options.threshold)
