"""The memorization family and the verdict, put together from neighbours of samples and of the baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memgen_eval.metrics.copy_rules import (
    Copying,
    carlini_ratio,
    copied,
    distance_ratios,
    memorization_ratio,
    ratio_curve,
)
from memgen_eval.metrics.statistics import count_estimate, proportion, proportion_difference
from memgen_eval.metrics.verdict import Counted, detectable_ratio, judge, largest_compatible_ratio
from memgen_eval.results import Curve, Estimate, Match, Memorization, Verdict

MAX_COPIES = 10_000
NUM_CLOSEST = 32
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scale:
    """What turns distances of a table into report units: `unit` to [0, 1] per value, `grey` to grey levels."""

    unit: float
    grey: float


@dataclass(frozen=True, eq=False)
class Baseline:
    """Images that cannot have been copied: what is known of them, (m,), and what they are called.

    `rows` are their indices in the set they come from; `leaked` marks those that the training set holds all the same;
    `notes` say what was left out of them.
    """

    copying: Copying
    rows: NDArray[np.int64]
    leaked: Bools
    name: str
    leak: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Extras:
    """Figures that need pixels or further searches: see the fields of the same names in `Memorization`."""

    carlini_patch: Estimate
    repetition: Estimate
    test_repetition: Estimate


def measure_memorization(
    samples: Copying,
    baseline: Baseline | None,
    extras: Extras,
    *,
    threshold: float,
    tolerance: float,
    scale: Scale,
    cautions: tuple[str, ...],
    reason: str,
) -> tuple[Memorization, Verdict]:
    """The family and the verdict.

    Parameters
    ----------
    samples : Copying, (N,)
        Neighbours of the samples.
    baseline : Baseline or None, (m,)
        The same of images that cannot have been copied.
    extras : Extras
        What was found in the pixels.
    threshold : float
        Of the ratio rule.
    tolerance : float
        Of duplicates, in the units of the tables.
    scale : Scale
        From the units of the tables to those of a report.
    cautions : tuple of str
        Why the images may not be what was meant.
    reason : str
        Why there is no baseline, where there is none.
    """
    flagged, repeats = copied(samples.distinct, threshold=threshold), samples.repeats
    matches = _matches(samples, np.arange(len(samples)), scale)
    order = _by_closeness(matches)
    flagged_matches = [matches[i] for i in order if flagged[i]]
    counted = Counted(flagged, samples.near_identical, samples.closest.distances[:, 0])
    verdict = _verdict(counted, samples, baseline, scale, cautions, threshold)
    ratio = memorization_ratio(samples.distinct, threshold=threshold, repeats=repeats)
    control = _control(baseline, threshold, scale, reason)
    distinct = len({match.train_index for match in flagged_matches})
    cut = (f"only the first {MAX_COPIES:,} of {len(flagged_matches):,} copies are listed",)
    undefined_feature = Estimate.undefined("needs a feature extractor for copy detection; none is measured here")
    family = Memorization(
        ratio=ratio,
        plain_ratio=_plain_ratio(samples, threshold),
        test_ratio=control.ratio,
        excess=proportion_difference(ratio, control.ratio),
        ratio_curve=ratio_curve(samples.distinct, repeats=repeats),
        test_ratio_curve=control.curve,
        carlini=carlini_ratio(samples.nearest, repeats=repeats),
        test_carlini=control.carlini,
        carlini_absolute=_absolute(samples, tolerance, scale),
        carlini_patch=extras.carlini_patch,
        feature_similarity=undefined_feature,
        test_feature_similarity=undefined_feature,
        repetition=extras.repetition,
        test_repetition=extras.test_repetition,
        num_distinct_copied=count_estimate(
            distinct, count=len(flagged_matches), notes=cut if len(flagged_matches) > MAX_COPIES else ()
        ),
        num_near_identical=count_estimate(counted.num_near_identical, count=len(samples)),
        test_num_near_identical=control.num_near_identical,
        largest_compatible_ratio=largest_compatible_ratio(verdict.evidence),
        detectable_ratio=detectable_ratio(verdict.evidence),
        copies=tuple(flagged_matches[:MAX_COPIES]),
        closest=tuple(matches[i] for i in order[:NUM_CLOSEST]),
        test_closest=control.closest,
    )
    return family, verdict


def _verdict(
    counted: Counted,
    samples: Copying,
    baseline: Baseline | None,
    scale: Scale,
    cautions: tuple[str, ...],
    threshold: float,
) -> Verdict:
    near = np.flatnonzero(counted.near_identical)
    none = np.zeros(0, dtype=bool)
    base = Counted(none, none, np.zeros(0))
    if baseline is not None:
        known = baseline.copying
        flagged = copied(known.distinct, threshold=threshold)
        base = Counted(flagged, known.near_identical, known.closest.distances[:, 0])
    return judge(
        counted,
        base,
        leaked=none if baseline is None else baseline.leaked,
        repeats=samples.repeats,
        cautions=cautions,
        first_near_identical=_match(samples, int(near[0]), scale) if len(near) else None,
        name="baseline images" if baseline is None else baseline.name,
    )


@dataclass(frozen=True)
class _Control:
    """The baseline's side of the family."""

    ratio: Estimate
    curve: Curve
    carlini: Estimate
    num_near_identical: Estimate
    closest: tuple[Match, ...]


