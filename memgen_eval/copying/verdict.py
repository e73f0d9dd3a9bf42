"""Whether the samples copy the training set: several rules against images that cannot have been copied; a sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memgen_eval.copying.copy_rules import Tally
from memgen_eval.errors import p_text
from memgen_eval.metrics.statistics import (
    clopper_pearson_upper,
    detectable_rate,
    fisher_greater,
)
from memgen_eval.results import Estimate, Evidence, Label, Match, RuleFinding, Verdict

COPIES_P_VALUE = 1e-5  # the interval of the excess would cry copy in 2 to 7 % of fresh sets
ACQUITTAL_P_VALUE = 0.05
MIN_IMAGES = 300
MAX_LEAKED_SHARE = 0.01
UNFAIR_P_VALUE = 0.001
# Grey levels: so near lies a training image that was stored and read again, truncated where it should be rounded.
WITHIN_ROUNDING = 1.0
POWER = 0.9
NUM_COUNTS = 2  # beside the rules, which may keep samples from being acquitted
NEAREST = 50  # training images of the rule of Carlini et al.
HOW_COMPARED = {
    "calibrated": "",
    "standardized": ", once brightness, colours and contrast are evened out,",
    "aligned": ", once shifts, turns and scales are undone too,",
    "features": " by the features of a network that is made to find copies",
}
VISIBLE = "speaks of copies that the ratio rule sees"
CAUTIONED = "the images may have been read wrongly, or are unlike the training set (see the cautions)"

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Counted:
    """What is counted of one set, by image.

    Attributes
    ----------
    flagged : bool, (N,)
        Copied by the ratio rule.
    near_identical : bool, (N,)
        Within the duplicate tolerance of a training image.
    grey_levels : float64, (N,)
        The distance to the nearest training image, root mean square.
    undefined : bool, (N,)
        Without a training image that does not duplicate the nearest: the ratio rule says nothing.
    relatively_near : bool, (N,)
        Copied by the rule of Carlini et al., which convicts nobody.
    """

    flagged: Bools
    near_identical: Bools
    grey_levels: Floats
    undefined: Bools
    relatively_near: Bools

    @classmethod
    def none(cls) -> Counted:
        """No images."""
        nothing = np.zeros(0, dtype=bool)
        return cls(nothing, nothing, np.zeros(0), nothing, nothing)

    def without(self, left_out: Bools) -> Counted:
        """The same without some of the images."""
        kept = ~left_out
        return Counted(**{name: values[kept] for name, values in vars(self).items()})

    @property
    def identical(self) -> Bools:
        """Those that a training image would become if it were stored and read again, (N,)."""
        within: Bools = self.grey_levels <= WITHIN_ROUNDING * (1 + 1e-9)  # the square root is rounded
        return within

    @property
    def num_flagged(self) -> int:
        """How many the ratio rule calls copies."""
        return int(np.count_nonzero(self.flagged))

    @property
    def num_near_identical(self) -> int:
        """How many lie within the duplicate tolerance."""
        return int(np.count_nonzero(self.near_identical))

    def __len__(self) -> int:
        return len(self.flagged)


def too_many(found: int, images: int) -> bool:
    """Whether a baseline of this size holds more training images than a fair one may."""
    return found > MAX_LEAKED_SHARE * images


def flagged_p_value(samples: Counted, baseline: Counted) -> float:
    """Fisher's exact one-sided p-value of flagged samples against flagged baseline images; 1 without a baseline."""
    return fisher_greater(samples.num_flagged, len(samples), baseline.num_flagged, len(baseline))


