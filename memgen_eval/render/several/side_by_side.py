"""Reports side by side as a page; side by side or in order as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from memgen_eval.comparison.changes import FALSE_ALARMS, Changes, unlike
from memgen_eval.render import numbers
from memgen_eval.render.contents import verdict_label
from memgen_eval.render.html import render_template
from memgen_eval.render.numbers import Shown, visible
from memgen_eval.render.several.drawing import intervals
from memgen_eval.render.several.members import (
    HeadlineOfAll,
    Member,
    beyond,
    headlines_of_all,
    not_compared,
    pairs_of,
    steps_between,
)
from memgen_eval.render.several.since import change_label, signed_change
from memgen_eval.render.table import aligned
from memgen_eval.results import CAPTIONS, FAMILY_TYPES, Curve, Estimate

_Pairs = dict[tuple[str, str], Changes]


def comparison_page(members: Sequence[Member]) -> str:
    """Several models or checkpoints side by side, as HTML in one piece."""
    from markupsafe import Markup

    pairs, lines, names = pairs_of(members), headlines_of_all(_reports(members)), _names(members)
    drawings = [chart_of(line, Markup(intervals(line, names)), names, "report") for line in lines]
    return render_template("several/compare.html.j2", page_context(members, pairs, lines, drawings))


def comparison_table(members: Sequence[Member], *, in_order: bool = False) -> str:
    """The headlines of all reports as plain text, the verdicts above, what differs beyond the figures below."""
    pairs = steps_between(members) if in_order else pairs_of(members)
    lines = headlines_of_all(_reports(members))
    names = list(map(visible, _names(members)))
    rows = [
        tuple(map(visible, (line.label, *map(str, _cells(line)), _beyond_words(pairs, line.path)))) for line in lines
    ]
    blocks = [
        aligned(("report", "verdict", "samples"), [tuple(map(visible, row)) for row in _verdicts(members)]),
        aligned(("figure", *names, "beyond the intervals"), rows) if rows else "None of the headlines was measured.",
        "\n".join(map(visible, [_rule(pairs), *not_compared(pairs)])),
    ]
    differences = [(name, *values) for name, values in unlike(_reports(members))]
    if differences:
        blocks.append(aligned(("differs", *names), [tuple(map(visible, row)) for row in differences]))
    return "\n\n".join(blocks) + "\n"


def _reports(members: Sequence[Member]) -> list[Any]:
    return [member.report for member in members]


def _names(members: Sequence[Member]) -> list[str]:
    return [member.name for member in members]


def page_context(
    members: Sequence[Member], pairs: _Pairs, lines: Sequence[HeadlineOfAll], drawings: list[dict[str, Any]]
) -> dict[str, Any]:
    """What both pages show."""
    return {
        "members": members,
        "names": _names(members),
        "labels": [verdict_label(member.report) for member in members],
        "headlines": [(line, _cells(line), _controls(line), beyond(pairs, line.path)) for line in lines],
        "drawings": drawings,
        "rule": _rule(pairs),
        "not_compared": not_compared(pairs),
        "moves": list(_moves(pairs)),
        "differences": unlike(_reports(members)),
        "figures": list(every_figure(members)),
        "contents": [
            ("content", "The answer"),
            ("headlines", "Headlines"),
            ("charts", "Charts"),
            ("beyond", "Beyond the intervals"),
            ("differs", "What else differs"),
            ("figures", "Every figure"),
        ],
    }


def chart_of(line: HeadlineOfAll, svg: Any, places: Sequence[str], axis: str) -> dict[str, Any]:
    """A chart with its caption and its table."""
    cells = zip(places, _cells(line), _controls(line), strict=True)
    rows = [(place, shown.value, shown.interval, str(control)) for place, shown, control in cells]
    unit = {"share": "shares in per cent", "points": "percentage points"}.get(line.unit, line.unit)
    columns = (axis, "value", "95 % interval", "control")
    caption = line.caption.meaning
    return {
        "title": f"{line.label[0].upper()}{line.label[1:]}",
        "svg": svg,
        "caption": caption,
        "table": {"unit": unit, "columns": columns, "rows": rows},
    }


def _cells(line: HeadlineOfAll) -> list[Shown]:
    return [Shown(numbers.NOT_MEASURED) if e is None else numbers.show(e, line.unit) for e in line.estimates]


def _controls(line: HeadlineOfAll) -> list[Shown]:
    return [Shown("none") if e is None else numbers.show(e, line.unit) for e in line.controls]


def _verdicts(members: Sequence[Member]) -> Iterator[tuple[str, str, str]]:
    for member in members:
        yield member.name, verdict_label(member.report), f"{member.report.settings.num_samples:,}"


def _rule(pairs: _Pairs) -> str:
    chance = f"{FALSE_ALARMS:.0%}".replace("%", " %")
    judged = sum(changes.judged for changes in pairs.values())
    return (
        f"{judged:,} differences of figures were judged, between {len(pairs)} {'pairs' if len(pairs) > 1 else 'pair'} "
        f"of reports. Those are named that exceed the intervals of both: if all models are equal, the chance that any "
        f"is named is at most {chance}."
    )


def _beyond_words(pairs: _Pairs, path: str) -> str:
    return "; ".join(beyond(pairs, path))


def _moves(pairs: _Pairs) -> Iterator[dict[str, Any]]:
    """What differs beyond the intervals, pair by pair."""
    for (first, second), changes in pairs.items():
        features = changes.after.settings.features
        rows = [(change_label(one), one.path, signed_change(one, features)) for one in changes.moved]
        yield {"first": first, "second": second, "reason": changes.reason, "rows": rows}


def every_figure(members: Sequence[Member]) -> Iterator[tuple[str, list[tuple[str, str, list[Shown]]]]]:
    """The figures that any report holds, family by family, each with its value in every report."""
    from memgen_eval.render.contents import FAMILY_TITLES

    for family in FAMILY_TYPES:
        rows = []
        for path, caption in CAPTIONS.items():
            figures = [member.report.figure(path) for member in members] if path.startswith(f"{family}.") else []
            if any(figure is not None and figure.value is not None for figure in figures):
                cells = [_shown(figure, path, member) for figure, member in zip(figures, members, strict=True)]
                rows.append((caption.label, path, cells))
        if rows:
            yield FAMILY_TITLES[family], rows


def _shown(figure: Estimate | Curve | None, path: str, member: Member) -> Shown:
    if figure is None or figure.value is None:
        return Shown(numbers.NOT_MEASURED)
    return numbers.show(figure, numbers.unit_of(path, member.report.settings.features))
