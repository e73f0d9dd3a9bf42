"""The memorization family and the verdict: its searches, its figures, put together from samples and baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.copying.baseline import Baseline, Scale
from memgen_eval.copying.calibration import calibrated_figures
from memgen_eval.copying.copy_rules import (
    CARLINI_NEIGHBOURS,
    NOTHING_COUNTED,
    Copying,
    CopyRules,
    Tally,
    calibrated_share,
    carlini_ratio,
    copied,
    cosine_similarities,
    largest_patch_distances,
    memorization_ratio,
    ratio_curve,
    relatively_near,
    repeated,
    surely_or_perhaps_near,
)
from memgen_eval.copying.verdict import Counted, detectable_ratio, judge, largest_compatible_ratio, unfair
from memgen_eval.metrics.ratios import distance_ratios, undefined_ratios
from memgen_eval.metrics.statistics import NO_BASELINE, count_estimate, permutation, proportion, proportion_difference
from memgen_eval.neighbours.duplicates import neighbours_within, without_duplicates
from memgen_eval.neighbours.index import Index
from memgen_eval.neighbours.search import mirrored
from memgen_eval.neighbours.topk import Neighbours
from memgen_eval.results import Estimate, Match, Memorization, RuleFinding, Verdict

FEW_NEIGHBOURS = 5
MAX_COPIES = 10_000
NUM_CLOSEST = 32
PAIR_VALUES = 2**20  # of the images whose patches are compared at once, in float64
NO_FEATURES = "needs the features of a network: choose features='sscd' or another one (--features sscd)"
NOT_PUBLISHED = "a threshold is published for SSCD alone; the calibrated figures are for every network"
NO_SECOND = "needs two distinct training images"
NO_TOLERANCE = "the duplicate tolerance is 0: no distance is below it"

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


def search(images: NDArray[Any], index: Index, *, excluded: Rows | None = None) -> Neighbours:
    """The few nearest training images of images (N, C, H, W), in the orientation given; `copying` looks wider."""
    return index.search(images, min(FEW_NEIGHBOURS, len(index) - (excluded is not None)), exclude=excluded)


def copying(
    plain: Neighbours, index: Index, rules: CopyRules, *, repeats: Bools | None = None, apart: bool = False
) -> Copying:
    """What the family needs to know of the images that `plain` was searched for.

    `repeats` (N,) marks those that show the picture of an earlier one of them; none if it is left out. With `apart`
    training images that duplicate an image left out of train are left out with it.
    """
    if apart:
        plain = _wide(plain, index, flip=False)
    closest = index.both_orientations(plain)
    if apart:
        closest, plain = (without_duplicates(table, tolerance=rules.tolerance) for table in (closest, plain))
    nearest = closest if rules.flip else plain
    return Copying(
        plain=plain,
        nearest=nearest,
        distinct=index.distinct(nearest, tolerance=rules.tolerance),
        closest=closest,
        near_identical=closest.squared_distances[:, 0] <= rules.tolerance**2,
        repeats=np.zeros(len(plain), dtype=bool) if repeats is None else repeats,
        relatively_near=relatively_near(nearest) if apart else _relatively_near(nearest, index, flip=rules.flip),
    )


def _wide(table: Neighbours, index: Index, *, flip: bool) -> Neighbours:
    """The same images with the nearest 51, or all there are."""
    k = min(CARLINI_NEIGHBOURS + 1, len(index) - (table.excluded is not None))
    return index.search(np.asarray(table.queries), k, exclude=table.excluded, flip=flip)


def _relatively_near(nearest: Neighbours, index: Index, *, flip: bool) -> Bools | None:
    """`relatively_near` of images of which few neighbours are known: 51 are looked for where bounds do not decide.

    The nearest 50 of some training images bound those of all; where one is left out the nearest of 51 is dropped.
    """
    left_out = int(nearest.excluded is not None)
    if len(index) - left_out <= CARLINI_NEIGHBOURS:
        return None
    k = CARLINI_NEIGHBOURS + left_out
    farthest = index.thinned(k).search(np.asarray(nearest.queries), k).distances[:, left_out:]
    near, perhaps = surely_or_perhaps_near(nearest, farthest)
    open_rows = np.flatnonzero(perhaps & ~near)
    near[open_rows] = relatively_near(_wide(nearest[open_rows], index, flip=flip))
    return near


def patch_share(known: Copying, index: Index, rules: CopyRules) -> Estimate:
    """Share of images with a training image whose worst patch differs by less than the duplicate tolerance.

    The worst patch differs at least as much as the whole, so that only training images within the tolerance matter.
    """
    if rules.tolerance == 0:
        return Estimate.undefined(NO_TOLERANCE)
    own, train = known.nearest[index.ranks.shard(len(known))], index.rows
    assert own.queries is not None
    rows, indices = neighbours_within(own, index.references, radius=rules.tolerance, engine=index.engine)
    num_values = int(np.prod(train.shape[1:]))
    grey = rules.tolerance / np.sqrt(num_values)
    hits = np.zeros(len(own), dtype=bool)
    step = max(1, PAIR_VALUES // num_values)
    for start in range(0, len(rows), step):
        row = rows[start : start + step]
        images, references = own.queries[row], train[indices[start : start + step]]  # (P, C, H, W)
        worst = largest_patch_distances(images, references)
        if rules.flip:
            worst = np.minimum(worst, largest_patch_distances(images, mirrored(references)))
        hits[row[worst < grey]] = True
    notes = (f"threshold {grey:.3g} grey levels in the worst of 16 patches",)
    return proportion(index.ranks.gather(hits), repeats=known.repeats, notes=notes)


def repetition(
    samples: NDArray[Any], others: NDArray[Any], index: Index, rules: CopyRules, *, originals: Rows, seed: int
) -> tuple[Estimate, Estimate]:
    """`repeated` for samples, and for one half of the baseline against the other, all at one size.

    `originals` (N,) names the first sample that equals each; `index` lends its budget and ranks.
    """
    size = min(len(samples), len(others) // 2)
    if size < 2:
        undefined = Estimate.undefined("needs two samples and four baseline images")
        return undefined, undefined
    halves, rows = permutation(len(others), seed=seed), permutation(len(samples), seed=seed)[:size]
    drawn, first, second = samples[rows], others[halves[:size]], others[halves[size : 2 * size]]

    def share(images: NDArray[Any], repeats: Bools | None) -> Estimate:
        others, unseen = index.among(images), index.among(second)
        farthest = unseen.thinned(1).search(images, 1).squared_distances[:, 0]
        limits = (1 + 1e-12) * rules.threshold**2 * farthest  # beyond them an image is not nearer to another one
        near = others.nearest_within(images, limits, exclude=np.arange(size), flip=rules.flip)
        far, rows = near.squared_distances.copy(), np.flatnonzero(near.squared_distances[:, 0] <= limits)
        far[rows] = unseen.search(images[rows], 1, flip=rules.flip).squared_distances
        return repeated(near, replace(near, squared_distances=far), threshold=rules.threshold, repeats=repeats)

    return share(drawn, _repeats_among(originals[rows])), share(first, None)


def _repeats_among(originals: Rows) -> Bools:
    """Whether each of some images has the original of an earlier one of them, (B,)."""
    repeats = np.ones(len(originals), dtype=bool)
    repeats[np.unique(originals, return_index=True)[1]] = False
    return repeats


def measure_memorization(
    samples: Copying,
    baseline: Baseline | None,
    rules: CopyRules,
    scale: Scale,
    *,
    cautions: tuple[str, ...] = (),
    findings: tuple[RuleFinding, ...] = (),
    unlike: tuple[str, ...] = (),
    near_unseen: Tally | None = None,
) -> tuple[Memorization, Verdict]:
    """The figures that rest on tables of neighbours alone, and the verdict; see `patch_share` and `repetition`.

    Parameters
    ----------
    samples : Copying, (N,)
        Neighbours of the samples.
    baseline : Baseline or None, (m,)
        Images that cannot have been copied, with their neighbours.
    rules : CopyRules
        In the units of the tables.
    scale : Scale
        From the units of the tables to those of a report.
    cautions, findings, unlike, near_unseen
        As for `judge`.
    """
    flagged, repeats = copied(samples.distinct, threshold=rules.threshold), samples.repeats
    matches = _matches(samples.nearest, samples.distinct, np.arange(len(samples)), scale)
    order = _by_closeness(matches)
    flagged_matches = [matches[i] for i in order if flagged[i]]
    given = {"cautions": cautions, "findings": findings, "unlike": unlike, "near_unseen": near_unseen}
    verdict = judged(samples, baseline, rules, scale, **given)
    distinct = len({match.train_index for match in flagged_matches})
    cut = (f"only the first {MAX_COPIES:,} of {len(flagged_matches):,} copies are listed",)
    family = replace(
        without_features(Memorization.undefined(NO_BASELINE), NO_FEATURES),
        ratio=memorization_ratio(samples.distinct, threshold=rules.threshold, repeats=repeats),
        plain_ratio=_plain_ratio(samples, rules.threshold),
        ratio_curve=ratio_curve(samples.distinct, repeats=repeats),
        carlini=carlini_ratio(samples.relatively_near, repeats=repeats),
        carlini_absolute=_absolute(samples, rules.tolerance, scale),
        num_distinct_copied=count_estimate(
            distinct, count=len(flagged_matches), notes=cut if len(flagged_matches) > MAX_COPIES else ()
        ),
        num_near_identical=count_estimate(int(np.count_nonzero(samples.near_identical)), count=len(samples)),
        largest_compatible_ratio=largest_compatible_ratio(verdict.evidence),
        detectable_ratio=detectable_ratio(verdict.evidence),
        copies=tuple(flagged_matches[:MAX_COPIES]),
        closest=tuple(matches[i] for i in order[:NUM_CLOSEST]),
    )
    if baseline is None:
        return family, verdict
    calibrated: dict[str, Any] = {**calibrated_figures(samples, baseline)}
    return _with_control(replace(family, **calibrated), baseline, rules.threshold, scale), verdict


def is_of_features(name: str) -> bool:
    """Whether a figure of the family rests on the features of a network, and not on pixels."""
    return "feature_" in name


def without_features(family: Memorization, reason: str) -> Memorization:
    """The family with its figures of features undefined, for this reason."""
    undefined: dict[str, Any] = dict.fromkeys(filter(is_of_features, family.captions()), Estimate.undefined(reason))
    return replace(family, **undefined)


def with_feature_similarity(
    family: Memorization,
    samples: Neighbours,
    baseline: Neighbours | None,
    *,
    published: float | None,
    repeats: Bools,
    name: str,
    reason: str = NO_BASELINE,
) -> Memorization:
    """The family with the share of samples whose features nearly point where a training image's do.

    A cosine similarity grows with the number of training images, and is large for flat and common images [1]_ [2]_: a
    threshold tells nothing without the share of images that cannot have been copied. The margin, the largest cosine
    less the second, loses less as the training set grows.

    Parameters
    ----------
    samples : Neighbours, (N, K)
        The two nearest of distinct training images, among features of length 1; one where there are no more.
    baseline : Neighbours or None, (m, K)
        The same for images that cannot have been copied.
    published : float or None
        The threshold of the literature for these features, if there is one.
    repeats : bool, (N,)
        Samples that show the picture of an earlier one.
    name : str
        What baseline images are called, in the plural.
    reason : str
        Why there is no baseline, where there is none.

    References
    ----------
    .. [1] Somepalli et al., "Diffusion Art or Digital Forgery?", CVPR 2023.
    .. [2] Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", CVPR 2022.
    """
    family = without_features(family, reason)
    cosines, others = (None if table is None else cosine_similarities(table) for table in (samples, baseline))
    assert cosines is not None
    share = own = Estimate.undefined(NOT_PUBLISHED)
    if published is not None:
        share = proportion(cosines[:, 0] > published, repeats=repeats)
        own = Estimate.undefined(reason) if others is None else proportion(others[:, 0] > published)
        share = replace(share, notes=(*share.notes, *_beside_unseen(published, share, own, name)))
    found: dict[str, Any] = {"feature_similarity": share, "test_feature_similarity": own}
    if others is not None:
        names = ("feature_threshold", "calibrated_feature_similarity", "feature_p_value")
        found |= zip(names, calibrated_share(cosines[:, 0], others[:, 0], largest=1.0, repeats=repeats), strict=True)
        names = ("feature_margin_threshold", "calibrated_feature_margin", "feature_margin_p_value")
        margins = [table[:, 0] - table[:, 1] for table in (cosines, others) if table.shape[1] > 1]
        if len(margins) == 2:
            found |= zip(names, calibrated_share(*margins, largest=2.0, repeats=repeats), strict=True)
        else:
            found |= dict.fromkeys(names, Estimate.undefined(NO_SECOND))
    return replace(family, **found)


def _beside_unseen(threshold: float, share: Estimate, unseen: Estimate, name: str) -> tuple[str, ...]:
    """Why a published threshold tells nothing alone, with this data set's own figures."""
    if share.value is None or unseen.value is None:
        return ()
    passed = f"{share.value:.1%} of the samples pass it here, and {unseen.value:.1%} of the {name}"
    return (f"the published threshold {threshold:g} alone says nothing: {passed}, which cannot have been copied",)