def judge(
    samples: Counted,
    baseline: Counted,
    *,
    leaked: Bools,
    repeats: Bools,
    near_in_train: Tally,
    first_near_identical: Match | None,
    name: str,
    cautions: tuple[str, ...] = (),
    findings: tuple[RuleFinding, ...] = (),
    unlike: tuple[str, ...] = (),
    near_unseen: Tally | None = None,
) -> Verdict:
    """The verdict on a set of samples.

    ``copies`` if the smallest p-value of the rules, times their number, is at most 1e-5. Without `findings` the ratio
    rule is the only one, by Fisher's exact one-sided test of flagged samples against flagged baseline images. Samples
    that repeat an earlier one count once in every test.
    ``no copying found`` if, with the leaked baseline images left out, no rule and neither count below gives a p-value
    of at most 0.05, corrected for their number; at least 300 distinct samples were seen; and no sample is a
    training image to within rounding. The counts are the samples within the duplicate tolerance of a training image
    and those near by the rule of Carlini et al.
    Not available where more than 1 % of the baseline leaked; where more than 1 % of it is near-identical to training
    images, and more often than training images are to each other (Fisher p <= 0.001): altered training images in a test
    set excuse the same in the samples; where the test images are `unlike` the training set; where fewer than 300
    baseline images remain; where most samples have no two distinct training images to compare; or where there are
    cautions. Else ``undecided``.

    Parameters
    ----------
    samples, baseline : Counted, (N,) and (m,)
        What is counted of both sets.
    leaked : bool, (m,)
        Baseline images that the training set holds: they cannot acquit anyone.
    repeats : bool, (N,)
        Samples that show the picture of an earlier sample.
    near_in_train : Tally
        Training images that are near-identical to another one, of some of them.
    first_near_identical : Match or None
        The first sample that is a training image to within noise.
    name : str
        What a baseline image is called in the sentence, in the plural.
    cautions : tuple of str
        Why the images may not be what was meant: copies among images that were read wrongly are not seen.
    findings : tuple of RuleFinding
        What the rules found, the ratio rule first.
    unlike : tuple of str
        Why test images cannot speak for unseen images.
    near_unseen : Tally, optional
        Unseen images within the duplicate tolerance of a training image; by default, of the baseline without leaks.
    """
    clean, distinct = baseline.without(leaked), samples.without(repeats)
    p_value, clean_p_value = flagged_p_value(distinct, baseline), flagged_p_value(distinct, clean)
    counts = distinct.num_flagged, len(distinct), baseline.num_flagged, len(baseline)
    evidence = Evidence(
        num_samples=len(samples),
        num_distinct_samples=len(distinct),
        num_flagged=samples.num_flagged,
        num_distinct_flagged=distinct.num_flagged,
        num_baseline=len(baseline),
        num_flagged_baseline=baseline.num_flagged,
        num_near_identical=samples.num_near_identical,
        num_near_identical_baseline=baseline.num_near_identical,
        num_baseline_leaks=int(np.count_nonzero(leaked)),
        p_value_without_leaks=clean_p_value,
        first_near_identical=first_near_identical,
        rules=findings or (RuleFinding("ratio", *counts, p_value, clean_p_value),),
    )
    p_value = min(1.0, len(evidence.rules) * min(rule.p_value for rule in evidence.rules))
    doubts = [CAUTIONED] * bool(cautions)
    near = near_unseen or Tally(clean.num_near_identical, len(clean))
    doubts += [*_doubts(distinct, clean, evidence, near, name), *unlike, *unfair(baseline, leaked, near_in_train, name)]
    label: Label = "copies" if p_value <= COPIES_P_VALUE else "undecided" if doubts else "no copying found"
    return Verdict(label, _sentence(label, p_value, evidence, doubts, name), p_value, evidence)


def _doubts(samples: Counted, clean: Counted, evidence: Evidence, near_unseen: Tally, name: str) -> list[str]:
    """Why `no copying found` cannot be said of the samples; empty if it can."""
    rules = evidence.rules
    limit = ACQUITTAL_P_VALUE / (2 * len(rules) + NUM_COUNTS if len(rules) > 1 else 1)
    least = {rule.name: min(rule.p_value_without_leaks, rule.p_value if len(rules) > 1 else 1.0) for rule in rules}
    doubts = [_more(rule, least[rule.name], name) for rule in rules if least[rule.name] <= limit]
    if len(samples) < MIN_IMAGES:
        doubts.append(f"only {_images(len(samples), 'distinct sample')} seen, {MIN_IMAGES} are needed")
    if len(clean) < MIN_IMAGES:
        doubts.append(f"the baseline holds only {len(clean):,} usable {name}, {MIN_IMAGES} are needed")
    if 2 * np.count_nonzero(samples.undefined) > len(samples):
        doubts.append("most samples have no two distinct training images to be compared with")
    if samples.num_near_identical and not _as_unseen_images(samples, near_unseen, limit):
        are = "sample is a training image" if evidence.num_near_identical == 1 else "samples are training images"
        doubts.append(f"{evidence.num_near_identical:,} {are} to within noise")
    near = [int(np.count_nonzero(counted.relatively_near)) for counted in (samples, clean)]
    p_value = fisher_greater(near[0], len(samples), near[1], len(clean))
    if p_value <= limit:
        doubts.append(
            f"{near[0]:,} samples and {near[1]:,} {name} lie at most half as far from their nearest training image as "
            f"from their nearest {NEAREST} on average ({p_text(p_value)})"
        )
    return doubts


def _more(rule: RuleFinding, p_value: float, name: str) -> str:
    """A doubt that a rule leaves."""
    if rule.name == "ratio":
        return f"flagged samples are more frequent than flagged {name} ({p_text(p_value)})"
    return f"{_nearer(rule)}, more than chance allows ({p_text(p_value)})"


def _nearer(rule: RuleFinding) -> str:
    """What a rule other than the ratio rule has counted."""
    share = rule.num_unseen_below / max(1, rule.num_unseen)
    below = f"{rule.num_below:,} of {_images(rule.num_samples, 'sample')} lie nearer to single training images"
    return f"{below}{HOW_COMPARED[rule.name]} than all but {100 * share:.2g} % of unseen images do"


