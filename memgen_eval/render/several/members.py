"""Reports that are looked at together: what each is called, and the headlines of all, line by line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

from memgen_eval.comparison.changes import Changes, changes_between
from memgen_eval.render import numbers
from memgen_eval.render.headlines import HEADLINES, reading_place
from memgen_eval.report import Report
from memgen_eval.results import CAPTIONS, Caption, Curve, Estimate, Unit


@dataclass(frozen=True)
class Member:
    """A report, and the name by which a page calls it."""

    name: str
    report: Report


@dataclass(frozen=True)
class HeadlineOfAll:
    """A headline in each report, beside its control; None where a report lacks it.

    A curve is read at one place, the same for all: that of the last report which has it.
    """

    path: str
    caption: Caption
    label: str
    unit: Unit
    estimates: tuple[Estimate | None, ...]
    controls: tuple[Estimate | None, ...]


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its stem, or that of its folder where stems repeat, or else its whole path."""
    stems, folders = [path.stem for path in paths], [path.parent.name for path in paths]
    for names in (stems, folders):
        if len(set(names)) == len(names) and all(names):
            return names
    return [str(path) for path in paths]


def steps_of(paths: Sequence[Path]) -> tuple[str, list[float]]:
    """Where reports in order stand on an axis, and what the axis is called.

    At the last number in each name, or in the name of its folder, where these ascend; else at 1, 2, 3.
    """
    for parts in ([path.stem for path in paths], [path.parent.name for path in paths]):
        found = [re.findall(r"(?<!\d)\d{1,15}(?!\d)", part) for part in parts]
        if all(found):
            steps = [float(digits[-1]) for digits in found]
            if all(first < second for first, second in pairwise(steps)):
                return "step, as the files are named", steps
    return "report, in the order given", [float(i + 1) for i in range(len(paths))]


def placed(members: Sequence[Member], steps: Sequence[float]) -> list[Member]:
    """The same reports, called by their steps."""
    return [Member(numbers.number(step), member.report) for member, step in zip(members, steps, strict=True)]


def headlines_of_all(reports: Sequence[Report]) -> list[HeadlineOfAll]:
    """The headlines that any of the reports has."""
    return [line for path in HEADLINES if (line := _line(reports, path)) is not None]


def _line(reports: Sequence[Report], path: str) -> HeadlineOfAll | None:
    family, caption = path.split(".", maxsplit=1)[0], CAPTIONS[path]
    beside = f"{family}.{caption.beside[0]}" if caption.beside else None
    figures = [report.figure(path) for report in reports]
    controls = [None if beside is None else report.figure(beside) for report in reports]
    label, index = caption.label, None
    curves = [i for i, figure in enumerate(figures) if isinstance(figure, Curve) and figure.value is not None]
    if curves:
        curve, control = figures[curves[-1]], controls[curves[-1]]
        assert isinstance(curve, Curve) and not isinstance(control, Estimate)
        index = reading_place(reports[curves[-1]], path, curve, control)
        if index is None or curve.x is None:
            return None
        label += f" at {curve.x.name} {numbers.number(curve.x.values[index])} {curve.x.unit}".rstrip()
        axis = curve.x
        figures, controls = (
            [figure if not isinstance(figure, Curve) or figure.x == axis else None for figure in held]
            for held in (figures, controls)
        )
    estimates = tuple(_estimate(figure, index) for figure in figures)
    if all(estimate is None for estimate in estimates):
        return None
    unit = numbers.unit_of(path, reports[-1].settings.features)
    return HeadlineOfAll(path, caption, label, unit, estimates, tuple(_estimate(c, index) for c in controls))


def _estimate(figure: Estimate | Curve | None, index: int | None) -> Estimate | None:
    """The figure, a curve at one place; None where it has no value there."""
    if isinstance(figure, Curve):
        figure = None if index is None or figure.value is None else figure.at(index)
    return None if figure is None or figure.value is None else figure


def pairs_of(members: Sequence[Member]) -> dict[tuple[str, str], Changes]:
    """The changes between any two reports, the first to the second, by their names."""
    pairs = list(combinations(members, 2))
    return {(a.name, b.name): changes_between(a.report, b.report, num_pairs=len(pairs)) for a, b in pairs}


def steps_between(members: Sequence[Member]) -> dict[tuple[str, str], Changes]:
    """The changes from each report to the next, and from the first to the last, by their names."""
    pairs = list(pairwise(members))
    if len(members) > 2:
        pairs.append((members[0], members[-1]))
    return {(a.name, b.name): changes_between(a.report, b.report, num_pairs=len(pairs)) for a, b in pairs}


def beyond(pairs: dict[tuple[str, str], Changes], path: str) -> list[str]:
    """Of a figure, which pairs of reports differ beyond their intervals, the smaller one first; never empty."""
    words, judged = [], False
    for (first, second), changes in pairs.items():
        for change in changes.figures:
            judged = judged or (change.path == path and change.p_value is not None)
            if change.path == path and change.moved:
                grown = _grown(change.change, change.index)
                words.append(f"{first} < {second}" if grown else f"{second} < {first}")
    return words or ["none" if judged else "not judged: no intervals in both"]


def _grown(change: Estimate | Curve, index: int | None) -> bool:
    value = change.at(index or 0).value if isinstance(change, Curve) else change.value
    return (value or 0) > 0


def not_compared(pairs: dict[tuple[str, str], Changes]) -> list[str]:
    """Which pairs could not be compared, by the reason."""
    reasons: dict[str, list[str]] = {}
    for (first, second), changes in pairs.items():
        if changes.reason is not None:
            reasons.setdefault(changes.reason, []).append(f"{first} and {second}")
    return [f"Not compared: {', '.join(names)} ({reason})." for reason, names in reasons.items()]