def _counted(known: Copying, rules: CopyRules, scale: Scale) -> Counted:
    """What the verdict counts of a set."""
    flagged = copied(known.distinct, threshold=rules.threshold)
    grey_levels = known.closest.distances[:, 0] * scale.grey
    near = np.zeros(len(known), dtype=bool) if known.relatively_near is None else known.relatively_near
    return Counted(flagged, known.near_identical, grey_levels, undefined_ratios(known.distinct), near)


def judged(samples: Copying, baseline: Baseline | None, rules: CopyRules, scale: Scale, **given: Any) -> Verdict:
    """The verdict on samples beside their baseline; `given` as for `judge`."""
    near = np.flatnonzero(samples.near_identical)[:1]  # in either orientation, whatever `nearest` holds
    first = _matches(samples.closest[near], samples.distinct[near], near, scale)
    base, leaked = Counted.none(), np.zeros(0, dtype=bool)
    if baseline is not None and baseline.copying is not None:
        base, leaked = _counted(baseline.copying, rules, scale), baseline.leaked
    return judge(
        _counted(samples, rules, scale),
        base,
        leaked=leaked,
        repeats=samples.repeats,
        near_in_train=NOTHING_COUNTED if baseline is None else baseline.near_in_train,
        first_near_identical=first[0] if first else None,
        name="baseline images" if baseline is None else baseline.name,
        **given,
    )