def unfair(baseline: Counted, leaked: Bools, near_in_train: Tally, name: str) -> list[str]:
    """Why the baseline cannot acquit anyone: it holds training images; empty if it can."""
    leaks, near = int(np.count_nonzero(leaked)), baseline.num_near_identical
    if too_many(leaks, len(baseline)):
        return [f"{leaks:,} of {len(baseline):,} {name} are in the training set too"]
    p_value = fisher_greater(near, len(baseline), *near_in_train)
    if too_many(near, len(baseline)) and p_value <= UNFAIR_P_VALUE:
        few = f"{near_in_train.found:,} of {near_in_train.images:,} training images are"
        return [f"{near:,} of {len(baseline):,} {name} are near-identical to training images, as {few} to others"]
    return []


def _as_unseen_images(samples: Counted, unseen: Tally, limit: float) -> bool:
    """Whether samples are near-identical to training images no more often than unseen images, and none is identical.

    A faithful sampler draws some: CIFAR-10's test set has images within the tolerance of a training image too.
    """
    return not samples.identical.any() and fisher_greater(samples.num_near_identical, len(samples), *unseen) > limit


def _sentence(label: Label, p_value: float, evidence: Evidence, doubts: list[str], name: str) -> str:
    rules = evidence.rules
    others = f"{evidence.num_flagged_baseline:,} of {evidence.num_baseline:,} {name}"
    if label == "copies" and rules[0].num_unseen_below < evidence.num_flagged_baseline:  # test images set aside
        others = f"{rules[0].num_unseen_below:,} of {rules[0].num_unseen:,} training images left out of train"
    flagged = f"{evidence.num_flagged:,} of {_images(evidence.num_samples, 'sample')}"
    counts = f"{flagged} and {others} lie much nearer to one training image than to any other"
    if label == "copies":
        told = min(rules, key=lambda rule: rule.p_value)
        ratio_suffices = rules[0].p_value * len(rules) <= COPIES_P_VALUE
        words = counts if ratio_suffices or told.name == "ratio" else _nearer(told)
        p = p_text(p_value) if len(rules) > 1 else f"Fisher {p_text(p_value)}"
        opening = f"The samples hold copies of training images: {words} ({p})."
    elif label == "no copying found":
        bound = clopper_pearson_upper(evidence.num_distinct_flagged, evidence.num_distinct_samples)
        clean_p = rules[0].p_value_without_leaks
        no_other = ", and by no other rule are samples too near" if len(rules) > 1 else ""
        opening = (
            f"No copying found: {counts} (Fisher {p_text(clean_p)}){no_other}. "
            f"At most {100 * bound:.3g} % of the samples are such copies (95 % confidence)."
        )
    else:
        opening = f"Undecided: {'; '.join(doubts)}. {counts[0].upper()}{counts[1:]}."
    first = evidence.first_near_identical
    if first is None:
        return opening
    mirrored = ", mirrored," if first.flipped else ""
    if label == "no copying found":
        number = evidence.num_near_identical
        near = "is near-identical to a training image" if number == 1 else "are near-identical to training images"
        return (
            f"{opening} {_images(number, 'sample')} {near}, no more often than unseen images are: sample "
            f"{first.sample_index} and training image {first.train_index}{mirrored} lie {first.grey_levels:.2f} grey "
            "levels apart."
        )
    return (
        f"{opening} Sample {first.sample_index} is training image {first.train_index}{mirrored} to within noise "
        f"({first.grey_levels:.2f} grey levels apart)."
    )


def _images(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def largest_compatible_ratio(evidence: Evidence) -> Estimate:
    """The one-sided 95 % Clopper-Pearson limit of the share of copies; ``1 - 0.05**(1/N)`` when none is flagged.

    Samples that repeat another count once: 600 draws of 150 images are no 600 draws.
    """
    count = evidence.num_distinct_samples
    limit = clopper_pearson_upper(evidence.num_distinct_flagged, count)
    return Estimate(limit, method="Clopper-Pearson, one-sided 95 %", count=count, notes=_bound_notes(evidence))


def _bound_notes(evidence: Evidence) -> tuple[str, ...]:
    num_repeats = evidence.num_samples - evidence.num_distinct_samples
    repeats = f"{num_repeats:,} samples repeat another sample and count once"
    return (VISIBLE, repeats) if num_repeats else (VISIBLE,)


def detectable_ratio(evidence: Evidence) -> Estimate:
    """The smallest excess over the baseline's share that `judge` would call copies in 9 of 10 pairs of such sets.

    By the ratio rule alone, at p <= 1e-5 over the number of rules. Both the samples and the unseen images are drawn
    anew.
    """
    if evidence.num_baseline == 0:
        return Estimate.undefined("needs a baseline")
    num_samples, (rule, *_) = evidence.num_distinct_samples, evidence.rules
    base, num_unseen = rule.num_unseen_below, rule.num_unseen
    p_value = COPIES_P_VALUE / len(evidence.rules)
    rate = detectable_rate(num_samples, base, num_unseen, p_value=p_value, power=POWER)
    if rate is None:
        return Estimate.undefined(f"no number of copies among {num_samples:,} samples would be significant")
    excess = rate - base / num_unseen
    return Estimate(max(excess, 0.0), method="Fisher, power 0.9", count=num_samples, notes=_bound_notes(evidence))