def _control(baseline: Baseline | None, threshold: float, scale: Scale, reason: str) -> _Control:
    if baseline is None:
        undefined = Estimate.undefined(reason)
        return _Control(undefined, Curve.undefined(reason), undefined, undefined, ())
    copying, num_leaked = baseline.copying, int(np.count_nonzero(baseline.leaked))
    leaks = (f"{num_leaked:,} of {len(copying):,} {baseline.name} {baseline.leak}",) if num_leaked else ()
    notes = (*leaks, *baseline.notes)
    ratio = memorization_ratio(copying.distinct, threshold=threshold)
    matches = _matches(copying, baseline.rows, scale)
    return _Control(
        ratio=replace(ratio, notes=ratio.notes + notes),
        curve=ratio_curve(copying.distinct),
        carlini=carlini_ratio(copying.nearest),
        num_near_identical=count_estimate(
            int(np.count_nonzero(copying.near_identical)), count=len(copying), notes=notes
        ),
        closest=tuple(matches[i] for i in _by_closeness(matches)[:NUM_CLOSEST]),
    )


def _plain_ratio(samples: Copying, threshold: float) -> Estimate:
    if samples.plain.indices.shape[1] < 2:
        return Estimate.undefined("needs two training images")
    return memorization_ratio(samples.plain, threshold=threshold, repeats=samples.repeats)


def _absolute(samples: Copying, tolerance: float, scale: Scale) -> Estimate:
    """Share of samples with d1 strictly below the duplicate tolerance."""
    if tolerance == 0:
        return Estimate.undefined("the duplicate tolerance is 0: no distance is below it")
    note = f"threshold {tolerance * scale.unit:.4g} ({tolerance * scale.grey:.3g} grey levels), the duplicate tolerance"
    return proportion(samples.nearest.distances[:, 0] < tolerance, repeats=samples.repeats, notes=(note,))


def _match(copying: Copying, row: int, scale: Scale) -> Match:
    """A near-identical image beside the training image that it is nearest to in either orientation."""
    distance, flipped = float(copying.closest.distances[row, 0]), copying.closest.flipped
    return Match(
        sample_index=row,
        train_index=int(copying.closest.indices[row, 0]),
        distance=distance * scale.unit,
        grey_levels=distance * scale.grey,
        ratio=float(distance_ratios(copying.distinct)[row]),
        flipped=flipped is not None and bool(flipped[row, 0]),
    )


def _matches(copying: Copying, rows: NDArray[np.int64], scale: Scale) -> list[Match]:
    """Each image beside its nearest training image, in the order of the set."""
    nearest, ratios = copying.nearest, distance_ratios(copying.distinct)
    flipped = np.zeros(len(copying), dtype=bool) if nearest.flipped is None else nearest.flipped[:, 0]
    distances = nearest.distances[:, 0]
    columns = (rows, nearest.indices[:, 0], distances * scale.unit, distances * scale.grey, ratios, flipped)
    return [Match(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]


def _by_closeness(matches: list[Match]) -> list[int]:
    """Positions by ratio, then distance, then index."""
    return sorted(range(len(matches)), key=lambda i: (matches[i].ratio, matches[i].distance, matches[i].sample_index))