def is_fair(baseline: Baseline, rules: CopyRules, scale: Scale) -> bool:
    """Whether the images of a baseline are not training images themselves, as far as can be seen."""
    assert baseline.copying is not None
    counted = _counted(baseline.copying, rules, scale)
    return not unfair(counted, baseline.leaked, baseline.near_in_train, baseline.name)


def _with_control(family: Memorization, baseline: Baseline, threshold: float, scale: Scale) -> Memorization:
    """The family with the baseline's figures, and the excess over them."""
    assert baseline.copying is not None
    known, num_leaked = baseline.copying, int(np.count_nonzero(baseline.leaked))
    leaks = (f"{num_leaked:,} of {len(known):,} {baseline.name} {baseline.leak}",) if num_leaked else ()
    notes = (*leaks, *baseline.notes)
    ratio = memorization_ratio(known.distinct, threshold=threshold)
    matches = _matches(known.nearest, known.distinct, baseline.rows, scale)
    num_near = int(np.count_nonzero(known.near_identical))
    return replace(
        family,
        test_ratio=replace(ratio, notes=ratio.notes + notes),
        excess=proportion_difference(family.ratio, ratio),
        test_ratio_curve=ratio_curve(known.distinct),
        test_carlini=carlini_ratio(known.relatively_near),
        test_num_near_identical=count_estimate(num_near, count=len(known), notes=notes),
        test_closest=tuple(matches[i] for i in _by_closeness(matches)[:NUM_CLOSEST]),
    )


