"""Samples in the space of the features beside train and test: computed once, for every family that measures there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.kept import Kept
from memgen_eval.copying.memorization import is_of_features, with_feature_similarity, without_features
from memgen_eval.copying.rules import Rated
from memgen_eval.data.images import ImageSet
from memgen_eval.distributed import Ranks
from memgen_eval.errors import InputError, RankError, one_line
from memgen_eval.features.embed import embed, unit_rows
from memgen_eval.features.network_files import Extractor
from memgen_eval.features.published import open_features
from memgen_eval.features.spaces import chosen_features
from memgen_eval.metrics.ratios import distance_ratios
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.options import Options
from memgen_eval.reference import FeatureSpace, Prepared
from memgen_eval.results import Memorization
from memgen_eval.runtime import Stages

log = logging.getLogger("memgen_eval")
Opened = Extractor | InputError | None  # what makes the features, why nothing can, None for pixels
REPEATS_LEFT_OUT = "{:,} samples that repeat another sample exactly are left out"
USERS = ("memorization", "novelty", "fidelity")  # the families that measure there


@dataclass(frozen=True, eq=False)
class Embedding:
    """Samples, train and test in the space of the features.

    Attributes
    ----------
    samples : array, (N, F), or the images where features are pixels
    space : FeatureSpace
        Of train, `space.index.rows`, and of test, `space.test`.
    """

    samples: NDArray[Any]
    space: FeatureSpace


@dataclass(frozen=True, eq=False)
class Similar:
    """The two training images most similar to each image of three sets, by cosine.

    Attributes
    ----------
    samples : Neighbours, (N, 2)
    baseline : Neighbours or None, (m, 2)
    left_out : Neighbours or None
        Training images left out, where the baseline is a test set.
    """

    samples: Neighbours
    baseline: Neighbours | None
    left_out: Neighbours | None


def opened_extractor(options: Options, device: str | None, ranks: Ranks) -> Opened:
    """The network of the features, before samples are drawn for hours; why it cannot be used; None for pixels.

    Raises InputError where a family that needs it was asked for by name.
    """
    features = chosen_features(options.features)
    if isinstance(features, str):
        return None
    try:
        with ranks.together():
            return open_features(features, device=device)
    except InputError as error:
        if any(options.named(family) for family in USERS):
            raise
        return error


@dataclass(eq=False)
class Embedder:
    """Puts the sets of one evaluation into the space of the features, once.

    Attributes
    ----------
    extractor : Opened
    bind : callable
        From rows to an index with the budget and the ranks of the evaluation.
    kept, kept_samples : Kept
        Where the features of train and test lie on disk, and those of samples.
    """

    samples: ImageSet
    known: Prepared
    extractor: Opened
    options: Options
    bind: Callable[[References], Index]
    ranks: Ranks
    stages: Stages
    kept: Kept
    kept_samples: Kept

    @property
    def repeats_note(self) -> tuple[str, ...]:
        """How many samples repeat an earlier one, where some do."""
        count = np.count_nonzero(self.samples.survey.repeats)
        return (REPEATS_LEFT_OUT.format(count),) if count else ()

    @property
    def embedding(self) -> Embedding:
        """All sets there. Raises InputError, the same to every family that asks."""
        if isinstance(self._embedding, InputError):
            raise self._embedding
        return self._embedding

    @cached_property
    def _embedding(self) -> Embedding | InputError:
        extractor = self.extractor
        if extractor is None:
            return Embedding(self.samples.array(), self.known.pixel_space(self.bind(self.known.references)))
        if isinstance(extractor, InputError):
            return extractor
        try:
            with self.stages.stage("features"), self.ranks.together():
                space = self.known.feature_space(extractor, self.bind, self.ranks, kept=self.kept)
                own = embed(self.samples, extractor, argument="samples", ranks=self.ranks, kept=self.kept_samples)
                return Embedding(own, space)
        except InputError as error:
            return error

    def neighbours(self) -> Neighbours:
        """The two nearest training images of each sample in a space of features."""
        index = self.embedding.space.index
        with self.stages.stage("neighbours among features"):
            return index.search(self.embedding.samples, min(2, len(index)))

    def with_similarity(self, family: Memorization) -> Memorization:
        """The family with the figures that rest on features, or with the reason why they could not be measured.

        What goes wrong is raised where the family was asked for by name: else nothing that was found before is lost.
        """
        options, figures = self.options, filter(is_of_features, family.captions())
        if self.extractor is None or not any(options.wants_figure(f"memorization.{name}") for name in figures):
            return family
        found, baseline = self._similar, self.known.baseline
        if isinstance(found, Exception):
            if options.named("memorization"):
                raise found
            return without_features(family, str(found) if isinstance(found, InputError) else one_line(found))
        assert isinstance(self.extractor, Extractor)
        return with_feature_similarity(
            family,
            found.samples,
            found.baseline,
            published=self.extractor.copy_threshold,
            repeats=self.samples.survey.repeats,
            name="" if baseline is None else baseline.name,
        )

    def ratings(self) -> list[Rated]:
        """The ratings of the samples, then of each control, by features that are made to find copies.

        Empty for other features, for fewer than two training images, and where the features could not be computed:
        `with_similarity` gives the reason.
        """
        if not isinstance(self.extractor, Extractor) or self.extractor.copy_threshold is None:
            return []
        found = self._similar
        if isinstance(found, Exception):
            return []
        tables = [table for table in (found.samples, found.baseline, found.left_out) if table is not None]
        if any(table.indices.shape[1] < 2 for table in tables):
            return []
        return [Rated(distance_ratios(table, squared=True), table.indices[:, 0]) for table in tables]

    @cached_property
    def _similar(self) -> Similar | Exception:
        """The most similar training images, or what went wrong."""
        try:
            with self.ranks.together():
                embedding = self.embedding
                with self.stages.stage("similarity of features"):
                    directions = self.known.directions(embedding.space, self.bind)
                    rows = unit_rows(embedding.samples, argument="samples")
                    own = directions.index.search(rows, min(2, len(directions.index)))
                    return Similar(own, directions.baseline, self.known.left_out_directions(directions))
        except RankError:
            raise
        except Exception as error:
            if not isinstance(error, InputError) and self.ranks.rank == 0:
                log.exception("feature similarity could not be measured")
            return error
