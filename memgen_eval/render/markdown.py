"""The report as markdown, for the summary of a CI step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from memgen_eval.render import numbers
from memgen_eval.render.accounts import accounts
from memgen_eval.render.catalogue import FAMILY_TITLES, FIGURES, unit_of
from memgen_eval.render.headlines import evidence, headlines, skipped, summary
from memgen_eval.render.readings import readings
from memgen_eval.render.text import escape_markdown
from memgen_eval.report import Curve, Estimate, Report


def render_markdown(report: Report, *, full: bool = False) -> str:
    """The verdict with its evidence, the headlines beside their controls, what curves say, what was skipped.

    All figures too if `full`.
    """
    label = "no verdict" if report.verdict is None else report.verdict.label
    blocks = [f"## memgen-eval: {label}", _list(f"Caution: {caution}" for caution in report.cautions)]
    blocks += [escape_markdown(report.displayed_sentence)]
    blocks += [_list(f"{name}: {account}" for name, account in accounts(report))]
    blocks += [_list(f"{name}: {found}" for name, found in evidence(report)), _headlines(report)]
    blocks += [_list(readings(report))]
    if full:
        blocks += [_family(report, family) for family in FAMILY_TITLES if getattr(report, family) is not None]
    lines = [f"{', '.join(names)}: {why}" for names, why in skipped(report)]
    blocks += ["### Skipped", _list(lines or ["nothing"])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [columns, ("---",) * len(columns), *(tuple(map(escape_markdown, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _headlines(report: Report) -> str:
    rows = [
        (line.label, line.shown.value, line.shown.interval, line.reason or line.control) for line in headlines(report)
    ]
    return _table(("figure", "value", "95 % interval", "compare with"), rows)


def _family(report: Report, family: str) -> str:
    figures = [(path, figure) for path, figure in report.figures() if path.startswith(f"{family}.")]
    rows = [_row(report, path, figure) for path, figure in figures]
    table = _table(("figure", "value", "95 % interval", "count", "notes"), rows)
    return f"### {FAMILY_TITLES[family]}\n\n{table}"


def _row(report: Report, path: str, figure: Estimate | Curve) -> tuple[str, ...]:
    unit = unit_of(path, report.settings.features)
    shown = summary(figure, unit) if isinstance(figure, Curve) else numbers.show(figure, unit)
    count = "" if figure.count is None else f"{figure.count:,}"
    return (FIGURES[path].label, shown.value, shown.interval, count, "; ".join(figure.notes))
