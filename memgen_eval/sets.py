"""The sets of an evaluation, what is known of them, and the searches in pixels that families share."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from memgen_eval import tables
from memgen_eval.data.images import ImageSet
from memgen_eval.distributed import Ranks
from memgen_eval.features import extractor_checksum
from memgen_eval.metrics.memorization import Scale
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.table import Neighbours
from memgen_eval.options import Options
from memgen_eval.reference import Reference
from memgen_eval.resemblance.appearance import Appearance, appearance, spread_evenly
from memgen_eval.runtime import Stages

GREY_LEVELS = 255.0

Kept = TypeVar("Kept")


@dataclass(frozen=True, eq=False)
class Sets:
    """The three sets of an evaluation, how they are to be measured, and what is known of train and test already."""

    samples: ImageSet
    train: ImageSet
    test: ImageSet | None
    reference: Reference
    options: Options
    stages: Stages
    ranks: Ranks
    drawn: bool  # whether a sampler gave the samples

    def keep(self, name: str, compute: Callable[[], Kept], *, key: Hashable = (), bound_to: Hashable = None) -> Kept:
        """What rests on train, test and the seed alone, from an earlier evaluation or computed now."""
        return self.reference.keep((name, self.options.quantize, self.options.seed, key), compute, bound_to=bound_to)

    @cached_property
    def extractor(self) -> Hashable:
        """What features rest on: the checksum of the extractor on each rank."""
        features = self.options.features
        if isinstance(features, str):
            return features
        return tuple(self.ranks.exchange("extractor", extractor_checksum(features, self.train)))

    def check_unchanged(self) -> None:
        """Raise InputError if a file of a set has changed since it was opened: figures would mix two sets."""
        for images in (self.samples, self.train, self.test):
            if images is not None:
                images.check_unchanged()

    @cached_property
    def appearance(self) -> Appearance:
        """How the samples look."""
        return appearance_of(self.samples)

    @property
    def references(self) -> References:
        """The training images, to be searched many times."""
        return self.keep("references", lambda: References(self.train.array()))

    @property
    def held_out(self) -> tables.HeldOut | None:
        """The baseline's images."""
        return self.keep("held out", lambda: tables.held_out(self.train, self.test, seed=self.options.seed))

    @property
    def scale(self) -> Scale:
        """From distances between images to report units."""
        root = float(np.sqrt(self.train.num_values))
        return Scale(unit=1 / (GREY_LEVELS * root), grey=1 / root)

    @property
    def tolerance(self) -> float:
        """The duplicate tolerance as a distance between images: the one given, or the training set's own."""
        given, budget = self.options.duplicate_tolerance, self.options.memory_budget
        if given is not None:
            return given / self.scale.unit
        seed, ranks = self.options.seed, self.ranks

        def own() -> float:
            return tables.duplicate_tolerance(self.train, seed=seed, memory_budget=budget, ranks=ranks)

        return self.keep("tolerance", own)


def appearance_of(images: ImageSet) -> Appearance:
    """How some of the images of a set look."""
    return appearance(images.take(spread_evenly(len(images))))


@dataclass(frozen=True, eq=False)
class Searched:
    """Training neighbours of samples and of the baseline; None without one."""

    samples: Neighbours
    baseline: Neighbours | None


def search(sets: Sets) -> Searched:
    """The searches in pixels, in the orientation given, that memorization and novelty share."""
    held, budget, ranks = sets.held_out, sets.options.memory_budget, sets.ranks
    with sets.stages.stage("neighbours of samples"):
        images = sets.samples.array()
        samples = tables.plain_table(images, sets.references, excluded=None, memory_budget=budget, ranks=ranks)
    if held is None:
        return Searched(samples, None)

    def plain() -> Neighbours:
        return tables.plain_table(
            held.images, sets.references, excluded=held.excluded, memory_budget=budget, ranks=ranks
        )

    with sets.stages.stage("neighbours of the baseline"):
        return Searched(samples, sets.keep("plain", plain))
