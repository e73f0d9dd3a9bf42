"""What was asked, how sure the answer is, what it rests on and what it cannot tell: in words for everybody."""

from __future__ import annotations

from dataclasses import dataclass

from memgen_eval.errors import p_text
from memgen_eval.render import numbers
from memgen_eval.render.headlines import WITHOUT_BASELINE, baseline_is_test, baseline_words
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, GREY_LEVELS, Estimate, RuleFinding

RULES = {
    "ratio": "ratio rule, pictures counted once (Fisher's exact test)",
    "calibrated": "d1/d2 below that of almost all unseen images",
    "standardized": "the same, brightness, colours and contrast evened out",
    "aligned": "the same, after the best shift, turn and scale too",
    "features": "d1/d2 of the features of a network that is made to find copies",
}
# Largest p-values, and how often as much would be seen if nothing were copied.
CHANCES = {
    1e-9: "fewer than one in a thousand million",
    1e-6: "fewer than one in a million",
    1.0: "at most {} in 100,000",
}
MOST_OF_CHANCES = 100_000
REACH_OF_RULES = (
    "The rules find whole images, mirrored or not, also with noise, blur, compression, other colours, brightness or "
    "contrast, and moved, cropped or turned a little. They miss copies that are upside down, halves of images, parts "
    "set into other images, and strong blends."
)
REACH_OF_FEATURES = (
    "Features of a network that is made to find copies were looked at too: they find some that are upside down."
)
BEYOND_THE_SETS = (
    "Only the training images given here were looked at. A copy of any other image, or of a style or a person in "
    "another picture, is not seen."
)


@dataclass(frozen=True)
class Tallied:
    """How many images were counted, and of how many; `noun` names their kind."""

    found: int
    images: int
    noun: str

    @property
    def share(self) -> float:
        """The share, 0 of no images."""
        return self.found / self.images if self.images else 0.0

    def __str__(self) -> str:
        return f"{self.found:,} of {self.images:,} {self.noun}".rstrip()


@dataclass(frozen=True)
class EvidenceLine:
    """A count that the verdict rests on, beside that of images that cannot have been copied, and the chance of both."""

    name: str
    samples: Tallied | None = None
    others: Tallied | None = None
    remark: str = ""

    @property
    def shares(self) -> str:
        """Both as shares; empty where only one of them was counted."""
        if self.samples is None or self.others is None:
            return ""
        return " against ".join(numbers.show(Estimate(one.share), "share").value for one in (self.samples, self.others))

    @property
    def words(self) -> str:
        """All of it in one line."""
        counts = ", ".join(str(tallied) for tallied in (self.samples, self.others) if tallied is not None)
        return "; ".join(part for part in (counts, self.remark) if part)


def evidence(report: Report) -> list[tuple[str, str]]:
    """What the verdict rests on, as pairs of a name and what was found; empty without a verdict."""
    return [(line.name, line.words) for line in evidence_lines(report)]


def evidence_lines(report: Report) -> list[EvidenceLine]:
    """What the verdict rests on, count by count; empty without a verdict."""
    if report.verdict is None:
        return []
    found, baseline = report.verdict.evidence, baseline_words(report)

    def counts(name: str, samples: int, others: int) -> EvidenceLine:
        of_samples = Tallied(samples, found.num_samples, "samples")
        return EvidenceLine(name, of_samples, Tallied(others, found.num_baseline, baseline))

    rule = f"flagged as copies (nearest training image under {numbers.threshold(report.settings.threshold)} as far as"
    near = f"near-identical to a training image{_tolerance(report)}, flagged or not"
    lines = [
        counts(f"{rule} the next)", found.num_flagged, found.num_flagged_baseline),
        counts(near, found.num_near_identical, found.num_near_identical_baseline),
    ]
    if found.num_baseline_leaks:
        without = found.p_value_without_leaks
        remark = "" if without is None else f"without them {p_text(without)}"
        leaks = Tallied(found.num_baseline_leaks, found.num_baseline, "")
        lines.append(EvidenceLine(f"{baseline} also in the training set", None, leaks, remark))
    if found.num_distinct_samples != found.num_samples:
        lines.append(EvidenceLine("distinct samples", Tallied(found.num_distinct_samples, found.num_samples, "")))
    return lines + [_of_rule(rule) for rule in found.rules] + _bound(report)


def _of_rule(rule: RuleFinding) -> EvidenceLine:
    """What a rule found, and the chance of as much if nothing is copied."""
    return EvidenceLine(
        RULES.get(rule.name, rule.name),
        Tallied(rule.num_below, rule.num_samples, "pictures"),
        Tallied(rule.num_unseen_below, rule.num_unseen, "unseen images"),
        f"chance of as many if nothing is copied: {p_text(rule.p_value)}",
    )