def _plain_ratio(samples: Copying, threshold: float) -> Estimate:
    if samples.plain.indices.shape[1] < 2:
        return Estimate.undefined("needs two training images")
    return memorization_ratio(samples.plain, threshold=threshold, repeats=samples.repeats)


def _absolute(samples: Copying, tolerance: float, scale: Scale) -> Estimate:
    """Share of samples with d1 strictly below the duplicate tolerance."""
    if tolerance == 0:
        return Estimate.undefined(NO_TOLERANCE)
    note = f"threshold {tolerance * scale.unit:.4g} ({tolerance * scale.grey:.3g} grey levels), the duplicate tolerance"
    return proportion(samples.nearest.distances[:, 0] < tolerance, repeats=samples.repeats, notes=(note,))


def _matches(nearest: Neighbours, distinct: Neighbours, images: Rows, scale: Scale) -> list[Match]:
    """Each of some images, (N,), beside its nearest training image; the ratio is to the next distinct one."""
    flipped = np.zeros(len(nearest), dtype=bool) if nearest.flipped is None else nearest.flipped[:, 0]
    distances, ratios = nearest.distances[:, 0], distance_ratios(distinct)
    columns = (images, nearest.indices[:, 0], distances * scale.unit, distances * scale.grey, ratios, flipped)
    return [Match(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def _by_closeness(matches: list[Match]) -> list[int]:
    """Positions by ratio, then distance, then index."""
    return sorted(range(len(matches)), key=lambda i: (matches[i].ratio, matches[i].distance, matches[i].sample_index))
