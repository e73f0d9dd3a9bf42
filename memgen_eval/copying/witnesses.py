"""What the rules of the verdict find: samples and images that cannot have been copied, put together for each rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memgen_eval.altered.alignment import FEWEST_SIDE
from memgen_eval.altered.matches import altered_match
from memgen_eval.copying.baseline import Baseline
from memgen_eval.copying.calibration import FEW_UNSEEN, MIN_BASELINE, Calibration, calibrate, shares_below
from memgen_eval.copying.copy_rules import Copying, Tally, copied
from memgen_eval.copying.evened import Evened
from memgen_eval.copying.rules import Comparison, Outcome, Rated, at_ranks, at_threshold, joined_ratings
from memgen_eval.copying.verdict import MIN_IMAGES
from memgen_eval.metrics.ratios import distance_ratios
from memgen_eval.metrics.statistics import NO_IMAGES, auc
from memgen_eval.results import AlteredMatch, Estimate, RuleFinding

FAR_AREA = 0.75  # of the distances of test images against those of training images left out; its mirror image too
CONFIRMING_P_VALUE = 0.05
MOST_ALTERED = 32  # samples whose alterations are told
CANNOT_ALIGN = f"needs images of {FEWEST_SIDE} pixels a side, and two training images"

Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Witness:
    """A set of images with all that rules compare: samples, test images, or training images left out.

    Attributes
    ----------
    copying : Copying, (N,)
        Its neighbours in pixels.
    evened : Evened, (N,)
        Its ratings once evened out.
    kinds : int64, (N,)
        The kind of each image.
    features : Rated or None, (N,)
        Its ratings by features that are made to find copies, where these are given.
    """

    copying: Copying
    evened: Evened
    kinds: Rows
    features: Rated | None = None

    def __len__(self) -> int:
        return len(self.copying)

    def ratings(self, threshold: float) -> dict[str, Rated]:
        """By rule; that of the ratio rule is 0 for flagged images and 1 for others."""
        nearest = self.copying.nearest.indices[:, 0]
        flagged = copied(self.copying.distinct, threshold=threshold)
        ratings: dict[str, Rated | None] = {
            "ratio": Rated(np.where(flagged, 0.0, 1.0), nearest),
            "calibrated": Rated(distance_ratios(self.copying.distinct, squared=True), nearest),
            "standardized": self.evened.standardized,
            "aligned": self.evened.aligned,
            "features": self.features,
        }
        return {name: rated for name, rated in ratings.items() if rated is not None}


@dataclass(frozen=True, eq=False)
class Control:
    """Images that cannot have been copied, and what is known of them."""

    baseline: Baseline
    witness: Witness


def with_features(controls: Sequence[Control], ratings: Sequence[Rated]) -> list[Control]:
    """The same with the ratings of their images by features."""
    pairs = zip(controls, ratings, strict=True)
    return [replace(control, witness=replace(control.witness, features=rated)) for control, rated in pairs]


@dataclass(frozen=True, eq=False)
class _Unseen:
    """The images of all controls, (M,): which are test images, and which the training set holds."""

    is_test: Bools
    leaked: Bools


def findings(
    samples: Witness, repeats: Bools, controls: Sequence[Control], *, threshold: float, fair: bool
) -> tuple[RuleFinding, ...]:
    """What each rule finds of the samples, the ratio rule first; nothing without controls.

    Samples are compared with all controls; with training images left out alone if the test images are not `fair`.
    Where there are 300 fair test images, a rule that finds nothing beside these alone (p > 0.05) finds nothing, and
    they alone acquit: more of them than of training images have near duplicates in some training sets.
    """
    if not controls:
        return ()
    is_test = [np.full(len(c.witness), c.baseline.excluded is None) for c in controls]
    unseen = _Unseen(np.concatenate(is_test), np.concatenate([control.baseline.leaked for control in controls]))
    own = samples.ratings(threshold)
    others = [control.witness.ratings(threshold) for control in controls]
    kinds = np.concatenate([control.witness.kinds for control in controls])
    found = []
    for name in (name for name in own if all(name in ratings for ratings in others)):
        ratings = joined_ratings([ratings[name] for ratings in others])
        compared = Comparison(own[name][~repeats], ratings, samples.kinds[~repeats], kinds)
        test = at_threshold if name == "ratio" else at_ranks
        outcome, clean = _outcomes(compared, unseen, test, fair=fair)
        found.append(RuleFinding(name, **vars(outcome), p_value_without_leaks=clean.p_value))
    return tuple(found)


def _outcomes(
    compared: Comparison, unseen: _Unseen, test: Callable[[Comparison], Outcome], *, fair: bool
) -> tuple[Outcome, Outcome]:
    """What a rule finds beside all unseen images, and beside those that may acquit: the training set holds none."""
    used = np.ones(len(unseen.is_test), dtype=bool) if fair else ~unseen.is_test
    found, suffices = test(compared.among(used)), fair and np.count_nonzero(unseen.is_test) >= MIN_IMAGES
    acquitting = (unseen.is_test if suffices else used) & ~unseen.leaked
    if suffices:
        beside_test = test(compared.among(unseen.is_test)).p_value
        if beside_test > CONFIRMING_P_VALUE:
            found = replace(found, p_value=max(found.p_value, beside_test))
    return found, test(compared.among(acquitting))


def near_unseen(controls: Sequence[Control]) -> Tally:
    """Images of the controls within the duplicate tolerance of a training image, those equal to one left out.

    Training images left out with their near duplicates cannot be near one, and count only where there are no others.
    """
    sets = [c.witness.copying for c in controls if not c.baseline.apart] or [c.witness.copying for c in controls]
    near = sum(int(np.count_nonzero(known.near_identical & ~known.identical)) for known in sets)
    return Tally(near, sum(int(np.count_nonzero(~known.identical)) for known in sets))


def unlike_train(controls: Sequence[Control]) -> tuple[str, ...]:
    """Why test images cannot speak for unseen images: their distances to the training set are not as these's own."""
    if len(controls) < 2:
        return ()
    first, left_out = (control.witness.copying.nearest.distances[:, 0] for control in controls)
    area = auc(first, left_out).value
    if area is None or 1 - FAR_AREA <= area <= FAR_AREA:
        return ()
    way = "farther from" if area > FAR_AREA else "nearer to"
    share = max(area, 1 - area)
    pairs = f"in {100 * share:.0f} % of pairs the test image lies {way} it than the training image left out"
    return (f"{controls[0].baseline.name} are unlike the training set: {pairs}",)


