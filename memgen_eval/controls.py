"""The samples beside all images that cannot have been copied: what the memorization family and the verdict rest on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.altered.standardized import standardized
from memgen_eval.compute.resources import blocks
from memgen_eval.copying.baseline import Baseline, Scale, draw_rows, duplicate_tolerance, near_in_train
from memgen_eval.copying.copy_rules import Copying, CopyRules
from memgen_eval.copying.evened import EvenTrain, even_out
from memgen_eval.copying.kinds import NUM_DRAWN, coarse_rows, kinds_of_images
from memgen_eval.copying.memorization import (
    copying,
    is_fair,
    measure_memorization,
    patch_share,
    repetition,
    search,
)
from memgen_eval.copying.rules import Rated
from memgen_eval.copying.witnesses import (
    Control,
    Witness,
    altered_figures,
    altered_matches,
    findings,
    near_unseen,
    unlike_train,
    with_features,
)
from memgen_eval.data.images import room
from memgen_eval.metrics.data_copying import Partition
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.pruning import References
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.reference import Prepared
from memgen_eval.results import Memorization, Verdict

KINDS_AT_ONCE = 1024  # images whose kinds are told at once


@dataclass(frozen=True, eq=False)
class Controls:
    """The training set, and what else rests on it and the rules alone, kept with what is known of it.

    Attributes
    ----------
    known : Prepared
        The sets.
    index : Index
        The training images.
    rules : CopyRules
        In the units of the index.
    bind : callable
        Makes an index of other rows with the budget and the ranks of this evaluation.
    """

    known: Prepared
    index: Index
    rules: CopyRules
    bind: Callable[[References], Index]

    def baseline(self) -> Baseline | None:
        """The baseline with all that its comparison by these rules needs."""
        baseline, plain = self.known.baseline, self.known.baseline_neighbours(self.index)
        if baseline is None or plain is None:
            return None
        found = self._searched(baseline, plain)
        if not found.holds_many_near_identical:
            return found
        key = "near", self.rules.flip, self.rules.tolerance
        in_train = self.known.keep(key, lambda: near_in_train(self.index, self.rules, seed=self.known.seed))
        return replace(found, near_in_train=in_train)

    def left_out(self) -> Baseline | None:
        """Training images left out, beside test images; None where they are the baseline themselves."""
        baseline = None if self.known.test is None else self.known.left_out
        if baseline is None:
            return None
        excluded = baseline.excluded
        plain = self.known.keep("left out", lambda: search(baseline.images, self.index, excluded=excluded))
        return self._searched(baseline, plain)

    def _searched(self, baseline: Baseline, plain: Neighbours) -> Baseline:
        """A baseline with its neighbours by these rules.

        Where many training images have near duplicates, these are left out together with the image.
        """

        def compute() -> Baseline:
            found = replace(baseline, copying=copying(plain, self.index, self.rules))
            if not found.has_many_duplicates:
                return found
            return replace(found, copying=copying(plain, self.index, self.rules, apart=True), apart=True)

        key = "copying", baseline.setting, self.rules.flip, self.rules.tolerance
        return self.known.keep(key, compute)

    def even_train(self) -> EvenTrain:
        """The training set, to be compared with images evened out."""

        def compute() -> tuple[References, float]:
            rows, repeats = self._standardized(), self.known.train.survey.repeats
            distinct = self.bind(References(rows[~repeats] if repeats.any() else rows))
            return References(rows), duplicate_tolerance(distinct, seed=self.known.seed)

        references, tolerance = self.known.keep("even", compute)
        return EvenTrain(self.bind(references), self.known.train.array(), tolerance, self.rules.flip)

    def _standardized(self) -> NDArray[np.uint8]:
        """The training images, standardized."""
        train = self.known.train
        shape = len(train), *standardized(train.read(0, 1)).shape[1:]
        rows, start = room(shape, np.dtype(np.uint8), label="standardized training images"), 0
        for block in train.blocks():
            rows[start : start + len(block)] = standardized(block)
            start += len(block)
        return rows

    def kinds(self, images: NDArray[Any]) -> NDArray[np.int64]:
        """The kind of each image, (N,)."""
        train, seed = self.known.train, self.known.seed

        def compute() -> Partition:
            return kinds_of_images(train.take(draw_rows(len(train), NUM_DRAWN, seed=seed)), seed=seed)

        cells = self.known.keep("kinds", compute)
        parts = [cells.assign(coarse_rows(images[rows])) for rows in blocks(len(images), KINDS_AT_ONCE)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def control(self, baseline: Baseline, even: EvenTrain) -> Control:
        """A searched baseline with what is known of its images evened out."""
        assert baseline.copying is not None
        known = baseline.copying

        def compute() -> Witness:
            evened = even_out(baseline.images, even, excluded=baseline.excluded, apart=baseline.apart)
            return Witness(known, evened, self.kinds(baseline.images))

        key = "witness", baseline.setting, even.flip
        return Control(baseline, self.known.keep(key, compute, bound_to=id(known)))


def measured_copying(
    images: NDArray[Any],
    found: Copying,
    controls: Controls,
    scale: Scale,
    *,
    cautions: tuple[str, ...],
    features: Sequence[Rated] = (),
) -> tuple[Memorization, Verdict]:
    """The figures and the verdict of samples, (N, C, H, W), with their neighbours, beside all controls.

    `features` holds the ratings of samples and of each control by features, or nothing.
    """
    rules, baseline = controls.rules, controls.baseline()
    even, beside = controls.even_train(), [baseline, controls.left_out()]
    known = [controls.control(images_left, even) for images_left in beside if images_left is not None]
    samples = Witness(found, even_out(images, even), controls.kinds(images))
    if features:
        samples, known = replace(samples, features=features[0]), with_features(known, features[1:])
    unlike = unlike_train(known)
    fair = baseline is not None and is_fair(baseline, rules, scale) and not unlike
    evidence = findings(samples, found.repeats, known, threshold=rules.threshold, fair=fair)
    given: dict[str, Any] = {"cautions": cautions, "findings": evidence, "unlike": unlike}
    given |= {"near_unseen": near_unseen(known) if known else None}
    family, verdict = measure_memorization(found, baseline, rules, scale, **given)
    if baseline is None:
        return family, verdict
    altered: dict[str, Any] = {**altered_figures(samples, known[0])}
    altered["altered"] = altered_matches(samples, images, even.images, known[0])
    return replace(family, **altered), verdict


def with_repetition(
    family: Memorization, images: NDArray[Any], found: Copying, controls: Controls, *, originals: NDArray[np.int64]
) -> Memorization:
    """The family with `patch_share`, and with `repetition` where there is a baseline.

    `originals` (N,) names the first image that equals each.
    """
    index, rules, baseline = controls.index, controls.rules, controls.baseline()
    family = replace(family, carlini_patch=patch_share(found, index, rules))
    if baseline is None:
        return family
    seed = controls.known.seed
    own, others = repetition(images, baseline.images, index, rules, originals=originals, seed=seed)
    return replace(family, repetition=own, test_repetition=others)
