"""What moved since an earlier report, in words and rows: for table, markdown and page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memgen_eval.comparison.changes import FALSE_ALARMS, Changes, FigureChange
from memgen_eval.render import numbers
from memgen_eval.render.headlines import HEADLINES
from memgen_eval.render.numbers import Shown
from memgen_eval.results import CAPTIONS, Curve, Estimate

SINCE_COLUMNS = ("figure", "before", "now", "change (95 % interval)")


@dataclass(frozen=True)
class MovedRow:
    """A figure before and now, and how much it has grown."""

    path: str
    label: str
    before: Shown
    after: Shown
    change: Shown
    moved: bool

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row under `SINCE_COLUMNS`."""
        return self.label, str(self.before), str(self.after), str(self.change)


def since_sentences(since: Changes) -> list[str]:
    """How many figures moved and how sure that is, or why nothing can be said; then what to know besides."""
    earlier = f"the report of {since.before.provenance.created}"
    if since.reason is not None:
        return [f"Not compared with {earlier}: {since.reason}."]
    return [_count(since, earlier), *_besides(since)]


def _count(since: Changes, earlier: str) -> str:
    num_moved = len(since.moved)
    what = f"{num_moved} of {since.judged} figures" if num_moved else f"none of {since.judged} figures"
    chance = f"{FALSE_ALARMS:.0%}".replace("%", " %")
    rate = f"if nothing has changed, the chance that any figure is named is at most {chance}"
    return f"Since {earlier}, {what} moved beyond the intervals of both ({rate})."


def _besides(since: Changes) -> Iterator[str]:
    labels = ["none" if r.verdict is None else r.verdict.label for r in (since.before, since.after)]
    if labels[0] != labels[1]:
        yield f"The verdict was: {labels[0]}. It is: {labels[1]}."
    sums = [report.settings.checksums.get("samples") for report in (since.before, since.after)]
    if sums[0] == sums[1] is not None:
        yield "Both reports are of the same samples, so no difference is due to the draw of samples."
    for row in change_rows(since):
        figures = [c for c in since.figures if c.path == row.path and c.p_value is None and c.path in HEADLINES]
        if figures and row.before.reason is None and row.after.reason is None and row.before != row.after:
            yield f"Without an interval to judge by: {row.label} was {row.before} and is {row.after}."


def since_section(since: Changes) -> dict[str, Any]:
    """What a page shows, by the names in its template."""
    return {
        "sentences": since_sentences(since),
        "columns": SINCE_COLUMNS,
        "moved": moved_rows(since),
        "others": [row for row in change_rows(since) if not row.moved],
        "differences": since.differences,
    }


def moved_rows(since: Changes) -> list[MovedRow]:
    """What moved, the clearest first."""
    features = since.after.settings.features
    return [_row(change, features) for change in since.moved]


def change_rows(since: Changes) -> list[MovedRow]:
    """Every figure that is in both reports, in their order."""
    features = since.after.settings.features
    return [_row(change, features) for change in since.figures]


def _row(found: FigureChange, features: str) -> MovedRow:
    unit = numbers.unit_of(found.path, features)
    before, after = (_read(figure, found.index) for figure in (found.before, found.after))
    shown = (numbers.show(before, unit), numbers.show(after, unit), signed_change(found, features))
    return MovedRow(found.path, change_label(found), *shown, found.moved)


def change_label(found: FigureChange) -> str:
    """What the figure is called; of a curve with the place where it has changed most clearly."""
    label, curve = CAPTIONS[found.path].label, found.after
    if found.index is None or not isinstance(curve, Curve) or curve.x is None:
        return label
    return f"{label} at {curve.x.name} {numbers.number(curve.x.values[found.index])} {curve.x.unit}".rstrip()


def signed_change(found: FigureChange, features: str) -> Shown:
    """A change in its unit, of shares in percentage points, with its sign; of a curve at that place."""
    change, unit = _read(found.change, found.index), numbers.unit_of(found.path, features)
    shown = numbers.show(change, "points" if unit == "share" else unit)
    grown = isinstance(change, Estimate) and change.value is not None and change.value > 0
    return Shown(f"+{shown.value}", shown.interval) if grown else shown


def _read(figure: Estimate | Curve, index: int | None) -> Estimate | Curve:
    return figure.at(index) if index is not None and isinstance(figure, Curve) else figure
