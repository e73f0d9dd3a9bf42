"""Novelty and fidelity in pixels or in the space of the features, and Gaussian structure in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.compute.rows import dimension
from memgen_eval.copying.baseline import Scale
from memgen_eval.data.images import ImageSet, block_bounds, room
from memgen_eval.embedding.embedder import Embedder
from memgen_eval.features.embed import embed
from memgen_eval.features.network_files import Extractor
from memgen_eval.fidelity.anchors import drawn_images
from memgen_eval.fidelity.family import AnchorRows, Ground, ReferenceRows, Space, measure_fidelity, wanted_names
from memgen_eval.metrics.gaussian_samples import TOO_FEW, Drawn, ImageRows, MatchedSets, match_sets, measure_gaussian
from memgen_eval.metrics.novelty import known_distances, measure_novelty, with_notes
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.options import NOT_ASKED
from memgen_eval.results import GREY_LEVELS, Fidelity, Gaussian, Novelty


@dataclass(frozen=True, eq=False)
class Placing:
    """The sets of one evaluation, and where they are compared.

    Attributes
    ----------
    embedder : Embedder
        It puts sets into the space of the features, which may be pixels.
    images : Index
        The training images as they are.
    """

    embedder: Embedder
    images: Index

    @property
    def unit(self) -> float:
        """From distances in the space to those of a report."""
        return Scale.of(self.images.rows).unit if self.embedder.extractor is None else 1.0

    @property
    def value_scale(self) -> float:
        """From values in the space to those of a report."""
        return 1 / GREY_LEVELS if self.embedder.extractor is None else 1.0

    def matched(self) -> MatchedSets | None:
        """Rows of each set, of one number; None where there are too few."""
        given, embedding = self.embedder, self.embedder.embedding
        repeats = given.samples.survey.repeats
        samples = embedding.samples[~repeats] if repeats.any() else embedding.samples
        space = embedding.space
        return match_sets(samples, space.test, space.index.rows, seed=given.options.seed)

    def anchors(self) -> list[AnchorRows]:
        """Gaussian images and noise."""
        train, seed = self.images.rows, self.embedder.options.seed
        drawn = drawn_images(train, seed=seed)
        return [AnchorRows(name, *self._placed(images.astype(train.dtype))) for name, images in drawn.items()]

    def _placed(self, images: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Images in the space, and their distances to the nearest training image, in report units."""
        given, rows = self.embedder, images
        if isinstance(given.extractor, Extractor):
            anchors = ImageSet(images, None, {})
            rows = embed(anchors, given.extractor, argument="anchors", ranks=given.ranks, kept=given.kept)
        return rows, given.embedding.space.index.search(rows, 1).distances[:, 0] * self.unit


def fidelity_in_space(embedder: Embedder, images: Index) -> Fidelity:
    """The fidelity family."""
    options, placing, space = embedder.options, Placing(embedder, images), embedder.embedding.space
    sets = placing.matched()
    if sets is None:
        return Fidelity.undefined(TOO_FEW)
    wanted = wanted_names(options.wants_figure)
    where = Space(images, embedder.extractor is None, placing.value_scale, wanted, options.seed)
    distances = None if space.baseline is None else space.baseline.distances[:, 0]
    with embedder.stages.stage("fidelity of unseen images"):
        key = len(sets.samples), wanted, embedder.ranks.rank, embedder.ranks.size  # each rank has its own groups
        ground = embedder.known.ground(
            space, key, lambda: Ground.of(_references(sets), where, distances, placing.anchors)
        )
    with embedder.stages.stage("fidelity"):
        return measure_fidelity(_held(sets.samples), ground, where, notes=embedder.repeats_note)


def novelty_in_space(embedder: Embedder, plain: Neighbours | None, images: Index) -> Novelty:
    """The novelty family: in pixels with the search made already, else in the space of the features."""
    options, known, space = embedder.options, embedder.known, embedder.embedding.space
    found = embedder.neighbours() if plain is None or embedder.extractor else plain.scaled(Scale.of(images.rows).unit)
    with embedder.stages.stage("novelty"):
        repeats = embedder.samples.survey.repeats
        tables = [found[~repeats] if repeats.any() else found]
        tables += [] if space.baseline is None else [space.baseline]
        cells = known.partition(space) if options.wants_figure("novelty.ct", "novelty.relative_ct") else NOT_ASKED
        wants_own = options.wants_figure("novelty.authenticity", "novelty.test_authenticity")
        distances = known_distances(tables, space.index, cells, skip_own=None if wants_own else NOT_ASKED)
        family = measure_novelty(*distances, seed=options.seed)
        of_baseline = () if known.baseline is None else known.baseline.notes
        return with_notes(family, samples=embedder.repeats_note, baseline=of_baseline)


def structure_in_pixels(embedder: Embedder) -> Gaussian:
    """The Gaussian family of the samples. Raises InputError for images that are too large."""
    known, seed = embedder.known, embedder.options.seed
    test = None if known.test is None or known.baseline is None else known.baseline.images
    sets = match_sets(embedder.samples.distinct, test, known.train.array(), seed=seed)
    if sets is None:
        return Gaussian.undefined(TOO_FEW)
    with embedder.stages.stage("gaussian structure"):
        return measure_gaussian(sets, train_moments=known.moments, seed=seed, notes=embedder.repeats_note)


def _references(sets: MatchedSets) -> ReferenceRows:
    unseen = sets.other_train if sets.test is None else sets.test
    return ReferenceRows(_held(sets.train), _held(unseen), has_test=sets.test is not None)


def _held(images: ImageRows) -> NDArray[Any]:
    """Rows that are searched among many times, in one array."""
    if not isinstance(images, Drawn):
        return images
    found = room(images.shape, images.images.dtype, label="images of one number")
    for start, stop in block_bounds(len(images), dimension(images.images)):
        found[start:stop] = images.images[images.rows[start:stop]]
    return found
