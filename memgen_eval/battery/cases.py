"""All cases of the battery, and which of them are measured on which images, how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from memgen_eval.battery.catalogue import ALTERATIONS, COUNTED, SLIGHT
from memgen_eval.battery.circumstances import CONTROLS, TRAINING, circumstances
from memgen_eval.battery.draws import CIFAR10, DIGITS, SMOOTH, WHOLE_CIFAR10, Case, Draw, Sets, Source, Truth
from memgen_eval.battery.innocents import FRESH, innocents

EXACT, ALTERED = "exact copies", "altered copies"
EXACT_SHARES = (0.001, 0.005, 0.01, 0.02, 0.05, 1.0)
ALTERED_SHARES = (0.05, 1.0)
ON_ALL_OF_CIFAR10 = ("unseen images, draw 1", "exact, 1 %", "noise 20, 5 %", "shift 1 px, 5 %", "shift 4 px, 100 %")


def all_cases() -> Iterator[Case]:
    """Every case, in the order of the page."""
    yield from innocents()
    for share in EXACT_SHARES:
        says = "All samples are" if share == 1 else f"{percent(share)} of the samples are"
        yield _copied("exact", EXACT, EXACT, share, "copies", f"{says} exact copies of training images.")
    for name, alteration in ALTERATIONS.items():
        truth: Truth = "copies" if alteration.visible else "cannot be seen"
        for share in ALTERED_SHARES:
            says = "All samples are" if share == 1 else f"{percent(share)} of the samples are"
            sentence = f"{says} copies of training images, altered: {name}."
            case = _copied(name, ALTERED, alteration.kind, share, truth, sentence)
            yield replace(case, in_colour=alteration.in_colour)
    yield from circumstances()


def percent(share: float) -> str:
    """A share in words, such as 0.5 %."""
    return f"{100 * share:g} %"


def _copied(name: str, group: str, kind: str, share: float, truth: Truth, says: str) -> Case:
    def make(d: Draw) -> Sets:
        count = d.count(share)
        rows = np.resize(d.rows(min(count, len(d.train))), count)
        return d.mixed(d.copies(name, rows), rows)

    return Case(group, kind, f"{name}, {percent(share)}", truth, says, make, share=share)


@dataclass(frozen=True)
class Block:
    """The cases that share a division of a source.

    Attributes
    ----------
    source : Source
        What is divided.
    repetition : int
        Which division of it this is.
    cases : tuple of Case
        What is measured, in order.
    families : tuple of str
        Which figures are measured.
    peers : bool
        Whether neighbouring tools are asked too.
    """

    source: Source
    repetition: int
    cases: tuple[Case, ...]
    families: tuple[str, ...]
    peers: bool = False


PIXELS_ALONE, WITH_NOVELTY = ("memorization",), ("memorization", "novelty")
DIVISIONS = {DIGITS: 6, SMOOTH: 3, CIFAR10: 3}  # how often each is divided anew
ODD_SETS_ON_CIFAR10 = (
    *("test recompressed from train", "5 % of test from train", "eight versions: all copies", "one image"),
    *("no test set, 40 % twice: 15 % copies", "two kinds in train, one lost"),
)


def planned_blocks(*, quick: bool, cifar10: bool) -> list[Block]:
    """What the battery measures: on digits and made-up pictures, and on CIFAR-10 where it is there and time allows.

    The first division of a source is measured in most cases and families. Where all samples are copies altered alike,
    other divisions would say the same, and are left out. So are odd training and test sets, which take the most time.
    A few copies among many are measured most often.
    """
    cases = list(all_cases())
    few = [case for case in cases if case.group != ALTERED or _alteration_of(case) in COUNTED]
    if quick:
        digits, smooth = _fit(few, DIGITS), _fit([case for case in few if not _is_odd(case)], SMOOTH)
        return [Block(DIGITS, 0, digits, WITH_NOVELTY, peers=True), Block(SMOOTH, 0, smooth, PIXELS_ALONE)]
    planned = _on_cifar10(few) if cifar10 else []
    first = [case for case in cases if not _is_all_altered(case) or _alteration_of(case) in (*SLIGHT, *COUNTED)]
    others = [case for case in cases if not _is_all_altered(case) and not _is_odd(case)]
    for source in (SMOOTH, DIGITS):
        planned += [_block(source, i, first if i == 0 else others) for i in range(DIVISIONS[source])]
    return planned


def _on_cifar10(cases: list[Case]) -> list[Block]:
    """All of CIFAR-10 for a handful of cases; 5,000 training images of it for more."""
    whole = [case for case in cases if case.name in ON_ALL_OF_CIFAR10]
    first = [case for case in cases if not (_is_odd(case) or _is_few_altered(case)) or case.name in ODD_SETS_ON_CIFAR10]
    others = [case for case in cases if _is_few_altered(case) or case.group in (FRESH, EXACT)]
    divisions = [_block(CIFAR10, i, first if i == 0 else others) for i in range(DIVISIONS[CIFAR10])]
    return [_block(WHOLE_CIFAR10, 0, whole), *divisions]


def _is_all_altered(case: Case) -> bool:
    return case.group == ALTERED and case.share == 1


def _is_few_altered(case: Case) -> bool:
    return case.group == ALTERED and case.share != 1


def _is_odd(case: Case) -> bool:
    """Whether its training or test set is its own, about which everything is to be found out anew."""
    return case.group in (TRAINING, CONTROLS) or case.name == "two kinds in train, one lost"


def _alteration_of(case: Case) -> str:
    return case.name.rpartition(", ")[0]


def _block(source: Source, repetition: int, cases: list[Case]) -> Block:
    first, asked = repetition == 0, source in (DIGITS, CIFAR10)
    return Block(source, repetition, _fit(cases, source), WITH_NOVELTY if first else PIXELS_ALONE, first and asked)


def _fit(cases: list[Case], source: Source) -> tuple[Case, ...]:
    """Those that make sense for the images and the number of samples."""
    colour = source is not DIGITS
    return tuple(
        case
        for case in cases
        if (colour or not case.in_colour) and (case.share is None or round(case.share * source.num_samples) > 0)
    )