def altered_figures(samples: Witness, control: Control) -> dict[str, Estimate]:
    """The figures of copies that are evened out and aligned first, by name, beside one control; see `calibrate`."""
    figures: dict[str, Estimate] = {}
    for name in ("standardized", "aligned"):
        names = f"{name}_ratio", f"test_{name}_ratio", f"{name}_p_value"
        found = _calibrated(samples.evened, control.witness.evened, name, samples.copying.repeats)
        if isinstance(found, str):
            figures |= dict.fromkeys(names, Estimate.undefined(found))
        else:
            figures |= zip(names, shares_below(found, samples.copying.repeats), strict=True)
    return figures


def altered_matches(
    samples: Witness, images: NDArray[Any], train: NDArray[Any], control: Control
) -> tuple[AlteredMatch, ...]:
    """Samples below the threshold of the aligned ratio, the smallest first, with what was altered; 32 at most."""
    own, best = samples.evened.aligned, samples.evened.best
    found = _calibrated(samples.evened, control.witness.evened, "aligned", samples.copying.repeats)
    if own is None or best is None or isinstance(found, str):
        return ()
    rows = np.flatnonzero(found.below)
    rows = rows[np.argsort(own.ratios[rows], kind="stable")][:MOST_ALTERED]
    return tuple(
        altered_match(
            *(images[row], train[own.nearest[row]], best[row]),
            sample_index=int(row),
            train_index=int(own.nearest[row]),
            ratio=float(np.sqrt(own.ratios[row])),
        )
        for row in rows
    )


def _calibrated(samples: Evened, control: Evened, name: str, repeats: Bools) -> Calibration | str:
    """The rule of that name beside one control, or why there is none."""
    own, unseen = getattr(samples, name), getattr(control, name)
    if own is None or unseen is None:
        return CANNOT_ALIGN
    if len(own) == 0:
        return NO_IMAGES
    if len(unseen) < MIN_BASELINE:
        return FEW_UNSEEN.format(MIN_BASELINE, len(unseen))
    return calibrate(own.ratios, unseen.ratios, repeats=repeats, nearest=own.nearest)