def _tolerance(report: Report) -> str:
    tolerance = report.settings.duplicate_tolerance
    if tolerance is None:
        return ""
    return f" (root mean square difference up to {numbers.number(tolerance * GREY_LEVELS)} grey levels)"


def _bound(report: Report) -> list[EvidenceLine]:
    """The share of copies that these counts cannot rule out, where the verdict's sentence does not say it."""
    assert report.verdict is not None
    path = "memorization.largest_compatible_ratio"
    figure = report.figure(path)
    if report.verdict.label != "undecided" or not isinstance(figure, Estimate):
        return []
    shown = numbers.show(figure, CAPTIONS[path].unit)
    words = f"up to {shown.value} of the samples" if shown.reason is None else f"{shown.value}: {shown.reason}"
    return [EvidenceLine("copies that these counts cannot rule out (95 % confidence)", remark=words)]


def question(report: Report) -> str:
    """What was asked."""
    if report.memorization is None:
        return "How do these samples compare with the training images?"
    return "Did the model copy its training images?"


def compared(report: Report) -> str:
    """Which sets were compared, in a sentence."""
    held = report.settings
    return f"{held.num_samples:,} samples compared with {held.num_train:,} training images of {_size(held.image_shape)}"


def _size(shape: tuple[int, ...]) -> str:
    """An image's shape in words."""
    colours = {1: "in grey", 3: "in colour"}.get(shape[0]) if len(shape) == 3 else None
    return f"{numbers.image_size(shape)} values" if colours is None else f"{shape[1]} x {shape[2]} pixels {colours}"


def baseline_sentence(report: Report) -> str:
    """The images that show what chance gives."""
    count = f"{report.settings.num_baseline:,}"
    if report.settings.baseline == WITHOUT_BASELINE:
        return "There is no baseline: neither test images nor several training images were given."
    if baseline_is_test(report):
        return f"The baseline is {count} test images, which cannot be copies if the model has not seen them."
    return f"The baseline is {count} training images, each compared with all the others, since no test set was given."


def cannot_tell(report: Report) -> list[str]:
    """What the verdict cannot know, in sentences."""
    rules = () if report.verdict is None else report.verdict.evidence.rules
    by_features = any(rule.name == "features" for rule in rules)
    return [REACH_OF_RULES, *([REACH_OF_FEATURES] if by_features else []), BEYOND_THE_SETS]


def how_sure(report: Report) -> list[str]:
    """How far the verdict may be trusted, in sentences without a formula."""
    if report.verdict is None:
        return ["There is no verdict, so nothing to be sure of: the figures below stand alone."]
    sentences = {"copies": _sure_of_copies, "no copying found": _sure_of_none}.get(report.verdict.label, _unsure)(
        report
    )
    cautions = ["The cautions above limit all of this."] if report.cautions else []
    return [sentence for sentence in [*sentences, *cautions] if sentence]


def _sure_of_copies(report: Report) -> list[str]:
    assert report.verdict is not None
    p_value, found = report.verdict.p_value, report.verdict.evidence
    chance = next(words for largest, words in CHANCES.items() if p_value <= largest)
    times = chance.format(f"{max(1.0, p_value * MOST_OF_CHANCES):.2g}")
    certain = f"Very sure that there are copies: if nothing were copied, {times} evaluations would count as many."
    by_chance = f"{found.num_flagged_baseline:,} of {found.num_baseline:,} {baseline_words(report)}"
    single = f"Less sure of each single one: chance flags a few as well, here {by_chance}."
    return [certain, single if found.num_flagged_baseline else ""]


def _sure_of_none(report: Report) -> list[str]:
    missed = _value(report, "memorization.largest_compatible_ratio")
    seen = _value(report, "memorization.detectable_ratio")
    bound = f"Up to {missed} of what the model draws could be plain copies all the same (95 % confidence)."
    power = (
        f"If {seen.removesuffix(' pp')} % or more were plain copies, 9 of 10 such evaluations would have found them."
    )
    return [
        "As sure as the number of samples allows, and of whole images only.",
        bound if missed else "",
        power if seen else "",
    ]


def _unsure(report: Report) -> list[str]:
    missed = _value(report, "memorization.largest_compatible_ratio")
    words = "Not sure either way: the answer above says what stands against each side."
    return [words, f"These counts cannot rule out that {missed} of the samples are copies." if missed else ""]


def _value(report: Report, path: str) -> str:
    """A figure in words, without its interval; empty where it was not measured."""
    figure = report.figure(path)
    if not isinstance(figure, Estimate) or figure.value is None:
        return ""
    return numbers.show(Estimate(figure.value), CAPTIONS[path].unit).value
